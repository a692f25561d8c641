"""What is shown of steps and items, and who shows it."""

from __future__ import annotations

import io
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from topwork import Extractor, FeatureStore, LayerProbe, TransferClassifier, extract_features
from topwork.progress import Progress, report_progress, report_step, watch_progress
from topwork.progress_display import Pace, ProgressDisplay, format_rate, hide_progress, is_in_notebook, show_progress


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def use_terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """Make standard error a terminal of 80 columns; pytest would undo this at the end of a fixture."""
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "xterm")
    return stream


def test_steps_and_items_are_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = use_terminal(monkeypatch)
    with show_progress("fit"):
        wait_until_drawn(terminal, "starting")
        report_step("exporting topwork:tiny")
        wait_until_drawn(terminal, "exporting topwork:tiny")
        report_progress(Progress(3, 8, 3, "decoding"))
        wait_until_drawn(terminal, "3/8")
        hide_progress()
        assert "limit: decoding" in terminal.getvalue()


def wait_until_drawn(terminal: Terminal, text: str) -> None:
    for _ in range(200):
        if text in terminal.getvalue():
            return
        time.sleep(0.05)
    raise AssertionError(f"{text!r} was not drawn: {terminal.getvalue()!r}")


def test_nothing_is_drawn_over_a_question_or_output_until_there_is_news(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = use_terminal(monkeypatch)
    with show_progress("clean", delay=0.05):
        hide_progress()
        time.sleep(0.5)
        assert terminal.getvalue() == ""
        report_step("removing")
        wait_until_drawn(terminal, "removing")


def test_short_work_draws_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = use_terminal(monkeypatch)
    with show_progress("fit", delay=60):
        report_step("loading")
    assert terminal.getvalue() == ""


def test_nothing_is_drawn_where_nobody_looks(capsys: pytest.CaptureFixture[str]) -> None:
    with show_progress("fit"):
        report_step("loading")
        report_progress(Progress(1, 2, 1, "reading"))
    assert capsys.readouterr().err == ""


def test_inner_block_leaves_the_outer_one_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    use_terminal(monkeypatch)
    titles: list[str] = []
    monkeypatch.setattr(ProgressDisplay, "__init__", remember_title(titles))
    with show_progress("outer"), show_progress("inner"):
        pass
    assert titles == ["outer"]


def remember_title(titles: list[str]) -> Callable[..., None]:
    original = ProgressDisplay.__init__

    def remember(self: ProgressDisplay, title: str, delay: float = 0.0) -> None:
        titles.append(title)
        original(self, title, delay)

    return remember


def test_progress_true_shows_every_run(
    write_images: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_terminal(monkeypatch)
    titles: list[str] = []
    monkeypatch.setattr(ProgressDisplay, "__init__", remember_title(titles))
    extractor = Extractor("topwork:tiny", layer="layer1", progress=True).fit(None)
    assert titles == ["prepare"]
    extractor.transform([np.zeros((8, 8, 3), np.uint8)])
    store = FeatureStore.create(tmp_path / "store", extractor)
    extract_features(write_images(each=12), store, progress=True)
    TransferClassifier.from_store(store, progress=True, cv=0).fit(store)
    LayerProbe(progress=True, baselines=False).fit(store)
    assert titles == ["prepare", "compute", "extract", "fit", "probe"]
    quiet = Extractor("topwork:tiny", layer="layer1").fit(None)
    quiet.transform([np.zeros((8, 8, 3), np.uint8)])
    assert len(titles) == 5


def test_steps_reach_the_listener_of_the_block_only() -> None:
    steps: list[str] = []
    with watch_progress(lambda progress: None, steps.append):
        report_step("loading")
    report_step("exporting")
    with watch_progress(lambda progress: None):
        report_step("exporting")
    assert steps == ["loading"]


def test_pace_is_that_of_items_computed_in_this_run() -> None:
    pace = Pace(0.0)
    assert pace.describe(Progress(0, 1000), 5.0) == ""
    assert pace.describe(Progress(900, 1000), 6.0) == ""
    assert pace.describe(Progress(910, 1000, 10, "decoding"), 8.0) == "5.0 items/s, limit: decoding, 0:00:18 left"
    assert pace.describe(Progress(1000, 1000, 100, "inference"), 26.0) == "5.0 items/s, limit: inference, 0:00:00 left"


def test_rates_are_for_people() -> None:
    assert [format_rate(rate) for rate in (0.25, 3.21, 1126.4)] == ["0.2 items/s", "3.2 items/s", "1126 items/s"]


def test_notebook_shows_one_line_that_is_replaced() -> None:
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    source = """
from topwork.progress import report_step
from topwork.progress_display import show_progress
import time

with show_progress("fit"):
    time.sleep(0.2)
    report_step("training the head")
    time.sleep(0.2)
    print("done")
"""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)])
    nbclient.NotebookClient(notebook, timeout=60, kernel_name="python3").execute()
    outputs = notebook.cells[0].outputs
    shown = [output["data"]["text/plain"] for output in outputs if output.output_type == "display_data"]
    assert shown == [""]  # one line, which is empty in the end
    assert [output.text for output in outputs if output.output_type == "stream"] == ["done\n"]


def test_process_that_only_knows_notebooks_is_none() -> None:
    pytest.importorskip("ipykernel.kernelapp")
    assert not is_in_notebook()
