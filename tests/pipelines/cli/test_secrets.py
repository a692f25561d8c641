"""Secrets of URLs, of a source and of its rows, do not get into bundles, predictions or what commands print."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pyarrow as pa
import topwork
from pyarrow import parquet

from ...hostile_server import HostileServer, give
from .running import topwork_command

SECRET = b"hush"


def name_item(number: int) -> str:
    """Return an id as users copy it: the signed URL that a file came from."""
    return f"https://me:hush@a.org/{number}.png?X-Amz-Signature=hush&v={number}"


def assert_silent(*commands: tuple[object, ...]) -> None:
    """Run commands, none of which may print the secret."""
    for command in commands:
        result = topwork_command(*command)
        assert SECRET.decode() not in result.stdout + result.stderr


def assert_clean(folder: Path) -> None:
    """No file below a folder may hold the secret, in its name or content."""
    for path in folder.rglob("*"):
        assert SECRET.decode() not in path.name
        assert path.is_dir() or SECRET not in path.read_bytes(), path


def test_secrets_of_a_table_at_a_url_stay_out_of_the_bundle(
    hostile_server: HostileServer, paths: list[Path], tmp_path: Path
) -> None:
    stream = io.StringIO()
    writer = csv.writer(stream)
    writer.writerow(["path", "label", "id", "site"])
    for number, path in enumerate(paths):
        writer.writerow([f"{number}.png", path.parent.name, name_item(number), name_item(number % 4)])
        hostile_server.answers[f"/{number}.png"] = give(path.read_bytes())
    writer.writerow(["missing.png", "sky", name_item(99), name_item(0)])
    hostile_server.answers["/t.csv"] = give(stream.getvalue().encode())
    source = f"http://me:hush@{hostile_server.host}/t.csv?token=hush&v=1"
    out = tmp_path / "out"
    columns = ("--id-column", "id", "--group-column", "site")
    assert_silent(
        ("fit", source, *columns, "--head", "centroid", "--out", out / "first", "--store", out / "store"),
        ("refit", out / "first", out / "store", "--out", out / "second", "--json"),
        ("evaluate", out / "second", source, "--id-column", "id", "--json"),
        ("predict", out / "second", source, "--id-column", "id", "--out", out / "p.csv"),
        ("store", "failures", out / "store"),
    )
    assert_clean(out)
    assert "hush" not in repr(topwork.load(out / "second").lineage_)


def test_secrets_of_paths_beside_contents_stay_out(paths: list[Path], tmp_path: Path) -> None:
    pairs = [{"bytes": path.read_bytes(), "path": name_item(number)} for number, path in enumerate(paths)]
    labels = [path.parent.name for path in paths]
    parquet.write_table(pa.table({"image": pairs, "label": labels}), tmp_path / "t.parquet")
    out = tmp_path / "out"
    assert_silent(
        ("fit", tmp_path / "t.parquet", "--head", "centroid", "--out", out / "bundle", "--store", out / "store"),
        ("predict", out / "bundle", tmp_path / "t.parquet", "--out", out / "p.jsonl"),
    )
    assert_clean(out)
    assert topwork.FeatureStore.open(out / "store").ids[1] == "https://a.org/1.png?v=1"
