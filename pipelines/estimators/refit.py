"""Train the head of a bundle again from the cache alone: with other labels, or with more rows."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone, is_classifier

from ...errors import InputError, warn_caller
from ...extract.store.feature_store import FeatureStore
from ...heads.fit_report import FitReport
from ...heads.label_formats import GivenLabels, list_some
from ...heads.metrics import compare_predictions
from ...heads.persistence import is_plain
from ...heads.targets import encode_labels
from ...identity import digest_of_file
from ..bundle.lineage import hash_ids
from ..bundle.manifest import MANIFEST
from .holdout_rule import HoldOutRule
from .item_features import compute_features, require_same_features
from .labelled_rows import LabelledRows, select_labelled_rows
from .load import load
from .training_set import TrainingSet
from .transfer_estimator import TransferEstimator


class RefitWarning(UserWarning):
    """A refitted head is not evaluated, or has lost classes of its parent."""


def refit(
    bundle: str | Path | TransferEstimator,
    store: str | Path | FeatureStore,
    labels: Any = None,
    *,
    label_column: str | None = None,
    label_separator: str | None = None,
    held_out: float | None = None,
    seed: int | None = None,
    warm: bool = True,
    train_on_all: bool = False,
    trusted: Sequence[str] = (),
) -> Any:
    """Train the head of a bundle again on the features of a store; no features are computed.

    A head with ``warm_start`` starts from the parent's solution: new classes are added to it, those that have no row
    any more are dropped, and a penalty that was chosen by cross-validation is kept. Rows without a label are left out.
    The head and its parent are evaluated on rows that neither it nor its children learn from. If the parent has learned
    from rows that are held out now, as one from ``fit`` has, the child is trained from scratch.

    Parameters
    ----------
    bundle : path, TransferClassifier or TransferRegressor
        The parent.
    store : path or FeatureStore
        Of the parent's backbone and layers.
    labels : mapping, path, table, pandas.Series with ids as its index, or sequence, optional
        By id, as :meth:`topwork.FeatureStore.set_labels` takes them, with an optional column ``split``; items that are
        not named keep the label that the store has, those that are named without a label lose it. Or one for each row,
        None for none. The store itself is not changed.
    label_column : str, optional
        Column of a table; by default ``label``, or the only one.
    label_separator : str, optional
        Text between several labels in a cell of that column, such as "|".
    held_out : float, optional
        Share of the items to evaluate on, chosen by their ids; 0 trains on all. By default as the parent's were; else
        the rows whose split is "val" or "test"; else 0.2.
    seed : int, optional
        Seed of the choice by ids.
    warm : bool
        If False, the head is trained from scratch, and chooses its penalty again.
    train_on_all : bool
        If True, the head is trained once more, on all rows that have a label, after it was evaluated; its score is that
        of the head before. The next child cannot be compared with it on the rows that were held out.
    trusted : sequence of str
        Types that the parent's head may hold beyond those that are known to be safe.

    Returns
    -------
    TransferClassifier or TransferRegressor
        Fitted. Its ``lineage_`` records what it was trained on, see
        :func:`topwork.pipelines.bundle.lineage.describe_training`, and in addition ``held_out`` (the rule and the
        number of rows ``n``), ``metrics`` (its own score and the parent's on the same rows, their ``difference`` with
        its ``standard_error``, whether the parent may have learned from these rows, and ``parent_before``, the score
        that the parent had when it was evaluated itself), ``changes`` (the numbers of rows that are new, and gone,
        since the parent; None if unknown), ``classes`` (those that are new, and those dropped), the number of rows that
        are ``unlabelled``, whether it was a ``warm`` start, and whether it was ``trained_on_all``.

    Raises
    ------
    IdentityError
        If the store's features are not those that the bundle's head was trained on.
    InputError
        If no row has a label, a label's id is not in the store, or there is nothing to learn from.
    """
    # Select the rows that have a label.
    parent, parent_digest = load_parent(bundle, trusted)
    opened = store if isinstance(store, FeatureStore) else FeatureStore.open(store)
    require_same_features(opened, parent.extractor_)
    labelled = select_labelled_rows(opened, labels, label_column, label_separator)
    rows = build_training_set(parent, opened, labelled)

    # Divide them into rows to learn from and rows to evaluate on.
    parent_rule = parent.lineage_.get("held_out")
    rule = HoldOutRule.choose(held_out, seed, parent=parent_rule, splits=labelled.splits)
    learned, evaluated = divide_rows(rule, labelled, rows, is_classification=is_classifier(parent))
    if not len(evaluated) and rule.holds_out_rows:
        warn_caller(f"{rule.explain_no_rows()}: the head is not evaluated", RefitWarning)

    # Train the child, and evaluate it and its parent.
    parent_may_know = may_have_learned(parent, rows, evaluated)
    is_warm = warm and not parent_may_know and can_start_warm(parent, learned)
    child = train_child(parent, learned, is_warm)
    metrics = {}
    if len(evaluated):
        metrics = evaluate_child(child, parent, learned=learned, evaluated=evaluated)
        metrics["parent_may_have_learned_them"] = parent_may_know
    changes = count_changes(parent, learned, rows)
    if train_on_all and len(evaluated):
        report = child.fit_report_
        child = train_child(parent, rows, is_warm)
        child.fit_report_ = report

    # Record how it was trained.
    child.lineage_ |= {
        "parent": parent_digest,
        "warm": is_warm,
        "held_out": {**rule.to_json(), "n": len(evaluated)},
        "metrics": metrics,
        "changes": changes,
        "trained_on_all": train_on_all,
        "classes": compare_classes(parent, child),
        "unlabelled": len(opened.ids) - len(rows),
    }
    return child


def load_parent(bundle: str | Path | TransferEstimator, trusted: Sequence[str]) -> tuple[TransferEstimator, str | None]:
    """Return the parent and the SHA-256 of its manifest, which an estimator that was not loaded does not have."""
    if isinstance(bundle, TransferEstimator):
        return bundle.as_frozen(), None
    return load(bundle, trusted), digest_of_file(Path(bundle) / MANIFEST)


def build_training_set(parent: TransferEstimator, store: FeatureStore, labelled: LabelledRows) -> TrainingSet:
    """Return the features and targets of the rows that have a label."""
    if not len(labelled.rows):
        raise InputError(
            f"no row of {store.path} has a label; give some with labels= (--labels), or set them with "
            "`topwork store label`"
        )
    targets = align_targets(parent, labelled)
    require_same_outputs(targets, parent)
    matrix = compute_features(parent.extractor_, store).matrix
    if len(labelled.rows) < len(matrix):
        matrix = matrix[labelled.rows]
    groups = None
    if labelled.held_out_with != labelled.ids:
        groups = np.unique(np.array(labelled.held_out_with), return_inverse=True)[1]
    names = parent.classes_.tolist() if is_classifier(parent) and targets.ndim == 2 else None
    return TrainingSet(
        matrix,
        targets,
        groups=groups,
        ids=np.array(labelled.ids, object),
        label_names=names,
        is_original=labelled.find_originals(),
    )


def align_targets(parent: TransferEstimator, labelled: LabelledRows) -> NDArray[Any]:
    """Return the targets of labelled rows, several labels in the order of the parent's.

    Raise an InputError for names of labels that the parent has not learned.
    """
    if labelled.names is None:
        return parent.as_targets(labelled.labels)
    given = GivenLabels(labelled.labels, np.ones(len(labelled.rows), bool), labelled.names)
    parent.require_own_labels(given)
    learned = parent.classes_.tolist() if is_classifier(parent) else []
    unknown = [name for name in labelled.names if name not in learned]
    if unknown and parent.n_outputs() is not None:
        raise InputError(
            f"the parent has not learned the labels {list_some(unknown)}; expected some of {list_some(learned)}. "
            "Fit a new bundle to learn others (`topwork fit`)."
        )
    return parent.as_known_targets(given)


def require_same_outputs(targets: NDArray[Any], parent: TransferEstimator) -> None:
    """Raise an InputError if there are more or fewer targets for each item than the parent has learned."""
    n_outputs = None if targets.ndim == 1 else targets.shape[1]
    if n_outputs != parent.n_outputs():
        raise InputError(
            f"labels are {_describe_outputs(n_outputs)}, but those that the parent has learned were "
            f"{_describe_outputs(parent.n_outputs())}; expected the same"
        )


def _describe_outputs(n_outputs: int | None) -> str:
    return f"{n_outputs} columns" if n_outputs else "one for each item"


def divide_rows(
    rule: HoldOutRule, labelled: LabelledRows, rows: TrainingSet, is_classification: bool
) -> tuple[TrainingSet, TrainingSet]:
    """Return the rows to learn from and, without views, those to evaluate on.

    By id, a class is never held out as a whole.
    """
    is_held_out = rule.select(labelled.held_out_with, labelled.splits)
    if rule.by == "id" and is_classification and rows.y.ndim == 1:
        codes = encode_labels(rows.y)[1]
        is_held_out &= np.isin(codes, codes[~is_held_out])
    is_evaluated = is_held_out & labelled.find_originals()
    return rows.take(np.flatnonzero(~is_held_out)), rows.take(np.flatnonzero(is_evaluated))


def may_have_learned(parent: TransferEstimator, rows: TrainingSet, evaluated: TrainingSet) -> bool:
    """Return whether the parent has learned from rows to evaluate on, or may have: under other or unknown ids."""
    if not len(evaluated):
        return False
    learned = parent.learned_
    if learned is None or rows.ids is None or evaluated.ids is None:
        return True
    if not np.isin(hash_ids(rows.ids), learned).any():
        return True
    return bool(np.isin(hash_ids(evaluated.ids), learned).any())


def can_start_warm(parent: TransferEstimator, rows: TrainingSet) -> bool:
    """Return whether the head has a warm start, and knows the classes by their labels rather than by codes."""
    knows_codes = is_classifier(parent) and parent.has_coded_labels()
    return is_plain(parent.head_) and not knows_codes and rows.y.dtype != object


def train_child(parent: TransferEstimator, rows: TrainingSet, is_warm: bool) -> Any:
    """Return a copy of the parent that is trained on rows, from the parent's solution or from scratch."""
    if not len(rows):
        raise InputError("no row is left to learn from: all that have a label are held out; lower held_out")
    child = clone(parent)
    child.set_params(cv=0)  # it is evaluated on the rows that are held out
    child.extractor_ = parent.extractor_
    child.failures_ = []
    if is_warm:
        child.train(deepcopy(parent.head_).set_params(warm_start=True), rows)
        child.head_.set_params(warm_start=parent.head_.warm_start)
        child.learned_ = None if parent.learned_ is None else np.union1d(parent.learned_, child.learned_)
    else:
        child.train(child.unfitted_head(rows.y), rows)
    return child.set_params(cv=parent.cv)


def evaluate_child(child: Any, parent: Any, learned: TrainingSet, evaluated: TrainingSet) -> dict[str, Any]:
    """Score a child and its parent on held-out rows, and set the fit report of the child."""
    predicted = child.predict_features(evaluated.X)
    predicted_by_parent = parent.predict_features(evaluated.X)
    training = child.score_predictions(learned.y, child.predict_features(learned.X))
    held_out = child.score_predictions(evaluated.y, predicted)
    difference, error = compare_predictions(
        child.metric, evaluated.y, predictions=predicted, baseline=predicted_by_parent
    )
    child.fit_report_ = FitReport(child.metric, training=training, held_out=held_out, spread=None, n_folds=1)
    return {
        "metric": child.metric,
        "training": training,
        "held_out": held_out,
        "parent": parent.score_predictions(evaluated.y, predicted_by_parent),
        "difference": difference,
        "standard_error": error,
        "parent_before": None if parent.fit_report_ is None else parent.fit_report_.held_out,
    }


def count_changes(parent: TransferEstimator, learned: TrainingSet, rows: TrainingSet) -> dict[str, int] | None:
    """Return how many rows are new to the parent, and how many of those that it learned have no label any more."""
    if parent.learned_ is None or rows.ids is None or learned.ids is None:
        return None
    known = np.isin(hash_ids(np.unique(learned.ids)), parent.learned_)
    present = np.isin(parent.learned_, hash_ids(rows.ids))
    return {"new": int((~known).sum()), "gone": int((~present).sum())}


def compare_classes(parent: Any, child: Any) -> dict[str, list[Any]]:
    """Return the classes that are new and those that are dropped; warn of the latter."""
    if not is_classifier(parent) or parent.multilabel_ or child.multilabel_:
        return {"added": [], "dropped": []}
    before = parent.classes_.tolist()
    now = child.classes_.tolist()
    added = [label for label in now if label not in before]
    dropped = [label for label in before if label not in now]
    if dropped:
        warn_caller(f"classes without a row to learn from are dropped: {dropped}", RefitWarning)
    return {"added": added, "dropped": dropped}
