"""The public surface: what there is, that it is documented, and that importing it costs nothing."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest
import topwork
from numpydoc.validate import validate

PUBLIC = [
    "Advice",
    "AudioSpec",
    "Backbone",
    "BackboneSpec",
    "Column",
    "Extractor",
    "FeatureStore",
    "Finding",
    "Findings",
    "FineTunedClassifier",
    "FineTunedRegressor",
    "FrameFunction",
    "ImageSpec",
    "InputOverrides",
    "Layer",
    "LayerProbe",
    "Ledger",
    "LinearProbe",
    "LinearProbeCV",
    "MLPHead",
    "MLPHeadRegressor",
    "Merge",
    "RayEngine",
    "Table",
    "TensorSpec",
    "TextSpec",
    "TransferClassifier",
    "TransferRegressor",
    "Transferability",
    "advise",
    "apply_findings",
    "audit",
    "extract_features",
    "few_shot_curve",
    "layers",
    "load",
    "load_backbone",
    "measure_transferability",
    "refit",
    "upper_part",
]
PACKAGES = ("extract", "heads", "models", "pipelines")
HEAVY = ("torch", "onnxruntime", "sklearn", "onnx", "numpy", "PIL", "pyarrow", "typer", "tokenizers", "transformers")


def test_public_names_are_frozen() -> None:
    assert sorted(topwork.__all__) == PUBLIC
    assert set(PUBLIC) <= set(dir(topwork))


def test_every_public_name_resolves() -> None:
    for name in PUBLIC:
        assert callable(getattr(topwork, name)), name


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = topwork.nothing


@pytest.mark.parametrize("name", PUBLIC)
def test_public_docstrings_document_every_parameter(name: str) -> None:
    path = f"{getattr(topwork, name).__module__}.{name}"
    wanted = ("GL08", "SS01", "SS02", "SS03", "PR01", "PR02", "PR03", "RT03", "YD01")
    found = [(code, text) for code, text in validate(path)["errors"] if code in wanted]
    assert found == []


def test_import_takes_nothing_heavy_along() -> None:
    code = f"import sys, topwork; print([m for m in {HEAVY} if m in sys.modules])"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
    )


def test_help_takes_no_runtime_along() -> None:
    code = (
        "import sys; sys.argv = ['topwork', '--help']\n"
        "from topwork.pipelines.cli.main import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print('LOADED', [m for m in ('torch', 'onnxruntime', 'sklearn', 'onnx') if m in sys.modules])"
    )
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "LOADED []" in output


def test_extract_is_a_package_and_extract_features_has_a_signature() -> None:
    import inspect

    import topwork.extract.runtime.session

    assert inspect.ismodule(topwork.extract)
    assert not callable(topwork.extract)
    assert list(inspect.signature(topwork.extract_features).parameters)[:2] == ["source", "store"]


@pytest.mark.parametrize("package", PACKAGES)
def test_each_package_exports_its_nouns(package: str) -> None:
    module = importlib.import_module(f"topwork.{package}")
    assert set(module.__all__) == set(dir(module))
    for name in module.__all__:
        assert getattr(module, name).__name__ == name
    with pytest.raises(AttributeError, match="nothing"):
        _ = module.nothing


def test_public_names_are_exported_by_their_packages() -> None:
    packages = [
        importlib.import_module(f"topwork.{package}") for package in ("extract", "heads", "models", "pipelines")
    ]
    exported = {name for package in packages for name in package.__all__}
    assert set(topwork.__all__) <= exported


def test_importing_a_package_takes_nothing_heavy_along() -> None:
    code = (
        "import sys, topwork.extract, topwork.heads, topwork.models, topwork.pipelines\n"
        f"print([m for m in {HEAVY} if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
