"""The picture of a search for a penalty."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_iris
from sklearn.exceptions import NotFittedError
from topwork import LinearProbeCV
from topwork.errors import InputError, MissingPackageError
from topwork.heads.linear.path_display import PenaltyPathDisplay

X, Y = load_iris(return_X_y=True)


@pytest.fixture(scope="module")
def probe() -> LinearProbeCV:
    return LinearProbeCV(Cs=6, cv=3, race=False).fit(X, Y)


def test_curve_is_that_of_the_results(probe: LinearProbeCV, pyplot: Any) -> None:
    display = probe.plot_path()
    results = probe.cv_results_
    x, y = display.line_.get_data()
    np.testing.assert_array_equal(x, results["C"])
    np.testing.assert_allclose(y, results["mean_score"])
    assert display.chosen_.get_offsets()[0, 0] == probe.C_
    (outline,) = display.band_.get_paths()
    errors = results["score"].std(axis=1, ddof=1) / np.sqrt(3)
    assert outline.vertices[:, 1].max() == pytest.approx((results["mean_score"] + errors).max())
    assert display.ax_.get_xscale() == "log"
    assert display.ax_.get_ylabel() == "accuracy on held-out rows"


def test_given_axes_are_used(probe: LinearProbeCV, pyplot: Any) -> None:
    figure, axes = pyplot.subplots()
    display = PenaltyPathDisplay.from_estimator(probe, ax=axes)
    assert display.ax_ is axes
    assert display.figure_ is figure


def test_penalties_that_were_not_fitted_are_said(probe: LinearProbeCV, pyplot: Any) -> None:
    scores = probe.cv_results_["score"].copy()
    scores[4:] = np.nan
    display = PenaltyPathDisplay(Cs=probe.cv_results_["C"], scores=scores, chosen_C=probe.C_, score_name="accuracy")
    display.plot()
    assert len(display.line_.get_xdata()) == 4
    assert "2 weaker penalties not fitted" in display.ax_.get_legend_handles_labels()[1]


def test_score_is_named(pyplot: Any) -> None:
    display = LinearProbeCV(Cs=3, cv=3, scoring="balanced_accuracy").fit(X, Y).plot_path()
    assert display.ax_.get_ylabel() == "balanced_accuracy on held-out rows"


def test_what_cannot_be_drawn_is_an_error(probe: LinearProbeCV, pyplot: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NotFittedError):
        LinearProbeCV().plot_path()
    with pytest.raises(InputError, match="no penalties were compared"):
        LinearProbeCV(Cs=1).fit(X, Y).plot_path()
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingPackageError, match=r"topwork\[plots\]"):
        probe.plot_path()
