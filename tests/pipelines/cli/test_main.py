"""Exit codes, and what is printed on which stream, over all commands."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import onnxruntime
import pytest

from .running import BROKEN_ID, topwork_command


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ("", 0, ""),
        ("--on-error raise", 1, "roof/1a.png failed"),
        ("--backbone nowhere:net", 2, "nowhere"),
        ("--provider cuda", 3, "'cuda'"),
    ],
)
def test_process_exits_with_the_code_and_prints_on_the_right_stream(
    arguments: str, code: int, message: str, work: Path, tmp_path: Path
) -> None:
    if code == 3 and "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("needs a machine without the provider cuda")
    command = [sys.executable, "-m", "topwork", "extract", work / "photos", "--store", tmp_path / "s", "--json"]
    result = subprocess.run([*command, *arguments.split()], capture_output=True, text=True, check=False)
    assert result.returncode == code
    if code:
        assert result.stderr.startswith("topwork: ")
        assert message in result.stderr
        assert (result.stdout, "Traceback" in result.stderr) == ("", False)
    else:
        assert json.loads(result.stdout)["ok"] == 24
        assert result.stderr == ""


@pytest.mark.parametrize("command", ["extract", "fit", "evaluate", "predict"])
@pytest.mark.parametrize("policy", ["raise", "limit:1%"])
def test_policy_that_stops_exits_with_1(command: str, policy: str, work: Path, tmp_path: Path) -> None:
    arguments = {
        "extract": ["--store", tmp_path / "s"],
        "fit": ["--out", tmp_path / "b"],
        "predict": ["--out", tmp_path / "out.csv"],
    }.get(command, [])
    bundle = [work / "bundle"] if command in ("evaluate", "predict") else []
    result = topwork_command(command, *bundle, work / "photos", *arguments, "--on-error", policy, code=1)
    assert result.stderr.startswith(f"topwork: {BROKEN_ID} failed: ")
    assert result.stdout == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("layers nowhere:net", "nowhere"),
        ("layers timm:no_such_network", "no_such_network"),
        ("extract {work}/photos --store {tmp}/s --backbone nowhere:net", "nowhere"),
        ("extract {work}/photos --store {tmp}/s --layer layer9", "layer9"),
        ("extract {work}/nothing --store {tmp}/s", "{work}/nothing"),
        ("extract {work}/photos --store {work}/store --layer layer2", "layer2"),
        ("extract {work}/photos --store {work}/store --mean 0.1", "mean"),
        ("extract {work}/photos --store {work}/photos", "{work}/photos"),
        ("extract {work}/photos --store {tmp}/s --weights {work}/none.pth", "none.pth"),
        ("extract {work}/photos --store {tmp}/s --on-error perhaps", "perhaps"),
        ("extract {work}/photos --store {tmp}/s --provider abacus", "abacus"),
        ("extract {work}/photos", "--store"),
        ("extract {work}/nothing --store {tmp}/s --plan", "{work}/nothing"),
        ("extract {work}/photos --store {work}/photos --plan", "{work}/photos"),
        ("extract {work}/photos --store {work}/photos.tar --plan", "{work}/photos.tar"),
        ("extract {work}/photos --store {work}/photos.tar/s --plan", "{work}/photos.tar"),
        ("extract {work}/photos --store {work}/store --layer layer2 --plan", "layer2"),
        ("extract {work}/photos --plan", "--store"),
        ("store info {work}/photos", "{work}/photos"),
        (
            "fit {work}/photos --out {tmp}/b --head nothing",
            "linear, auto, logreg, ridge, lda, knn, centroid, svm, gp, hgb, mlp",
        ),
        ("fit {work}/photos/sky --out {tmp}/b", "8 of 8 items"),
        ("fit {work}/store --out {tmp}/b --layer layer2", "layer2"),
        ("fit {work}/store --out {tmp}/b --store {tmp}/s", "--store"),
        ("fit {work}/store --out {tmp}/b --weights random", "--weights"),
        ("fit {work}/photos --out {work}/photos", "{work}/photos"),
        ("evaluate {work}/photos {work}/photos", "{work}/photos"),
        ("evaluate {work}/bundle {work}/photos/sky", "label"),
        ("predict {work}/bundle {work}/photos --out {tmp}/out.txt", "{tmp}/out.txt"),
        ("export {work}/nothing {tmp}/model.onnx", "{work}/nothing"),
        ("perhaps", "perhaps"),
    ],
)
def test_bad_usage_exits_with_2_and_names_the_value_on_standard_error(
    arguments: str, message: str, work: Path, tmp_path: Path
) -> None:
    result = topwork_command(*arguments.format(work=work, tmp=tmp_path).split(), code=2)
    assert message.format(work=work, tmp=tmp_path) in result.stderr
    assert result.stdout == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("extract {table} --store {tmp}/s", "'path'"),
        ("extract {table} --store {tmp}/s --backbone {bert} --text-column nothing", "'nothing'"),
        ("extract {table} --store {tmp}/s --backbone {bert} --size 32", "size"),
        ("extract {photos} --store {tmp}/s --backbone {bert}", "{photos}"),
        ("extract {photos} --store {tmp}/s --text-column text", "{photos}"),
        ("extract {table} --store {tmp}/s --backbone {bert} --pool flatten", "mean, max, gem, cls"),
        ("extract {photos} --store {tmp}/s --max-length 3", "max_length"),
        ("fit {table} --out {tmp}/b --backbone {bert} --label-column nothing", "'nothing'"),
        ("extract {photos} --store {tmp}/s --backbone hf:{tmp}/nothing", "{tmp}/nothing"),
    ],
)
def test_bad_usage_with_text_exits_with_2(
    arguments: str, message: str, photos: Path, text_folder: Path, text_table: Path, tmp_path: Path
) -> None:
    values = {"photos": photos, "bert": f"hf:{text_folder}", "table": text_table, "tmp": tmp_path}
    result = topwork_command(*arguments.format(**values).split(), code=2)
    assert message.format(**values) in result.stderr
    assert result.stdout == ""
    assert list(tmp_path.iterdir()) == []


def test_missing_provider_exits_with_3(work: Path, tmp_path: Path) -> None:
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("needs a machine without the provider cuda")
    for command in (
        ["extract", work / "photos", "--store", tmp_path / "s"],
        ["extract", work / "photos", "--store", tmp_path / "s", "--plan"],
        ["evaluate", work / "bundle", work / "photos"],
    ):
        result = topwork_command(*command, "--provider", "cuda", code=3)
        assert "'cuda'" in result.stderr
        assert "onnxruntime-gpu" in result.stderr


def test_unwritable_path_is_bad_input(work: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    for command in (
        ("predict", work / "bundle", work / "photos", "--out", tmp_path / "file" / "x.csv"),
        ("export", work / "bundle", tmp_path),
        ("extract", work / "photos", "--store", tmp_path / "file" / "store"),
    ):
        assert topwork_command(*command, code=2).stderr.startswith("topwork: ")


@pytest.mark.parametrize("arguments", [["heads"], ["heads", "--json"], ["--help"], ["store", "info", "{store}"]])
def test_closed_pipe_ends_the_process_as_sigpipe_does(arguments: list[str], work: Path) -> None:
    words = [word.format(store=work / "store") for word in arguments]
    with subprocess.Popen(
        [sys.executable, "-m", "topwork", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        errors = process.stderr.read()
    assert (process.returncode, errors) == (141, b"")
