"""The picture of a store: its rows as points in two dimensions, coloured by their labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import InputError, MissingPackageError
from ...plotting import draw_name, load_pyplot, open_axes

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .content import StoreContent

    FloatArray = NDArray[np.float64]

PCA = "pca"
UMAP = "umap"
METHODS = (PCA, UMAP)
MAX_ROWS = 2000
"""Rows that are drawn by default; of more, a sample."""
COLOURS = (
    "#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd", "#8c564b",
    "#e377c2", "#bcbd22", "#17becf", "#1b2a6b", "#0b5d3b", "#f2b134",
)  # fmt: skip
"""Colours of classes; the most frequent have them."""
MARKERS = ("o", "^", "s", "D")
"""Shapes of the points, in turn, as not everyone tells all colours apart."""
GREY = "#9a9a9a"
LIGHT_GREY = "#cfcfcf"
N_ROWS_WITH_LARGE_POINTS = 500


class FeatureMapDisplay:
    """A map of the features of a store.

    Create it with :meth:`from_store` or :meth:`topwork.FeatureStore.plot_map`.

    Parameters
    ----------
    coordinates : ndarray of float64, shape (n_rows, 2)
        Place of each row.
    ids : list of str
        Ids of the rows.
    labels : list
        A label for each row, None for rows without one.
    label_name : str
        What the labels are.
    axis_names : tuple of str
        What the two coordinates are.
    title : str
        What is shown, and of how many rows.

    Attributes
    ----------
    ax_ : matplotlib axes
        With the map.
    figure_ : matplotlib figure
        The figure of the axes.
    points_ : list of matplotlib artists
        Points of one colour each, or those of all values; ``point_names_`` says what they are.
    colorbar_ : matplotlib colour bar or None
        If labels are values.
    """

    def __init__(
        self,
        coordinates: FloatArray,
        *,
        ids: Sequence[str],
        labels: Sequence[Any],
        label_name: str,
        axis_names: tuple[str, str],
        title: str,
    ) -> None:
        self.coordinates = coordinates
        self.ids = list(ids)
        self.labels = list(labels)
        self.label_name = label_name
        self.axis_names = axis_names
        self.title = title

    @classmethod
    def from_store(
        cls,
        store: StoreContent,
        column: str | None = None,
        label: str = "label",
        *,
        method: str = PCA,
        max_rows: int = MAX_ROWS,
        random_state: int = 0,
        ax: Any = None,
    ) -> FeatureMapDisplay:
        """Compute and draw the map of a store; see :meth:`topwork.FeatureStore.plot_map`."""
        if method not in METHODS:
            raise InputError(f"method={method!r} of a map: expected one of {', '.join(METHODS)}")
        if not isinstance(max_rows, int) or max_rows < 1:
            raise InputError(f"max_rows={max_rows!r} of a map: expected a positive number of rows")
        load_pyplot()  # what is missing is named before anything is computed
        name = choose_column(store, column)
        labels = store.labels if label == "label" else store.get_labels(label)
        rows, n_items = sample_rows(store, max_rows=max_rows, random_state=random_state)
        features = np.asarray(store.matrix(name)[rows])
        if method == PCA:
            coordinates, axis_names = project_by_pca(features)
        else:
            coordinates, axis_names = project_by_umap(features, random_state)
        shown = f"{len(rows):,} rows"
        if len(rows) < n_items:
            shown = f"{len(rows):,} of {n_items:,} rows (drawn with the seed {random_state})"
        ids = store.ids
        display = cls(
            coordinates,
            ids=[ids[row] for row in rows.tolist()],
            labels=[labels[row] for row in rows.tolist()],
            label_name=label,
            axis_names=axis_names,
            title=f"{draw_name(name)}, {method.upper()}: {shown}",
        )
        return display.plot(ax=ax)

    def plot(self, ax: Any = None) -> FeatureMapDisplay:
        """Draw the map.

        Parameters
        ----------
        ax : matplotlib axes, optional
            Where to draw; a new figure by default.

        Returns
        -------
        FeatureMapDisplay
            Itself, with ``ax_`` and ``figure_``.
        """
        axes = open_axes(ax)
        self.ax_ = axes
        self.figure_ = axes.figure
        self.points_: list[Any] = []
        self.point_names_: list[str] = []
        self.colorbar_ = None
        axes.set_xlabel(self.axis_names[0])
        axes.set_ylabel(self.axis_names[1])
        axes.set_title(self.title, fontsize="medium")
        values = read_values(self.labels)
        if values is None:
            self._draw_classes()
        else:
            self._draw_values(values)
        return self

    def _draw_values(self, values: FloatArray) -> None:
        """Draw points in the colour of their value; rows without one are grey."""
        is_known = ~np.isnan(values)
        if not is_known.all():
            self._draw_points("no label", np.flatnonzero(~is_known), color=LIGHT_GREY)
            self.ax_.set_title(f"{self.title}; grey ones have no label", fontsize="medium")
        points = self._draw_points("values", np.flatnonzero(is_known), c=values[is_known], cmap="viridis")
        self.colorbar_ = self.figure_.colorbar(points, ax=self.ax_, label=draw_name(self.label_name))

    def _draw_classes(self) -> None:
        """Draw points in the colour of their class; those of rare classes, and rows without a label, are grey."""
        rows_of, unlabelled = group_by_class(self.labels)
        if not rows_of:
            self._draw_points("no label", unlabelled, color=COLOURS[0])
            return
        ordered = sorted(rows_of, key=lambda name: (-len(rows_of[name]), name))
        frequent = sorted(ordered[: len(COLOURS)])
        rare = ordered[len(COLOURS) :]
        for number, name in enumerate(frequent):
            text = f"{draw_name(name)} ({len(rows_of[name]):,})"
            marker = MARKERS[number % len(MARKERS)]
            self._draw_points(text, rows_of[name], color=COLOURS[number], marker=marker, zorder=2)

        # Draw the others below these.
        if rare:
            others = [row for name in rare for row in rows_of[name]]
            self._draw_points(f"others: {len(rare):,} classes ({len(others):,})", others, color=GREY, zorder=1.5)
        if unlabelled:
            self._draw_points(f"no label ({len(unlabelled):,})", unlabelled, color=LIGHT_GREY, zorder=1)
        self._add_legend()

    def _draw_points(self, text: str, rows: Any, **options: Any) -> Any:
        size = 16 if len(self.labels) <= N_ROWS_WITH_LARGE_POINTS else 7
        x, y = self.coordinates[rows].T
        points = self.ax_.scatter(x, y, s=size, alpha=0.8, linewidths=0, **options)
        self.points_.append(points)
        self.point_names_.append(text)
        return points

    def _add_legend(self) -> None:
        """Add a legend beside the map; matplotlib would leave out names that begin with an underscore."""
        placeholders = [str(number) for number in range(len(self.points_))]
        legend = self.ax_.legend(
            self.points_,
            placeholders,
            loc="center left",
            bbox_to_anchor=(1.0, 0.5),
            frameon=False,
            fontsize="small",
            markerscale=1.5,
            title=draw_name(self.label_name),
        )
        for entry, text in zip(legend.get_texts(), self.point_names_, strict=True):
            entry.set_text(text)


def choose_column(store: StoreContent, column: str | None) -> str:
    """Return the name of a store's column, which must be given if there are several."""
    names = [own.name for own in store.columns]
    if column is not None:
        return column
    if len(names) > 1:
        raise InputError(f"the store has the features {', '.join(names)}; expected the name of one (column=)")
    return names[0]


def sample_rows(store: StoreContent, *, max_rows: int, random_state: int) -> tuple[NDArray[np.intp], int]:
    """Return rows without augmented views, ascending, a sample if they are more than `max_rows`; and their number."""
    is_original = [group == item_id for group, item_id in zip(store.groups, store.ids, strict=True)]
    rows = np.flatnonzero(is_original)
    if not len(rows):
        raise InputError(f"{store.path} has no rows to draw; expected some: `topwork extract` computes them")
    n_items = len(rows)
    if n_items > max_rows:
        rows = np.sort(np.random.default_rng(random_state).choice(rows, max_rows, replace=False))
    return rows, n_items


def project_by_pca(features: NDArray[Any]) -> tuple[FloatArray, tuple[str, str]]:
    """Return the first two principal components of features, shape (n_rows, 2), and what they are."""
    coordinates, shares = find_components(features)
    names = [f"component {number} ({share:.0%} of the variance)" for number, share in enumerate(shares, start=1)]
    return coordinates, (names[0], names[1])


def find_components(features: NDArray[Any]) -> tuple[FloatArray, tuple[float, float]]:
    """Return the first two principal components of features, shape (n_rows, 2), and their shares of the variance.

    The signs are those with which the largest coordinate is positive, so that a map is always the same.
    """
    centred = features.astype(np.float64) - features.mean(axis=0, dtype=np.float64)
    n_rows, n_features = centred.shape
    coordinates = np.zeros((n_rows, 2))
    shares = np.zeros(2)
    if n_features > n_rows:
        values, vectors, total = find_largest_eigenvectors(centred @ centred.T)
        found = vectors * np.sqrt(values)  # (n_rows, n_components)
    else:
        values, vectors, total = find_largest_eigenvectors(centred.T @ centred)
        found = centred @ vectors  # (n_rows, n_components)
    n_components = len(values)
    largest = np.abs(found).argmax(axis=0)
    signs = np.where(found[largest, np.arange(n_components)] < 0, -1.0, 1.0)
    coordinates[:, :n_components] = found * signs
    if total > 0:
        shares[:n_components] = values / total
    return coordinates, (float(shares[0]), float(shares[1]))


def find_largest_eigenvectors(gram: FloatArray) -> tuple[FloatArray, FloatArray, float]:
    """Return the two largest eigenvalues, descending, their eigenvectors as columns, and the sum of all eigenvalues."""
    from scipy.linalg import eigh

    size = len(gram)
    values, vectors = eigh(gram, subset_by_index=[max(0, size - 2), size - 1])
    return np.maximum(values[::-1], 0.0), vectors[:, ::-1], float(np.trace(gram))


def project_by_umap(features: NDArray[Any], random_state: int) -> tuple[FloatArray, tuple[str, str]]:
    """Return features in two dimensions by UMAP (McInnes et al. 2018, https://arxiv.org/abs/1802.03426)."""
    try:
        import umap
    except ImportError as error:
        raise MissingPackageError(
            'method="umap" needs the package umap-learn, which is not installed: pip install umap-learn; '
            'or take method="pca"'
        ) from error
    projection = umap.UMAP(n_components=2, random_state=random_state, n_jobs=1)
    coordinates = np.asarray(projection.fit_transform(features.astype(np.float32)), np.float64)
    return coordinates, ("UMAP 1", "UMAP 2")


def read_values(labels: Sequence[Any]) -> FloatArray | None:
    """Return labels as numbers, NaN for None; None if they are the names of classes.

    They are values if all are numbers, or texts of numbers, and there are more different ones than colours.
    """
    known = [label for label in labels if label is not None]
    if len({str(label) for label in known}) <= len(COLOURS):
        return None
    if any(isinstance(label, list | bool) for label in known):
        return None
    try:
        numbers = np.array([float(label) for label in known])
    except ValueError:
        return None
    if not np.isfinite(numbers).all():
        return None
    values = np.full(len(labels), np.nan)
    values[[label is not None for label in labels]] = numbers
    return values


def group_by_class(labels: Sequence[Any]) -> tuple[dict[str, list[int]], list[int]]:
    """Return the rows of each class, several labels of a row being a class together; and the rows without a label."""
    rows_of: dict[str, list[int]] = {}
    unlabelled = []
    for row, label in enumerate(labels):
        if label is None:
            unlabelled.append(row)
            continue
        name = " + ".join(map(str, label)) if isinstance(label, list) else str(label)
        rows_of.setdefault(name, []).append(row)
    return rows_of, unlabelled
