"""Items as the page shows them: a thumbnail or snippet, the id, and what is told of the item."""

from __future__ import annotations

from collections.abc import Sequence

from .markup import Markup, element, name_from_outside
from .previews import THUMBNAIL_PIXELS, Previews

BOX = f"0 0 {THUMBNAIL_PIXELS} {THUMBNAIL_PIXELS}"


class ItemCards:
    """Cards for items; every thumbnail is on the page once, and shown wherever its item is."""

    def __init__(self, previews: Previews) -> None:
        self.previews = previews
        self._names = {item_id: f"thumbnail-{number}" for number, item_id in enumerate(previews.thumbnails)}

    def name_thumbnail(self, item_id: str) -> str | None:
        """Return the name of the element that shows an item; None if there is none."""
        return self._names.get(item_id)

    def draw_all(self) -> Markup:
        """Return the images of all thumbnails, which others refer to."""
        images = []
        for item_id, content in self.previews.thumbnails.items():
            image = element(
                "image",
                id=self._names[item_id],
                href=f"data:image/jpeg;base64,{content}",
                width=THUMBNAIL_PIXELS,
                height=THUMBNAIL_PIXELS,
            )
            images.append(image)
        return element("svg", element("defs", *images), class_="store-of-thumbnails", aria_hidden="true")

    def draw_thumbnail(self, item_id: str) -> Markup:
        """Return the thumbnail of an item; nothing if it has none."""
        name = self.name_thumbnail(item_id)
        if name is None:
            return Markup()
        use = element("use", href=f"#{name}")
        return element("svg", use, class_="thumbnail", viewBox=BOX, role="img", aria_label=item_id)

    def make_card(self, item_id: str, *notes: object) -> Markup:
        """Return an item of a list; each note is a line below it."""
        parts: list[object] = [self.draw_thumbnail(item_id)]
        snippet = self.previews.snippets.get(item_id)
        if snippet is not None:
            parts.append(name_from_outside(snippet, class_="snippet"))
        parts.append(name_from_outside(item_id, class_="id"))
        parts += [element("div", note, class_="soft") for note in notes]
        return element("li", *parts)

    def make_list(self, cards: Sequence[Markup]) -> Markup:
        """Return cards beside each other, or below each other where these are texts."""
        class_ = "items texts" if self.previews.snippets else "items"
        return element("ul", *cards, class_=class_)
