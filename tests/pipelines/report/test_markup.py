"""Whatever text is given, an element holds it and nothing else."""

from __future__ import annotations

from html.parser import HTMLParser

from hypothesis import example, given
from hypothesis import strategies as st
from topwork.pipelines.report.markup import Markup, element, escape, join, name_from_outside, table


class Texts(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, object]] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, attrs))

    def handle_data(self, data: str) -> None:
        self.found.append(("text", data))


@given(st.text(st.characters(categories=["L", "N", "P", "S", "Zs"]), min_size=1))
@example("</script><script>alert(1)</script>")
@example("\"' onmouseover='alert(1)")
@example("&lt;img src=x onerror=alert(1)&gt;")
def test_text_is_only_text(text: str) -> None:
    parsed = Texts(element("p", text, title=text))
    assert parsed.found[0] == ("p", [("title", text)])
    assert "".join(str(value) for _, value in parsed.found[1:]) == text


@given(st.text())
def test_escaped_text_can_be_written_and_hides_nothing(text: str) -> None:
    escaped = escape(text)
    escaped.encode("utf-8")
    assert not set(escaped) & set('\x00\x1b\u202e\u2066\u200f\u2028\ufeff\ud800<>"')


def test_invisible_characters_are_shown_and_emoji_stay() -> None:
    assert escape("a\u202eb\n\ud800") == r"a\u202eb\n\ud800"
    assert escape("\U0001f469\u200d\U0001f52c ü 語 شمس") == "\U0001f469\u200d\U0001f52c ü 語 شمس"


def test_only_markup_is_inserted_as_it_is() -> None:
    assert join("<", Markup("<br>")) == "&lt;<br>"
    assert element("td", f"{element('b')}") == "<td>&lt;b&gt;&lt;/b&gt;</td>"  # text that was markup is text
    assert element("a", 3, class_="x", aria_label=None, data_name='"') == '<a class="x" data-name="&quot;">3</a>'
    assert element("br") == "<br>"
    assert name_from_outside("<i>") == "<bdi>&lt;i&gt;</bdi>"
    assert "<td>&lt;b&gt;</td>" in table(["a"], [["<b>"]])
