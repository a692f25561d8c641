"""Mistakes of new users: each command says what was wrong, what was expected, and what to do, in a line or two."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pytest
import typer
from PIL import Image
from pyarrow import parquet
from topwork.pipelines.cli.examples import EXAMPLES
from topwork.pipelines.cli.main import app

from .running import topwork_command

MAX_LETTERS = 500


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, work: Path, photos: Path) -> Path:
    """Return a folder of things that users name by mistake; nothing in it is to be changed."""
    folder = tmp_path_factory.mktemp("place")
    (folder / "photos").symlink_to(photos, target_is_directory=True)
    for name in ("store", "bundle"):
        (folder / name).symlink_to(work / name, target_is_directory=True)
    (folder / "empty").mkdir()
    (folder / "notes.md").write_text("notes")
    (folder / "documents").mkdir()
    (folder / "documents" / "a.docx").write_bytes(b"x")
    image = folder / "photo.png"
    Image.fromarray(np.zeros((40, 40, 3), np.uint8)).save(image)
    (folder / "unlabelled").mkdir()
    (folder / "one").mkdir()
    (folder / "one" / "cat").mkdir()
    for number in range(4):
        pixels = np.full((40, 40, 3), 60 * number, np.uint8)
        Image.fromarray(pixels).save(folder / "unlabelled" / f"{number}.png")
        Image.fromarray(pixels).save(folder / "one" / "cat" / f"{number}.png")
    paths = sorted(photos.rglob("*.png"))
    rows = "".join(f"{path},{path.parent.name},{number}\n" for number, path in enumerate(paths))
    (folder / "table.csv").write_text(f"path,label,size\n{rows}")
    (folder / "renamed.csv").write_text(f"file,class,size\n{rows}")
    (folder / "texts.csv").write_text("text,label\nhello,a\nworld,b\n")
    (folder / "empty.csv").write_text("")
    (folder / "header.csv").write_text("path,label\n")
    (folder / "ragged.csv").write_text("path,label\na.png,cat,extra\n")
    mixed = [{"path": str(path), "label": number if number % 2 else "a"} for number, path in enumerate(paths)]
    (folder / "mixed.jsonl").write_text("".join(json.dumps(row) + "\n" for row in mixed))
    (folder / "labels.csv").write_text("name,label\na,b\n")
    (folder / "broken.tar").write_bytes(b"no archive" * 100)
    (folder / "broken.zip").write_bytes(b"no archive" * 100)
    (folder / "broken.parquet").write_bytes(b"no table" * 100)
    (folder / "broken.npy").write_bytes(b"no array" * 100)
    np.savez(folder / "arrays.npz", images=np.zeros((2, 8, 8, 3), np.uint8))
    parquet.write_table(pyarrow.table({"jpeg": [image.read_bytes()], "label": ["a"]}), folder / "bytes.parquet")
    (folder / "folder.csv").mkdir()
    return folder


WRONG_SOURCES = [
    ("extract {p}/nothing --store {t}/s", "{p}/nothing does not exist", "expected a folder, a .zip"),
    ("extract {p}/store --store {t}/s", "{p}/store is a feature store", "expected a folder, archive or table"),
    ("fit {p}/bundle --out {t}/b", "{p}/bundle is a bundle", "topwork predict BUNDLE SOURCE"),
    ("extract {p}/empty --store {t}/s", "holds no image items (0 other files)", "files in it, or in its folders"),
    ("extract {p}/documents --store {t}/s", "holds no image items (1 other files)", "that end in .jpg"),
    ("extract {p}/notes.md --store {t}/s", "{p}/notes.md is of an unknown kind", "expected a folder"),
    ("extract {p}/photo.png --store {t}/s", "{p}/photo.png is one image item", "expected the folder that it lies in"),
    ("evaluate {p}/bundle {p}/photo.png", "{p}/photo.png is one image item", "expected the folder that it lies in"),
    ("extract {p}/empty.csv --store {t}/s", "{p}/empty.csv cannot be read: Empty", "as many cells as in the first"),
    ("extract {p}/header.csv --store {t}/s", "{p}/header.csv holds no image items", "at least one row"),
    ("extract {p}/ragged.csv --store {t}/s", "Row #2: Expected 2 columns, got 3", "as many cells as in the first"),
    (
        "extract {p}/renamed.csv --store {t}/s",
        "has the columns file, class, size",
        "expected one called 'path', or its name",
    ),
    (
        "extract {p}/texts.csv --store {t}/s",
        "has the columns text, label",
        "such as --backbone hf:NAME",
    ),
    ("extract {p}/bytes.parquet --store {t}/s", "has the columns jpeg, label", "--path-column jpeg"),
    ("extract {p}/broken.tar --store {t}/s", "{p}/broken.tar cannot be read", "pack it again"),
    ("extract {p}/broken.zip --store {t}/s", "{p}/broken.zip cannot be read", "pack it again"),
    ("extract {p}/broken.parquet --store {t}/s", "{p}/broken.parquet cannot be read", "Expected a whole Parquet file"),
    ("extract {p}/broken.npy --store {t}/s", "{p}/broken.npy cannot be read", "expected numbers that numpy saved"),
    ("extract {p}/arrays.npz --store {t}/s", "has the arrays images", "expected X, and y for labels"),
    ("extract {p}/*.jpg --store {t}/s", "{p}/*.jpg: no file or folder matches", "check its spelling"),
    ("extract s3://bucket/*.tar --store {t}/s", "* is not expanded in URLs", "part-{{000..099}}.parquet"),
    (
        "extract {p}/photos --store {t}/s --text-column text",
        "no table, but columns are named",
        "or no names",
    ),
    ("extract {p}/table.csv --store {t}/s --path-column file", "no column 'file'", "it has path, label, size"),
    ("fit {p}/table.csv --out {t}/b --id-column key", "no column 'key'", "it has path, label, size"),
    ("fit {p}/table.csv --out {t}/b --label-column labels", "no column 'labels'", "it has path, label, size"),
    ("fit {p}/table.csv --out {t}/b --group-column person", "no column 'person'", "it has path, label, size"),
    ("extract {p}/photos --store {t}/s --split val", "no item has the split 'val'", "leave the split out"),
    (
        "fit {p}/mixed.jsonl --out {t}/b",
        "column 'label' holds int, str",
        "texts in all rows, or numbers",
    ),
    ("fit {p}/one --out {t}/b", "all 4 items have the label 'cat'", "expected at least two classes"),
    ("fit {p}/unlabelled --out {t}/b", "4 of 4 items have no label", "(--label-column)"),
    ("evaluate {p}/bundle {p}/unlabelled", "4 of 4 items have no label", "(--label-column)"),
    ("predict {p}/bundle {p}/texts.csv --out {t}/out.csv", "has the columns text, label", "expects image input"),
]
"""Commands with a source that cannot be used, and words of what is wrong, and of what to do."""

WRONG_OPTIONS = [
    ("extract {p}/photos", "Missing option '--store'", "extract --help"),
    ("fit {p}/photos", "Missing option '--out'", "fit --help"),
    ("export {p}/bundle", "Missing argument 'out'", "export --help"),
    ("train {p}/photos", "No such command 'train'", "--help"),
    ("store infos {p}/store", "No such command 'infos'", "Did you mean 'info'?"),
    ("heads logreg", "unexpected extra argument(s) (logreg)", "heads --help"),
    ("layers topwork:tiny --pool avg", "--pool", "expected --check with them"),
    ("layers resnet50", "backbone 'resnet50'", "such as topwork:tiny, timm:resnet50"),
    ("layers {p}/photos", "backbone '{p}/photos'", "such as topwork:tiny, timm:resnet50"),
    ("layers topwork:huge", "'topwork:huge' does not exist", "topwork provides 'topwork:tiny'"),
    (
        "extract {p}/photos --store {t}/s --backbone onnx:{p}/none.onnx",
        "none.onnx does not exist",
        "expected an ONNX file",
    ),
    (
        "extract {p}/photos --store {t}/s --backbone onnx:{p}/photo.png",
        "not an ONNX file",
        "expected an exported model",
    ),
    (
        "extract {p}/photos --store {t}/s --weights {p}/none.pth",
        "none.pth does not exist",
        "expected a .safetensors file",
    ),
    ("extract {p}/photos --store {t}/s --weights {p}/photo.png", "unknown ending", "expected one of .safetensors"),
    (
        "extract {p}/photos --store {t}/s --model-arg depth",
        "--model-arg depth",
        "key=value, such as num_classes=0",
    ),
    ("extract {p}/photos --store {t}/s --size big", "--size big", "as 224 or 192x256"),
    ("extract {p}/photos --store {t}/s --mean 0.5;0.5", "--mean 0.5;0.5", "separated by commas, such as 0.5,0.5,0.5"),
    ("extract {p}/photos --store {t}/s --interpolation cubic", "'cubic'", "expected one of nearest, bilinear, bicubic"),
    ("extract {p}/photos --store {t}/s --precision fp12", "'fp12'", "expected one of auto, fp32, bf16"),
    ("extract {p}/photos --store {t}/s --provider gpu", "'gpu'", "expected one of auto, tensorrt, cuda"),
    ("extract {p}/photos --store {t}/s --batch-size many", "--batch-size many", "expected a positive number or auto"),
    ("extract {p}/photos --store {t}/s --on-error ignore", "'ignore'", "expected 'record', 'raise' or 'limit:N%'"),
    ("extract {p}/photos --store {t}/s --dtype float64", "'float64'", "expected one of float32, float16"),
    ("extract {p}/photos --store {t}/s --views -1", "views=-1", "expected the number of views"),
    ("extract {p}/photos --store {t}/s --add-columns", "no store at {t}/s", "--add-columns"),
    ("extract {p}/photos --store {p}/store --layer layer9", "has no layer layer9; it has last", "Leave out --layer"),
    ("fit {p}/photos --out {t}/b --head svn", "head 'svn' does not exist", "known: linear, auto, logreg, ridge"),
    ("fit {p}/photos --out {t}/b --head logreg --head-arg C", "--head-arg C", "expected key=value, such as C=0.1"),
    ("fit {p}/photos --out {t}/b --class-weight heavy", "--class-weight heavy", "expected balanced"),
    ("fit {p}/photos --out {t}/b --abstain-below 2", "abstain_below=2.0", "expected a probability"),
    ("fit {p}/photos --out {t}/b --task classify", "--task classify", "expected classification or regression"),
    ("fit {p}/photos --out {t}/b --group-column person", "--group-column", "for a table or a store"),
    ("fit {p}/store --out {t}/b --layer layer1", "'layer1'", "another cut needs the backbone itself"),
    ("fit {p}/store --out {t}/b --backbone topwork:tiny", "{p}/store is a feature store", "--backbone"),
    (
        "fit {p}/store --out {t}/b --label-column label",
        "{p}/store is a feature store",
        "a table do not apply",
    ),
    ("evaluate {p}/bundle {p}/photos --split test", "no item has the split 'test'", "leave the split out"),
    ("predict {p}/bundle {p}/photos --out {t}/out.csv --top-k 0", "top_k=0", "expected a positive number of classes"),
    ("refit {p}/bundle {p}/store --out {t}/b --held-out 20", "held_out=20.0", "from 0 (none) to less than 1"),
    ("store export {p}/store {t}/out --format excel", "format 'excel'", "expected one of parquet, arrow, datasets"),
    ("store export {p}/store {t}/out.parquet --column layer9", "no column 'layer9'", "it has last"),
]
"""Commands with options that are missing, misspelled or of no use there."""

WRONG_PLACES = [
    ("extract {p}/photos --store {p}/bundle", "{p}/bundle exists already", "choose another folder"),
    ("extract {p}/photos --store {p}/notes.md", "{p}/notes.md exists already", "choose another folder"),
    ("fit {p}/photos --out {p}/bundle", "{p}/bundle is a bundle already", "expected a new name, or --overwrite"),
    ("fit {p}/photos --out {p}/notes.md", "{p}/notes.md exists and is no bundle", "choose another folder"),
    ("fit {p}/photos --out {p}/empty/../photos --overwrite", "exists and is no bundle", "choose another folder"),
    ("fit {p}/photos --out {p}/notes.md/bundle", "{p}/notes.md/bundle", "Not a directory"),
    ("evaluate {p}/nothing {p}/photos", "{p}/nothing is not a bundle", "`topwork fit … --out DIR` writes one"),
    ("evaluate {p}/photo.png {p}/photos", "{p}/photo.png is not a bundle", "`topwork fit … --out DIR` writes one"),
    ("evaluate {p}/photos {p}/bundle", "{p}/photos is not a bundle", "`topwork fit … --out DIR` writes one"),
    ("export {p}/store {t}/model.onnx", "{p}/store is not a bundle", "`topwork fit … --out DIR` writes one"),
    ("export {p}/bundle {p}/empty", "{p}/empty is a folder", "expected the name of a file"),
    ("evaluate {p}/bundle {p}/photos --confusion {t}/matrix.png", "{t}/matrix.png", "ends in .csv or .jsonl"),
    ("predict {p}/bundle {p}/photos --out {t}/out.xlsx", "{t}/out.xlsx", "ends in .csv or .jsonl or .parquet"),
    ("predict {p}/bundle {p}/photos --out {p}/folder.csv", "{p}/folder.csv is a folder", "expected the name of a file"),
    ("predict {p}/bundle {p}/nothing --out {t}/out.csv", "{p}/nothing does not exist", "expected a folder"),
    (
        "refit {p}/bundle {p}/photos --out {t}/b",
        "{p}/photos is not a feature store",
        "`topwork extract SOURCE --store DIR`",
    ),
    ("refit {p}/bundle {p}/store --out {t}/b --labels {p}/labels.csv", "the columns name, label", "expected 'id'"),
    ("refit {p}/bundle {p}/store --out {t}/b --labels {p}/none.csv", "none.csv does not exist", "check its name"),
    ("store info {p}/bundle", "{p}/bundle is not a feature store", "`topwork extract SOURCE --store DIR`"),
    ("store verify {p}/photo.png", "{p}/photo.png is not a feature store", "`topwork extract SOURCE --store DIR`"),
    ("store label {p}/store {p}/labels.csv", "the columns name, label", "expected 'id' (or 'path')"),
    ("store label {p}/store {p}/none.csv", "{p}/none.csv does not exist", "check its name"),
    ("store failures {p}/store --out {t}/failures.txt", "{t}/failures.txt", "ends in .csv or .jsonl"),
    ("store export {p}/store {p}/notes.md", "{p}/notes.md exists already", "choose another name, or remove it"),
    ("store import {p}/store {p}/broken.npy", "{p}/store exists already, a feature store", "choose another folder"),
    ("store import {t}/new {p}/nothing.npy", "{p}/nothing.npy does not exist", "expected an array"),
    ("store import {t}/new {p}/photo.png", "{p}/photo.png is not a file of features", "expected an array"),
    ("store retry {p}/store {p}/nothing", "{p}/nothing does not exist", "expected a folder"),
]
"""Commands with files and folders that are something else, or exist already."""

WRONG_ELSEWHERE = [
    ("layers timm:resnet8", "timm has no model 'resnet8'", "close: resnet18"),
    ("layers torchvision:resnet19", "no classification model 'resnet19'", "close: resnet18"),
    ("layers tim:resnet18", "backbone 'tim:resnet18'", "close: timm"),
    ("extract {p}/photos --store {t}/s --layer layr2", "has no layer 'layr2'", "close: layer2"),
    ("extract {p}/photos --store {t}/s --pool averge", "pooling 'averge' does not exist", "known: auto, avg"),
    ("fit {p}/photos --out {t}/b --hed logreg", "No such option: --hed", "--head"),
    ("fit {p}/photos --out {t}/b --head logregg", "head 'logregg' does not exist", "close: logreg"),
    ("fit --config {p}/notes.md", "--config {p}/notes.md", "Expected a TOML file"),
    ("evaluat {p}/bundle {p}/photos", "No such command 'evaluat'", "Did you mean 'evaluate'?"),
    ("export {p}/bundle {t}/model.onnx --input anysize", "input='anysize'", "expected 'model-size' or 'any-size'"),
    ("probe {p}/nothing", "{p}/nothing does not exist", "expected a folder"),
    ("probe {p}/bundle", "{p}/bundle is a bundle", "expected a folder, archive or table"),
    ("probe {p}/photos --layer layr2", "'layr2' is no layer", "close: layer2"),
    ("probe {p}/photos --max-items 0", "max_items=0", "expected a number of items above 1"),
    ("probe {p}/store --backbone topwork:tiny", "{p}/store is a feature store", "leave out --backbone"),
    ("probe {p}/one", "all 4 items have the label 'cat'", "expected at least two classes"),
    ("advise {p}/nothing", "{p}/nothing does not exist", "expected a folder"),
    ("advise {p}/bundle", "{p}/bundle is a bundle", "expected a folder, archive or table"),
    ("advise {p}/photos --backbone timm:resnet8", "timm has no model 'resnet8'", "close: resnet18"),
    ("audit {p}/photos", "{p}/photos is a source", "name a store for them with --store"),
    ("audit {p}/store --out {t}/findings.txt", "{t}/findings.txt", "ends in .csv or .jsonl"),
    ("audit {p}/store --apply {p}/none.csv", "none.csv does not exist", "check its name"),
    ("report {p}/nothing --out {t}/r.html", "{p}/nothing does not exist", "expected a bundle"),
    ("report {p}/bundle --out {t}/r.pdf", "{t}/r.pdf: a report is a page", "ends in .html"),
    ("report {p}/store --out {t}/r.html", "{p}/store is no bundle but a store", "`topwork fit` writes"),
    ("report {p}/bundle {p}/nothing --out {t}/r.html", "{p}/nothing does not exist", "expected a folder"),
    ("report {p}/bundle {p}/photos --out {t}/r.html --split tset", "no item has the split", "leave the split out"),
    ("finetune {p}/photos --out {t}/b --task ranking", "--task ranking", "expected classification or regression"),
    ("finetune {p}/photos --out {t}/b --max-disk many", "--max-disk many", "expected a size, such as 500MB"),
    ("finetune {p}/photos --out {t}/b --no-advice --from layer9", "'layer9' is no layer", "lists them all"),
    ("finetune {p}/photos --out {t}/b --no-advice --epochs 0", "epochs is 0", "expected a positive integer"),
    (
        "finetune {p}/photos --out {t}/b --no-advice --from last",
        "'last' does not lie above 'last'",
        "must start at the cut",
    ),
    ("finetune {p}/photos --out {t}/b --no-advice --from layer1 --max-disk 1KB", "take", "allow more"),
    ("finetune {p}/store --out {t}/b", "is a feature store", "name the network"),
    ("finetune {p}/store --out {t}/b --backbone topwork:tiny", "has no whole maps", "--pool none"),
    (
        "finetune {p}/photos --out {t}/b --task regression --class-weight balanced",
        "--class-weight",
        "applies to labels",
    ),
    ("explain {p}/bundle {p}/nothing.png", "nothing.png does not exist", "expected one image"),
    ("explain {p}/bundle {p}/photo.png --out {t}/map.txt", "{t}/map.txt", "expected a file that ends in .png"),
    ("explain {p}/bundle {p}/photo.png --label rof", "label='rof' is no class", "expected one of"),
    ("show {p}/nothing", "{p}/nothing does not exist", "expected a bundle, a feature store or an ONNX file"),
    ("show {p}/photos", "neither a bundle", "`topwork extract` makes a store"),
    ("show {p}/notes.md", "neither a bundle", "`topwork fit` a bundle"),
    ("doctor --backbone topwork:tiny", "--backbone topwork:tiny applies to --bench", "expected --bench"),
    ("doctor --bench --size 64", "apply to --backbone", "expected --bench --backbone NAME"),
    ("doctor --bench --backbone topwork:tiny --items {p}/one", "usable items", "expected at least 32"),
    ("doctor now", "unexpected extra argument(s) (now)", "doctor --help"),
    ("demo --keep {p}/photos", "--keep {p}/photos: exists already", "expected the name of a new folder"),
    ("cache infos", "No such command 'infos'", "Did you mean 'info'?"),
    ("cache info now", "unexpected extra argument(s) (now)", "cache info --help"),
    ("cache clean --older-than -3", "--older-than -3", "expected a number of days"),
    ("cache verify now", "unexpected extra argument(s) (now)", "cache verify --help"),
    ("store repair {p}/photos", "{p}/photos is not a feature store", "`topwork extract SOURCE --store DIR`"),
    ("store merge {p}/photos", "{p}/photos is not a feature store", "`topwork extract SOURCE --store DIR`"),
    ("store compact {p}/bundle", "{p}/bundle is not a feature store", "`topwork extract SOURCE --store DIR`"),
]
"""Commands that the other lists leave out, and misspelt names, for which the nearest are named."""

WRONG = [*WRONG_ELSEWHERE, *WRONG_SOURCES, *WRONG_OPTIONS, *WRONG_PLACES]


@pytest.mark.parametrize(("command", "cause", "remedy"), WRONG, ids=[command for command, _, _ in WRONG])
def test_message_says_what_is_wrong_and_what_to_do(
    command: str, cause: str, remedy: str, place: Path, tmp_path: Path
) -> None:
    names = {"p": place, "t": tmp_path}
    result = topwork_command(*command.format(**names).split(), code=2)
    message = result.stderr.replace(str(place), "").replace(str(tmp_path), "")
    expected = [words.format(**names) for words in (cause, remedy)]
    assert [words for words in expected if words not in result.stderr] == [], result.stderr
    assert result.stdout == ""
    assert "Traceback" not in message
    is_of_typer = "Usage: " in message
    assert is_of_typer or (message.startswith("topwork: ") and message.count("\n") == 1), message
    assert len(message) < MAX_LETTERS, message
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "cause", "remedy"),
    [
        ("--head logreg --head-arg K=1", "no parameter 'K'", "expected one of C, class_weight"),
        ("--head logreg --head-arg C=high", "'C' parameter", "must be a float"),
        ("--head knn --class-weight balanced", "class_weight='balanced'", "expected one of linear, auto, logreg"),
        ("--task regression", "'flower' is no number", "--task classification"),
    ],
)
def test_mistakes_about_the_head_name_what_it_takes(
    arguments: str, cause: str, remedy: str, place: Path, tmp_path: Path
) -> None:
    result = topwork_command("fit", place / "store", "--out", tmp_path / "b", *arguments.split(), code=2)
    assert cause in result.stderr
    assert remedy in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_every_command_is_tried() -> None:
    tried = [command for command, _, _ in WRONG]
    names = [name for name in EXAMPLES if not any(command.startswith(f"{name} ") for command in tried)]
    assert names == []
    assert sorted(EXAMPLES) == sorted(list_commands(typer.main.get_command(app), ""))


def list_commands(command: Any, name: str) -> list[str]:
    """Return the names of all commands, those of groups after the group's."""
    children = getattr(command, "commands", None)
    if children is None:
        return [name]
    return [found for child in children for found in list_commands(children[child], f"{name} {child}".strip())]
