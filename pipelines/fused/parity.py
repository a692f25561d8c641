"""Comparison of a fused graph with the pipeline: its head near the boundaries between classes, then the whole graph."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import ParityError
from ...extract.preprocess.by_kind import preprocessor_for
from ...heads.auto_head import find_chosen
from ...heads.label_formats import stack_label_probabilities
from .tied_rows import approach_boundaries, make_tied_rows

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ...extract.graphs.cut import Column
    from ...extract.graphs.exported_graph import ExportedGraph
    from ...extract.preprocess.preprocessor import Feed
    from ...extract.runtime.session import Session
    from ...heads.familiarity import Familiarity

BATCH_SIZES = (1, 2, 5, 32)
MAX_DIFFERENCE = 1e-4
"""Largest difference of a probability between the fused graph and backbone and head run separately, in float32."""
FAMILIARITY_SCALES = (0.0, 0.5, 1.0, 1.2, 1.5, 2.0, 10.0)
"""Factors of the deviations from the mean: rows between those that are known, and farther and farther away."""
FEATURE_SCALES = (0.1, 0.5, 1.0, 2.0, -1.0)
ROWS_AT_ONCE = 64
"""Number of rows of a batch: what a head computes for them stays in the cache of a processor."""
RELATIVE_NUDGE = 1e-3
"""Size of a change of the features, relative to their mean absolute value, that rounding might cause."""
MAX_STEADY_CHANGE = 0.05
"""Largest change of a probability by a nudge for which the probability is compared."""


@dataclass(frozen=True)
class FittedPipeline:
    """The parts of a fused graph, with which it is also compared.

    `columns` are those that the head was fitted on, in the order of its features; `classes`, an array ``(n_classes,)``,
    is None for a regressor, and names the labels if each row has several; below the probability `abstain_below` a
    classifier predicts no label; `familiarity` tells which features are familiar, if that is known.
    """

    graph: ExportedGraph
    columns: tuple[Column, ...]
    head: Any
    classes: NDArray[Any] | None = None
    abstain_below: float | None = None
    is_multilabel: bool = False
    familiarity: Familiarity | None = None

    def __post_init__(self) -> None:
        """Take the head that a head which chooses itself has chosen."""
        object.__setattr__(self, "head", find_chosen(self.head))

    @property
    def n_features(self) -> int:
        """Number of features that the head expects."""
        return sum(column.width for column in self.columns)

    def random_feeds(self, batch_size: int) -> list[Feed]:
        """Return batches of seeded random inputs of the graph, one of each kind."""
        preprocessor = preprocessor_for(self.graph.input_spec)
        return list(preprocessor.random_feeds(batch_size, np.random.default_rng(batch_size)).values())


def require_parity(pipeline: FittedPipeline, body: Session, fused: Session) -> None:
    """Compare a fused graph with backbone (`body`) and head run separately, on random inputs.

    Raise a ParityError if a probability or a label differs.
    """
    for batch_size in BATCH_SIZES:
        for feed in pipeline.random_feeds(batch_size):
            features = np.concatenate(body.run(feed), axis=1)
            compare_with_head(pipeline, features, fused.run(feed))


def compare_with_head(
    pipeline: FittedPipeline,
    features: NDArray[np.float32],
    outputs: list[NDArray[Any]],
    tolerance: float = MAX_DIFFERENCE,
) -> None:
    """Raise a ParityError if all outputs of a fused graph differ from what head and familiarity say of features."""
    if pipeline.familiarity is not None:
        compare_familiarity(pipeline.familiarity, features, outputs[-1])
        outputs = outputs[:-1]
    compare_outputs(pipeline, features, outputs, tolerance=tolerance)


def require_familiarity_parity(known: Familiarity, session: Session) -> None:
    """Compare a graph that tells which features are familiar with :meth:`Familiarity.are_familiar`.

    They are rows that it knows, moved away from the mean, and some that are not finite. Raise a ParityError if an
    answer differs.
    """
    rows = known.rows[:: max(1, len(known.rows) // ROWS_AT_ONCE)].astype(np.float64)
    moved = [scale * rows * known.scale + known.mean for scale in FAMILIARITY_SCALES]
    others = np.tile(known.mean, (2, 1))
    others[0, 0] = np.nan
    others[1, 0] = np.inf
    features = np.concatenate([*moved, others]).astype(np.float32)
    compare_familiarity(known, features, session.run({"features": features})[0])


def compare_familiarity(known: Familiarity, features: NDArray[np.float32], found: NDArray[np.bool_]) -> None:
    """Raise a ParityError if features are called familiar that are not; rows at the limit itself are left out."""
    measured = known.measure(features)
    is_clear = np.abs(measured - known.limit) > RELATIVE_NUDGE * max(1.0, abs(known.limit))
    is_wrong = (found != (measured <= known.limit)) & is_clear
    if is_wrong.any():
        raise ParityError(
            f"{is_wrong.sum()} of {len(features)} rows are familiar to the graph alone or to the bundle alone; "
            "expected none. Nothing was written."
        )


def require_head_parity(pipeline: FittedPipeline, head: Session, body: Session) -> None:
    """Compare the converted head with scikit-learn's on features between the classes.

    Far from the boundaries probabilities are 0 or 1 even if the conversion is wrong. Raise a ParityError if a
    probability or a label differs.
    """
    feed = pipeline.random_feeds(BATCH_SIZES[-1])[-1]
    features = np.concatenate(body.run(feed), axis=1)
    rows = np.concatenate([scale * features for scale in FEATURE_SCALES]).astype(np.float32)
    if pipeline.classes is not None:
        rows = np.concatenate([rows, *approach_boundaries(pipeline.head, rows)])
    rows = np.concatenate([rows, make_tied_rows(pipeline.head, pipeline.n_features)])
    starts = range(0, len(rows), ROWS_AT_ONCE)
    parts = [head.run({"features": rows[start : start + ROWS_AT_ONCE]}) for start in starts]
    compare_outputs(pipeline, rows, [np.concatenate(outputs) for outputs in zip(*parts, strict=True)])


def compare_outputs(
    pipeline: FittedPipeline,
    features: NDArray[np.float32],
    outputs: list[NDArray[Any]],
    tolerance: float = MAX_DIFFERENCE,
) -> None:
    """Raise a ParityError if outputs of a graph differ from what the head predicts for features."""
    if pipeline.classes is None:
        compare_values(pipeline.head, features, np.asarray(outputs[0]), tolerance=tolerance)
        return
    if len(outputs) > 1:
        compare_probabilities(pipeline.head, features, outputs[1], tolerance=tolerance)
    labels = np.asarray(outputs[0])
    if not pipeline.is_multilabel:
        labels = labels.astype(pipeline.classes.dtype)
    compare_labels(pipeline.head, features, labels)


def compare_values(head: Any, features: NDArray[np.float32], found: NDArray[Any], *, tolerance: float) -> None:
    """Compare values, relative to the largest one; those that a nudge changes are left out."""
    largest = max(float(np.abs(head.predict(features)).max()), 1e-12)

    def predict(rows: NDArray[np.float32]) -> NDArray[Any]:
        return np.asarray(head.predict(rows)).reshape(found.shape) / largest

    expected = predict(features)
    is_steady = find_steady(predict, features, expected)
    differences = np.abs(expected - found / largest)[is_steady]
    if not (differences <= tolerance).all():
        raise ParityError(
            f"values of the fused graph differ by {differences.max():.2g} of the largest from backbone and "
            f"head run separately; expected at most {tolerance:.0e}. Nothing was written."
        )


def compare_probabilities(head: Any, features: NDArray[np.float32], found: NDArray[Any], *, tolerance: float) -> None:
    """Compare probabilities; those that a nudge changes are left out.

    Where the last digits of the features decide which neighbours vote, there is no right answer to compare with.
    """

    def predict(rows: NDArray[np.float32]) -> NDArray[Any]:
        return stack_label_probabilities(head.predict_proba(rows), head)

    expected = predict(features)
    is_steady = find_steady(predict, features, expected).all(axis=1)
    differences = np.abs(expected - found)[is_steady]
    if not (differences <= tolerance).all():
        raise ParityError(
            f"probabilities of the fused graph differ by {differences.max():.2g} from backbone and head run "
            f"separately; expected at most {tolerance:.0e}. Nothing was written."
        )


def compare_labels(head: Any, features: NDArray[np.float32], found: NDArray[Any]) -> None:
    """Compare the labels of all rows, those of ties as well.

    The graph decides in float64, scikit-learn in float32 for some heads. Where their rounding alone decides, the label
    must be what scikit-learn's ``predict`` of the head returns for the same features as float64. Of more rows that are
    equally near, the nearest neighbours must be those that scikit-learn finds in one thread: in several it depends on
    their number.
    """
    is_wrong = find_different_rows(found, head.predict(features))
    for predict in (predict_in_double, predict_in_one_thread):
        if is_wrong.any():
            is_wrong[is_wrong] = find_different_rows(found[is_wrong], predict(head, features[is_wrong]))
    if is_wrong.any():
        raise ParityError(
            f"{is_wrong.sum()} of {len(is_wrong)} labels of the fused graph differ from backbone and head run "
            "separately; expected none. Where classes tie, or rounding decides between them, another head may do. "
            "Nothing was written."
        )


def find_different_rows(found: NDArray[Any], expected: NDArray[Any]) -> NDArray[np.bool_]:
    """Return a mask of the rows that differ, in any of several labels."""
    is_different: NDArray[np.bool_] = (found != expected).reshape(len(found), -1).any(axis=1)
    return is_different


def predict_in_double(head: Any, features: NDArray[np.float32]) -> NDArray[Any]:
    """Return the labels of a head whose last step is given float64; the steps before it compute in float32."""
    last = head
    if hasattr(head, "steps") and len(head.steps) > 1:
        features = head[:-1].transform(features)
        last = head.steps[-1][1]
    labels: NDArray[Any] = last.predict(features.astype(np.float64))
    return labels


def predict_in_one_thread(head: Any, features: NDArray[np.float32]) -> NDArray[Any]:
    """Return the labels of a head that computes in one thread."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):
        labels: NDArray[Any] = head.predict(features)
    return labels


def find_steady(
    predict: Callable[[NDArray[np.float32]], NDArray[Any]], features: NDArray[np.float32], expected: NDArray[Any]
) -> NDArray[np.bool_]:
    """Return a mask of the expected predictions that a nudge of the features changes little."""
    changes = [np.abs(predict(nudged) - expected) for nudged in _nudge(features)]
    is_steady: NDArray[np.bool_] = np.max(changes, axis=0) < MAX_STEADY_CHANGE
    return is_steady


def _nudge(features: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    """Return the features moved a little into a random direction, and into the opposite one."""
    signs = np.random.default_rng(0).choice([-1, 1], features.shape)
    nudge: NDArray[np.float32] = (RELATIVE_NUDGE * np.abs(features).mean() * signs).astype(np.float32)
    return [features - nudge, features + nudge]
