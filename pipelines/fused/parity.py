"""Evidence that a fused graph is the classifier: its head alone near the classes' borders, then the whole."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import ParityError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ...extract.preprocess.preprocessor import Feed
    from ...extract.runtime.session import Session
    from ..estimators.transfer_estimator import TransferEstimator

BATCHES = (1, 2, 5, 32)
TOLERANCE = 1e-4
"""Largest difference of a probability between the fused graph and backbone and head run apart, both in float32."""
SCALES = (0.1, 0.5, 1.0, 2.0, -1.0)
BISECTIONS = 12
NUDGE = 1e-3
STEP = 0.05


def require_parity(classifier: TransferEstimator, body: Session, fused: Session) -> None:
    """Compare a fused graph with backbone and head run apart, on random inputs.

    Parameters
    ----------
    classifier : TransferClassifier or TransferRegressor
    body : Session
        The backbone's graph.
    fused : Session
        Backbone and head.

    Raises
    ------
    ParityError
        If a probability or a clear label differs.
    """
    for batch in BATCHES:
        for feed in _feeds(classifier, batch):
            _compare(classifier, np.concatenate(body.run(feed), axis=1), fused.run(feed))


def require_head_parity(classifier: TransferEstimator, head: Session, body: Session) -> None:
    """Compare the converted head with scikit-learn's on features between the classes.

    Far from the borders probabilities are 0 or 1 whatever the conversion did to them.

    Raises
    ------
    ParityError
        If a probability or a clear label differs.
    """
    features = np.concatenate(body.run(_feeds(classifier, BATCHES[-1])[-1]), axis=1)
    rows = np.concatenate([scale * features for scale in SCALES]).astype(np.float32)
    if hasattr(classifier, "classes_"):
        rows = np.concatenate([rows, *_towards_borders(classifier.head_, rows)])
    _compare(classifier, rows, head.run({"features": rows}))


def _feeds(classifier: TransferEstimator, batch: int) -> list[Feed]:
    return list(classifier.extractor_.preprocessor.random_feeds(batch, np.random.default_rng(batch)).values())


def _towards_borders(head: Any, rows: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    """Bisect between rows of different classes, and return the points on the way."""
    labels = head.predict(rows)
    partners = np.array([np.flatnonzero(labels != label)[:1].tolist() or [-1] for label in labels])[:, 0]
    near, far = rows[partners >= 0], rows[partners[partners >= 0]]
    points = []
    for _ in range(BISECTIONS if len(near) else 0):
        middle = ((near + far) / 2).astype(np.float32)
        points.append(middle)
        same = (head.predict(middle) == head.predict(near))[:, None]
        near, far = np.where(same, middle, near), np.where(same, far, middle)
    return points


def _compare(classifier: TransferEstimator, features: NDArray[np.float32], found: list[NDArray[Any]]) -> None:
    head = classifier.head_
    if not hasattr(classifier, "classes_"):
        _compare_values(head, features, np.asarray(found[0]))
        return
    steady, clear = _is_steady(head, features)
    if hasattr(head, "predict_proba"):
        differences = np.abs(head.predict_proba(features) - found[1])[steady]
        if not (differences <= TOLERANCE).all():
            raise ParityError(
                f"probabilities of the fused graph differ by {differences.max():.2g} from backbone and head run apart; "
                f"expected at most {TOLERANCE:.0e}. Nothing was written."
            )
    wrong = (np.asarray(found[0]).astype(classifier.classes_.dtype) != head.predict(features)) & clear
    if wrong.any():
        raise ParityError(
            f"{wrong.sum()} of {len(wrong)} labels of the fused graph differ from backbone and head run "
            "apart. Nothing was written."
        )


def _compare_values(head: Any, features: NDArray[np.float32], found: NDArray[Any]) -> None:
    """Compare values, relative to how much they vary; those that hang on a rounding are left out."""
    expected = np.asarray(head.predict(features)).reshape(found.shape)
    size = max(float(np.abs(expected).max()), 1e-12)
    differences, steady = np.abs(expected - found) / size, np.ones(found.shape, bool)
    for sign in (-1, 1):
        nudged = np.asarray(head.predict(features + sign * _nudge(features))).reshape(found.shape)
        steady &= np.abs(nudged - expected) / size < STEP
    if not (differences[steady] <= TOLERANCE).all():
        raise ParityError(
            f"values of the fused graph differ by {differences[steady].max():.2g} of the largest from backbone and "
            f"head run apart; expected at most {TOLERANCE:.0e}. Nothing was written."
        )


def _nudge(features: NDArray[np.float32]) -> NDArray[np.float32]:
    nudge = NUDGE * np.abs(features).mean() * np.random.default_rng(0).choice([-1, 1], features.shape)
    small: NDArray[np.float32] = nudge.astype(np.float32)
    return small


def _is_steady(head: Any, features: NDArray[np.float32]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Tell whose probabilities, and whose labels, do not hang on a rounding.

    Where the features' last digits decide which neighbours vote, there is no right answer to compare with.
    """
    nudged = [features + sign * _nudge(features) for sign in (-1, 1)]
    label, clear = head.predict(features), np.ones(len(features), bool)
    for rows in nudged:
        clear &= head.predict(rows) == label
    if not hasattr(head, "predict_proba"):
        return clear, clear
    best, steady = head.predict_proba(features), np.ones(len(features), bool)
    for rows in nudged:
        steady &= np.abs(head.predict_proba(rows) - best).max(axis=1) < STEP
    ordered = np.sort(best, axis=1)
    return steady, clear & (ordered[:, -1] - ordered[:, -2] > 2 * TOLERANCE)
