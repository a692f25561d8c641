"""Ids of items: text that can be stored."""

from __future__ import annotations

import os

from topwork.extract.sources.identifiers import storable_text


def test_any_file_name_becomes_text_that_can_be_stored() -> None:
    assert storable_text("Grüße 蚂蚁.jpg") == "Grüße 蚂蚁.jpg"
    assert storable_text(os.fsdecode(b"caf\xe9.jpg")).encode() == rb"caf\xe9.jpg"
