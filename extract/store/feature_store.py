"""``FeatureStore``: features on disk, opened, read, checked."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import InputError, StoreError
from ...large_arrays import copy_rows
from ...url_secrets import hide_secrets
from ..engine.ledger import Ledger
from ..engine.run_config import RunConfig, choose_config
from ..graphs.cut import Column
from ..graphs.same_model import require_same_computation
from ..sources.opening import open_items
from ..sources.views import ViewedSource
from .columns import fill_columns, find_new_columns
from .content import StoreContent
from .description import add_first_columns, is_store, new_store, open_place, read_identity, require_place
from .exchange.exporting import export_store
from .exchange.importing import import_features
from .feature_map import MAX_ROWS, PCA, FeatureMapDisplay
from .labels import LabelChange, divide_cells, label_history, label_table, name_windows
from .merging import Merge, Preference, merge_store
from .remote_copy import STORE_FILE, find_copy
from .repair import Repair, find_damaged_files, repair
from .shards import merge_shards
from .store_html import render_store
from .writer import open_writer

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .block_matrix import BlockMatrix
    from .description import FeatureExtractor

DTYPES = ("float32", "float16")
"""Types in which a store can hold features; the first is the default."""


class FeatureStore(StoreContent):
    """A directory of features that one backbone computed.

    Created by :meth:`create`, opened by :meth:`open`. It shows the state at that moment, or after its own writes.

    Parameters
    ----------
    path : Path
        The store's folder.
    identity : dict
        The input identity: every item was computed by a backbone and preprocessing that agree with it.
    """

    @classmethod
    def create(cls, path: str | Path, extractor: FeatureExtractor, dtype: str = DTYPES[0]) -> FeatureStore:
        """Create an empty store for an extractor's features.

        Parameters
        ----------
        path : path or str
            A folder that does not exist yet, or is empty; or a URL in object storage, such as
            ``"s3://bucket/features"``, as fsspec understands it.
        extractor : Extractor or Extraction
            Its graph is copied into the store, so that items can be added without torch.
        dtype : {"float32", "float16"}
            How features are stored. In float16 they take half the space and keep 11 bits; an item with a feature beyond
            65,504 fails.

        Raises
        ------
        StoreError
            If there is something at `path`.
        """
        require_place(path)
        if dtype not in DTYPES:
            raise InputError(f"dtype={dtype!r} of a store: expected one of {', '.join(DTYPES)}")
        graph = extractor.graph
        with new_store(path, graph.metadata.identity) as folder:
            add_first_columns(folder, graph, dtype)
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
            or thingsvision writes it. float16 is stored as float16, everything else as float32.
        ids : sequence or path, optional
            An id for each row; or a ``.txt``, a ``.npy``, or a table with a column ``id`` (or ``path``). By default
            the ids in the folder, or the numbers of an array's rows.
        labels : sequence, mapping, path or pyarrow.Table, optional
            A label for each row; or anything that :meth:`set_labels` accepts.
        name : str
            Name of the column; the columns of clip-retrieval are named as their folders.

        Raises
        ------
        StoreError
            If there is something at `path`.
        InputError
            If the features are not a finite matrix, the ids are not one for each row, or one occurs twice.
        """
        path = Path(path)
        import_features(path=path, source=source, ids=ids, labels=labels, name=name)
        return cls.open(path)

    @classmethod
    def open_or_create(
        cls, path: str | Path, extractor: FeatureExtractor, dtype: str = DTYPES[0], *, adds_columns: bool = False
    ) -> FeatureStore:
        """Open a store after checking that an extractor's features belong there, or create it; see :meth:`create`.

        Parameters
        ----------
        adds_columns : bool
            Whether columns may be missing, as :meth:`add_columns` is to add them.

        Raises
        ------
        IdentityError
            If the store's features are those of another backbone, or lack one of the extractor's columns.
        """
        if not is_store(path):
            try:
                return cls.create(path, extractor, dtype)
            except (FileExistsError, StoreError):
                if not is_store(path):  # otherwise another process created it first
                    raise
        store = cls.open(path)
        store.admit(extractor, adds_columns=adds_columns)
        return store

    @classmethod
    def open(cls, path: str | Path) -> FeatureStore:
        """Open a store, on disk or at a URL in object storage.

        Of the latter, features are fetched when they are read, and kept in the user's cache within a limit, which the
        environment variable ``TOPWORK_STORE_CACHE_GB`` sets (20 by default).

        Raises
        ------
        StoreError
            If there is no store at `path`, or another version wrote it.
        StoreDamagedError
            If its description or log is damaged.
        """
        if not is_store(path):
            raise StoreError(
                f"{hide_secrets(str(path))} is not a feature store: it has no {STORE_FILE}. Create one with "
                "FeatureStore.create, or `topwork extract SOURCE --store DIR`."
            )
        folder = open_place(path)
        return cls(folder, read_identity(folder))

    def add_columns(
        self,
        extractor: FeatureExtractor,
        source: Any,
        *,
        ids: Iterable[Any] | None = None,
        provider: str = "auto",
        config: RunConfig | None = None,
        patience: float = 0.0,
        partial: bool = False,
    ) -> Ledger:
        """Add the columns of an extractor that the store lacks; only they are computed, for all rows.

        An interrupted run is resumed with what it computed. The columns appear when every row has them; those of
        another interrupted run are given up, unless `partial` is set.

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
        config : RunConfig, optional
            Instead of `provider`. An item that fails stops the run, whatever its error policy; batches are those of the
            store.
        patience : float
            Seconds to wait for another process that is writing.
        partial : bool
            Whether the source may lack rows of the store. The columns then stay unfinished, beside others, until later
            runs have computed the rest; :meth:`take` returns what they have.

        Raises
        ------
        IdentityError
            If the backbone, its input or the precision is another one.
        InputError
            If an item is not in the source, and `partial` is not set; or has other content there.
        """
        given = RunConfig(provider=provider, owner="FeatureStore.add_columns")
        config = choose_config(given, config, "FeatureStore.add_columns")
        find_new_columns(self, extractor)
        items = open_items(source, self.graph.input_spec, ids=ids)
        items_and_views = ViewedSource(items, self.n_views)
        with open_writer(self, patience) as writer:
            names = find_new_columns(self, extractor)  # another process may have added them
            if not names:
                return Ledger()
            return fill_columns(
                writer=writer,
                graph=extractor.graph,
                names=names,
                source=items_and_views,
                config=config,
                is_partial=partial,
            )

    def compact(self, patience: float = 0.0) -> None:
        """Merge the parts into one with a file for each column in row order, so that a matrix is a memory map.

        Readers keep what they see; replaced files are removed once no process has the store open.

        Parameters
        ----------
        patience : float
            Seconds to wait for another process that is writing.
        """
        with open_writer(self, patience) as writer:
            writer.compact()

    def merge(self, *others: FeatureStore, prefer: Preference | None = None, patience: float = 0.0) -> Merge:
        """Add what the jobs of an array computed, or the items of other stores that grew on other machines.

        Without other stores, the shards of this one are merged (``extract_features(..., shard="3/64")``): those whose
        job has ended are moved into it; what others have so far is taken as well, and they are merged again later.

        Items of which this store has no features take those of the other. Labels that an item does not have are taken
        over; others stay. Items that the other store removed stay, too.

        Parameters
        ----------
        *others : FeatureStore
            Of the same backbone and with the same columns, or more; they are not changed.
        prefer : {"this", "other"}, optional
            Whose features are kept for items that have other content in another store. By default such items are an
            error.
        patience : float
            Seconds to wait for another process that is writing.

        Returns
        -------
        Merge
            Numbers of items that were added, replaced and kept; shards that are unfinished or missing.

        Raises
        ------
        IdentityError
            If another store is of another backbone, precision or type, or lacks a column.
        InputError
            If an item has other content there, and nothing is preferred.
        """
        if prefer not in (None, "this", "other"):
            raise InputError(f"prefer={prefer!r} of FeatureStore.merge: expected 'this', 'other' or None")
        with open_writer(self, patience) as writer:
            if others:
                merge = Merge()
                for other in others:
                    merge_store(writer, other, prefer, merge, writer.index.settle())
            else:
                merge = merge_shards(writer)
            writer.compact_if_possible()
        return merge

    def set_labels(
        self, labels: Any, name: str = "label", *, separator: str | None = None, patience: float = 0.0
    ) -> int:
        """Set labels, which take precedence over those of the source; features are not touched.

        Parameters
        ----------
        labels : mapping, path or pyarrow.Table
            Labels by id, or of windows by the id of their sound; or a table (``.csv``, ``.tsv``, ``.jsonl``,
            ``.parquet``) with a column ``id`` (or ``path``). Each of its other columns holds labels, stored under its
            name: heads are trained on ``label``, and ``split`` says which items are "train" and "test". Items that are
            not named keep their labels; an empty cell, None or NaN restores the label of the source.
        name : str
            Name of the labels in a mapping.
        separator : str, optional
            Text between several labels in a cell of the column `name`, such as "|". Lists need none.
        patience : float
            Seconds to wait for another process that is writing.

        Returns
        -------
        int
            Number of items that were named.

        Raises
        ------
        InputError
            If an id is not in the store or occurs twice, or labels of one name would be of several types.
        """
        table = label_table(labels, name)
        if separator is not None:
            table = divide_cells(table, name, separator)
        with open_writer(self, patience) as writer:
            table = name_windows(table, self.ids, self.sounds)
            writer.set_labels(table)
        return len(table)

    def export(
        self,
        path: str | Path,
        format: str = "parquet",  # noqa: A002 - the name that users and other libraries use
        columns: Sequence[str | Column] | None = None,
    ) -> None:
        """Write the rows for other tools; see :func:`topwork.extract.store.exchange.exporting.export_store`.

        Parameters
        ----------
        path : path
            Must not exist.
        format : {"parquet", "arrow", "datasets"}
            A Parquet file, an Arrow IPC file, or a folder for ``datasets.load_from_disk``.
        columns : sequence of str or Column, optional
            Which columns of features; by default all.
        """
        export_store(store=self, path=path, format=format, columns=columns)

    def plot_map(
        self,
        column: str | None = None,
        label: str = "label",
        ax: Any = None,
        method: str = PCA,
        *,
        max_rows: int = MAX_ROWS,
        random_state: int = 0,
    ) -> FeatureMapDisplay:
        """Draw the rows as points in two dimensions, coloured by their labels.

        The twelve most frequent labels have colours, all others are grey. Labels that are numbers, of more than twelve
        different values, are shown by a colour bar. Augmented views are left out.

        Parameters
        ----------
        column : str, optional
            Name of the features; needed where there are several.
        label : str
            Name of the labels, such as ``"split"``.
        ax : matplotlib axes, optional
            Where to draw; a new figure by default.
        method : {"pca", "umap"}
            The first two principal components; or UMAP, if the package umap-learn is installed.
        max_rows : int
            Of more rows a sample is drawn, which the title says.
        random_state : int
            Seed of the sample, and of UMAP.

        Returns
        -------
        FeatureMapDisplay
            With the coordinates, and what was drawn: ``ax_`` and ``figure_``.

        Raises
        ------
        InputError
            If the store has several columns and none is named, no such column or labels, or no rows.
        MissingPackageError
            If matplotlib is not installed (``pip install 'topwork[plots]'``), or umap-learn for UMAP.
        """
        return FeatureMapDisplay.from_store(
            self, column, label, method=method, max_rows=max_rows, random_state=random_state, ax=ax
        )

    def _repr_html_(self) -> str:
        """Return rows, labels and columns as HTML, for notebooks."""
        return render_store(self)

    def label_history(self, name: str = "label") -> list[LabelChange]:
        """Return every change of one column of labels, such as ``"split"``, the oldest first."""
        return label_history(self.path, self.log, name)

    def verify(self) -> list[str]:
        """Check the chain of the log, every file that it names against its SHA-256, and the index against its own.

        Returns
        -------
        list of str
            The files that are missing or damaged; empty if there are none.

        Raises
        ------
        LogDamagedError
            If the chain of the log is broken.
        """
        return find_damaged_files(self)

    def repair(self, patience: float = 0.0) -> Repair:
        """Mark the items in damaged rows as pending, and write all other rows anew.

        Where a part's description of its items is damaged, it is restored from the index. The next job over the source
        computes the pending items.

        Returns
        -------
        Repair
            The ids that have to be computed again, and the files whose content is not available elsewhere.

        Raises
        ------
        LogDamagedError
            If the chain of the log is broken: then it is unknown which files belong to the store.
        """
        return repair(self, patience)

    def admit(self, extractor: FeatureExtractor, *, adds_columns: bool = False) -> None:
        """Check that an extractor's features belong here, and let it adopt the store's precision and settings.

        Parameters
        ----------
        adds_columns : bool
            Whether columns may be missing, as :meth:`add_columns` is to add them.

        Raises
        ------
        IdentityError
            If the store's features are those of another backbone, lack one of the extractor's columns, or are of
            another precision than the one the extractor was created with.
        DriftError
            If a store of an earlier version was filled by a provider that computes other features than the model.
        """
        extractor.adopt(self.graph)
        own_names = {column.name for column in self.columns}
        if adds_columns and not own_names.issuperset(column.name for column in extractor.columns):
            find_new_columns(self, extractor)
            return
        self.require_columns(extractor.identity, extractor.columns)
        require_same_computation(extractor.graph, self.graph, f"the backbone is not that of {self.path}")
        self.graph.adopt_canaries(extractor.graph)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the path: the store is opened again where it is unpickled."""
        copy = find_copy(self.path)
        return FeatureStore.open, (self.path if copy is None else copy.url,)

    # Rows, as scikit-learn takes them from a matrix.

    __iter__: None = None

    @property
    def shape(self) -> tuple[int, int]:
        """Numbers of rows and of features of all columns, by which scikit-learn's searches and folds take rows."""
        return self.n_rows, sum(column.width for column in self.columns)

    def __getitem__(self, key: Any) -> StoredRows:
        """Return some of the rows, by an array of their positions or a mask.

        Raises
        ------
        InputError
            If it is another key.
        """
        rows = key[0] if isinstance(key, tuple) and len(key) == 2 and key[1] is Ellipsis else key
        if not isinstance(rows, np.ndarray | list | slice):
            raise InputError(f"{rows!r} of a store: expected an array of rows; `take` returns features by id")
        return StoredRows(self, np.arange(self.n_rows)[rows])


class StoredRows(FeatureStore):
    """Some rows of a store, in any order, which can stand for it where features and labels are read.

    Parameters
    ----------
    whole : FeatureStore
        The store; it is not changed.
    rows : ndarray of int, shape (n_rows,)
        Positions of the rows.
    """

    def __init__(self, whole: FeatureStore, rows: NDArray[np.intp]) -> None:
        super().__init__(whole.path, whole.identity)
        self.whole = whole
        self.rows = rows

    def _take(self, values: Sequence[Any]) -> list[Any]:
        return [values[row] for row in self.rows.tolist()]

    @property
    def n_rows(self) -> int:
        """Number of these rows."""
        return len(self.rows)

    @property
    def ids(self) -> list[str]:
        """Ids of these rows."""
        return self._take(self.whole.ids)

    @property
    def splits(self) -> list[Any]:
        """Splits of these rows."""
        return self._take(self.whole.splits)

    @property
    def groups(self) -> list[str]:
        """Groups of these rows."""
        return self._take(self.whole.groups)

    @property
    def labels(self) -> list[Any]:
        """Labels of these rows."""
        return self._take(self.whole.labels)

    def get_labels(self, name: str = "label") -> list[Any]:
        """Return one column of labels, for these rows; see :meth:`FeatureStore.get_labels`."""
        return self._take(self.whole.get_labels(name))

    def failures(self) -> list[tuple[str, str]]:
        """Return nothing, as items that failed have no row."""
        return []

    def matrix(
        self, column: str | Column, ids: Sequence[str] | None = None, split: str | None = None
    ) -> NDArray[Any] | BlockMatrix:
        """Return one column's features of these rows; see :meth:`FeatureStore.matrix`."""
        if ids is not None or split is not None:
            return self.whole.matrix(column, ids, split)
        return np.asarray(copy_rows(self.whole.matrix(column), self.rows))

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the path and the positions."""
        return StoredRows, (self.whole, self.rows)
