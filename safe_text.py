"""Text from outside on a terminal, page or picture: what would move the cursor, hide or reorder it is escaped."""

from __future__ import annotations

import re

CONTROLS = r"\x00-\x08\x0b-\x1f\x7f-\x9f"
"""Control characters without tab and newline, such as those that begin a terminal's commands (ISO/IEC 6429)."""
BIDI_MARKS = r"\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"
"""Characters that change the direction of text (Unicode Standard Annex 9)."""
INVISIBLE = r"\u2028\u2029\ufeff\U000e0000-\U000e007f"
"""Separators of lines, the byte order mark, and tags."""
SURROGATES = r"\ud800-\udfff"
"""Halves of characters, which cannot be written."""
UNSAFE = re.compile(f"[{CONTROLS}{BIDI_MARKS}{INVISIBLE}{SURROGATES}]")
LINE_BREAKS = re.compile(r"[\n\t]")


def escape_text(text: str) -> str:
    r"""Return text of several lines with everything escaped that a terminal would obey.

    Examples
    --------
    >>> print(escape_text("a\x1b[2Jb"))
    a\x1b[2Jb
    """
    return UNSAFE.sub(escape_character, text)


def escape_line(text: str) -> str:
    r"""Return a name, label or reason as text of one line, with everything escaped that a terminal would obey.

    Examples
    --------
    >>> print(escape_line("cat\nok"))
    cat\nok
    """
    return LINE_BREAKS.sub(escape_character, escape_text(text))


def escape_character(found: re.Match[str]) -> str:
    """Return a character as Python writes it in source code."""
    return found[0].encode("unicode_escape").decode("ascii")
