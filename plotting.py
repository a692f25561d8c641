"""matplotlib, which is an extra: loaded when something is drawn, and given names from outside as plain text."""

from __future__ import annotations

from typing import Any

from .errors import MissingPackageError
from .safe_text import escape_line

FIGURE_SIZE = (6.0, 4.0)
"""Width and height of a new figure in inches."""
MAX_NAME_LENGTH = 30
"""Characters of a name that are drawn."""


def load_pyplot() -> Any:
    """Return the module ``matplotlib.pyplot``; raise a MissingPackageError if matplotlib is not installed."""
    try:
        from matplotlib import pyplot
    except ImportError as error:
        raise MissingPackageError(
            "a plot needs the package matplotlib, which is not installed: pip install 'topwork[plots]'"
        ) from error
    return pyplot


def open_axes(ax: Any = None, size: tuple[float, float] = FIGURE_SIZE) -> Any:
    """Return the axes that were given, or those of a new figure of a size in inches."""
    pyplot = load_pyplot()
    if ax is not None:
        return ax
    _, axes = pyplot.subplots(figsize=size, layout="constrained")
    return axes


def draw_name(name: Any) -> str:
    r"""Return a name as text that matplotlib draws as it is: of one line, not too long, and no formula.

    Examples
    --------
    >>> print(draw_name("$x^2$"))
    \$x^2\$
    """
    text = escape_line(str(name))
    if len(text) > MAX_NAME_LENGTH:
        text = text[: MAX_NAME_LENGTH - 1] + "…"
    return text.replace("$", r"\$")
