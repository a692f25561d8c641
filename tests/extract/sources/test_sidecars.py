"""Labels in files beside items, as WebDataset has them: in a folder, a tar or a zip."""

from __future__ import annotations

import io
import json
import tarfile
import zipfile
from pathlib import Path

import pytest
from topwork.errors import SourceError
from topwork.extract.sources.opening import open_source


def pack(path: Path, members: dict[str, bytes]) -> Path:
    if not path.suffix:
        for name, content in members.items():
            file = path / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
        return path
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in members.items():
                archive.writestr(name, content)
        return path
    with tarfile.open(path, "w:gz" if path.suffix == ".gz" else "w") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


@pytest.fixture(params=["a", "a.tar", "a.tar.gz", "a.zip"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return tmp_path / str(request.param)


@pytest.mark.parametrize("folder", ["", "shard/", "train/"])
def test_class_of_a_sample_is_its_label(path: Path, folder: str) -> None:
    members = {}
    for number, label in enumerate(["0", "1", "caf\u00e9"]):
        members[f"{folder}{number:04d}.cls"] = f"{label}\n".encode()
        members[f"{folder}{number:04d}.jpg"] = b"x"
    source = open_source(pack(path, members))
    assert [item.label for item in source] == ["0", "1", "café"]
    assert (len(source), source.ignored) == (3, 0)
    assert {item.split for item in source} == {"train" if folder == "train/" else None}


def test_label_in_a_json_file(path: Path) -> None:
    members = {
        "a.jpg": b"x",
        "a.json": json.dumps({"label": "ant"}).encode(),
        "b.seg.png": b"x",
        "b.json": json.dumps({"cls": 7, "text": "y"}).encode(),
        "c.jpg": b"x",
        "c.json": b"[1, 2",
    }
    assert [item.label for item in open_source(pack(path, members))] == ["ant", "7", None]


def test_folders_name_what_sidecars_do_not(path: Path) -> None:
    members = {"ants/1.jpg": b"x", "bees/2.jpg": b"x", "bees/2.cls": b"bumblebee"}
    assert [item.label for item in open_source(pack(path, members))] == ["ants", "bumblebee"]


def test_endings_in_capitals_are_those_of_sidecars(path: Path) -> None:
    members = {
        "a.JPG": b"x",
        "a.CLS": b"ant",
        "b.PNG": b"x",
        "b.JSON": b'{"label": "bee"}',
        "c.jpeg": b"x",
        "c.Cls": b"cat",
        "c.TXT": b"a caption",
    }
    source = open_source(pack(path, members))
    assert [item.label for item in source] == ["ant", "bee", "cat"]
    assert source.ignored == 1
    (text,) = open_source(path, kind="text")
    assert (text.id, text.label, text.read()) == ("c.TXT", "cat", b"a caption")


def test_class_that_is_no_text_is_an_error(path: Path) -> None:
    with pytest.raises(SourceError, match=rf"1\.cls of (archive|folder) .*{path.name}"):
        open_source(pack(path, {"1.jpg": b"x", "1.cls": b"\xff"}))


def test_folder_reads_only_sidecars_of_items(tmp_path: Path) -> None:
    folder = pack(tmp_path / "a", {"bees/1.jpg": b"x", "bees/1.json": b'{"label": "ant"}', "bees/notes.cls": b"\xff"})
    (folder / "annotations.json").mkdir()
    (item,) = open_source(folder)
    assert item.label == "ant"


def test_sidecar_that_cannot_be_read_is_an_error_that_names_it(tmp_path: Path) -> None:
    folder = pack(tmp_path / "a", {"bees/1.jpg": b"x"})
    (folder / "bees" / "1.cls").symlink_to("gone")
    with pytest.raises(SourceError, match=r"bees/1\.cls of folder .* cannot be read: .*No such file"):
        open_source(folder)


def test_remote_folder_has_the_labels_of_a_local_one(tmp_path: Path) -> None:
    fsspec = pytest.importorskip("fsspec")
    members = {"bees/1.jpg": b"x", "bees/1.json": b'{"label": ["ant", "small"]}', "bees/2.jpg": b"y", "x.cls": b"z"}
    folder = pack(tmp_path / "a", members)
    files = fsspec.filesystem("memory")
    for name, content in members.items():
        files.pipe_file(f"/sidecars/{name}", content)
    local, remote = open_source(folder), open_source("memory://sidecars/")
    assert [item.label for item in remote] == [item.label for item in local] == ["\x1fant\x1fsmall", "bees"]
    assert remote.ignored == local.ignored == 0
