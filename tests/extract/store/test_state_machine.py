"""A store agrees with a dictionary after any sequence of operations, interruptions included."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from topwork import atomic
from topwork.errors import DecodeError
from topwork.extract.engine import batching
from topwork.extract.extractor.extractor import Extractor
from topwork.extract.jobs.job import extract_features
from topwork.extract.sources.item import Item
from topwork.extract.store.feature_store import FeatureStore

LAYERS = ("last", "layer1", "layer2")
NAMES = [f"photo {number}" for number in range(9)]
CONTENTS = 5
BROKEN = "no image"
EXAMPLES = int(os.environ.get("TOPWORK_EXAMPLES", "10"))
BATCH_SIZE = 2

names = st.sampled_from(NAMES)
contents = st.sampled_from([*range(CONTENTS), BROKEN])
labels = st.sampled_from(["ant", "bee", None])


class Killed(BaseException):
    """Simulates the end of the process."""


@dataclass(frozen=True)
class Known:
    """What the model knows of an item: content and label as when it was last worked on, and what the user set."""

    content: int | str
    label: str | None
    given: str | None = None


@dataclass
class Files:
    """A source whose items are told by a dictionary."""

    files: dict[str, tuple[int | str, str | None]] = field(default_factory=dict)
    ignored = 0

    def __len__(self) -> int:
        return len(self.files)

    def __iter__(self) -> Iterator[Item]:
        for name, (content, label) in self.files.items():
            yield Item(name, partial(read, content), label)


@cache
def image(content: int) -> np.ndarray:
    return np.random.default_rng(content).integers(0, 256, (36, 40, 3), dtype=np.uint8)


def read(content: int | str) -> np.ndarray:
    if content == BROKEN:
        raise DecodeError(BROKEN)
    return image(int(content))


@cache
def features(layer: str) -> np.ndarray:
    return Extractor("topwork:tiny", layer=layer, provider="cpu").transform([image(c) for c in range(CONTENTS)])


def interrupted(step: int, work: Callable[[], Any]) -> None:
    """Do some work, and end it at one of its writes."""
    write, left = atomic.write_file, step

    def count(*args: Any, **options: Any) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise Killed
        write(*args, **options)

    import topwork.extract.store.log as log_module

    log_module.write_file = count  # type: ignore[assignment]
    try:
        work()
    except Killed:
        pass
    finally:
        log_module.write_file = write  # type: ignore[assignment]


class StoreMachine(RuleBasedStateMachine):
    """A store, a source, and a model of both."""

    def __init__(self) -> None:
        super().__init__()
        self.window, batching.ITEMS_PER_WINDOW = batching.ITEMS_PER_WINDOW, 3
        self.folder = Path(tempfile.mkdtemp())
        self.source, self.model, self.layers = Files(), dict[str, Known](), ["last"]

    def teardown(self) -> None:
        """Leave nothing behind."""
        batching.ITEMS_PER_WINDOW = self.window
        shutil.rmtree(self.folder)

    @initialize(files=st.dictionaries(names, st.tuples(contents, labels), min_size=3))
    def create(self, files: dict[str, tuple[int | str, str | None]]) -> None:
        """Make a store of some files."""
        self.source.files = files
        self.store = FeatureStore.create(self.folder / "store", Extractor("topwork:tiny"))
        self.add(None, retry=False, prune=False)

    @rule(name=names, content=contents, label=labels)
    def change(self, name: str, content: int | str, label: str | None) -> None:
        """Put a file into the source, or replace it."""
        self.source.files[name] = content, label

    @rule(name=names)
    def remove(self, name: str) -> None:
        """Take a file from the source."""
        if len(self.source.files) > 1:
            self.source.files.pop(name, None)

    @rule(kill=st.none() | st.integers(0, 4), retry=st.booleans(), prune=st.booleans())
    def add(self, kill: int | None, retry: bool, prune: bool) -> None:
        """Run the job, perhaps after one that was killed."""
        prune = prune and bool(self.model.keys() & self.source.files.keys())
        if prune:
            self.model = {name: known for name, known in self.model.items() if name in self.source.files}
        for name, (content, label) in self.source.files.items():
            before = self.model.get(name)
            if before is None:
                self.model[name] = Known(content, label)
            elif before.content != content:
                self.model[name] = Known(content, label, before.given)
            else:
                self.model[name] = Known(content, label or before.label, before.given)
        job = partial(
            extract_features, self.source, self.store, on_error="record", batch_size=BATCH_SIZE, provider="cpu"
        )
        if kill is not None:
            interrupted(kill, partial(job, retry=retry, prune=prune))
        ledger = job(retry=retry, prune=prune)
        assert ledger.ok + ledger.failed + ledger.duplicate == ledger.items == len(self.source.files)

    @rule(chosen=st.lists(names, unique=True), label=st.sampled_from(["set", "set anew", None]))
    def set_labels(self, chosen: list[str], label: str | None) -> None:
        """Set labels of items that the store knows."""
        known = [name for name in chosen if name in self.model]
        if known:
            self.store.set_labels(dict.fromkeys(known, label))
        for name in known:
            self.model[name] = Known(self.model[name].content, self.model[name].label, label)

    @precondition(lambda self: all(n in self.source.files for n in self.model))
    @rule(layer=st.sampled_from(LAYERS), kill=st.none() | st.integers(0, 3))
    def add_columns(self, layer: str, kill: int | None) -> None:
        """Add a column, perhaps after a run that was killed."""
        self.add(None, retry=False, prune=False)
        work = partial(self.store.add_columns, Extractor("topwork:tiny", layer=layer), self.source, provider="cpu")
        if kill is not None:
            interrupted(kill, work)
        work()
        self.layers = list(dict.fromkeys([*self.layers, layer]))

    @rule()
    def compact(self) -> None:
        """Merge what an interruption left."""
        self.store.compact()

    @rule(what=st.sampled_from(["index.arrow", "index.sha256"]))
    def delete_index(self, what: str) -> None:
        """Take the index, or its digest."""
        (self.store.path / what).unlink(missing_ok=True)

    @rule()
    def leave_rubbish(self) -> None:
        """Leave what a killed writer leaves."""
        (self.store.path / "parts" / ".tmp-p000099-rubbish").mkdir(exist_ok=True)
        (self.store.path / "parts" / "p999999").mkdir(exist_ok=True)
        (self.store.path / "log" / ".tmp-rubbish").write_text("{")

    @rule()
    def reopen(self) -> None:
        """Open the store anew."""
        self.store = FeatureStore.open(self.store.path)

    @invariant()
    def model_and_store_agree(self) -> None:
        """Compare all that the store says with the model."""
        if not hasattr(self, "store"):
            return
        rows = {name: known for name, known in self.model.items() if known.content != BROKEN}
        assert self.store.ids == list(rows)
        assert self.store.labels == [known.given or known.label for known in rows.values()]
        assert self.store.failures() == [(n, BROKEN) for n, known in self.model.items() if known.content == BROKEN]
        first: dict[int | str, str] = {}
        originals = [first.setdefault(known.content, name) for name, known in rows.items()]
        reasons = [None if name == original else original for name, original in zip(rows, originals, strict=True)]
        assert self.store.index.column("reason") == reasons
        assert [column.name for column in self.store.columns] == self.layers
        chosen = [int(known.content) for known in rows.values()]
        for layer in self.layers:
            np.testing.assert_allclose(self.store.matrix(layer), features(layer)[chosen], rtol=1e-4, atol=1e-5)
        assert self.store.verify() == []


StoreMachine.TestCase.settings = settings(
    max_examples=EXAMPLES, stateful_step_count=12, deadline=None, suppress_health_check=list(HealthCheck)
)
TestStoreMachine = StoreMachine.TestCase
