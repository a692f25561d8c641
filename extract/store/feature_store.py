"""``FeatureStore``: features on disk, opened, read, checked."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import IdentityError, InputError, StoreError
from ...identity import digest, require_same
from ..engine.ledger import Ledger
from ..graphs.cut import Column
from ..graphs.exported_graph import INPUTS_FOLDER, ExportedGraph
from .content import StoreContent
from .description import STORE_FILE, enter_graph, is_store, new_store, read_identity, require_place
from .log import Entry, Log
from .pin import Pin
from .state import State, state_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .description import FeatureExtractor
    from .labels import LabelChange
    from .repair import Repair

NO_BACKBONE = (
    "which backbone computed them is not known, so those of other items cannot be computed. Heads that they train "
    "predict from stores alone; to add or predict items, use a store that `topwork extract` makes."
)
DTYPES = "float32", "float16"


class FeatureStore(StoreContent):
    """A directory of features that one backbone computed.

    Made by :meth:`create`, opened by :meth:`open`. What it shows is the state at that moment, or after its own writes.

    Parameters
    ----------
    path : Path
        The store's folder.
    identity : dict
        The input identity: every item was computed by a backbone and preprocessing that agree with it.
    """

    def __init__(self, path: Path, identity: dict[str, Any]) -> None:
        self.path = path
        self.identity = identity
        self.log = Log(path)
        self._pin: Pin | None = None
        self.refresh()

    @classmethod
    def create(cls, path: str | Path, extractor: FeatureExtractor, dtype: str = DTYPES[0]) -> FeatureStore:
        """Create an empty store for an extractor's features.

        Parameters
        ----------
        path : path
            A folder that does not exist yet, or is empty.
        extractor : Extractor or Extraction
            Its graph is copied into the store, so that items can be added without torch.
        dtype : {"float32", "float16"}
            How features are stored. In float16 they take half the room and keep 11 bits; an item with a feature beyond
            65,504 fails.

        Raises
        ------
        StoreError
            If there is something at `path`.
        """
        path = Path(path)
        require_place(path)
        if dtype not in DTYPES:
            raise InputError(f"dtype={dtype!r} of a store: expected one of {', '.join(DTYPES)}")
        graph = extractor.graph
        with new_store(path, graph.metadata.identity) as folder:
            enter_graph(folder, graph, dtype)
        return cls.open(path)

    @classmethod
    def import_features(
        cls,
        path: str | Path,
        source: NDArray[Any] | str | Path,
        ids: Sequence[Any] | str | Path | None = None,
        labels: Any = None,
        name: str = "features",
    ) -> FeatureStore:
        """Create a store of foreign features: matrices that another tool computed.

        Heads can be trained on it; no extractor can add to it. Equal rows count as duplicates.

        Parameters
        ----------
        path : path
            A folder that does not exist yet, or is empty.
        source : ndarray or path
            An array ``(n_items, n_features)``, or a ``.npy``, ``.txt`` or ``.mat`` of one; a folder as clip-retrieval
            or thingsvision writes it. It is kept in float16 if it is, else in float32.
        ids : sequence or path, optional
            An id for each row; or a ``.txt``, a ``.npy``, or a table with a column ``id`` (or ``path``). By default
            what the folder says, or the numbers of an array's rows.
        labels : sequence, mapping, path or pyarrow.Table, optional
            A label for each row; or what :meth:`set_labels` takes.
        name : str
            Of the column; clip-retrieval's are called as their folders.

        Raises
        ------
        StoreError
            If there is something at `path`.
        InputError
            If the features are no finite matrix, the ids are not one for each row, or one comes twice.
        """
        from .exchange.importing import import_features

        return import_features(Path(path), source, ids, labels, name)

    @classmethod
    def open_or_create(cls, path: str | Path, extractor: FeatureExtractor, dtype: str = DTYPES[0]) -> FeatureStore:
        """Open a store after checking that an extractor's features belong there, or create it, see :meth:`create`.

        Raises
        ------
        IdentityError
            If the store's features are those of another backbone, or lack one of the extractor's columns.
        """
        if not is_store(path):
            try:
                return cls.create(path, extractor, dtype)
            except (FileExistsError, StoreError):
                if not is_store(path):  # otherwise another process was faster
                    raise
        store = cls.open(path)
        store.admit(extractor)
        return store

    @classmethod
    def open(cls, path: str | Path) -> FeatureStore:
        """Open a store.

        Raises
        ------
        StoreError
            If there is no store at `path`, or another version wrote it.
        StoreDamagedError
            If its description or log is damaged.
        """
        path = Path(path)
        if not is_store(path):
            raise StoreError(
                f"{path} is not a feature store: it has no {STORE_FILE}. Create one with FeatureStore.create, "
                "or `topwork extract SOURCE --store DIR`."
            )
        return cls(path, read_identity(path))

    @property
    def fingerprint(self) -> str:
        """Digest of the input identity."""
        return digest(self.identity)

    @property
    def graph(self) -> ExportedGraph:
        """The graph that computes the store's columns; an IdentityError tells that foreign features have none."""
        if self.is_foreign:
            raise IdentityError(f"{self.path} holds foreign features: {NO_BACKBONE}")
        return ExportedGraph(self.path / self.stored_columns[0].graph, self.path / INPUTS_FOLDER)

    def add_columns(
        self,
        extractor: FeatureExtractor,
        source: Any,
        *,
        ids: Iterable[Any] | None = None,
        provider: str = "auto",
        patience: float = 0.0,
    ) -> Ledger:
        """Add the columns of an extractor that are not here yet; only they are computed, for all rows.

        What an interrupted run computed is kept and used. The columns appear when every row has them.

        Parameters
        ----------
        extractor : Extractor or Extraction
            Of the same backbone, cut elsewhere.
        source : str, path or sequence
            Where the items came from; see :func:`topwork.extract_features`.
        ids : iterable, optional
            For a sequence of items.
        provider : str
            Where the graph runs.
        patience : float
            Seconds to wait for another process that is writing.

        Raises
        ------
        IdentityError
            If the backbone, its input or the precision is another one.
        InputError
            If an item is not in the source, or has other content there.
        """
        from ..sources.opening import open_source
        from ..sources.views import ViewedSource
        from .columns import fill, new_columns
        from .writer import open_writer

        names = new_columns(self, extractor)
        opened = ViewedSource(open_source(source, ids=ids, kind=self.graph.input_spec.kind), self.n_views)
        with open_writer(self, patience) as writer:
            return fill(writer, extractor.graph, names, opened, provider) if names else Ledger()

    def compact(self, patience: float = 0.0) -> None:
        """Merge the parts into one with a file for each column in row order, so that a matrix is a memory map.

        Readers go on with what they see; the files that are replaced are removed once nobody has the store open.

        Parameters
        ----------
        patience : float
            Seconds to wait for another process that is writing.
        """
        from .writer import open_writer

        with open_writer(self, patience) as writer:
            writer.compact()

    def set_labels(self, labels: Any, name: str = "label", *, patience: float = 0.0) -> int:
        """Set labels, whatever the source says; the features stay.

        Parameters
        ----------
        labels : mapping, path or pyarrow.Table
            Labels by id; or a table (``.csv``, ``.tsv``, ``.jsonl``, ``.parquet``) with a column ``id`` (or ``path``).
            Each of its other columns is one of labels, kept under its name: ``label`` is what heads are trained on,
            ``split`` says who is "train" and "test". Items that are not named keep what they have; an empty cell, None
            or NaN brings back what the source says.
        name : str
            What a mapping's labels are called.
        patience : float
            Seconds to wait for another process that is writing.

        Returns
        -------
        int
            How many items were named.

        Raises
        ------
        InputError
            If an id is not in the store or comes twice, or labels of one name would be of several types.
        """
        from .labels import enter_labels, label_table
        from .writer import open_writer

        table = label_table(labels, name)
        with open_writer(self, patience) as writer:
            enter_labels(writer, table)
        return len(table)

    def label_history(self, name: str = "label") -> list[LabelChange]:
        """Return every change of one column of labels, such as ``"split"``, the oldest first."""
        from .labels import label_history

        return label_history(self.path, self.log, name)

    def verify(self) -> list[str]:
        """Check the chain of the log, every file that it names against its SHA-256, and the index against its own.

        Returns
        -------
        list of str
            The files that are missing or damaged; empty if all is well.

        Raises
        ------
        LogDamagedError
            If the chain of the log is broken.
        """
        from .repair import damaged_files

        return damaged_files(self)

    def repair(self, patience: float = 0.0) -> Repair:
        """Put damaged rows back to be computed again; all others are written anew.

        What describes the items is taken from the index where a part's own description is damaged. The next job over
        the source computes what is pending.

        Returns
        -------
        Repair
            The ids that have to be computed again, and files whose content is nowhere else.

        Raises
        ------
        LogDamagedError
            If the chain of the log is broken: then nothing says what is true.
        """
        from .repair import repair

        return repair(self, patience)

    def admit(self, extractor: FeatureExtractor) -> None:
        """Check that an extractor's features belong here; from then on it computes as those here were computed.

        Raises
        ------
        IdentityError
            If the store's features are those of another backbone, lack one of the extractor's columns, or are of
            another precision than the one it was given by name.
        """
        extractor.adopt(self.graph)
        self.require_columns(extractor.identity, extractor.columns)

    def require_columns(self, identity: dict[str, Any], columns: Sequence[Column]) -> None:
        """Raise an error that names the first difference if an extractor's features do not belong here.

        Parameters
        ----------
        identity : dict
            The extractor's input identity.
        columns : sequence of Column
            Each must be a column of the store.

        Raises
        ------
        IdentityError
        """
        require_same(identity, self.identity, f"the backbone is not that of {self.path}")
        ours = {column.name: column.to_json() for column in self.columns}
        for column in columns:
            if column.name not in ours:
                raise IdentityError(
                    f"{self.path} has no column {column.name!r}; it has {', '.join(ours)}. Add it with add_columns "
                    "(`topwork extract --add-columns`), or use another store."
                )
            wanted = {**column.to_json(), "dtype": ours[column.name]["dtype"]}  # which is a matter of storing
            require_same(wanted, ours[column.name], f"column {column.name!r} is not that of {self.path}")

    def refresh(self) -> None:
        """Show what has been written since the store was opened."""
        self.release()
        self._pin = Pin(self.path / STORE_FILE)
        self.entries: list[Entry] = self.log.entries()
        self.state: State = state_of(self.entries)

    def release(self) -> None:
        """Let go of what was seen: files that a compaction replaced may be removed."""
        for name in ("index", "_row_numbers", "_open_map"):
            self.__dict__.pop(name, None)
        if self._pin is not None:
            self._pin.release()
        self._pin = None

    def __reduce__(self) -> tuple[Any, ...]:
        """Open the store again where it goes."""
        return FeatureStore.open, (self.path,)
