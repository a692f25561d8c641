"""Learning curves of feature stores."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ...errors import InputError
from ...extract.store.feature_store import FeatureStore
from ...heads.few_shot import few_shot_curve as compute_few_shot_curve
from ...heads.learning_curve import LearningCurve
from ...heads.registry import DEFAULT
from ...large_arrays import take_rows
from ..estimators.item_labels import number_groups, read_weights_and_groups
from ..estimators.item_splits import select_for_training
from ..estimators.labelled_rows import select_labelled_rows


def few_shot_curve(
    X: Any,
    y: Any = None,
    head: Any = DEFAULT,
    shots: Sequence[int | str] = (1, 2, 4, 8, 16, "all"),
    *,
    draws: int = 5,
    test_size: float = 0.25,
    groups: Any = None,
    random_state: int | None = 0,
    n_jobs: int | None = None,
    layer: str | None = None,
    split: str | Sequence[str] | None = None,
) -> LearningCurve:
    """Train a head on few labels and on more, several times each, and say whether still more would help.

    In each draw some rows are held out, and each number of shots takes the rows of the one before and more.

    Parameters
    ----------
    X : array of shape (n_rows, n_features) or FeatureStore
        Features.
    y : array of shape (n_rows,), optional
        A label for each row, in a store None for rows without one; also anything with labels by id that
        :meth:`topwork.FeatureStore.set_labels` accepts. By default those of the store.
    head : str or estimator
        A name from ``topwork heads``, or any scikit-learn classifier.
    shots : sequence of int or "all"
        Numbers of labels for each class.
    draws : int
        How often other rows are held out.
    test_size : float
        Share of the rows that are held out, by classes.
    groups : array of shape (n_rows,), optional
        Rows of a group are held out together, as are the views of an item in a store.
    random_state : int or None
        Seed of the draws.
    n_jobs : int, optional
        Number of draws in parallel, as for joblib.
    layer : str, optional
        The column of a store, by its name; needed where there are several.
    split : str or sequence of str, optional
        Splits of a store to use, by default all that are not held out.

    Returns
    -------
    LearningCurve
        A sequence of one :class:`topwork.heads.FewShotPoint` for each of `shots`, in their order, with the slope at its
        end: ``explain()`` says whether more labels would help, ``draw()`` returns a chart.

    Raises
    ------
    InputError
        If a number of shots is not positive, a class has fewer than two rows, or the head cannot learn from so few; if
        a store has several columns and none is named.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> curve = few_shot_curve(*load_digits(return_X_y=True), "centroid", (1, 32, "all"), draws=3)
    >>> [round(point.n_rows) for point in curve]
    [10, 320, 1347]
    >>> bool(curve.slope.gain < 0.05)
    True
    """
    if isinstance(X, FeatureStore):
        X, y, groups = read_labelled_features(X, y, groups=groups, layer=layer, split=split)
    elif layer is not None or split is not None:
        raise InputError("layer and split are for a FeatureStore; expected a matrix without them")
    return compute_few_shot_curve(
        X,
        y,
        head,
        shots,
        draws=draws,
        test_size=test_size,
        groups=groups,
        random_state=random_state,
        n_jobs=n_jobs,
    )


def read_labelled_features(
    store: FeatureStore, labels: Any, *, groups: Any, layer: str | None, split: str | Sequence[str] | None
) -> tuple[Any, Any, Any]:
    """Return the features, labels and groups of the rows of a store that have a label and may be trained on."""
    column = require_column(store, layer)
    labelled = select_labelled_rows(store, labels)
    is_chosen = np.isin(labelled.rows, select_for_training(store, split))
    rows = labelled.rows[is_chosen]
    if not len(rows):
        raise InputError(f"no row of {store.path} has a label; expected labels: store.set_labels, or y=")
    _, given_groups = read_weights_and_groups(store, None, groups)
    features = take_rows(store.matrix(column), rows)
    return features, labelled.labels[is_chosen], number_groups(store, rows, given_groups)


def require_column(store: FeatureStore, layer: str | None) -> str:
    """Return the name of a store's column, which must be given if there are several."""
    names = [column.name for column in store.columns]
    if layer is None and len(names) == 1:
        return names[0]
    if layer is None:
        raise InputError(f"the store has the features {', '.join(names)}; expected the name of one (layer=)")
    if layer not in names:
        raise InputError(f"the store has no features {layer!r}; expected one of {', '.join(names)}")
    return layer
