"""Class-activation maps: what each place of an image contributes to a prediction (Zhou et al. 2016).

If features are the mean of a map over its places, and the head is linear, then its score is the mean of what the places
contribute, plus the intercept. Nothing is approximated (https://arxiv.org/abs/1512.04150).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import DecodeError, InputError, ParityError
from ...extract.graphs.onnx.map_output import add_map_output
from ...extract.runtime.session import open_session
from ...plotting import load_pyplot

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_DEVIATION = 0.05
"""Largest relative error of the mean of the map, against the features; those in float32 differ by 1e-6."""
MAX_LINEAR_ERROR = 1e-4
MAX_OPACITY = 0.8
"""Of the place with the largest contribution; that of others is less by their share."""


@dataclass(frozen=True)
class Explanation:
    """What each place of an image contributes to the score of a label.

    Parameters
    ----------
    label : label or None
        The label that is explained; None for a value.
    score : float
        The head's score of the label (its logit), or the value.
    intercept : float
        The part of the score that no place contributes.
    map : ndarray of float32, shape (height, width)
        What the places contribute: ``map.mean() + intercept == score``.
    image : ndarray of uint8, shape (image_height, image_width, 3)
        The image as the backbone sees it, resized and cropped; the map covers it.
    """

    label: Any
    score: float
    intercept: float
    map: NDArray[np.float32]
    image: NDArray[np.uint8]

    def plot(self, ax: Any = None) -> Any:
        """Draw the image, and over it what its places contribute: red for, blue against the label.

        Parameters
        ----------
        ax : matplotlib axes, optional
            Where to draw; a new figure by default.

        Returns
        -------
        matplotlib.axes.Axes
            With the image in grey and the map as its two pictures.

        Raises
        ------
        MissingPackageError
            If matplotlib is not installed (``pip install 'topwork[plots]'``).
        """
        pyplot = load_pyplot()
        axes = pyplot.subplots()[1] if ax is None else ax
        height, width, _ = self.image.shape
        largest = float(np.abs(self.map).max()) or 1.0
        axes.imshow(self.image.mean(axis=2), cmap="gray", vmin=0, vmax=255)
        axes.imshow(
            self.map,
            cmap="RdBu_r",
            vmin=-largest,
            vmax=largest,
            alpha=MAX_OPACITY * np.abs(self.map) / largest,
            extent=(-0.5, width - 0.5, height - 0.5, -0.5),
            interpolation="bilinear",
        )
        axes.set_axis_off()
        name = "value" if self.label is None else str(self.label)
        axes.set_title(f"{name}: {self.score:.2f}, of which {self.map.mean():.2f} from its places")
        return axes

    def to_dict(self) -> dict[str, Any]:
        """Return what is in the map, without the image, as JSON can hold it."""
        return {
            "label": self.label if isinstance(self.label, (str, int, float, type(None))) else str(self.label),
            "score": self.score,
            "intercept": self.intercept,
            "map": self.map.tolist(),
        }


def explain(estimator: Any, item: Any, label: Any = None) -> Explanation:
    """Explain the prediction of one image, by default of the label that is predicted for it."""
    extractor = estimator.extractor_
    columns = extractor.columns
    if len(columns) != 1 or columns[0].normalize:
        raise InputError(
            f"the features are {', '.join(column.name for column in columns)}"
            f"{', normalized' if columns[0].normalize else ''}; expected those of one layer, not normalized"
        )
    (source_item,) = extractor.open([item])
    try:
        prepared = extractor.preprocessor.prepare(source_item.read())
    except DecodeError as error:
        raise InputError(f"{source_item.id} cannot be read: {error}") from error
    if extractor.graph.input_spec.kind != "image":
        raise InputError("only predictions of images are explained by a map; expected an image")
    value, features = compute_map(estimator, prepared.array)
    weights, intercept, chosen = find_linear_score(estimator, features, label)
    contributions = (value * weights).sum(axis=-1)  # (height, width)
    return Explanation(
        label=chosen,
        score=float(contributions.mean() + intercept),
        intercept=float(intercept),
        map=contributions.astype(np.float32),
        image=np.asarray(prepared.array, np.uint8),
    )


def compute_map(estimator: Any, array: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    """Return the map ``(height, width, channels)`` of one prepared item, and the features ``(1, channels)``."""
    extractor = estimator.extractor_
    graph = extractor.graph
    (column,) = extractor.columns
    columns = [each.name for each in graph.metadata.columns]
    found = add_map_output(graph.path, column.name, column.pool)
    outputs = open_session(found.content, "cpu").run(extractor.preprocessor.collate([array]))
    features = outputs[columns.index(column.name)]
    value = outputs[-1]  # (1, …)
    positions = {axis % value.ndim for axis in found.positions}
    (channels,) = set(range(1, value.ndim)) - positions
    places = np.moveaxis(np.asarray(value, np.float64)[0], channels - 1, -1)
    if places.ndim == 2:
        places = arrange_tokens(places)
    mean = places.mean(axis=(0, 1))
    error = np.linalg.norm(mean - features[0]) / max(float(np.linalg.norm(features[0])), 1e-12)
    if not error <= MAX_DEVIATION:
        raise ParityError(f"the mean of the map differs from the features by {error:.1e}; expected {MAX_DEVIATION}")
    return places, features


def arrange_tokens(tokens: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return tokens ``(n_tokens, channels)`` on their square grid."""
    side = math.isqrt(len(tokens))
    if side * side != len(tokens):
        raise InputError(f"{len(tokens)} tokens do not fill a square; expected an image that is as high as wide")
    return tokens.reshape(side, side, -1)


def find_linear_score(
    estimator: Any, features: NDArray[np.float32], label: Any
) -> tuple[NDArray[np.float64], float, Any]:
    """Return the weights ``(n_features,)`` and the intercept of the score of a label, and the label.

    They are read off the head's scores of unit vectors, and must give its score of the item. Raise an InputError if the
    head is not linear, or there is no such label.
    """
    n_features = features.shape[1]
    probes = np.concatenate([np.zeros((1, n_features)), np.eye(n_features), features.astype(np.float64)])
    head: Any = estimator.head_
    if hasattr(head, "decision_function"):
        scores = np.asarray(head.decision_function(probes))
        scores = scores[:, None] if scores.ndim == 1 else scores
        index, chosen, sign = choose_output(estimator, features, label, scores.shape[1])
    elif hasattr(head, "predict_proba"):
        raise InputError(f"the head {type(head).__name__} is not linear; expected linear, logreg, ridge or lda")
    else:
        scores = np.asarray(head.predict(probes)).reshape(len(probes), -1)
        index, chosen, sign = 0, None, 1.0
    own = sign * scores[:, index]
    intercept = own[0]
    weights = own[1:-1] - intercept
    expected = float(features[0].astype(np.float64) @ weights + intercept)
    if not np.isclose(expected, own[-1], rtol=MAX_LINEAR_ERROR, atol=MAX_LINEAR_ERROR * np.abs(own).max()):
        raise InputError(f"the head {type(head).__name__} is not linear; expected linear, logreg, ridge or lda")
    return weights, float(intercept), chosen


def choose_output(estimator: Any, features: NDArray[np.float32], label: Any, n_scores: int) -> tuple[int, Any, float]:
    """Return which score is that of a label, the label, and its sign: two classes have one score."""
    classes = estimator.classes_.tolist()
    if label is None:
        predicted = estimator.head_.predict(features)[0]
        label = classes[int(predicted)] if estimator.has_coded_labels() else predicted
        label = label.item() if isinstance(label, np.generic) else label
    if label not in classes:
        raise InputError(f"label={label!r} is no class; expected one of {', '.join(map(repr, classes))}")
    index = classes.index(label)
    if n_scores == 1:
        return 0, label, 1.0 if index == 1 else -1.0
    return index, label, 1.0
