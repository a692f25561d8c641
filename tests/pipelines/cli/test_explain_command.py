"""``topwork explain``: the score, where it comes from, and a picture of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from .running import topwork_command, topwork_json

PHOTO = "photos/sky/6.png"


def test_score_is_the_mean_of_the_places_and_the_intercept(work: Path) -> None:
    photo = work / PHOTO
    shown = topwork_command("explain", work / "bundle", photo).stdout.splitlines()
    head, *places, legend = shown
    told = topwork_json("explain", work / "bundle", photo)
    assert head.startswith(f"{told['label']}: score {told['score']:.3f} = ")
    numbers = [float(word) for word in head.replace("=", " ").split() if word.lstrip("-").replace(".", "").isdigit()]
    assert numbers[0] == pytest.approx(numbers[1] + numbers[2], abs=2e-3)
    assert legend.startswith(f"{len(places)} x {len(places[0].split())} places; # + for, - = against")
    assert {sign for line in places for sign in line.split()} <= set("#+.-=")


@pytest.mark.parametrize("name", ["map.png", "new/map.svg"])
def test_picture_is_drawn_and_replaced(name: str, work: Path, tmp_path: Path, pyplot: object) -> None:
    photo, out = work / PHOTO, tmp_path / name
    for _ in range(2):
        assert f"wrote {out}" in topwork_command("explain", work / "bundle", photo, "--out", out).stdout
    if out.suffix == ".png":
        with Image.open(out) as picture:
            assert min(picture.size) > 100
    else:
        assert "<svg" in out.read_text(encoding="utf-8")
    assert [path.name for path in out.parent.iterdir() if path.is_file()] == [out.name]


def test_label_is_chosen(work: Path) -> None:
    photo = work / PHOTO
    scores = {
        label: topwork_json("explain", work / "bundle", photo, "--label", label)["score"]
        for label in topwork_json("show", work / "bundle")["classes"]
    }
    assert topwork_json("explain", work / "bundle", photo)["label"] == max(scores, key=scores.__getitem__)


def test_places_that_no_picture_can_take_are_refused(work: Path, tmp_path: Path) -> None:
    photo = work / PHOTO
    (tmp_path / "folder.png").mkdir()
    for out, message in (("folder.png", "is a folder; expected the name of a file"), ("map.txt", "ends in .png")):
        refused = topwork_command("explain", work / "bundle", photo, "--out", tmp_path / out, code=2)
        assert message in " ".join(refused.stderr.split())
