"""One data set in the seven forms in which people have it: the same rows, labels and splits, and the same accuracy."""

from __future__ import annotations

import csv
import io
import json
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet
from topwork import BackboneSpec, TransferClassifier
from topwork.extract.sources.item import content_digest
from topwork.extract.sources.opening import open_source
from topwork.models.input_spec import InputOverrides
from topwork.pipelines.estimators.evaluation import evaluate

CLASSES = ["ants", "bees"]
SPLITS = ("train", "val")
HELD_OUT = 153
"""Photographs in ``val``."""


def list_photographs(folder: Path) -> Iterator[tuple[str, str, Path]]:
    """Yield split, label and path of each photograph, and of a GIF among them."""
    for path in sorted(folder.rglob("*.*")):
        yield path.parent.parent.name, path.parent.name, path


def as_folder(photographs: Path, out: Path) -> Path:
    return photographs


def as_tar(photographs: Path, out: Path) -> Path:
    with tarfile.open(out / "photographs.tar.gz", "w:gz", compresslevel=1) as archive:
        archive.add(photographs, "photographs")
    return out / "photographs.tar.gz"


def as_zip(photographs: Path, out: Path) -> Path:
    with zipfile.ZipFile(out / "photographs.zip", "w") as archive:
        for _, _, path in list_photographs(photographs):
            archive.write(path, path.relative_to(photographs.parent))
    return out / "photographs.zip"


def as_csv(photographs: Path, out: Path) -> Path:
    with open(out / "photographs.csv", "w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["path", "label", "split"])
        writer.writerows([path, label, split] for split, label, path in list_photographs(photographs))
    return out / "photographs.csv"


def as_webdataset(photographs: Path, out: Path) -> str:
    """Write shards of a split each: a photograph and its class beside each other."""
    for split in SPLITS:
        with tarfile.open(out / f"{split}-000.tar", "w") as archive:
            chosen = [(label, path) for name, label, path in list_photographs(photographs) if name == split]
            for number, (label, path) in enumerate(chosen):
                add_member(archive, f"{number:05d}{path.suffix}", path.read_bytes())
                add_member(archive, f"{number:05d}.cls", label.encode())
    return str(out / "{train,val}-000.tar")


def add_member(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))


def as_parquet(photographs: Path, out: Path) -> Path:
    """Write the files themselves into a column, and a file for each split, as the hub of Hugging Face has them."""
    for split in SPLITS:
        rows = [
            {"image": {"bytes": path.read_bytes(), "path": path.name}, "label": label}
            for name, label, path in list_photographs(photographs)
            if name == split
        ]
        (out / "data").mkdir(exist_ok=True)
        parquet.write_table(pa.Table.from_pylist(rows), out / "data" / f"{split}-00000-of-00001.parquet")
    return out


def as_datasets(photographs: Path, out: Path) -> Path:
    """Write what ``DatasetDict.save_to_disk`` writes: a folder of Arrow for each split, with classes as numbers."""
    label = {"names": CLASSES, "_type": "ClassLabel"}
    features = {"image": {"_type": "Image"}, "label": label}
    described = {b"huggingface": json.dumps({"info": {"features": features}}).encode()}
    for split in SPLITS:
        rows = [
            {"image": {"bytes": path.read_bytes(), "path": path.name}, "label": CLASSES.index(label_name)}
            for name, label_name, path in list_photographs(photographs)
            if name == split
        ]
        folder = out / split
        folder.mkdir()
        table = pa.Table.from_pylist(rows).replace_schema_metadata(described)
        path = str(folder / "data-00000-of-00001.arrow")
        with pa.OSFile(path, "wb") as stream, pa.ipc.new_stream(stream, table.schema) as writer:
            writer.write_table(table)
        state = {"_data_files": [{"filename": "data-00000-of-00001.arrow"}], "_split": split}
        (folder / "state.json").write_text(json.dumps(state))
        (folder / "dataset_info.json").write_text("{}")
    (out / "dataset_dict.json").write_text(json.dumps({"splits": list(SPLITS)}))
    return out


FORMS: list[Callable[[Path, Path], Any]] = [
    as_folder,
    as_tar,
    as_zip,
    as_csv,
    as_webdataset,
    as_parquet,
    as_datasets,
]


@pytest.fixture(scope="module")
def expected(hymenoptera: Path) -> set[tuple[str, str, str]]:
    """Return content, label and split of each photograph."""
    found = list_photographs(hymenoptera)
    return {(content_digest(path.read_bytes()), label, split) for split, label, path in found}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a store that all forms share: contents that it has are not computed again."""
    return tmp_path_factory.mktemp("shared") / "store"


@pytest.fixture(scope="module")
def backbone(mobilenet_options: dict[str, Any]) -> BackboneSpec:
    preprocessing = InputOverrides(mean=mobilenet_options["mean"], std=mobilenet_options["std"])
    return BackboneSpec(
        "timm:mobilenetv2_035",
        weights=mobilenet_options["weights"],
        model_args=mobilenet_options["model_args"],
        preprocessing=preprocessing,
    )


@pytest.mark.parametrize("form", FORMS)
def test_every_form_has_the_same_rows(
    form: Callable[[Path, Path], Any], expected: set[tuple[str, str, str]], hymenoptera: Path, tmp_path: Path
) -> None:
    items = list(open_source(form(hymenoptera, tmp_path)))
    found = {(content_digest(item.read()), item.label, item.split) for item in items}
    assert found == expected
    assert len(items) == len(expected)
    assert len({item.id for item in items}) == len(items)


@pytest.mark.coverage
@pytest.mark.parametrize("form", FORMS)
def test_every_form_has_the_same_accuracy(
    form: Callable[[Path, Path], Any], hymenoptera: Path, store: Path, backbone: BackboneSpec, tmp_path: Path
) -> None:
    source = form(hymenoptera, tmp_path)
    classifier = TransferClassifier(backbone, store=store, precision="fp32", provider="cpu", cv=0)
    classifier.fit(source)
    assert classifier.left_out_ == {"val": HELD_OUT}
    assert classifier.classes_.tolist() == CLASSES
    scores = evaluate(classifier, source)
    assert (scores["split"], scores["n"]) == ("val", HELD_OUT)
    assert scores["accuracy"] >= 0.908
