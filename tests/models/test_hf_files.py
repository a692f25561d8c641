"""Folders of transformers that are damaged, quantised or have code of their own are refused with their cause."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import topwork
from topwork.errors import InputError, TopworkError, WeightsError

CONNECTION_WORDS = ("network connection", "could not be fetched", "trust_remote_code")


@pytest.fixture
def folder(text_folder: Path, tmp_path: Path) -> Path:
    return shutil.copytree(text_folder, tmp_path / "bert")


def change_json(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def assert_refused(folder: Path, kind: type[TopworkError], message: str, **options: Any) -> None:
    with pytest.raises(kind, match=message) as caught:
        topwork.load_backbone(f"hf:{folder}", **options)
    assert not any(word in str(caught.value) for word in CONNECTION_WORDS)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.99])
def test_truncated_weights_are_named(share: float, folder: Path) -> None:
    path = folder / "model.safetensors"
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    assert_refused(folder, WeightsError, r"model\.safetensors is truncated or damaged")


def test_damaged_pickle_is_named(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(b"PK\x03\x04 and nothing more")
    assert_refused(folder, WeightsError, "the weights of hf:.* cannot be read")


def test_folder_without_weights_is_named(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    assert_refused(folder, WeightsError, r"model\.safetensors")


@pytest.mark.parametrize("method", ["gptq", "awq", "bitsandbytes"])
def test_quantised_checkpoint_is_named(method: str, folder: Path) -> None:
    change_json(folder / "config.json", quantization_config={"quant_method": method, "bits": 4})
    assert_refused(folder, InputError, f"quantized by {method}")


@pytest.mark.parametrize("content", ["", "{", "[1, 2"])
def test_configuration_that_is_no_json_is_named(content: str, folder: Path) -> None:
    (folder / "config.json").write_text(content)
    assert_refused(folder, InputError, r"config\.json .*not valid JSON")


def test_folder_without_a_configuration_is_named(folder: Path) -> None:
    (folder / "config.json").unlink()
    assert_refused(folder, InputError, r"config\.json")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"vocab_size": 300}, r"word_embeddings\.weight \(\d+, 32\), expected \(300, 32\).*'vocab_size': 300"),
        ({"hidden_size": 16}, r"expected \(.*'hidden_size': 16"),
        ({"num_attention_heads": 3}, "num_attention_heads"),
        ({"hidden_act": "no_such_activation"}, "no_such_activation"),
        ({"num_hidden_layers": 3}, r"lacks weights.*'num_hidden_layers': 3"),
        ({"hidden_size": "wide"}, "hidden_size"),
    ],
)
def test_arguments_that_do_not_fit_are_named(arguments: dict[str, Any], message: str, folder: Path) -> None:
    assert_refused(folder, InputError, message, model_args=arguments)


def save_code(folder: Path, file: str, key: str) -> Path:
    ran = folder / "the_code_ran"
    (folder / "own_code.py").write_text(f"from pathlib import Path\nPath({str(ran)!r}).touch()\nclass Own: ...\n")
    change_json(folder / file, auto_map={key: "own_code.Own"})
    return ran


@pytest.mark.parametrize(
    ("file", "key"),
    [("config.json", "AutoConfig"), ("config.json", "AutoModel"), ("tokenizer_config.json", "AutoTokenizer")],
)
def test_code_in_a_folder_never_runs(file: str, key: str, folder: Path) -> None:
    ran = save_code(folder, file, key)
    assert_refused(folder, InputError, rf"Python code of its own \(auto_map in {file}: {key}")
    assert not ran.exists()


def test_code_beside_the_transformer_of_a_pipeline_never_runs(folder: Path, tmp_path: Path) -> None:
    pipeline = tmp_path / "pipeline"
    pipeline.mkdir()
    ran = save_code(folder, "config.json", "AutoModel")
    folder.rename(pipeline / "0_Transformer")
    entries = [{"idx": 0, "name": "0", "path": "0_Transformer", "type": "sentence_transformers.models.Transformer"}]
    (pipeline / "modules.json").write_text(json.dumps(entries))
    assert_refused(pipeline, InputError, "auto_map")
    assert not ran.exists()
