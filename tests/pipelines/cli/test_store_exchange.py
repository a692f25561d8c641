"""``topwork store export`` and ``import``: what they write, print and refuse."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet
from topwork import FeatureStore

from .running import topwork_command, topwork_json

IDS = ["a.jpg", "b.jpg", "c.jpg", "d.jpg"]


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """Return a folder with ``x.npy``, two rows of which are equal, ``ids.txt``, ``labels.csv`` and ``few.csv``."""
    matrix = np.arange(12, dtype=np.float32).reshape(4, 3)
    matrix[3] = matrix[0]
    np.save(tmp_path / "x.npy", matrix)
    (tmp_path / "ids.txt").write_text("".join(f"{name}\n" for name in IDS))
    (tmp_path / "labels.csv").write_text("id,label\n" + "".join(f"{name},{name > 'b'}\n" for name in IDS))
    (tmp_path / "few.csv").write_text(f"id,label\n{IDS[0]},x\n")
    return tmp_path


@pytest.fixture
def store(work: Path) -> Path:
    topwork_command("store", "import", work / "s", work / "x.npy", "--ids", work / "ids.txt")
    return work / "s"


def test_import_makes_a_store(work: Path) -> None:
    arguments = ("--ids", work / "ids.txt", "--labels", work / "labels.csv")
    found = topwork_json("store", "import", work / "new" / "s", work / "x.npy", *arguments)
    store = FeatureStore.open(work / "new" / "s")
    assert (store.ids, store.labels) == (IDS, ["False", "True", "True", "True"])
    assert found == {
        "store": str(work / "new" / "s"),
        "items": 4,
        "ok": 3,
        "duplicate": 1,
        "fingerprint": store.fingerprint,
        "columns": [store.columns[0].to_json()],
    }
    printed = topwork_command("store", "import", work / "s", work / "x.npy").stdout
    assert printed == f"{work / 's'}: 4 items (3 ok, 1 duplicate) with features (3 float32)\n"


def test_store_info_reports_foreign_features(store: Path) -> None:
    found = topwork_json("store", "info", store)
    assert (found["items"], found["ok"], found["duplicate"], found["failed"]) == (4, 3, 1, 0)
    assert (found["backbone"], found["fidelity"]) == (None, [])
    lines = topwork_command("store", "info", store).stdout.splitlines()
    assert lines[1] == f"foreign features, fingerprint {found['fingerprint'][:16]}"
    assert [line.split() for line in lines[2:]] == [
        ["column", "pool", "precision", "features"],
        ["features", "none", "unknown", "3"],
    ]
    assert topwork_json("store", "verify", store) == {"damaged": []}


@pytest.mark.parametrize("kind", ["parquet", "arrow", "datasets"])
def test_export_writes_every_format(kind: str, store: Path, work: Path) -> None:
    out = work / "out"
    found = topwork_json("store", "export", store, out, "--format", kind, "--column", "features")
    files = [out] if kind != "datasets" else list(out.iterdir())
    size = sum(file.stat().st_size for file in files)
    assert found == {"out": str(out), "format": kind, "rows": 4, "columns": ["features"], "bytes": size}
    assert len(files) == (3 if kind == "datasets" else 1)
    if kind == "arrow":
        assert pa.ipc.open_file(pa.memory_map(str(out))).read_all()["id"].to_pylist() == IDS


def test_export_is_parquet_of_all_columns_by_default(store: Path, work: Path) -> None:
    printed = topwork_command("store", "export", store, work / "out").stdout
    assert printed.startswith(f"wrote {work / 'out'}: 4 rows with features, ")
    rows = parquet.read_table(work / "out")["features"].to_pylist()
    assert rows == np.load(work / "x.npy").tolist()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("store export {store} {work}/x.npy", "{work}/x.npy"),
        ("store export {store} {work}/out --format csv", "parquet, arrow, datasets"),
        ("store export {store} {work}/out --column last", "'last'"),
        ("store export {work} {work}/out", "{work}"),
        ("store import {store} {work}/x.npy", "{store}"),
        ("store import {work}/out {work}/none.npy", "{work}/none.npy"),
        ("store import {work}/out {work}/x.npy --ids {work}/none.txt", "{work}/none.txt"),
        ("store import {work}/out {work}/x.npy --labels {work}/few.csv", "ids"),
        ("extract {work} --store {store}", "backbone"),
        ("extract {work} --store {store} --plan", "backbone"),
        ("fit {store} --out {work}/out", "backbone"),
    ],
)
def test_bad_usage_exits_with_2_and_writes_nothing(arguments: str, message: str, store: Path, work: Path) -> None:
    before, entries = sorted(work.iterdir()), sorted(store.glob("log/*"))
    result = topwork_command(*arguments.format(store=store, work=work).split(), code=2)
    assert message.format(store=store, work=work) in result.stderr
    assert result.stdout == ""
    assert (sorted(work.iterdir()), sorted(store.glob("log/*"))) == (before, entries)
