"""Elements of HTML and SVG; every text that is not markup itself is escaped."""

from __future__ import annotations

import html
import unicodedata

VOID_ELEMENTS = ("br", "meta")
INVISIBLE_CATEGORIES = ("Cc", "Cf", "Cs", "Zl", "Zp")
"""Unicode's control and format characters (those that change the direction of text too), surrogates, separators."""
JOINERS = "\u200c\u200d"
"""Format characters that scripts and emoji need; they hide and reorder nothing."""


class Markup(str):
    """Text of HTML that is inserted as it is; made of constants, and by the functions of this module."""

    __slots__ = ()


def element(name: str, /, *children: object, **attributes: object) -> Markup:
    """Return an element; children and values of attributes are escaped, unless a child is markup.

    An underscore in the name of an attribute stands for a hyphen, a last one for nothing (``class_``); attributes
    whose value is None are left out.

    Examples
    --------
    >>> print(element("p", "a < b", class_="note"))
    <p class="note">a &lt; b</p>
    """
    texts = [f"<{name}"]
    for key, value in attributes.items():
        if value is not None:
            spelling = key.rstrip("_").replace("_", "-")
            texts.append(f' {spelling}="{escape(str(value))}"')
    texts.append(">")
    if name in VOID_ELEMENTS:
        return Markup("".join(texts))
    texts += [as_markup(child) for child in children]
    texts.append(f"</{name}>")
    return Markup("".join(texts))


def join(*parts: object) -> Markup:
    """Return parts one after the other; those that are no markup are escaped."""
    return Markup("".join(as_markup(part) for part in parts))


def as_markup(part: object) -> Markup:
    """Return markup as it is, and anything else as escaped text."""
    return part if isinstance(part, Markup) else Markup(escape(str(part)))


def escape(text: str) -> str:
    r"""Return text for HTML; characters that nobody sees, or that reorder others, are written as in Python's source.

    Examples
    --------
    >>> print(escape("<b>\u202e"))
    &lt;b&gt;\u202e
    """
    if not text.isprintable():
        text = "".join(make_visible(character) for character in text)
    return html.escape(text)


def make_visible(character: str) -> str:
    """Return a character, or how Python writes it if it is invisible."""
    is_invisible = unicodedata.category(character) in INVISIBLE_CATEGORIES and character not in JOINERS
    return character.encode("unicode_escape").decode("ascii") if is_invisible else character


def name_from_outside(text: object, class_: str | None = None) -> Markup:
    """Return an id, label or reason, whose direction of writing does not change what stands beside it."""
    return element("bdi", text, class_=class_)


def section(name: str, heading: object, *parts: object) -> Markup:
    """Return a section of the page, which links lead to by its name."""
    return element("section", element("h2", heading), *parts, id=name)


def table(header: list[object], rows: list[list[object]], class_: str | None = None) -> Markup:
    """Return a table that scrolls by itself where the page is too narrow for it."""
    head = element("tr", *(element("th", cell, scope="col") for cell in header))
    body = [element("tr", *(element("td", cell) for cell in row)) for row in rows]
    whole = element("table", element("thead", head), element("tbody", *body), class_=class_)
    return element("div", whole, class_="scroll")
