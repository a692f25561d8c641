"""A command that a signal ends says what is kept; its exit code is that of the signal, and it can be run again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from topwork.pipelines.cli.interruption import Interruption, catch_signals

from .running import topwork_json

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows has other signals")
CTRL_C_EXIT_CODE = 130
N_IMAGES = 20000


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", pytest.param("SIGHUP", marks=pytest.mark.coverage)])
def test_ended_extraction_says_how_to_go_on(name: str, tmp_path: Path, graph_cache: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (N_IMAGES, 16, 16, 3), dtype=np.uint8)
    np.save(tmp_path / "images.npy", images)
    command = ["extract", str(tmp_path / "images.npy"), "--store", str(tmp_path / "store"), "--layer", "layer1"]
    number = getattr(signal, name)
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    options["preexec_fn"] = lambda: signal.signal(number, signal.SIG_DFL)  # a shell ignores some in the background
    with subprocess.Popen([sys.executable, "-m", "topwork", *command], **options) as process:
        deadline = time.monotonic() + 120
        while len(list((tmp_path / "store").glob("parts/p*"))) < 2 and time.monotonic() < deadline:
            time.sleep(0.01)
        process.send_signal(number)
        out, err = process.communicate(timeout=120)
    assert process.returncode == (CTRL_C_EXIT_CODE if number == signal.SIGINT else -number), (out, err)
    assert f"topwork: ended by {name}; the features that were computed are in the store" in err
    assert "Traceback" not in err
    kept = topwork_json("store", "info", tmp_path / "store")["items"]
    ledger = topwork_json(*command)
    assert 0 < kept < ledger["items"] == N_IMAGES
    assert ledger["computed"] == N_IMAGES - kept


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["fit", "a", "--store", "s"], "no result was written; the features that were computed are in the store"),
        (["refit", "a"], "no result was written: run the same command again"),
        (["predict", "a", "b"], "the rows that were written are kept, beside --out: run the same command to go on"),
        (["store", "retry", "a"], "the features that were computed are in the store: run the same command to go on"),
    ],
)
def test_what_is_kept_depends_on_the_command(arguments: list[str], expected: str) -> None:
    interruption = Interruption()
    interruption.number = signal.SIGTERM
    assert expected in interruption.describe(arguments)


def test_ignored_signals_stay_ignored_and_others_come_back() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    try:
        with catch_signals() as interruption:
            os.kill(os.getpid(), signal.SIGHUP)
            assert interruption.number == 0
        assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers
    finally:
        signal.signal(signal.SIGHUP, before)
