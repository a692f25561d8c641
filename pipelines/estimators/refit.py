"""Training a bundle's head again, from the cache alone: with other labels, with more rows."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.base import clone, is_classifier

from ...errors import InputError
from ...extract.sources.identifiers import HELD_OUT_SPLITS
from ...extract.store.feature_store import FeatureStore
from ...heads.fit_report import FitReport
from ...heads.persistence import is_plain
from ...heads.targets import encode_labels
from ...identity import digest_of_file
from ..bundle.bundle import MANIFEST, load
from ..bundle.lineage import hashes_of
from .features import admit, features_of
from .holdout import HoldOut
from .labelled_rows import LabelledRows, labels_for
from .training_rows import TrainingRows
from .transfer_estimator import TransferEstimator


def refit(
    bundle: str | Path | TransferEstimator,
    store: str | Path | FeatureStore,
    labels: Any = None,
    *,
    label_column: str | None = None,
    held_out: float | None = None,
    seed: int | None = None,
    warm: bool = True,
    trusted: Sequence[str] = (),
) -> Any:
    """Train a bundle's head again on the features of a store; nothing is computed but the head.

    A head with ``warm_start`` goes on from the parent's solution: new classes are added to it, those that have no row
    any more are dropped, and a penalty that was chosen by cross-validation is kept. Rows without a label are left out.
    The head is judged, beside its parent, on rows that neither it nor its children learn from. A parent that has
    learned from rows that are held out now, as one from ``fit`` has, is not gone on from: its child starts anew.

    Parameters
    ----------
    bundle : path, TransferClassifier or TransferRegressor
        The parent.
    store : path or FeatureStore
        Of the parent's backbone and layers.
    labels : mapping, path, table, pandas.Series with ids as its index, or sequence, optional
        By id, as :meth:`topwork.FeatureStore.set_labels` takes them, a column ``split`` among them; items that are not
        named keep the label that the store has, those that are named without a label lose it. Or one for each row, None
        for none. The store itself stays as it is.
    label_column : str, optional
        Of a table; by default ``label``, or the only one there is.
    held_out : float, optional
        Share of the items to judge by, chosen by their ids; 0 trains on all. By default as the parent's were; else the
        rows whose split is "val" or "test"; else 0.2.
    seed : int, optional
        Of the choice by ids.
    warm : bool
        Without it the head is trained from nothing, and chooses its penalty anew.
    trusted : sequence of str
        Types that the parent's head may hold beyond those that are known to be safe.

    Returns
    -------
    TransferClassifier or TransferRegressor
        Fitted. Its ``lineage_`` says what it was trained on, see :func:`topwork.pipelines.bundle.lineage.lineage_of`;
        beside that ``held_out`` (the rule and the number of rows ``n``), ``metrics`` (its own, and the parent's on the
        same rows, and whether the parent may have learned from them), ``classes`` (those that are new, and those
        dropped), the number of rows that are ``unlabelled``, and whether it was a ``warm`` start.

    Raises
    ------
    IdentityError
        If the store's features are not those that the bundle's head is of.
    InputError
        If no row has a label, a label's id is not in the store, or there is nothing to learn from.
    """
    parent = bundle if isinstance(bundle, TransferEstimator) else load(bundle, trusted)
    store = store if isinstance(store, FeatureStore) else FeatureStore.open(store)
    admit(store, parent.extractor_)
    given = labels_for(store, labels, label_column)
    rows = _rows(parent, store, given)
    rule = HoldOut.chosen(held_out, seed, parent.lineage_.get("held_out"), given.splits)
    held = rule.holds(given.groups, given.splits)
    if rule.by == "id" and is_classifier(parent) and rows.y.ndim == 1:
        codes = encode_labels(rows.y)[1]
        held &= np.isin(codes, codes[~held])  # a class is not held out whole
    learned, judged = rows.take(np.flatnonzero(~held)), rows.take(np.flatnonzero(held & given.is_own()))
    if not len(judged) and (rule.by == "split" or rule.share):
        warnings.warn(f"{_why_none(rule)}: the head is not judged", stacklevel=2)
    may_know = _may_know(parent, rows, judged)
    child, is_warm = _trained(parent, learned, warm and not may_know)
    child.lineage_ |= {
        "parent": None if isinstance(bundle, TransferEstimator) else digest_of_file(Path(bundle) / MANIFEST),
        "warm": is_warm,
        "held_out": {**rule.to_json(), "n": len(judged)},
        "metrics": _metrics(child, parent, learned, judged, may_know),
        "classes": _changes(parent, child),
        "unlabelled": len(store.ids) - len(rows),
    }
    return child


def _rows(parent: TransferEstimator, store: FeatureStore, given: LabelledRows) -> TrainingRows:
    """Return the rows that have a label."""
    if not len(given.rows):
        raise InputError(
            f"no row of {store.path} has a label; give some with labels= (--labels), or set them with "
            "`topwork store label`"
        )
    targets = parent.as_targets(given.labels)
    columns = None if targets.ndim == 1 else targets.shape[1]
    if columns != parent.n_columns():
        one, other = (f"{count} columns" if count else "one for each item" for count in (columns, parent.n_columns()))
        raise InputError(f"labels are {one}, but those that the parent has learned were {other}; expected the same")
    matrix = features_of(parent.extractor_, store).matrix
    if len(given.rows) < len(matrix):
        matrix = matrix[given.rows]
    places = np.unique(np.array(given.groups), return_inverse=True)[1]
    return TrainingRows(matrix, targets, groups=places if store.n_views else None, ids=np.array(given.ids, object))


def _why_none(rule: HoldOut) -> str:
    if rule.by == "split":
        return f"no row has one of the splits {', '.join(sorted(HELD_OUT_SPLITS))}, by which the parent was judged"
    return f"held_out={rule.share:g} leaves no class a row to learn from, or holds no row out"


def _may_know(parent: TransferEstimator, rows: TrainingRows, judged: TrainingRows) -> bool:
    """Tell whether the parent has learned from rows to be judged by, or may have: under other ids, or unknown ones."""
    known, every, some = parent.learned_, rows.ids, judged.ids
    if not len(judged):
        return False
    if known is None or every is None or some is None or not np.isin(hashes_of(every), known).any():
        return True
    return bool(np.isin(hashes_of(some), known).any())


def _trained(parent: TransferEstimator, rows: TrainingRows, warm: bool) -> tuple[Any, bool]:
    """Return a trained child, and whether it went on from its parent's solution."""
    if not len(rows):
        raise InputError("no row is left to learn from: all that have a label are held out; lower held_out")
    child = clone(parent).set_params(cv=0)  # it is judged by the rows that are held out
    child.extractor_, child.failures_ = parent.extractor_, []
    is_warm = warm and _can_go_on(parent, rows)
    child.train(_warmed(parent.head_) if is_warm else child.unfitted_head(rows.y), rows)
    if is_warm:
        child.head_.set_params(warm_start=parent.head_.warm_start)
        child.learned_ = None if parent.learned_ is None else np.union1d(parent.learned_, child.learned_)
    return child.set_params(cv=parent.cv), is_warm


def _can_go_on(parent: TransferEstimator, rows: TrainingRows) -> bool:
    """Tell whether the head has a warm start that knows classes by their names."""
    knows_codes = is_classifier(parent) and parent.are_coded()
    return is_plain(parent.head_) and not knows_codes and rows.y.dtype != object


def _warmed(head: Any) -> Any:
    return deepcopy(head).set_params(warm_start=True)


def _metrics(child: Any, parent: Any, learned: TrainingRows, judged: TrainingRows, may_know: bool) -> dict[str, Any]:
    """Judge a child beside its parent, and note what it scores in training; empty if no row is held out."""
    if not len(judged):
        return {}
    training, own, parents = (
        of.score_of(rows.y, of.predictions(rows.X))
        for of, rows in ((child, learned), (child, judged), (parent, judged))
    )
    child.fit_report_ = FitReport(child.metric, training, own, None, 1)
    return {
        "metric": child.metric,
        "training": training,
        "held_out": own,
        "parent": parents,
        "parent_may_have_learned_them": may_know,
    }


def _changes(parent: Any, child: Any) -> dict[str, list[Any]]:
    """Return which classes are new and which are gone; the latter with a word."""
    if getattr(parent, "classes_", None) is None or parent.multilabel_ or child.multilabel_:
        return {"added": [], "dropped": []}
    before, now = parent.classes_.tolist(), child.classes_.tolist()
    added, dropped = [each for each in now if each not in before], [each for each in before if each not in now]
    if dropped:
        warnings.warn(f"classes without a row to learn from are dropped: {dropped}", stacklevel=3)
    return {"added": added, "dropped": dropped}
