"""Statements of CONTRIBUTING.md and docs/architecture.md about the code that import-linter cannot check."""

from __future__ import annotations

import ast
import functools
import re
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("models", "extract", "heads", "pipelines")
FILES = sorted(
    [path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")] + list(ROOT.glob("*.py")),
)

PACKAGE_HOMES = {
    "torch": (
        "models/",
        "extract/graphs/torch/",
        "extract/graphs/pooling.py",
        "heads/linear/",
        "heads/mlp/",
        "heads/module_training/",
        "heads/parameters.py",
        "pipelines/finetuning/network.py",
    ),
    "timm": ("models/",),
    "torchvision": ("models/",),
    "transformers": ("models/",),
    "onnx": ("models/", "extract/graphs/", "extract/precision/", "pipelines/fused/"),
    "skl2onnx": ("pipelines/fused/",),
    "onnxruntime": ("extract/graphs/", "extract/precision/", "extract/runtime/", "pipelines/doctor.py"),
    "openvino": ("extract/runtime/",),
    "skops": ("heads/persistence.py",),
    "safetensors": (
        *("heads/persistence.py", "models/"),
        *("pipelines/bundle/bundle_files.py", "pipelines/finetuning/checkpoint.py"),
    ),
    "sklearn": ("heads/", "pipelines/", "extract/extractor/extractor.py"),
    "typer": ("pipelines/cli/",),
    "rich": ("progress_display.py",),
    "matplotlib": ("plotting.py",),
}
"""The only places that import a package, other than for type checking."""

TORCH_PROGRAMS = (
    "extract/graphs/torch/upper_part.py",
    "heads/module_training/trainer.py",
    "pipelines/finetuning/network.py",
    "models/sentence_layers.py",
    "models/tiny/network.py",
    "models/tiny/train.py",
)
"""Modules that import torch when they are imported: networks, and the program that trains one."""

NEVER_AT_TOP_LEVEL = (
    "torch", "timm", "torchvision", "transformers", "onnx", "onnxscript", "skl2onnx", "onnxruntime", "openvino",
    "skops", "safetensors", "pyarrow", "tokenizers", "fsspec", "aiohttp", "pandas", "matplotlib",
)  # fmt: skip

WRITE_CALLS = {"write_bytes", "write_text", "save_file", "savez", "copyfile", "write_table", "ParquetWriter", "OSFile"}
OS_WRITE_CALLS = {"os.link", "os.rename", "os.replace"}
WRITE_MODE = re.compile(r"[wxa]b?\+?|r\+b?|rb\+")
WRITERS_ELSEWHERE = {
    "extract/jobs/ray_engine.py": "unpacks the graph into the temporary folder of a worker",
    "extract/sources/download.py": "writes into the temporary folder of a source",
    "extract/store/lock.py": "the file of a lock has no content that matters",
    "heads/persistence.py": "writes into the temporary folder of a bundle, which atomic.py moves into place",
    "models/tiny/train.py": "a program that is run by hand",
}
"""Modules that write files and do not import atomic.py, and why."""

LAZY_SIBLINGS = {
    "heads.registry": "heads import scikit-learn",
    "models.from_topwork": "the network of topwork:tiny imports torch",
    "models.sentence_folder": "the modules of sentence-transformers import torch",
    "pipelines.cli": "a command imports what it runs: the command line starts without scikit-learn and ONNX Runtime",
    "pipelines.finetuning": "what trains imports torch",
    "pipelines.fused": "converters for the heads of topwork import the heads with scikit-learn",
}
"""Modules (or packages) that import modules of topwork inside functions, and why."""


@dataclass(frozen=True)
class Import:
    """An import statement of a module."""

    module: str
    """The imported module; relative ones from the root of the repository, such as ``extract.store.log``."""
    is_own: bool
    in_function: bool


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def walk(node: ast.AST, in_function: bool = False) -> Iterator[tuple[ast.AST, bool]]:
    """Yield all nodes but those for type checking, and whether they are inside a function."""
    for child in ast.iter_child_nodes(node):
        if is_type_checking(child):
            continue
        inside = in_function or isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
        yield child, inside
        yield from walk(child, inside)


@functools.cache
def imports(path: Path) -> tuple[Import, ...]:
    """Return the imports of a module, other than for type checking."""
    package = path.relative_to(ROOT).parent.parts
    found = []
    for node, in_function in walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [Import(alias.name, is_own=False, in_function=in_function) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level:
            parents = package[: len(package) - node.level + 1]
            module = ".".join([*parents, *filter(None, [node.module])])
            found.append(Import(module, is_own=True, in_function=in_function))
        elif isinstance(node, ast.ImportFrom):
            found.append(Import(str(node.module), is_own=False, in_function=in_function))
    return tuple(found)


@pytest.mark.parametrize("package", PACKAGE_HOMES)
def test_package_is_imported_only_in_its_homes(package: str) -> None:
    homes = PACKAGE_HOMES[package]
    users = {
        name_of(path)
        for path in FILES
        if any(not each.is_own and each.module.partition(".")[0] == package for each in imports(path))
    }
    assert [user for user in sorted(users) if not user.startswith(homes)] == []
    assert [home for home in homes if not any(user.startswith(home) for user in users)] == []  # no home is unused


def test_heavy_packages_are_imported_inside_functions() -> None:
    found = [
        f"{name_of(path)}: {each.module}"
        for path in FILES
        for each in imports(path)
        if not each.in_function and each.module.partition(".")[0] in NEVER_AT_TOP_LEVEL and not each.is_own
    ]
    assert [each for each in found if not each.startswith(TORCH_PROGRAMS)] == []


def called_name(call: ast.Call) -> str:
    """Return the name of a called function, such as ``os.replace`` or ``.write_text``."""
    function = call.func
    if isinstance(function, ast.Name):
        return function.id
    if not isinstance(function, ast.Attribute):
        return ""
    is_of_module = isinstance(function.value, ast.Name) and function.value.id == "os"
    return f"os.{function.attr}" if is_of_module else f".{function.attr}"


def writes_files(tree: ast.AST) -> bool:
    """Return whether a module calls something that writes or renames a file."""
    for call in ast.walk(tree):
        if not isinstance(call, ast.Call):
            continue
        name = called_name(call)
        if name in OS_WRITE_CALLS or name.removeprefix(".") in WRITE_CALLS:
            return True
        arguments = [*call.args[:2], *(keyword.value for keyword in call.keywords if keyword.arg == "mode")]
        values = [argument.value for argument in arguments if isinstance(argument, ast.Constant)]
        has_write_mode = any(isinstance(value, str) and WRITE_MODE.fullmatch(value) for value in values)
        if name in ("open", ".open") and has_write_mode:
            return True
    return False


def test_files_are_written_through_atomic() -> None:
    found = set()
    for path in FILES:
        if writes_files(ast.parse(path.read_text(encoding="utf-8"))) and name_of(path) != "atomic.py":
            modules = [each.module for each in imports(path) if each.is_own]
            if "atomic" not in modules:
                found.add(name_of(path))
    assert found == set(WRITERS_ELSEWHERE)


def test_imports_inside_functions_have_a_reason() -> None:
    allowed = tuple(LAZY_SIBLINGS)
    found = {
        name_of(path).removesuffix(".py").replace("/", ".")
        for path in FILES
        for each in imports(path)
        if each.is_own and each.in_function
    }
    assert [module for module in sorted(found) if not module.startswith(allowed)] == []
    assert [name for name in allowed if not any(module.startswith(name) for module in found)] == []  # none is outdated


def test_errors_are_defined_in_one_module() -> None:
    found = []
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                bases = [base.id for base in node.bases if isinstance(base, ast.Name)]
                is_error = any(base.endswith(("Error", "Exception")) for base in bases)
                if is_error and name_of(path) != "errors.py":
                    found.append(f"{name_of(path)}: {node.name}")
    assert found == []


def test_only_errors_and_the_standard_library_are_below_the_packages() -> None:
    allowed = {
        "url_secrets": set(),
        "safe_text": set(),
        "errors": {"url_secrets"},
        "html_table": {"safe_text"},
        "plotting": {"errors", "safe_text"},
    }
    for name in (*allowed, "atomic", "hardware", "identity", "lazy_exports", "telemetry"):
        own = {each.module for each in imports(ROOT / f"{name}.py") if each.is_own}
        assert own <= allowed.get(name, {"errors", ""}), name
    others = {each.module.partition(".")[0] for each in imports(ROOT / "errors.py") if not each.is_own}
    assert others <= set(sys.stdlib_module_names)


def drawn_packages() -> list[str]:
    """Return the packages in the tree of docs/architecture.md, such as ``extract/store``, from top to bottom."""
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    (tree,) = re.findall(r"```text\n(.*?)```", text, re.DOTALL)
    packages: list[str] = []
    parents: list[str] = []
    for line in tree.splitlines():
        indent, name = re.match(r"( *)(\w+)/", line).groups()  # type: ignore[union-attr]
        parents[len(indent) // 2 :] = [name]
        packages.append("/".join(parents))
    return packages


def test_tree_of_the_documentation_is_the_real_one() -> None:
    real = {name_of(path.parent) for folder in FOLDERS for path in (ROOT / folder).rglob("__init__.py")}
    drawn = drawn_packages()
    assert sorted(drawn) == sorted(real)


def test_tree_of_the_documentation_has_the_order_of_the_contracts() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    checked = 0
    for contract in project["tool"]["importlinter"]["contracts"]:
        if contract["type"] != "layers":
            continue
        (container,) = contract["containers"]
        folder = container.removeprefix("topwork").replace(".", "/").removeprefix("/")
        layers = [{part.strip() for part in re.split(r"[|:]", layer)} for layer in contract["layers"]]
        places = {part: place for place, parts in enumerate(layers) for part in parts}
        drawn = [Path(package) for package in drawn_packages()]
        children = [package.name for package in drawn if package.parent.as_posix() == (folder or ".")]
        order = [places[child] for child in children if child in places]
        assert order == sorted(order), container
        checked += len(order)
    assert checked >= 12
