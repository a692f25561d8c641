"""Read HTML as a browser does: which elements there are, and what text they show."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser

HOSTILE = "<img src=x onerror=alert(1)>"
"""A name that is harmless as text, and a script as HTML."""
HOSTILE_DIRECTION = "gnp\u202egpj.exe"
"""A name whose end a mark of direction reverses."""

VOID = ("br", "input", "img", "link", "meta")
"""Elements without an end."""


@dataclass
class ReadHtml(HTMLParser):
    """The names of the elements, their attributes, and the texts of a piece of HTML."""

    html: str
    tags: list[str] = field(default_factory=list)
    attributes: list[str] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.feed(self.html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [name for name, _ in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open and "script" not in self.open:
            self.texts.append(data)

    @property
    def text(self) -> str:
        """All texts, in lines."""
        return "\n".join(self.texts)


def check_harmless(html: str) -> ReadHtml:
    """Check that hostile names have become neither elements nor directions; return what was read."""
    read = ReadHtml(html)
    assert "img" not in read.tags
    assert "onerror" not in read.attributes
    assert "\u202e" not in html
    return read
