"""The style sheet and the script of the page; neither names anything outside of the file."""

from __future__ import annotations

STYLE = """
:root { color-scheme: light dark; --page: #fff; --ink: #1c2024; --soft: #5c646c; --line: #d5d9dd; --panel: #f5f6f8;
  --accent: #0b62b0; --right: 0, 114, 178; --wrong: 213, 94, 0; }
@media (prefers-color-scheme: dark) {
  :root { --page: #14171a; --ink: #e6e8ea; --soft: #9aa3ab; --line: #363c42; --panel: #1e2226; --accent: #6cb6ff;
    --right: 86, 180, 233; --wrong: 240, 140, 60; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 16px; max-width: 1100px; background: var(--page); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
h1 { font-size: 1.5rem; line-height: 1.25; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; margin: 2.2rem 0 .6rem; padding-top: .6rem; border-top: 1px solid var(--line); }
h3 { font-size: 1rem; margin: 1.2rem 0 .4rem; }
a { color: var(--accent); }
nav a { display: inline-block; margin-right: .9rem; padding: .25rem 0; }
.soft, figcaption, caption { color: var(--soft); font-size: .875rem; }
.id, .reason { overflow-wrap: anywhere; }
.id { font-family: ui-monospace, Menlo, Consolas, monospace; font-size: .8125rem; }
.score { font-size: 2rem; font-weight: 600; margin: .2rem 0; }
dl { display: grid; grid-template-columns: minmax(7rem, max-content) 1fr; gap: .2rem 1rem; margin: .5rem 0; }
dt { color: var(--soft); }
dd { margin: 0; overflow-wrap: anywhere; min-width: 0; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .875rem; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .6rem; border-bottom: 1px solid var(--line); text-align: right; vertical-align: top; }
th:first-child, td:first-child { text-align: left; }
table.words th, table.words td { text-align: left; }
table.matrix th, table.matrix td { padding: .15rem .35rem; border: 1px solid var(--line); text-align: center; }
table.matrix thead th { writing-mode: vertical-rl; transform: rotate(180deg); text-align: left; max-height: 12rem;
  overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
table.matrix thead th:first-child { writing-mode: horizontal-tb; transform: none; }
table.matrix tbody th { text-align: right; font-weight: normal; white-space: nowrap; max-width: 14rem; overflow: hidden;
  text-overflow: ellipsis; }
table.matrix a { display: block; min-width: 1.6rem; text-decoration: none; color: inherit; }
table.matrix a:hover, table.matrix a:focus { text-decoration: underline; }
.right1 { background: rgba(var(--right), .15); } .right2 { background: rgba(var(--right), .3); }
.right3 { background: rgba(var(--right), .45); } .right4 { background: rgba(var(--right), .6); }
.wrong1 { background: rgba(var(--wrong), .2); } .wrong2 { background: rgba(var(--wrong), .35); }
.wrong3 { background: rgba(var(--wrong), .5); } .wrong4 { background: rgba(var(--wrong), .65); }
.cell { display: none; padding: .6rem .8rem; margin: .8rem 0; background: var(--panel); border-radius: 8px; }
.cell:target { display: block; }
.items { display: grid; grid-template-columns: repeat(auto-fill, minmax(150px, 1fr)); gap: .8rem; padding: 0;
  list-style: none; }
.items > li { min-width: 0; break-inside: avoid; }
.items.texts { grid-template-columns: 1fr; }
.thumbnail { display: block; width: 96px; height: 96px; border-radius: 4px; background: var(--panel); }
.snippet { display: block; overflow-wrap: anywhere; }
.chart { width: 100%; max-width: 560px; height: auto; font: 10px system-ui, sans-serif; }
.chart text { fill: var(--soft); } .chart .line { stroke: var(--line); fill: none; }
.chart .ideal { stroke: var(--soft); stroke-dasharray: 4 3; fill: none; }
.chart .joined { stroke: rgb(var(--right)); fill: none; stroke-width: 1.4; }
.chart .bar { fill: rgb(var(--right)); fill-opacity: .65; }
.chart .dot { fill: rgb(var(--right)); }
.chart .missed { fill: rgb(var(--wrong)); }
.points circle { fill-opacity: .75; }
.points circle:hover { stroke: var(--ink); stroke-width: 1.5; }
.legend { display: flex; flex-wrap: wrap; gap: .2rem .9rem; padding: 0; list-style: none; font-size: .875rem; }
.legend svg { width: 12px; height: 12px; margin-right: .35rem; }
.store-of-thumbnails { position: absolute; width: 0; height: 0; overflow: hidden; }
#tip { position: fixed; z-index: 1; max-width: 220px; padding: .4rem .5rem; pointer-events: none; font-size: .8125rem;
  background: var(--panel); border: 1px solid var(--line); border-radius: 6px; overflow-wrap: anywhere; }
#tip[hidden], #tip svg[hidden] { display: none; }
.note { padding: .5rem .8rem; background: var(--panel); border-radius: 8px; }
ul.note { padding-left: 2rem; }
@media (max-width: 480px) {
  body { padding: 12px; }
  dl { grid-template-columns: 1fr; gap: 0; }
  dd { margin-bottom: .5rem; }
  .items { grid-template-columns: repeat(auto-fill, minmax(110px, 1fr)); }
}
@media print {
  :root { color-scheme: light; --page: #fff; --ink: #000; --soft: #444; --line: #bbb; --panel: #f4f4f4; --accent: #000;
    --right: 0, 114, 178; --wrong: 213, 94, 0; }
  * { -webkit-print-color-adjust: exact; print-color-adjust: exact; }
  body { max-width: none; font-size: 11pt; }
  nav, #tip, .cell { display: none; }
  h2 { break-after: avoid; }
  figure, tr { break-inside: avoid; }
  .scroll { overflow: visible; }
}
"""

SCRIPT = """
"use strict";
(() => {
  const tip = document.getElementById("tip");
  const picture = tip.querySelector("svg");
  const use = tip.querySelector("use");
  const text = tip.querySelector("span");
  for (const title of document.querySelectorAll(".points circle > title")) {
    title.parentNode.setAttribute("aria-label", title.textContent);
    title.remove();
  }
  const show = (event) => {
    const point = event.target instanceof Element ? event.target.closest(".points circle") : null;
    tip.hidden = point === null;
    if (point === null) return;
    const thumbnail = point.getAttribute("data-thumbnail");
    picture.toggleAttribute("hidden", thumbnail === null);
    if (thumbnail !== null) use.setAttribute("href", "#" + thumbnail);
    text.textContent = point.getAttribute("aria-label");
    const box = tip.getBoundingClientRect();
    const left = Math.min(event.clientX + 12, window.innerWidth - box.width - 8);
    const top = Math.min(event.clientY + 12, window.innerHeight - box.height - 8);
    tip.style.left = Math.max(left, 8) + "px";
    tip.style.top = Math.max(top, 8) + "px";
  };
  document.addEventListener("pointerover", show);
  document.addEventListener("click", show);
})();
"""
