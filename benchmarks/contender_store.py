"""Contender: a million rows of features are opened, summed, and taken by id, in the format of one library.

``prepare`` writes what all contenders read: a store, and the same matrix as a Parquet file and as a joblib file; numpy
maps the file of the store. Every file has been read before, so memory is measured and not the disk.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import topwork
from topwork.extract.sources.item import Item
from topwork.extract.store.index import INDEX_FILE, Index
from topwork.extract.store.part import Row
from topwork.extract.store.writer import open_writer

WIDTH, COLUMN = 384, "0"
PART = 50_000
"""Rows that are written at once."""
TAKEN, REPEATS = 10_000, 5
STORE, PARQUET, MEMORY = "store", "features.parquet", "joblib"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("way", choices=WAYS)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rows", type=int, default=1_000_000)
    options = parser.parse_args()
    print(json.dumps({"items": options.rows, **WAYS[options.way](options.folder, options.rows)}))


def item_id(number: int) -> str:
    """Return an id as a folder of photographs has them."""
    return f"photos/class_{number % 1000:03d}/IMG_{number:07d}.jpg"


def row_of(number: int, place: int | None = None) -> Row:
    """Return what a store knows of an item."""
    label, digest = f"class_{number % 1000:03d}", hashlib.sha256(b"%d" % number).hexdigest()
    return Row(item_id(number), digest, "ok", None, place, label, None, 100_000 + number, 10**18 + number)


def prepare(folder: Path, rows: int) -> dict[str, Any]:
    """Write what the other ways read."""
    for name in (STORE, MEMORY):
        shutil.rmtree(folder / name, ignore_errors=True)
    (folder / PARQUET).unlink(missing_ok=True)
    from torch import nn

    backbone = topwork.load_backbone(nn.Sequential(nn.Linear(4, WIDTH)), input_spec=topwork.TensorSpec((4,)))
    store = topwork.FeatureStore.create(folder / STORE, topwork.Extractor(backbone, COLUMN, precision="fp32"))
    with open_writer(store) as writer:
        for start in range(0, rows, PART):
            numbers = range(start, min(start + PART, rows))
            features = np.random.default_rng(start).standard_normal((len(numbers), WIDTH), dtype=np.float32)
            writer.add_part([row_of(number, place) for place, number in enumerate(numbers)], [features])
        writer.compact()
    store.export(folder / PARQUET)
    remembered(folder)(rows)
    return {}


def remembered(folder: Path) -> Callable[[int], Any]:
    """Return a function whose results joblib keeps: ids and features."""
    from joblib import Memory

    return Memory(folder / MEMORY, mmap_mode="r", verbose=0).cache(partial_features(folder))


def partial_features(folder: Path) -> Callable[[int], Any]:
    def features(rows: int) -> tuple[list[str], np.ndarray]:
        return [item_id(number) for number in range(rows)], np.array(matrix_file(folder))

    return features


def matrix_file(folder: Path) -> np.ndarray:
    """Map the store's file as numpy alone does."""
    (path,) = (folder / STORE / "parts").glob("p*/c0001.npy")
    matrix: np.ndarray = np.load(path, mmap_mode="r")
    return matrix


def chosen(rows: int) -> np.ndarray:
    """Return the numbers of random items."""
    return np.random.default_rng(0).choice(rows, min(TAKEN, rows), replace=False)


def median(work: Callable[[], Any], repeats: int = REPEATS) -> float:
    """Return the median time of some work, after a first time that does not count."""
    work()
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


def report(opened: float, matrix: Any, take: Callable[[], Any], repeats: int = REPEATS) -> dict[str, Any]:
    """Return what the ways are compared by."""
    return {"open": opened, "seconds": opened, "sum": median(lambda: matrix().sum()), "take": median(take, repeats)}


def by_topwork(folder: Path, rows: int) -> dict[str, Any]:
    """Read through the store."""
    wanted = [item_id(number) for number in chosen(rows).tolist()]
    started = time.perf_counter()
    store = topwork.FeatureStore.open(folder / STORE)
    matrix, count = store.matrix(COLUMN), store.n_rows
    opened = time.perf_counter() - started
    assert count == rows
    np.testing.assert_array_equal(store.take(wanted[:9], COLUMN), matrix[chosen(rows)[:9]])
    return report(opened, lambda: matrix, lambda: store.take(wanted, COLUMN))


def by_numpy(folder: Path, rows: int) -> dict[str, Any]:
    """Read the matrix alone, whose rows are known by number."""
    numbers = chosen(rows)
    started = time.perf_counter()
    matrix = matrix_file(folder)
    opened = time.perf_counter() - started
    return report(opened, lambda: matrix, lambda: matrix[numbers])


def by_parquet(folder: Path, rows: int) -> dict[str, Any]:
    """Read the Parquet file: its head, its features, and those rows whose id is wanted."""
    from pyarrow import array, dataset, parquet

    wanted = array([item_id(number) for number in chosen(rows).tolist()])
    started = time.perf_counter()
    file = parquet.ParquetFile(folder / PARQUET)
    assert file.metadata.num_rows == rows
    opened = time.perf_counter() - started
    data = dataset.dataset(folder / PARQUET)

    def features() -> np.ndarray:
        column = file.read([COLUMN])[COLUMN].combine_chunks()
        return np.asarray(column.flatten()).reshape(-1, WIDTH)

    def take() -> Any:
        return data.to_table(columns=[COLUMN], filter=dataset.field("id").isin(wanted))

    return report(opened, features, take, 1)


def by_joblib(folder: Path, rows: int) -> dict[str, Any]:
    """Call the function whose result is kept, and find rows by a dictionary."""
    wanted, function = [item_id(number) for number in chosen(rows).tolist()], remembered(folder)
    started = time.perf_counter()
    ids, matrix = function(rows)
    places = {name: place for place, name in enumerate(ids)}
    opened = time.perf_counter() - started
    return report(opened, lambda: matrix, lambda: matrix[[places[name] for name in wanted]])


class Known:
    """A source whose items the store has; it asks no file system, which is not what is measured."""

    ignored = 0

    def __init__(self, rows: int) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return self.rows

    def __iter__(self) -> Iterator[Item]:
        for number in range(self.rows):
            label = f"class_{number % 1000:03d}"
            yield Item(item_id(number), bytes, label, None, 100_000 + number, 10**18 + number)


def known(folder: Path, rows: int) -> dict[str, Any]:
    """Run a job that is done."""
    started = time.perf_counter()
    ledger = topwork.extract_features(Known(rows), folder / STORE)
    seconds = time.perf_counter() - started
    assert (ledger.computed, ledger.ok) == (0, rows)
    return {"seconds": seconds}


def listed(folder: Path, rows: int) -> dict[str, Any]:
    """Go through the same items and ask a dictionary that is there already."""
    facts = {item.id: (item.size, item.mtime_ns) for item in Known(rows)}
    started = time.perf_counter()
    assert all(facts[item.id] == (item.size, item.mtime_ns) for item in Known(rows))
    return {"seconds": time.perf_counter() - started}


def rebuilt(folder: Path, rows: int) -> dict[str, Any]:
    """Make the index from the parts, and put it on disk."""
    store = topwork.FeatureStore.open(folder / STORE)
    ids = sum(len(item_id(number)) for number in range(rows))
    size = (store.path / INDEX_FILE).stat().st_size
    (store.path / INDEX_FILE).unlink()
    started = time.perf_counter()
    index = Index(store.path, store.entries)
    index.save()
    return {"seconds": time.perf_counter() - started, "bytes": (size - ids) / rows}


def sqlite(folder: Path, rows: int) -> dict[str, Any]:
    """Make the index that a table of SQLite would be, from the same file."""
    import sqlite3

    store, path = topwork.FeatureStore.open(folder / STORE), folder / "index.sqlite"
    path.unlink(missing_ok=True)
    started = time.perf_counter()
    from topwork.extract.store.part import ROW_FIELDS, read_items

    items = read_items(store.path / str(store.state.compacted)).select(ROW_FIELDS).to_pydict()
    columns, marks = ", ".join(f'"{name}"' for name in ROW_FIELDS[1:]), ", ".join("?" * len(ROW_FIELDS))
    with sqlite3.connect(path) as database:
        database.execute(f"CREATE TABLE items (id TEXT PRIMARY KEY, {columns}) WITHOUT ROWID")
        database.executemany(f"INSERT INTO items VALUES ({marks})", zip(*items.values(), strict=True))
        database.execute("CREATE INDEX digests ON items (digest)")
    seconds = time.perf_counter() - started
    ids = sum(map(len, items["id"]))
    return {"seconds": seconds, "bytes": (path.stat().st_size - ids) / rows}


WAYS: dict[str, Callable[[Path, int], dict[str, Any]]] = {
    "prepare": prepare,
    "topwork": by_topwork,
    "numpy": by_numpy,
    "parquet": by_parquet,
    "joblib": by_joblib,
    "known": known,
    "listed": listed,
    "rebuilt": rebuilt,
    "sqlite": sqlite,
}

if __name__ == "__main__":
    main()
