"""Reports hold what was measured, run and load nothing, and show names from outside as they are."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import topwork
from topwork import FeatureStore, Table, TransferClassifier, TransferRegressor, audit
from topwork.errors import BundleError, InputError
from topwork.extract.graphs.exported_graph import ExportedGraph
from topwork.heads.familiarity import learn_familiarity
from topwork.pipelines.estimators.evaluation import LABELS, Evaluation, evaluate
from topwork.pipelines.estimators.measures import Answers
from topwork.pipelines.report import write_report
from topwork.pipelines.report.facts import ReportFacts, describe_bundle_alone, describe_evaluation
from topwork.pipelines.report.page import render_page
from topwork.pipelines.report.previews import Previews

from .parsed_page import read_page

OF_LABELS = {"evaluation-0", "confusion-0", "calibration-0", "mistakes-0", "map-0", "failures"}
OF_BUNDLE = {"summary", "certificate", "lineage", "cost"}
HOSTILE_NAME = "<img src=x onerror=alert(1)>.jpg"
HOSTILE_LABELS = ("</script><script>alert(1)</script>", "\u202eyks\u200f", '" onclick="alert(1)')
MAX_BYTES = 15_000_000


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, photos: Path, graph: ExportedGraph) -> Path:
    """Return a folder with a bundle that makes some mistakes on the photographs, and the store of their features."""
    folder = tmp_path_factory.mktemp("report")
    paths = sorted(photos.rglob("*.png"))
    labels = [path.parent.name for path in paths]
    labels[1:7] = ["sky"] * 6
    TransferClassifier(graph, "layer2", head="logreg", cv=2).fit(paths, labels).save(folder / "bundle")
    TransferClassifier(graph, "layer2", head="lda", cv=0, store=folder / "store").fit(photos)
    return folder


def test_bundle_alone_tells_what_it_knows_and_what_is_missing(place: Path, tmp_path: Path) -> None:
    written = write_report(place / "bundle", tmp_path / "report.html")
    page = read_page(tmp_path / "report.html")
    assert set(page.ids) >= OF_BUNDLE | {"missing"}
    assert not OF_LABELS & set(page.ids)
    for text in ("classification", "3 classes", "topwork:tiny", "layer2", "logreg", "24 rows", *written["missing"]):
        assert text in page.text
    assert written["bytes"] == (tmp_path / "report.html").stat().st_size < 50_000


def test_source_shows_the_evaluation_and_the_items(place: Path, photos: Path, tmp_path: Path) -> None:
    written = write_report(place / "bundle", tmp_path / "report.html", photos)
    page = read_page(tmp_path / "report.html")
    assert set(page.ids) >= OF_BUNDLE | OF_LABELS | {"missing"}
    scores = evaluate(topwork.load(place / "bundle"), photos)
    assert f"accuracy {scores['accuracy']:.3f}" in page.text
    assert 0 < scores["accuracy"] < 1
    assert "most frequent label 0.3333" in " ".join(page.text.split())
    assert "five likeliest" not in page.text  # of three classes
    assert (written["items"], written["thumbnails"], written["failed"]) == (24, 24, 0)
    assert page.tags["image"] == 24
    assert page.tags["circle"] == 24 + 3  # the map, and its legend
    cells = [name for name in page.ids if name.startswith("cell-")]
    assert sorted(cells) == sorted({link.removeprefix("#") for link in page.links if link.startswith("#cell-")})
    assert "items a second" in page.text


def test_store_is_audited_and_its_items_are_looked_at_in_their_source(
    place: Path, photos: Path, tmp_path: Path
) -> None:
    out = tmp_path / "new" / "report.html"
    without = write_report(place / "bundle", out, place / "store")
    page = read_page(out)
    assert "findings" in page.ids
    assert (without["thumbnails"], page.tags["image"]) == (0, 0)
    assert any("--items" in text for text in without["missing"])
    found = audit(FeatureStore.open(place / "store"))
    for kind, count in found.counts.items():
        assert (f"{kind.replace('_', ' ')}: {count}" in page.text) == (count > 0)
    written = write_report(place / "bundle", out, place / "store", items=photos, audit=False)
    assert (written["thumbnails"], written["missing"]) == (24, [])
    assert "findings" not in read_page(out).ids


def test_splits_are_told_apart(graph: ExportedGraph, photos: Path, place: Path, tmp_path: Path) -> None:
    for split in ("val", "test"):
        shutil.copytree(photos, tmp_path / "items" / split)
    write_report(place / "bundle", tmp_path / "report.html", tmp_path / "items")
    page = read_page(tmp_path / "report.html")
    assert {"evaluation-0", "evaluation-1", "confusion-1", "map-1"} <= set(page.ids)
    write_report(place / "bundle", tmp_path / "report.html", tmp_path / "items", split="val")
    assert "evaluation-1" not in read_page(tmp_path / "report.html").ids


def write_table(path: Path, rows: list[tuple[object, object]]) -> Path:
    with open(path, "w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([("path", "label"), *rows])
    return path


@pytest.mark.filterwarnings("ignore:1 of 25 items failed")
def test_hostile_names_change_nothing(graph: ExportedGraph, photos: Path, tmp_path: Path) -> None:
    rows: list[tuple[object, object]] = []
    for label, region in zip(HOSTILE_LABELS, ("flower", "roof", "sky"), strict=True):
        for number, path in enumerate(sorted((photos / region).iterdir())):
            name = f"{region}-{number}-{HOSTILE_NAME}"
            shutil.copy(path, tmp_path / name)
            rows.append((name, label))
    (tmp_path / f"broken-{HOSTILE_NAME}").write_bytes(b"no image")
    rows.append((f"broken-{HOSTILE_NAME}", HOSTILE_LABELS[0]))
    table = write_table(tmp_path / "table.csv", rows)
    classifier = TransferClassifier(graph, "layer2", head="logreg", cv=0, on_error="record", store=tmp_path / "store")
    classifier.fit(table)
    bundle = tmp_path / "<b onclick='x'>bundle"
    classifier.save(bundle)
    for data, items in ((table, None), (tmp_path / "store", table)):
        recording = {"on_error": "record"}
        written = write_report(bundle, tmp_path / "report.html", data, items=items, parameters=recording)
        assert (written["items"], written["failed"], written["thumbnails"]) == (24, 1, 24)
        page = read_page(tmp_path / "report.html")
        assert f"Report on {bundle.name}" in page.text
        assert HOSTILE_NAME in page.text
        assert HOSTILE_LABELS[0] in page.text
        assert r"\u202eyks\u200f" in page.text
        assert not {"\u202e", "\u200f"} & set((tmp_path / "report.html").read_text("utf-8"))


def test_texts_show_their_beginnings(text_graph: ExportedGraph, text_table: Path, tmp_path: Path) -> None:
    TransferClassifier(text_graph, "last", head="logreg", cv=0).fit(text_table).save(tmp_path / "bundle")
    written = write_report(tmp_path / "bundle", tmp_path / "report.html", text_table)
    page = read_page(tmp_path / "report.html")
    assert (written["thumbnails"], written["snippets"]) == (0, 36)
    with open(text_table, encoding="utf-8") as stream:
        first = next(csv.DictReader(stream))["text"]
    assert first in page.text


def test_regression_shows_values_and_residuals(graph: ExportedGraph, photos: Path, tmp_path: Path) -> None:
    paths = sorted(photos.rglob("*.png"))
    values = [float(number) for number in range(len(paths))]
    table = write_table(tmp_path / "table.csv", list(zip(paths, values, strict=True)))
    regressor = TransferRegressor(graph, "layer2", head="ridge", cv=0)
    regressor.fit(paths, values).save(tmp_path / "bundle")
    write_report(tmp_path / "bundle", tmp_path / "report.html", table)
    page = read_page(tmp_path / "report.html")
    assert {"evaluation-0", "values-0", "mistakes-0", "map-0"} <= set(page.ids)
    assert not {"confusion-0", "calibration-0"} & set(page.ids)
    scores = evaluate(regressor, table)
    assert f"R2 {scores['r2']:.3f}" in page.text
    assert page.tags["circle"] == 2 * 24 + 2


def test_several_labels_for_each_item(graph: ExportedGraph, photos: Path, tmp_path: Path) -> None:
    paths = sorted(photos.rglob("*.png"))
    sets = [f"{path.parent.name}|{'even' if int(path.stem) % 2 else 'odd'}" for path in paths]
    table = Table(str(write_table(tmp_path / "table.csv", list(zip(paths, sets, strict=True)))), label_separator="|")
    TransferClassifier(graph, "layer2", head="logreg", cv=0).fit(table).save(tmp_path / "bundle")
    write_report(tmp_path / "bundle", tmp_path / "report.html", table)
    page = read_page(tmp_path / "report.html")
    assert {"evaluation-0", "calibration-0", "map-0"} <= set(page.ids)
    assert "confusion-0" not in page.ids
    assert "mean average precision" in page.text


def test_head_that_abstains_has_a_column_for_it(graph: ExportedGraph, photos: Path, tmp_path: Path) -> None:
    classifier = TransferClassifier(graph, "layer2", head="logreg", cv=0, abstain_below=0.999)
    classifier.fit(photos).save(tmp_path / "bundle")
    write_report(tmp_path / "bundle", tmp_path / "report.html", photos)
    assert "no answer" in read_page(tmp_path / "report.html").text


def test_ten_thousand_items_take_less_than_15_megabytes(place: Path, tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    n_items = 10_000
    names = [f"class {number} {'x' * 20}" for number in range(10)]
    truth = np.array(names, object)[generator.integers(0, 10, n_items)]
    probabilities = generator.dirichlet(np.ones(10), n_items)
    answers = Answers(
        ids=[f"{'folder/' * 8}{number:05}.jpg" for number in range(n_items)],
        truth=truth,
        predicted=np.array(names, object)[probabilities.argmax(axis=1)],
        probabilities=probabilities,
        classes=names,
    )
    evaluation = Evaluation(
        kind=LABELS,
        answers=answers,
        split=None,
        failures=[],
        unlabelled=0,
        features=generator.standard_normal((n_items, 8), np.float32),
    )
    previews = Previews(thumbnails=dict.fromkeys(answers.ids[:200], "A" * 6000))
    familiarity = learn_familiarity(generator.standard_normal((200, 8), np.float32) / 100, np.zeros(200))
    assert familiarity is not None
    facts = ReportFacts(
        bundle=describe_bundle_alone(place / "bundle").bundle,
        evaluations=[describe_evaluation(evaluation, familiarity)],
        failures=[(item_id, "cannot be read " * 9) for item_id in answers.ids],
        previews=previews,
    )
    content = render_page(facts)
    assert len(content.encode("utf-8")) < MAX_BYTES
    (tmp_path / "report.html").write_text(content, "utf-8")
    page = read_page(tmp_path / "report.html")
    assert page.tags["circle"] == 2000 + 10
    n_unfamiliar = facts.evaluations[0].unfamiliar
    assert n_unfamiliar is not None
    assert n_unfamiliar > n_items / 2
    assert f"unlike those that the head was trained on (about 5 % are usual) {n_unfamiliar:,}" in page.text


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda p, t: write_report(p / "bundle", t / "report.pdf"), InputError, "report.pdf"),
        (lambda p, t: write_report(p / "bundle", t), InputError, ".html"),
        (lambda p, t: write_report(p / "store", t / "a.html"), InputError, "store"),
        (lambda p, t: write_report(p / "nothing", t / "a.html"), InputError, "nothing"),
        (lambda p, t: write_report(p / "nothing", t / "a.html", p / "store"), BundleError, "nothing"),
        (lambda p, t: write_report(p / "bundle", t / "a.html", split="val"), InputError, "split"),
        (lambda p, t: write_report(p / "bundle", t / "a.html", p / "store", split="val"), InputError, "val"),
    ],
)
def test_errors_name_what_is_wrong_and_nothing_is_written(
    call: Callable[[Path, Path], object], error: type[Exception], message: str, place: Path, tmp_path: Path
) -> None:
    with pytest.raises(error, match=message):
        call(place, tmp_path)
    assert list(tmp_path.iterdir()) == []
