"""What a browser would find in a page, and what no page of ours may have."""

from __future__ import annotations

import re
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

from topwork.pipelines.report.page import hash_source
from topwork.pipelines.report.style import SCRIPT, STYLE

VOID = {"meta", "br"}
FRAME = {"html", "head", "meta", "title", "style", "script", "body", "header", "nav", "main", "section", "div"}
TEXT = {"h1", "h2", "h3", "p", "a", "ul", "li", "dl", "dt", "dd", "table", "thead", "tbody", "tr", "th", "td"}
INLINE = {"bdi", "em", "span", "svg", "defs", "image", "use", "g", "circle", "rect", "line", "path", "text"}
KNOWN = FRAME | TEXT | INLINE


class ParsedPage(HTMLParser):
    """Elements, names, links and texts of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: Counter[str] = Counter()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.attributes: set[str] = set()
        self.texts: list[str] = []
        self.scripts: list[str] = []
        self.metas: list[dict[str, str | None]] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        values = dict(attrs)
        self.attributes |= values.keys()
        if tag == "meta":
            self.metas.append(values)
        if "id" in values:
            self.ids.append(values["id"] or "")
        self.links += [value or "" for name, value in attrs if name in ("href", "src")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] == ["script"]:
            self.scripts.append(data)
        elif self.open[-1:] != ["style"]:
            self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(self.texts)


def read_page(path: Path) -> ParsedPage:
    """Parse a page, after checking that it loads nothing, and runs nothing but the script that is ours."""
    content = path.read_text("utf-8")
    page = ParsedPage(content)
    assert page.open == []
    assert set(page.tags) <= KNOWN
    assert "".join(page.scripts) == SCRIPT
    assert page.tags["script"] == page.tags["style"] == 1
    assert not [name for name in page.attributes if name.startswith("on") or name in ("style", "src", "srcset")]
    assert not re.search(r"://|url\(|@import", content)
    names = set(page.ids)
    assert len(names) == len(page.ids)
    for link in page.links:
        assert link.startswith("data:image/jpeg;base64,") or link.removeprefix("#") in names
    (policy,) = [meta["content"] or "" for meta in page.metas if meta.get("http-equiv") == "Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert hash_source(SCRIPT) in policy
    assert hash_source(STYLE) in policy
    return page
