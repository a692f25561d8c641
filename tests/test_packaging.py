"""The package list agrees with the tree, and the wheel runs in an empty environment."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("extract", "heads", "models", "pipelines")


@pytest.fixture(scope="module")
def project() -> dict[str, object]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_listed_packages_are_the_tree(project: dict[str, dict[str, dict[str, object]]]) -> None:
    found = {path.parent.relative_to(ROOT).as_posix() for name in FOLDERS for path in (ROOT / name).rglob("*.py")}
    expected = {"topwork"} | {"topwork." + folder.replace("/", ".") for folder in found}
    assert set(project["tool"]["setuptools"]["packages"]) == expected  # type: ignore[call-overload]


def test_every_package_has_an_init(project: object) -> None:
    for name in FOLDERS:
        for module in (ROOT / name).rglob("*.py"):
            assert (module.parent / "__init__.py").is_file(), module


def test_versions_agree(project: dict[str, dict[str, str]]) -> None:
    import topwork

    assert project["project"]["version"] == topwork.__version__


def test_lock_pins_torch_with_its_torchvision() -> None:
    pins = dict(
        line.split("==") for line in (ROOT / "requirements.lock").read_text().splitlines() if line and line[0] != "#"
    )
    assert (pins["torch"], pins["torchvision"]) == ("2.13.0", "0.28.0")


def test_wheel_runs_the_demo_in_an_empty_environment(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("topwork-*.whl")
    venv.create(tmp_path / "empty", with_pip=True)
    binaries = tmp_path / "empty" / ("Scripts" if os.name == "nt" else "bin")
    pip = [str(binaries / "python"), "-m", "pip", "install", "--quiet", "--no-compile"]
    subprocess.run([*pip, "--constraint", str(ROOT / "requirements.lock"), str(wheel)], check=True, timeout=1200)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
    demo = subprocess.run(
        [binaries / "topwork", "demo"], cwd=elsewhere, env=clean, capture_output=True, text=True, check=False
    )
    assert demo.returncode == 0, demo.stderr
    assert "gives the classifier's label on 100 of 100 images" in demo.stdout
    assert list(elsewhere.iterdir()) == []
