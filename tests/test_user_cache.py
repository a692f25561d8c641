"""The cache folder is the user's own; what was damaged or planted in it is not used."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from topwork.errors import CacheError
from topwork.user_cache import (
    discard,
    is_sealed,
    prepare_folder,
    recall,
    remember,
    require_own,
    seal,
    user_cache_folder,
)

VALUE = {"speed": 1.5, "names": ["a", "b"], "largest": float("inf")}
needs_owners = pytest.mark.skipif(not hasattr(os, "geteuid"), reason="the system has no owners of files")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TOPWORK_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_empty_variable_counts_as_unset(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("TOPWORK_CACHE", raising=False)
    default = user_cache_folder()
    monkeypatch.setenv("TOPWORK_CACHE", "")
    assert user_cache_folder() == default != Path()


def test_remembered_value_is_recalled(cache: Path) -> None:
    remember(cache / "tuning" / "a.json", VALUE)
    assert recall(cache / "tuning" / "a.json") == VALUE
    assert recall(cache / "tuning" / "b.json") is None


@pytest.mark.parametrize("damage", ["{", "[]", "null", '{"value": 1}', "[" * 5000, ""])
def test_damaged_value_is_not_recalled(cache: Path, damage: str) -> None:
    path = cache / "tuning" / "a.json"
    remember(path, VALUE)
    path.write_text(damage)
    assert recall(path) is None


def test_changed_value_is_not_recalled(cache: Path) -> None:
    path = cache / "tuning" / "a.json"
    remember(path, VALUE)
    content = json.loads(path.read_text())
    content["value"]["speed"] = 2.5
    path.write_text(json.dumps(content))
    assert recall(path) is None


@needs_owners
def test_folders_are_private_whatever_the_umask(cache: Path) -> None:
    before = os.umask(0o002)
    try:
        remember(cache / "tuning" / "deep" / "a.json", VALUE)
    finally:
        os.umask(before)
    for folder in (cache, cache / "tuning", cache / "tuning" / "deep"):
        assert folder.stat().st_mode & 0o777 == 0o700
    assert (cache / "tuning" / "deep" / "a.json").stat().st_mode & 0o022 == 0


@needs_owners
@pytest.mark.parametrize("mode", [0o777, 0o775])
def test_folder_of_the_user_that_others_may_write_is_refused(cache: Path, mode: int) -> None:
    cache.mkdir()
    cache.chmod(mode)
    with pytest.raises(CacheError, match=str(cache)):
        prepare_folder(cache / "graphs")
    cache.chmod(0o1777)  # as /tmp: others cannot replace what is in it
    prepare_folder(cache / "graphs")
    (cache / "graphs").chmod(mode)  # as earlier versions made it
    prepare_folder(cache / "graphs")
    assert (cache / "graphs").stat().st_mode & 0o777 == 0o700


@needs_owners
@pytest.mark.parametrize("name", ["", "tuning", "tuning/a.json"])
def test_what_belongs_to_another_user_is_refused(cache: Path, name: str) -> None:
    remember(cache / "tuning" / "a.json", VALUE)
    try:
        os.chown(cache / name, 12345, -1)
    except PermissionError:
        pytest.skip("only the superuser can give a file away")
    with pytest.raises(CacheError, match="12345"):
        recall(cache / "tuning" / "a.json")
    with pytest.raises(CacheError):
        require_own(cache / name)


@needs_owners
def test_file_that_others_may_write_is_refused(cache: Path) -> None:
    path = cache / "tuning" / "a.json"
    remember(path, VALUE)
    path.chmod(0o666)
    with pytest.raises(CacheError, match="666"):
        recall(path)


def test_seal_names_its_files_and_its_entry(cache: Path) -> None:
    folder = prepare_folder(cache / "graphs" / "key")
    file, other = folder / "a", folder / "b"
    for path in (file, other):
        path.write_bytes(b"content")
    seal(folder / "seal.json", [file], "key")
    assert is_sealed(folder / "seal.json", [file], "key")
    assert not is_sealed(folder / "seal.json", [file], "another")
    assert not is_sealed(folder / "seal.json", [file, other], "key")
    file.write_bytes(b"contenT")
    assert not is_sealed(folder / "seal.json", [file], "key")


def test_discarded_entry_is_gone_and_links_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "entry").mkdir()
    (tmp_path / "kept").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "kept")
    for name in ("entry", "link", "absent"):
        discard(tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]
