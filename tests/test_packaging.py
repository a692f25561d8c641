"""The package list agrees with the tree, and the wheel runs in an empty environment."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import sysconfig
import tomllib
import venv
import zipfile
from collections.abc import Sequence
from importlib.metadata import Distribution, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

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


def find_required(project: Distribution) -> list[Distribution]:
    """Return the installed distributions that one needs without its extras: those that it requires, and theirs."""
    found: dict[str, Distribution] = {}
    pending = list(project.requires or ())
    while pending:
        requirement = Requirement(pending.pop())
        name = canonicalize_name(requirement.name)
        is_needed = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        if is_needed and name not in found:
            found[name] = distribution(requirement.name)
            pending += found[name].requires or ()
    return list(found.values())


def link_files(installed: Distribution, libraries: Path) -> None:
    """Make an installed distribution importable from another folder of packages, without a copy."""
    names = {file.parts[0] for file in installed.files or ()}
    for name in names - {"..", "__pycache__"}:
        if not (libraries / name).exists():
            (libraries / name).symlink_to(Path(str(installed.locate_file(name))))


def test_wheel_runs_the_demo_beside_nothing_but_what_it_requires(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("topwork-*.whl")
    venv.create(tmp_path / "empty", with_pip=False)
    binaries = tmp_path / "empty" / ("Scripts" if os.name == "nt" else "bin")
    libraries = Path(sysconfig.get_path("purelib", vars={"base": str(tmp_path / "empty")}))
    pip = [sys.executable, "-m", "pip", "--python", str(binaries / "python")]
    subprocess.run([*pip, "install", "--quiet", "--no-deps", "--no-index", str(wheel)], check=True)
    (metadata,) = libraries.glob("topwork-*.dist-info")
    for installed in find_required(Distribution.at(metadata)):
        link_files(installed, libraries)
    subprocess.run([*pip, "check"], check=True, capture_output=True)

    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
    demo = subprocess.run(
        [binaries / "topwork", "demo"], cwd=elsewhere, env=clean, capture_output=True, text=True, check=False
    )
    assert demo.returncode == 0, demo.stderr
    assert "gives the classifier's label on 100 of 100 images" in demo.stdout
    assert list(elsewhere.iterdir()) == []


NEWER = {"torch": "2.14.0", "torchvision": "0.29.0"}
"""Versions after the pinned ones, as an index will have them."""
OLDER = {"torch": "2.12.0+cpu", "torchvision": "0.27.0"}


def write_wheel(folder: Path, name: str, version: str, requirements: Sequence[str] = ()) -> Path:
    """Write a wheel that holds nothing but its requirements."""
    lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
    lines += [f"Requires-Dist: {requirement}" for requirement in requirements]
    return pack_wheel(folder, name, version, "\n".join(lines) + "\n")


def pack_wheel(folder: Path, name: str, version: str, metadata: str) -> Path:
    """Write a wheel of a metadata file alone."""
    stem = f"{re.sub('[-.]+', '_', name)}-{version}"
    wheel = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    path = folder / f"{stem}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for file, content in (("METADATA", metadata), ("WHEEL", wheel), ("RECORD", "")):
            archive.writestr(f"{stem}.dist-info/{file}", content)
    return path


def read_pins() -> dict[str, str]:
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    pins = [line.partition(";")[0].split("==") for line in lines if line and line[0] != "#"]
    return {name: version.strip() for name, version in pins}


def read_metadata(folder: Path) -> str:
    """Return the metadata of this project, as its build backend states them."""
    code = f"from setuptools import build_meta; print(build_meta.prepare_metadata_for_build_wheel({str(folder)!r}))"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True)
    (path,) = folder.glob("*/METADATA")
    return path.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of wheels: this project's, the pinned versions, and both newer and older ones of torch."""
    folder = tmp_path_factory.mktemp("index")
    pins = read_pins()
    needs_torch = {"timm": ["torch", "torchvision"], "torchvision": [f"torch=={pins['torch']}"]}
    for name, version in pins.items():
        write_wheel(folder, name, version, needs_torch.get(name, ()))
    for versions in (NEWER, OLDER):
        write_wheel(folder, "torch", versions["torch"])
        write_wheel(folder, "torchvision", versions["torchvision"], [f"torch=={versions['torch'].partition('+')[0]}"])
    pack_wheel(folder, "topwork", "0.1.0", read_metadata(tmp_path_factory.mktemp("metadata")))
    return folder


def list_installed(index: Path, tmp_path: Path, torch: str, command: str) -> dict[str, str]:
    """Return what a command of the README would install from the index beside a version of torch."""
    environment = tmp_path / "environment"
    venv.create(environment, with_pip=False)
    binaries = environment / ("Scripts" if os.name == "nt" else "bin")
    libraries = sysconfig.get_path("purelib", vars={"base": str(environment)})
    with zipfile.ZipFile(write_wheel(tmp_path, "torch", torch)) as archive:
        archive.extractall(libraries)
    _, _, *arguments = shlex.split(re.sub(r"\$\(.*\)", torch, command))
    arguments = [re.sub(r"^\.(?=\[)", "topwork", argument) for argument in arguments]
    pip = [sys.executable, "-m", "pip", "--python", str(binaries / "python"), "install", "--quiet"]
    options = ["--dry-run", "--report", "-", "--no-index", "--find-links", str(index)]
    report = subprocess.run([*pip, *options, *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    assert report.returncode == 0, report.stderr
    found = [entry["metadata"] for entry in json.loads(report.stdout)["install"]]
    return {metadata["name"]: metadata["version"] for metadata in found}


def find_commands() -> tuple[str, str]:
    """Return the commands of the README that install topwork beside torch."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    constrained, named = re.findall(r"^pip install .*\[timm.*$", readme, re.MULTILINE)
    return constrained, named


def test_installing_does_not_replace_torch(index: Path, tmp_path: Path) -> None:
    constrained, _ = find_commands()
    installed = list_installed(index, tmp_path, "2.13.0+cpu", constrained)
    assert "torch" not in installed
    assert installed["torchvision"] == read_pins()["torchvision"]
    assert {"topwork", "timm", "transformers", "onnxruntime"} <= set(installed)


def test_installing_without_constraints_would_replace_torch(index: Path, tmp_path: Path) -> None:
    installed = list_installed(index, tmp_path, "2.13.0+cpu", "pip install '.[timm,torchvision,hf]'")
    assert (installed["torch"], installed["torchvision"]) == (NEWER["torch"], NEWER["torchvision"])


def test_installing_keeps_the_torch_that_is_named(index: Path, tmp_path: Path) -> None:
    _, named = find_commands()
    installed = list_installed(index, tmp_path, OLDER["torch"], named)
    assert "torch" not in installed
    assert installed["torchvision"] == OLDER["torchvision"]


def test_every_extra_is_explained(project: dict[str, dict[str, dict[str, list[str]]]]) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    users = [extra for extra in project["project"]["optional-dependencies"] if extra not in ("dev", "bench")]
    assert [extra for extra in users if not re.search(rf"`{extra}`|[\[,]{extra}[\],]", readme)] == []
