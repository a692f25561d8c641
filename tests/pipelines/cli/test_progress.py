"""A line shows what a command does on a terminal, on standard error, and nowhere else."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

TERMINAL = {"TERM": "xterm", "COLUMNS": "80", "LINES": "24"}
CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def extract_command(images: Path, store: Path) -> list[str]:
    return [sys.executable, "-m", "topwork", "extract", str(images), "--store", str(store)]


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_bar_on_a_terminal_shows_items_speed_limit_and_time_left_in_a_line(
    tmp_path: Path, write_images: Callable[..., Path]
) -> None:
    reader, writer = os.openpty()
    command = extract_command(write_images(each=40), tmp_path / "store")
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=writer, env={**os.environ, **TERMINAL}) as process:
        os.close(writer)
        drawn = b""
        while chunk := _read(reader):
            drawn += chunk
        output = process.communicate()[0]
    os.close(reader)
    assert process.returncode == 0, drawn
    lines = re.split(r"[\r\n]+", CONTROL.sub("", drawn.decode()))
    assert any("exporting topwork:tiny" in line or "loading" in line for line in lines), lines
    full = r"extract ━+ 80/80 [0-9.]+ items/s, limit: (reading|decoding|inference|writing), 0:00:00 left"
    assert any(re.fullmatch(full, line) for line in lines), lines
    assert max(map(len, lines)) == 80
    assert output.startswith(b"80 items: 80 ok")


def _read(reader: int) -> bytes:
    try:
        return os.read(reader, 4096)
    except OSError:  # Linux: the other side has closed
        return b""


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
@pytest.mark.parametrize("option", ["--quiet", "--json"])
def test_what_is_printed_is_not_mixed_with_the_line(option: str, photos: Path, tmp_path: Path) -> None:
    reader, writer = os.openpty()
    command = [*extract_command(photos, tmp_path / "store"), option]
    with subprocess.Popen(command, stdout=writer, stderr=writer, env={**os.environ, **TERMINAL}) as process:
        os.close(writer)
        drawn = b""
        while chunk := _read(reader):
            drawn += chunk
    os.close(reader)
    assert process.returncode == 0, drawn
    last = CONTROL.sub("", re.split(rb"[\r\n]+", drawn.strip())[-1].decode())
    if option == "--quiet":
        assert drawn == b""
    else:
        assert json.loads(last)["ok"] == 24


def test_no_bar_in_a_pipe(tmp_path: Path, write_images: Callable[..., Path]) -> None:
    command = extract_command(write_images(), tmp_path / "store")
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert result.stderr == ""
