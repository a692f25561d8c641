"""matplotlib: named where it is missing, and given names that it draws as they are."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from topwork.errors import MissingPackageError
from topwork.plotting import FIGURE_SIZE, MAX_NAME_LENGTH, draw_name, open_axes


def test_missing_package_is_named_with_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingPackageError, match=r"topwork\[plots\]"):
        open_axes()


def test_given_axes_are_used_and_others_have_a_size(pyplot: Any) -> None:
    _, axes = pyplot.subplots()
    assert open_axes(axes) is axes
    assert tuple(open_axes().figure.get_size_inches()) == FIGURE_SIZE
    assert tuple(open_axes(None, (7.0, 4.0)).figure.get_size_inches()) == (7.0, 4.0)


@pytest.mark.parametrize("name", ["$x^2$", r"$\nonsense{$", r"cost: \$5", "a$b", "plain"])
def test_names_are_drawn_as_they_are(name: str, pyplot: Any) -> None:
    figure = pyplot.figure()
    text = figure.text(0.1, 0.5, draw_name(name))
    figure.canvas.draw()  # a formula that cannot be read is an error of matplotlib
    assert text._preprocess_math(text.get_text()) == (name, False)


def test_names_are_of_one_line_and_not_too_long() -> None:
    assert draw_name("a\nb\u202ec") == "a\\nb\\u202ec"
    assert len(draw_name("x" * 100)) == MAX_NAME_LENGTH
