"""Learning curves: the score of a head by the number of labels, and whether more of them would help."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from ..errors import InputError
from ..plotting import open_axes

if TYPE_CHECKING:
    from sklearn.model_selection import LearningCurveDisplay

Array = NDArray[Any]

DOUBLINGS_OF_SLOPE = 2
"""The slope is measured over the last doublings of the rows, as curves grow flatter."""
DOUBLINGS_OF_POWER_LAW = 3
"""The power law of the error is fitted to the last doublings of the rows, as small samples do not follow it."""
MIN_GAIN_PER_DOUBLING = 0.01
"""Growth of the score below which twice the labels are not worth their price."""
CONFIDENCE = 0.95
BAR_WIDTH = 40
BAND_OPACITY = 0.2


@dataclass(frozen=True)
class FewShotPoint:
    """Accuracy of a head that was trained on a number of labels for each class.

    Parameters
    ----------
    shots : int or "all"
        Labels for each class; a class that has fewer gives all of its rows.
    n_rows : float
        Rows that were trained on, averaged over draws.
    scores, training_scores : ndarray of shape (n_draws,)
        Accuracy on held-out rows, and on those that were trained on.
    """

    shots: int | str
    n_rows: float
    scores: Array
    training_scores: Array

    def __str__(self) -> str:
        return (
            f"{self.shots:>6} labels a class ({self.n_rows:>7,.0f} rows): "
            f"{self.scores.mean():.3f} ± {self.scores.std():.3f}, in training {self.training_scores.mean():.3f}"
        )


@dataclass(frozen=True)
class Slope:
    """Growth of a score when the rows double, at the end of a learning curve.

    Parameters
    ----------
    gain : float
        Mean over draws.
    low, high : float
        Ends of the 95 % confidence interval; infinite where it is not known.
    first_rows, last_rows : float
        Rows between which the slope was measured.
    """

    gain: float
    low: float
    high: float
    first_rows: float
    last_rows: float


@dataclass(frozen=True)
class LearningCurve(Sequence[FewShotPoint]):
    """A sequence of points, and what follows from them.

    Parameters
    ----------
    points : tuple of FewShotPoint
    held_out_ratio : float
        Held-out rows for each row that is trained on.
    """

    points: tuple[FewShotPoint, ...]
    held_out_ratio: float

    def __len__(self) -> int:
        return len(self.points)

    def __iter__(self) -> Iterator[FewShotPoint]:
        return iter(self.points)

    @overload
    def __getitem__(self, index: int) -> FewShotPoint: ...

    @overload
    def __getitem__(self, index: slice) -> tuple[FewShotPoint, ...]: ...

    def __getitem__(self, index: int | slice) -> FewShotPoint | tuple[FewShotPoint, ...]:
        return self.points[index]

    @cached_property
    def slope(self) -> Slope | None:
        """The growth of the score with each doubling of the rows, None if all points have the same number of rows.

        It is a least-squares line through the last two doublings. Draws share rows, so the variance of their mean is
        that of Nadeau and Bengio 2003 (https://doi.org/10.1023/A:1024068626366).
        """
        points = select_last_doublings(self.points)
        doublings = np.log2([point.n_rows for point in points])
        centred = doublings - doublings.mean()
        if not centred.any():
            return None
        scores = np.stack([point.scores for point in points])  # (n_points, n_draws)
        slopes = centred @ scores / (centred @ centred)  # (n_draws,)
        margin = self._find_margin(slopes)
        gain = float(slopes.mean())
        n_rows = [point.n_rows for point in points]
        return Slope(gain, low=gain - margin, high=gain + margin, first_rows=min(n_rows), last_rows=max(n_rows))

    def predict_gain(self, n_rows: float) -> Slope | None:
        """Predict what twice as many rows would add to the score.

        Error rates fall about as a power of the number of rows (Cortes et al. 1993, Hestness et al. 2017,
        https://arxiv.org/abs/1712.00409), so the gain of a doubling shrinks, and that of the next one is less than
        :attr:`slope`. The power is a least-squares line through the logarithms of the last three doublings.

        Parameters
        ----------
        n_rows : float
            Rows that there are; more than the curve has, as it holds some out, or is of a sample.

        Returns
        -------
        Slope or None
            From `n_rows` to twice as many; None if all points have the same number of rows. The interval is that of
            :attr:`slope`, from a power law for each draw.

        Examples
        --------
        >>> points = [FewShotPoint("all", rows, np.array([1 - rows**-0.5]), np.ones(1)) for rows in (25.0, 100.0)]
        >>> gain = LearningCurve(tuple(points), held_out_ratio=1 / 3).predict_gain(400)
        >>> round(gain.gain, 4)  # 1 / 20 - 1 / sqrt(800)
        0.0146
        """
        points = select_last_doublings(self.points, DOUBLINGS_OF_POWER_LAW)
        rows = np.array([point.n_rows for point in points])
        if rows.min() == rows.max():
            return None
        half_a_row = 0.5 / (self.held_out_ratio * rows.max())
        errors = 1 - np.stack([point.scores for point in points])  # (n_points, n_draws)
        gains = predict_gains_by_power_law(rows, np.maximum(errors, half_a_row), n_rows)
        mean_errors = np.maximum(errors.mean(axis=1, keepdims=True), half_a_row)
        gain = float(predict_gains_by_power_law(rows, mean_errors, n_rows)[0])
        margin = self._find_margin(gains)
        return Slope(gain, low=gain - margin, high=gain + margin, first_rows=n_rows, last_rows=2 * n_rows)

    def _find_margin(self, values: Array) -> float:
        """Return half of the confidence interval of the mean of one value for each draw."""
        n_draws = len(values)
        if n_draws < 2:
            return float("inf")
        standard_error = np.sqrt((1 / n_draws + self.held_out_ratio) * values.var(ddof=1))
        return float(stdtrit(n_draws - 1, (1 + CONFIDENCE) / 2) * standard_error)

    @property
    def more_labels_help(self) -> bool | None:
        """Whether the score grows by more than one point with twice the labels; None if that is not certain."""
        if self.slope is None:
            return None
        if self.slope.low > MIN_GAIN_PER_DOUBLING:
            return True
        if self.slope.high < MIN_GAIN_PER_DOUBLING:
            return False
        return None

    def explain(self) -> str:
        """Return one sentence on whether more labels would help."""
        if self.slope is None:
            return "Whether more labels would help is not known: all points have the same number of rows."
        verdict = {
            True: "More labels would help",
            False: "More labels would hardly help",
            None: "It is not certain whether more labels would help",
        }[self.more_labels_help]
        slope = self.slope
        interval = ""
        if np.isfinite(slope.low):
            interval = f" (95 % interval {100 * slope.low:.1f} to {100 * slope.high:.1f})"
        return (
            f"{verdict}: from {slope.first_rows:,.0f} to {slope.last_rows:,.0f} rows, each doubling added "
            f"{100 * slope.gain:.1f} points of accuracy{interval}."
        )

    def draw(self) -> str:
        """Return a chart of text: a line for each point, whose bar is the mean score."""
        lines = []
        for point in self.points:
            mean = float(point.scores.mean())
            bar = "█" * max(0, round(mean * BAR_WIDTH))
            lines.append(f"{point.shots!s:>6} {point.n_rows:>8,.0f} rows {bar:<{BAR_WIDTH}} {mean:.3f}")
        return "\n".join(lines)

    def plot(self, ax: Any = None) -> LearningCurveDisplay:
        """Draw the scores over the number of rows.

        Of points with the same number of rows one is drawn.

        Parameters
        ----------
        ax : matplotlib axes, optional
            Where to draw; a new figure by default.

        Returns
        -------
        sklearn.model_selection.LearningCurveDisplay
            With ``train_sizes``, ``train_scores`` and ``test_scores``, each of a row for each number of rows and a
            column for each draw; and what was drawn: ``ax_`` and ``figure_``.

        Raises
        ------
        InputError
            If there are not two points with different numbers of rows.
        MissingPackageError
            If matplotlib is not installed (``pip install 'topwork[plots]'``).
        """
        from sklearn.model_selection import LearningCurveDisplay

        point_of_size = {point.n_rows: point for point in reversed(self.points)}
        points = [point_of_size[n_rows] for n_rows in sorted(point_of_size)]
        if len(points) < 2:
            raise InputError(f"a curve of {len(points)} numbers of rows; expected two or more to draw: add shots")
        display = LearningCurveDisplay(
            train_sizes=np.array([point.n_rows for point in points]),
            train_scores=np.stack([point.training_scores for point in points]),
            test_scores=np.stack([point.scores for point in points]),
            score_name="accuracy",
        )
        return display.plot(ax=open_axes(ax), fill_between_kw={"alpha": BAND_OPACITY, "linewidth": 0})

    def to_frame(self) -> Any:
        """Return the points as a pandas table: shots, n_rows, score, spread, training_score."""
        import pandas  # type: ignore[import-untyped]

        return pandas.DataFrame(self.to_dict()["points"])

    def to_dict(self) -> dict[str, Any]:
        """Return the points, the slope and what follows, as JSON can hold them; an infinite margin is None."""
        points = [
            {
                "shots": point.shots,
                "n_rows": point.n_rows,
                "score": float(point.scores.mean()),
                "spread": float(point.scores.std()),
                "training_score": float(point.training_scores.mean()),
            }
            for point in self.points
        ]
        slope = None
        if self.slope is not None:
            slope = {name: value if np.isfinite(value) else None for name, value in asdict(self.slope).items()}
        return {
            "points": points,
            "slope": slope,
            "more_labels_help": self.more_labels_help,
            "explanation": self.explain(),
        }

    def __str__(self) -> str:
        return "\n".join([*map(str, self.points), self.explain()])


def predict_gains_by_power_law(rows: Array, errors: Array, n_rows: float) -> Array:
    """Return by how much each column of error rates ``(n_points, n_draws)`` falls from some rows to twice as many."""
    logs = np.log(rows)
    centred = logs - logs.mean()
    log_errors = np.log(errors)
    powers = centred @ log_errors / (centred @ centred)  # (n_draws,)
    expected = np.exp(log_errors.mean(axis=0) + powers * (np.log(n_rows) - logs.mean()))
    gains: Array = expected * (1 - 2.0**powers)
    return gains


def select_last_doublings(points: Sequence[FewShotPoint], n_doublings: int = DOUBLINGS_OF_SLOPE) -> list[FewShotPoint]:
    """Return the points of the last doublings of the rows, at least the last two that differ in rows."""
    ordered = sorted(points, key=lambda point: point.n_rows)
    sizes = sorted({point.n_rows for point in points})
    lowest = sizes[-1] / 2**n_doublings
    if len(sizes) > 1:
        lowest = min(lowest, sizes[-2])
    return [point for point in ordered if point.n_rows >= lowest]
