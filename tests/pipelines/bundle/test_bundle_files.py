"""Bundles: a loaded one predicts as the saved one; a changed one, or one with unknown types, is refused."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import pickle
import shutil
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import topwork
from sklearn.ensemble import RandomForestClassifier
from sklearn.neighbors import NearestCentroid
from topwork import TransferClassifier
from topwork.atomic import replace_folder
from topwork.errors import BundleError, InputError
from topwork.extract.graphs import model_file
from topwork.extract.graphs.exported_graph import ExportedGraph
from topwork.heads.registry import HEADS

FILES = ["bundle.json", "extractor.canaries.npz", "extractor.json", "extractor.onnx", "head.skops", "learned.npy"]
TREE = "sklearn.tree._tree.Tree"
WITHOUT_TORCH = """
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "timm", "torchvision", "onnx", "onnxscript", "skl2onnx"):
            raise ImportError(f"{name} is blocked")

sys.meta_path.insert(0, Blocker())
import json
import topwork
source, *bundles = sys.argv[1:]
print(json.dumps([topwork.load(bundle).predict(source).tolist() for bundle in bundles]))
"""
Train = Callable[..., TransferClassifier]


@pytest.fixture(scope="module")
def train(graph: ExportedGraph, photos: Path) -> Train:
    """Return a function that fits a classifier."""

    def train(head: Any = "centroid", layer: Any = "layer2") -> TransferClassifier:
        return TransferClassifier(graph, layer, head=head, cv=0).fit(photos)

    return train


@pytest.fixture(scope="module")
def classifiers(train: Train) -> dict[str, TransferClassifier]:
    """Return a fitted classifier for each head; they are not to be changed."""
    return {head: train(head, ["layer3", "layer1"]) for head in HEADS}


@pytest.fixture(scope="module")
def bundles(classifiers: dict[str, TransferClassifier], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a bundle for each head; they are not to be changed."""
    folder = tmp_path_factory.mktemp("bundles")
    for head, classifier in classifiers.items():
        classifier.save(folder / head)
    return folder


@pytest.fixture(scope="module")
def saved_bundle(graph: ExportedGraph, photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a bundle with a fit report; it is not to be changed."""
    path = tmp_path_factory.mktemp("saved") / "bundle"
    TransferClassifier(graph, "layer2", head="centroid").fit(photos).save(path)
    return path


@pytest.fixture
def bundle(saved_bundle: Path, tmp_path: Path) -> Path:
    """Return a copy of the bundle."""
    return Path(shutil.copytree(saved_bundle, tmp_path / "bundle"))


def edit(bundle: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Change the manifest of a bundle."""
    manifest = json.loads((bundle / "bundle.json").read_text())
    change(manifest)
    (bundle / "bundle.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize("head", HEADS)
def test_loaded_bundle_predicts_as_the_saved_classifier(
    head: str, classifiers: dict[str, TransferClassifier], bundles: Path, paths: list[Path]
) -> None:
    saved = classifiers[head]
    loaded = topwork.load(str(bundles / head))
    assert np.array_equal(loaded.predict(paths), saved.predict(paths))
    assert loaded.predict(paths).dtype == saved.predict(paths).dtype
    assert loaded.classes_.tolist() == ["flower", "roof", "sky"]
    assert (loaded.n_rows_, loaded.head) == (len(paths), head)
    assert hasattr(loaded, "predict_proba") == hasattr(saved, "predict_proba")
    if hasattr(saved, "predict_proba"):
        assert np.array_equal(loaded.predict_proba(paths), saved.predict_proba(paths))


@pytest.mark.parametrize("values", [[-5, 0, 7], [False, True, True]])
def test_labels_keep_their_dtype(values: list[Any], graph: ExportedGraph, paths: list[Path], tmp_path: Path) -> None:
    labels = np.repeat(values, len(paths) // 3)
    TransferClassifier(graph, "layer2", head="knn").fit(paths, labels).save(tmp_path / "bundle")
    predicted = topwork.load(tmp_path / "bundle").predict(paths)
    assert predicted.dtype == labels.dtype
    assert np.mean(predicted == labels) > 0.9


def test_bundles_of_every_head_run_without_torch_and_onnx(
    classifiers: dict[str, TransferClassifier], bundles: Path, photos: Path, paths: list[Path]
) -> None:
    command = [sys.executable, "-c", WITHOUT_TORCH, str(photos), *(str(bundles / head) for head in HEADS)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout) == [classifiers[head].predict(paths).tolist() for head in HEADS]


def test_manifest_names_every_file_with_its_digest(bundle: Path, graph: ExportedGraph) -> None:
    manifest = json.loads((bundle / "bundle.json").read_text())
    assert sorted(path.name for path in bundle.iterdir()) == FILES
    assert manifest["files"] == {name: hashlib.sha256((bundle / name).read_bytes()).hexdigest() for name in FILES[1:]}
    assert (manifest["format"], manifest["head"], manifest["classes"]) == (1, "centroid", ["flower", "roof", "sky"])
    assert manifest["fingerprint"] == graph.metadata.fingerprint
    assert [column["name"] for column in manifest["columns"]] == ["layer2"]


def test_extractor_of_a_bundle_ends_at_its_last_layer(train: Train, tmp_path: Path) -> None:
    sizes = {}
    for layer in ("layer1", "layer3"):
        train(layer=layer).save(tmp_path / layer)
        sizes[layer] = (tmp_path / layer / "extractor.onnx").stat().st_size
    assert sizes["layer1"] < sizes["layer3"] / 3


@pytest.mark.parametrize("head", ["lda", RandomForestClassifier(5, random_state=0)])
def test_loaded_classifier_can_be_fitted_again(
    head: Any, train: Train, photos: Path, paths: list[Path], tmp_path: Path
) -> None:
    saved = train(head)
    saved.save(tmp_path / "bundle")
    loaded = topwork.load(tmp_path / "bundle", trusted=[TREE])
    assert np.array_equal(loaded.fit(photos).predict(paths), saved.predict(paths))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.update(format=2), "format 2"),
        (lambda m: m.pop("format"), r"bundle\.json"),
        (lambda m: m["files"].update({"head.skops": "0" * 64}), r"head\.skops"),
        (lambda m: m["files"].update({"../other": "0" * 64}), "'../other'"),
        (lambda m: m["files"].update({"/etc/passwd": "0" * 64}), "'/etc/passwd'"),
        (lambda m: m["files"].update({"more.bin": "0" * 64}), r"more\.bin"),
        (lambda m: m["files"].pop("head.skops"), "head.skops"),
        (lambda m: m["files"].pop("extractor.onnx"), "extractor.onnx"),
        (lambda m: m.update(files=["head.skops"]), "bundle.json"),
        (lambda m: m.pop("files"), "bundle.json"),
        (lambda m: m.pop("training"), "bundle.json"),
        (lambda m: m.update(classes=["a", "b", "c"]), "classes"),
    ],
)
def test_changed_manifest_is_refused(change: Callable[[dict[str, Any]], Any], message: str, bundle: Path) -> None:
    edit(bundle, change)
    with pytest.raises(BundleError, match=message):
        topwork.load(bundle)


@pytest.mark.parametrize("name", FILES)
def test_damaged_or_missing_file_is_refused(name: str, bundle: Path) -> None:
    content = (bundle / name).read_bytes()
    (bundle / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(BundleError, match=name):
        topwork.load(bundle)
    (bundle / name).unlink()
    with pytest.raises(BundleError, match=name):
        topwork.load(bundle)


def test_other_paths_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("text")
    for path in (tmp_path, tmp_path / "nowhere", tmp_path / "file"):
        with pytest.raises(BundleError) as error:
            topwork.load(path)
        assert str(path) in str(error.value)


Texts = tuple[list[str], list[str]]
TEXT_FILES = [
    *("bundle.json", "extractor.canaries.npz", "extractor.json", "extractor.onnx"),
    *("head.skops", "inputs/tokenizer.json", "learned.npy"),
]


@pytest.fixture(scope="module")
def text_classifier(text_graph: ExportedGraph, texts: Texts) -> TransferClassifier:
    """Return a classifier of text; it is not to be changed."""
    return TransferClassifier(text_graph, "last", head="lda", cv=0).fit(*texts)


@pytest.fixture(scope="module")
def saved_text_bundle(text_classifier: TransferClassifier, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a bundle of the classifier of text; it is not to be changed."""
    path = tmp_path_factory.mktemp("saved") / "texts"
    text_classifier.save(path)
    return path


@pytest.fixture
def text_bundle(saved_text_bundle: Path, tmp_path: Path) -> Path:
    """Return a copy of the bundle of text."""
    return Path(shutil.copytree(saved_text_bundle, tmp_path / "texts"))


def test_bundle_for_text_holds_its_tokenizer_and_predicts_as_before(
    text_bundle: Path, text_classifier: TransferClassifier, text_graph: ExportedGraph, texts: Texts
) -> None:
    manifest = json.loads((text_bundle / "bundle.json").read_text())
    files = {path.relative_to(text_bundle).as_posix(): path for path in text_bundle.rglob("*") if path.is_file()}
    assert sorted(files) == TEXT_FILES
    assert manifest["files"] == {name: hashlib.sha256(files[name].read_bytes()).hexdigest() for name in TEXT_FILES[1:]}
    loaded = topwork.load(text_bundle)
    saved = text_classifier
    assert loaded.extractor_.graph.input_spec == text_graph.input_spec
    assert loaded.predict(texts[0]).tolist() == saved.predict(texts[0]).tolist()
    assert np.array_equal(loaded.predict_proba(texts[0]), saved.predict_proba(texts[0]))
    assert loaded.fit(*texts).predict(texts[0]).tolist() == saved.predict(texts[0]).tolist()


def test_loaded_bundle_for_text_is_saved_again_whole(text_bundle: Path, texts: Texts, tmp_path: Path) -> None:
    topwork.load(text_bundle).save(tmp_path / "again")
    shutil.move(tmp_path / "again", tmp_path / "moved")
    expected = topwork.load(text_bundle).predict(texts[0])
    shutil.rmtree(text_bundle)
    assert topwork.load(tmp_path / "moved").predict(texts[0]).tolist() == expected.tolist()
    topwork.load(tmp_path / "moved").save(tmp_path / "moved", overwrite=True)
    assert topwork.load(tmp_path / "moved").predict(texts[0]).tolist() == expected.tolist()


@pytest.mark.parametrize("name", TEXT_FILES)
def test_damaged_or_missing_file_of_a_bundle_for_text_is_refused(name: str, text_bundle: Path) -> None:
    content = (text_bundle / name).read_bytes()
    (text_bundle / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(BundleError, match=name):
        topwork.load(text_bundle)
    (text_bundle / name).unlink()
    with pytest.raises(BundleError, match=name):
        topwork.load(text_bundle)


def test_tokenizer_replaced_together_with_its_digest_is_refused(text_bundle: Path) -> None:
    path = text_bundle / "inputs" / "tokenizer.json"
    path.write_bytes(path.read_bytes().replace(b'"cat"', b'"cta"'))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    edit(text_bundle, lambda m: m["files"].update({"inputs/tokenizer.json": digest}))
    with pytest.raises((BundleError, InputError), match=r"tokenizer\.json"):
        topwork.load(text_bundle)


def test_manifest_without_the_tokenizer_is_refused(text_bundle: Path) -> None:
    edit(text_bundle, lambda m: m["files"].pop("inputs/tokenizer.json"))
    (text_bundle / "inputs" / "tokenizer.json").unlink()
    with pytest.raises((BundleError, InputError), match=r"tokenizer\.json"):
        topwork.load(text_bundle)


@pytest.mark.parametrize("normalize", [False, True])
def test_bundle_keeps_poolings_and_length_of_vectors(
    normalize: bool, photos: Path, paths: list[Path], tmp_path: Path
) -> None:
    saved = TransferClassifier("topwork:tiny", ["layer1", "last"], normalize=normalize).fit(photos)
    saved.save(tmp_path / "bundle")
    loaded = topwork.load(tmp_path / "bundle")
    assert loaded.extractor_.columns == saved.extractor_.columns
    assert np.array_equal(loaded.predict_proba(paths), saved.predict_proba(paths))


class Trap:
    """Unpickling it writes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def test_pickle_in_place_of_the_head_is_never_executed(bundle: Path, tmp_path: Path) -> None:
    content = pickle.dumps(Trap(tmp_path / "executed"))
    (bundle / "head.skops").write_bytes(content)
    edit(bundle, lambda m: m["files"].update({"head.skops": hashlib.sha256(content).hexdigest()}))
    with pytest.raises(BundleError, match=r"head\.skops"):
        topwork.load(bundle)
    assert not (tmp_path / "executed").exists()
    pickle.loads(content)
    assert (tmp_path / "executed").exists()


def test_type_that_is_not_known_to_be_safe_needs_trust(train: Train, paths: list[Path], tmp_path: Path) -> None:
    saved = train(RandomForestClassifier(5, random_state=0))
    saved.save(tmp_path / "bundle")
    for trusted in ((), ["sklearn.tree._tree.Other"]):
        with pytest.raises(BundleError, match=r"sklearn\.tree\._tree\.Tree\b"):
            topwork.load(tmp_path / "bundle", trusted=trusted)
    loaded = topwork.load(tmp_path / "bundle", trusted=[TREE])
    assert np.array_equal(loaded.predict_proba(paths), saved.predict_proba(paths))


def test_saving_again_replaces_the_bundle_and_nothing_else(train: Train, bundle: Path) -> None:
    neighbours = [bundle.with_name(f"bundle{suffix}") for suffix in (".old", ".new", ".bak")]
    for neighbour in neighbours:
        shutil.copytree(bundle, neighbour)
    train("lda").save(bundle, overwrite=True)
    assert topwork.load(bundle).head == "lda"
    assert [topwork.load(neighbour).head for neighbour in neighbours] == ["centroid"] * 3
    assert sorted(bundle.parent.iterdir()) == sorted([bundle, *neighbours])


class Unsaveable(NearestCentroid):
    """Once fitted it holds what no file can hold."""

    def fit(self, X: Any, y: Any) -> Unsaveable:
        self.rows_ = (row for row in X)
        return super().fit(X, y)


def test_save_that_fails_leaves_the_old_bundle(train: Train, bundle: Path) -> None:
    before = {path.name: path.read_bytes() for path in bundle.iterdir()}
    with pytest.raises(Exception, match="generator"):
        train(Unsaveable()).save(bundle, overwrite=True)
    assert {path.name: path.read_bytes() for path in bundle.iterdir()} == before
    assert list(bundle.parent.iterdir()) == [bundle]


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_saving_over_something_else_is_refused(kind: str, train: Train, tmp_path: Path) -> None:
    path = tmp_path / "mine"
    if kind == "file":
        path.write_text("precious")
    else:
        path.mkdir()
    if kind == "folder":
        (path / "notes.txt").write_text("precious")
    with pytest.raises(BundleError) as error:
        train().save(path)
    assert str(path) in str(error.value)
    assert [file.name for file in tmp_path.rglob("*")] == (["mine", "notes.txt"] if kind == "folder" else ["mine"])


def test_missing_parent_folders_are_created(train: Train, tmp_path: Path) -> None:
    train().save(tmp_path / "a" / "b" / "bundle")
    assert topwork.load(tmp_path / "a" / "b" / "bundle").n_rows_ == 24


@pytest.fixture(scope="module")
def large_classifier(graph: ExportedGraph, photos: Path) -> Iterator[TransferClassifier]:
    """Return a classifier whose backbone counts as large while this fixture is used."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(model_file, "MAX_EMBEDDED_BYTES", 1000)
        yield TransferClassifier(graph, "layer2", head="centroid", cv=0).fit(photos)


def test_bundle_of_a_large_backbone_runs_without_torch_and_onnx(
    large_classifier: TransferClassifier, photos: Path, paths: list[Path], tmp_path: Path
) -> None:
    large_classifier.save(tmp_path / "bundle")
    moved = (tmp_path / "bundle").rename(tmp_path / "moved")
    assert sorted(path.name for path in moved.iterdir()) == sorted([*FILES, "extractor.weights"])
    command = [sys.executable, "-c", WITHOUT_TORCH, str(photos), str(moved)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout) == [large_classifier.predict(paths).tolist()]


@pytest.mark.parametrize("change", ["missing", "changed"])
def test_weights_of_a_large_backbone_are_checked(
    change: str, large_classifier: TransferClassifier, tmp_path: Path
) -> None:
    large_classifier.save(tmp_path / "bundle")
    weights = tmp_path / "bundle" / "extractor.weights"
    content = weights.read_bytes()
    weights.unlink()
    if change == "changed":
        weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(BundleError, match=r"extractor\.weights"):
        topwork.load(tmp_path / "bundle")


def test_bundle_of_a_large_backbone_is_saved_again(
    large_classifier: TransferClassifier, paths: list[Path], tmp_path: Path
) -> None:
    large_classifier.save(tmp_path / "first")
    topwork.load(tmp_path / "first").save(tmp_path / "second")
    shutil.rmtree(tmp_path / "first")
    again = topwork.load(tmp_path / "second")
    assert again.predict(paths).tolist() == large_classifier.predict(paths).tolist()


@pytest.mark.parametrize("content", ["[" * 100_000, '{"a":' * 100_000, "[" * 100_000 + "]" * 100_000])
def test_deeply_nested_manifest_is_refused_by_its_name(content: str, bundle: Path) -> None:
    (bundle / "bundle.json").write_text(content)
    with pytest.raises(BundleError, match=r"bundle\.json"):
        topwork.load(bundle)


@pytest.mark.parametrize("umask", [0o022, 0o027, 0o002])
def test_files_have_the_mode_of_the_umask(umask: int, train: Train, tmp_path: Path) -> None:
    classifier = train("linear")
    before = os.umask(umask)
    try:
        classifier.save(tmp_path / "b")
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "b").rglob("*") if path.is_file()}
    assert set(modes.values()) == {0o666 & ~umask}
    assert stat.S_IMODE((tmp_path / "b").stat().st_mode) == 0o777 & ~umask


def test_readers_see_the_old_or_the_new_bundle(train: Train, tmp_path: Path) -> None:
    versions = [tmp_path / head for head in ("centroid", "lda")]
    for version in versions:
        train(version.name).save(version)
    shutil.copytree(versions[0], tmp_path / "bundle")
    has_ended = threading.Event()

    def replace_again_and_again() -> None:
        for number in itertools.count(1):
            if has_ended.wait(0.02):
                return
            new = shutil.copytree(versions[number % 2], tmp_path / "next")
            replace_folder(new, tmp_path / "bundle")
            shutil.rmtree(new)

    writer = threading.Thread(target=replace_again_and_again)
    writer.start()
    try:
        heads = {topwork.load(tmp_path / "bundle").head for _ in range(30)}
    finally:
        has_ended.set()
        writer.join()
    assert heads <= {"centroid", "lda"}


def test_bundle_that_a_killed_save_set_aside_is_loaded(bundle: Path) -> None:
    bundle.rename(bundle.with_name(f".{bundle.name}.replaced"))
    assert topwork.load(bundle).head == "centroid"


def replace_file(bundle: Path, name: str, content: bytes) -> None:
    """Replace a file of a bundle, and its digest."""
    (bundle / name).write_bytes(content)
    edit(bundle, lambda manifest: manifest["files"].update({name: hashlib.sha256(content).hexdigest()}))


@pytest.mark.parametrize("content", [b"", b"nothing", b"\x93NUMPY\x01\0\x10\0{'descr': '<u8'   "])
def test_damaged_hashes_of_ids_are_refused_though_their_digest_is_right(content: bytes, bundle: Path) -> None:
    replace_file(bundle, "learned.npy", content)
    with pytest.raises(BundleError, match=r"learned\.npy"):
        topwork.load(bundle)


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b"\xff", b"[" * 100_000, b'{"refused": 1.5}'])
def test_damaged_certificate_is_refused_though_its_digest_is_right(content: bytes, bundle: Path, photos: Path) -> None:
    replace_file(bundle, "extractor.json", content)
    with pytest.raises(InputError, match=r"extractor\.json is damaged"):
        topwork.load(bundle).predict(photos)


def test_damaged_measurement_is_refused_though_its_digest_is_right(bundle: Path, photos: Path) -> None:
    certificate = json.loads((bundle / "extractor.json").read_bytes())
    for measurement in certificate["measurements"]:
        measurement["relative_l2"] = "x"
    assert certificate["measurements"]
    replace_file(bundle, "extractor.json", json.dumps(certificate).encode())
    with pytest.raises(InputError, match=r"extractor\.json is damaged"):
        topwork.load(bundle).predict(photos)


@pytest.mark.parametrize(
    "change", [{"classes": 1}, {"calibrate": {"x": 1}, "head": None}, {"training": {"rows": 1, "report": 3}}]
)
def test_manifest_with_values_of_other_types_is_refused(change: dict[str, Any], bundle: Path) -> None:
    edit(bundle, lambda manifest: manifest.update(change))
    with pytest.raises(BundleError):
        topwork.load(bundle)


def test_head_that_cannot_predict_is_refused_though_its_digest_is_right(
    classifiers: dict[str, TransferClassifier], tmp_path: Path
) -> None:
    import safetensors.numpy

    classifiers["linear"].save(tmp_path / "bundle")
    file = tmp_path / "bundle" / "head.safetensors"
    arrays = safetensors.numpy.load(file.read_bytes())
    arrays["coef_"] = arrays["coef_"][:, 1:]
    replace_file(tmp_path / "bundle", file.name, safetensors.numpy.save(arrays))
    with pytest.raises(BundleError, match="cannot predict"):
        topwork.load(tmp_path / "bundle")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system cannot fork, and locks the folders of open files")
@pytest.mark.parametrize("is_large", [False, True])
def test_estimator_predicts_with_the_graph_that_it_was_loaded_with(
    is_large: bool, train: Train, paths: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if is_large:
        monkeypatch.setattr(model_file, "MAX_EMBEDDED_BYTES", 1000)
    old, new = (train("linear", layer) for layer in ("layer2", "layer3"))
    old.save(tmp_path / "bundle")
    expected = topwork.load(tmp_path / "bundle").predict_proba(paths)

    loaded = topwork.load(tmp_path / "bundle")
    used = topwork.load(tmp_path / "bundle")
    used.predict(paths)
    new.save(tmp_path / "bundle", overwrite=True)
    assert np.array_equal(loaded.predict_proba(paths), expected)
    child = os.fork()
    if child == 0:
        os._exit(not np.array_equal(used.predict_proba(paths), expected))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0

    loaded.save(tmp_path / "again")
    assert np.array_equal(topwork.load(tmp_path / "again").predict_proba(paths), expected)
    assert not np.array_equal(topwork.load(tmp_path / "bundle").predict_proba(paths), expected)
