"""``topwork layers``: what it lists, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest
import topwork

from .running import topwork_command, topwork_json


def test_layers_lists_every_cut() -> None:
    found = topwork_json("layers", "topwork:tiny")["layers"]
    expected = [layer.name for layer in topwork.layers(topwork.load_backbone("topwork:tiny"))]
    assert [layer["name"] for layer in found] == expected
    assert found[-1] | {"shape": [80], "kind": "vector"} == found[-1]
    assert {layer["name"]: layer["poolings"] for layer in found}["layer2"][:2] == ["avg", "max"]
    lines = topwork_command("layers", "topwork:tiny").stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["layer", *expected]


@pytest.mark.parametrize("flags", [("--items", "photos"), ("--pool", "max"), ("--normalize",)])
def test_layers_refuses_options_that_need_check(flags: tuple[str, ...]) -> None:
    assert "--check" in topwork_command("layers", "topwork:tiny", *flags, code=2).stderr


def test_layers_of_text_models_have_any_number_of_tokens(text_folder: Path) -> None:
    lines = topwork_command("layers", f"hf:{text_folder}").stdout.splitlines()
    assert lines[-1].split()[:3] == ["last", "nx32", "tokens"]
    found = topwork_json("layers", f"hf:{text_folder}")["layers"][-1]
    assert (found["shape"], found["poolings"]) == ([None, 32], ["mean", "max", "gem", "cls", "last_token"])


@pytest.mark.parametrize("backbone", ["timm:resnet18", "torchvision:resnet18"])
def test_layers_need_no_weights(backbone: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    found = topwork_json("layers", backbone, "--layer", "layer4,last")["layers"]
    assert [layer["shape"] for layer in found] == [[512, 7, 7], [512]]
