"""The picture of a search for a penalty: scores of held-out rows by its inverse strength."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted

from ...errors import InputError
from ...plotting import draw_name, open_axes
from ..metrics import compute_standard_error

Array = NDArray[Any]

BAND_OPACITY = 0.2
CHOSEN_COLOUR = "#c2410c"


class PenaltyPathDisplay:
    """Scores of held-out rows by the inverse strength of the penalty.

    Create it with :meth:`from_estimator` or :meth:`topwork.LinearProbeCV.plot_path`.

    Parameters
    ----------
    Cs : ndarray of shape (n_penalties,)
        Inverse strengths, ascending.
    scores : ndarray of shape (n_penalties, n_folds)
        Scores of held-out rows; NaN where a penalty was not fitted.
    chosen_C : float
        The one that was chosen.
    score_name : str

    Attributes
    ----------
    ax_ : matplotlib axes
        With the curve.
    figure_ : matplotlib figure
        The figure of the axes.
    line_ : matplotlib artist
        The mean scores.
    band_ : matplotlib artist
        One standard error of the mean over folds above and below.
    chosen_ : matplotlib artist
        The ring around the chosen penalty.
    """

    def __init__(self, *, Cs: Array, scores: Array, chosen_C: float, score_name: str) -> None:
        self.Cs = Cs
        self.scores = scores
        self.chosen_C = chosen_C
        self.score_name = score_name

    @classmethod
    def from_estimator(cls, estimator: Any, *, ax: Any = None) -> PenaltyPathDisplay:
        """Draw the search of a fitted probe; see :meth:`topwork.LinearProbeCV.plot_path`."""
        check_is_fitted(estimator, "C_")
        results = estimator.cv_results_
        if not results:
            raise InputError(
                "no penalties were compared, as there is one only or no row could be held out; expected several Cs, "
                "and classes of two rows or more"
            )
        is_judged = ~np.isnan(results["score"]).all(axis=0)
        display = cls(
            Cs=results["C"],
            scores=results["score"][:, is_judged],
            chosen_C=estimator.C_,
            score_name=name_scoring(estimator._find_scoring()),
        )
        return display.plot(ax=ax)

    def plot(self, ax: Any = None) -> PenaltyPathDisplay:
        """Draw the curve.

        Parameters
        ----------
        ax : matplotlib axes, optional
            Where to draw; a new figure by default.

        Returns
        -------
        PenaltyPathDisplay
            Itself, with ``ax_`` and ``figure_``.
        """
        axes = open_axes(ax)
        self.ax_ = axes
        self.figure_ = axes.figure
        is_fitted = ~np.isnan(self.scores).all(axis=1)
        Cs = self.Cs[is_fitted]
        scores = self.scores[is_fitted]
        means = scores.mean(axis=1)
        errors = compute_standard_error(scores)
        (self.line_,) = axes.plot(Cs, means, marker="o", label=f"mean of {scores.shape[1]} folds")
        self.band_ = axes.fill_between(
            Cs, means - errors, means + errors, alpha=BAND_OPACITY, linewidth=0, label="one standard error"
        )
        is_chosen = Cs == self.chosen_C
        self.chosen_ = axes.scatter(
            Cs[is_chosen],
            means[is_chosen],
            s=160,
            facecolors="none",
            edgecolors=CHOSEN_COLOUR,
            linewidths=2,
            zorder=3,
            label=f"chosen: C = {self.chosen_C:.2g}",
        )
        if not is_fitted.all():
            label = f"{(~is_fitted).sum()} weaker penalties not fitted"
            axes.axvspan(Cs[-1], self.Cs[-1], color="grey", alpha=0.1, linewidth=0, label=label)
        axes.set_xscale("log")
        axes.set_xlabel("C, the inverse strength of the penalty")
        axes.set_ylabel(f"{draw_name(self.score_name)} on held-out rows")
        axes.legend(loc="best", fontsize="small")
        return self


def name_scoring(scoring: Any) -> str:
    """Return the name of a scorer: as scikit-learn has it, or of the function."""
    return scoring if isinstance(scoring, str) else str(getattr(scoring, "__name__", "score"))
