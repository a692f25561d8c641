"""Folders of sentence-transformers are run as ``modules.json`` says, compared with ``SentenceTransformer.encode``."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import topwork
import torch
from numpy.typing import NDArray
from topwork.errors import InputError, WeightsError
from topwork.extract.graphs.cut import CutRequest, choose
from topwork.extract.graphs.cutting import cutter_for
from topwork.extract.preprocess.by_kind import preprocessor_for
from topwork.models.torchvision_operators import ensure_torchvision_operators

WIDTH = 32
TEXTS = [
    "the cat and a dog",
    "snow with wind",
    "old bread, new cheese; very old soup with salt and pepper on the pan in the storm of thunder and hail",
    "  The CAT [SEP] of fog\n",
    ".",
]
TOLERANCE = 1e-5

Maker = Callable[..., Path]


@pytest.fixture(scope="module")
def modules() -> Any:
    ensure_torchvision_operators()
    return pytest.importorskip("sentence_transformers.sentence_transformer.modules")


@pytest.fixture(scope="module")
def make(modules: Any, text_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Maker:
    """Return a function that saves a pipeline of a small BERT and other modules, as sentence-transformers does."""

    def save(*behind: Any, prompts: dict[str, str] | None = None, default: str | None = None) -> Path:
        from sentence_transformers import SentenceTransformer

        folder = tmp_path_factory.mktemp("sentences")
        parts = [modules.Transformer(str(text_folder)), *behind]
        pipeline = SentenceTransformer(modules=parts, device="cpu", prompts=prompts, default_prompt_name=default)
        pipeline.save_pretrained(str(folder), create_model_card=False)
        return folder

    return save


def change_json(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def encode(folder: Path, **options: Any) -> NDArray[np.float32]:
    from sentence_transformers import SentenceTransformer

    found: NDArray[np.float32] = SentenceTransformer(str(folder), device="cpu").encode(TEXTS, **options)
    return found


def run(folder: Path, texts: list[str] = TEXTS, **options: Any) -> NDArray[np.float32]:
    """Return the output of the loaded module for texts in one padded batch."""
    backbone = topwork.load_backbone(f"hf:{folder}", **options)
    preprocessor = preprocessor_for(backbone.input_spec)
    feed = preprocessor.collate([preprocessor.prepare(text).array for text in texts])
    found: NDArray[np.float32] = backbone.run(tuple(map(torch.from_numpy, feed.values()))).numpy()  # type: ignore[attr-defined]
    return found


def assert_equal_to_encode(folder: Path, **options: Any) -> None:
    right = encode(folder)
    np.testing.assert_allclose(run(folder, **options), right, atol=TOLERANCE)
    alone = [run(folder, [text], **options)[0] for text in TEXTS[:3]]
    np.testing.assert_allclose(alone, right[:3], atol=TOLERANCE)


@pytest.mark.parametrize(
    "modes",
    ["cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken", ("mean", "max"), ("lasttoken", "cls")],
)
def test_every_way_of_pooling_is_theirs(modes: Any, modules: Any, make: Maker) -> None:
    assert_equal_to_encode(make(modules.Pooling(WIDTH, modes)))


@pytest.mark.parametrize(
    "flags",
    [("cls_token",), ("lasttoken",), ("weightedmean_tokens", "max_tokens"), ("mean_tokens", "cls_token"), ()],
)
def test_older_flags_are_read_in_their_order(flags: tuple[str, ...], modules: Any, make: Maker) -> None:
    folder = make(modules.Pooling(WIDTH, "mean"))
    stated = {f"pooling_mode_{flag}": True for flag in flags}
    fields = {"word_embedding_dimension": WIDTH, "pooling_mode_mean_tokens": False, **stated}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(fields))
    assert_equal_to_encode(folder)


CHAINS: dict[str, Callable[[Any], list[Any]]] = {
    "Dense": lambda m: [m.Pooling(WIDTH), m.Dense(WIDTH, 8)],
    "Dense, no activation, no bias": lambda m: [m.Pooling(WIDTH), m.Dense(WIDTH, 40, False, None), m.Normalize()],
    "two Dense, LayerNorm": lambda m: [
        *(m.Pooling(WIDTH, "cls"), m.Dense(WIDTH, 16, activation_function=torch.nn.GELU())),
        *(m.LayerNorm(16), m.Dense(16, 4, activation_function=torch.nn.PReLU()), m.Normalize()),
    ],
    "Dense with a residual": lambda m: [m.Pooling(WIDTH), m.Dense(WIDTH, 8, use_residual=True), m.Dropout(0.5)],
    "Dense with an equal residual": lambda m: [m.Pooling(WIDTH), m.Dense(WIDTH, WIDTH, use_residual=True)],
    "Dense before the pooling": lambda m: [
        m.Dense(WIDTH, 8, module_input_name="token_embeddings"),
        m.Normalize("token_embeddings"),
        m.Pooling(8, ("max", "mean")),
    ],
}


@pytest.mark.parametrize("name", CHAINS)
def test_modules_behind_the_transformer_are_run(name: str, modules: Any, make: Maker) -> None:
    assert_equal_to_encode(make(*CHAINS[name](modules)))


def test_folders_may_have_any_name_and_the_transformer_one_of_its_own(modules: Any, make: Maker) -> None:
    folder = make(modules.Pooling(WIDTH, "max"), modules.Dense(WIDTH, 8), modules.Normalize())
    right = encode(folder)
    (folder / "0_Transformer").mkdir()
    for path in folder.iterdir():
        is_of_pipeline = path.is_dir() or path.name in ("modules.json", "config_sentence_transformers.json")
        if not is_of_pipeline:
            path.rename(folder / "0_Transformer" / path.name)
    (folder / "1_Pooling").rename(folder / "how to pool")
    entries = json.loads((folder / "modules.json").read_text())
    entries[0]["path"] = "0_Transformer"
    entries[1]["path"] = "how to pool"
    for entry in entries:
        entry["type"] = f"sentence_transformers.models.{entry['type'].rpartition('.')[2]}"
    (folder / "modules.json").write_text(json.dumps(entries))
    np.testing.assert_allclose(encode(folder), right, atol=TOLERANCE)
    assert_equal_to_encode(folder)


def test_layers_below_keep_their_names_and_identity_holds_the_modules(
    modules: Any, make: Maker, text_folder: Path
) -> None:
    below = [layer.name for layer in topwork.layers(topwork.load_backbone(f"hf:{text_folder}"))]
    plain, normalised = make(modules.Pooling(WIDTH)), make(modules.Pooling(WIDTH), modules.Normalize())
    backbones = [topwork.load_backbone(f"hf:{folder}") for folder in (plain, normalised)]
    names = [layer.name for layer in topwork.layers(backbones[1])]
    assert [name for name in below if not name.startswith("pooler")][:-1] == names[:-3]
    assert names[-3:] == ["sentence.pooling", "sentence.normalize", "last"]
    assert backbones[0].identity() != backbones[1].identity()
    assert backbones[0].weights_digest == backbones[1].weights_digest
    json.dumps(backbones[0].identity())


@pytest.mark.parametrize(
    ("modes", "expected"),
    [("cls", "cls"), ("lasttoken", "last_token"), (("mean", "lasttoken"), "mean+last_token"), ("weightedmean", "")],
)
def test_layers_below_are_pooled_like_the_last_where_they_can(
    modes: Any, expected: str, modules: Any, make: Maker
) -> None:
    backbone = topwork.load_backbone(f"hf:{make(modules.Pooling(WIDTH, modes))}")
    assert backbone.pooling == expected
    (layer, pool), *_ = choose(cutter_for(backbone), CutRequest(("encoder.layer.0",), ("auto",))).chosen
    assert (layer.kind, pool) == ("tokens", expected or "mean")


def test_maximum_length_of_the_folder_replaces_that_of_the_tokeniser(modules: Any, make: Maker) -> None:
    folder = make(modules.Pooling(WIDTH, "lasttoken"))
    change_json(folder / "tokenizer_config.json", model_max_length=6)
    assert topwork.load_backbone(f"hf:{folder}").input_spec.max_length == 6  # type: ignore[union-attr]
    assert_equal_to_encode(folder)
    change_json(folder / "sentence_bert_config.json", max_seq_length=9)
    assert topwork.load_backbone(f"hf:{folder}").input_spec.max_length == 9  # type: ignore[union-attr]
    assert_equal_to_encode(folder)


def test_texts_are_truncated_at_the_side_that_the_tokeniser_states(modules: Any, make: Maker) -> None:
    folder = make(modules.Pooling(WIDTH, "mean"))
    change_json(folder / "tokenizer_config.json", model_max_length=8, truncation_side="left")
    assert_equal_to_encode(folder)


def test_lower_casing_comes_before_the_tokeniser(modules: Any, make: Maker) -> None:
    folder = make(modules.Pooling(WIDTH, "mean"))
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    tokenizer["normalizer"] = {"type": "BertNormalizer", "lowercase": False}
    tokenizer["normalizer"].update({"clean_text": True, "handle_chinese_chars": True, "strip_accents": None})
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    with_case = run(folder)
    change_json(folder / "sentence_bert_config.json", do_lower_case=True)
    assert_equal_to_encode(folder)
    assert not np.allclose(run(folder), with_case)


PROMPTS = {"query": "the storm: ", "passage": "new bread ", "none": ""}


@pytest.mark.parametrize("include", [True, False])
@pytest.mark.parametrize("mode", ["mean", "cls", "weightedmean", "max", "lasttoken"])
def test_prompt_is_put_in_front_and_left_out_of_the_pooling(
    mode: str, include: bool, modules: Any, make: Maker
) -> None:
    folder = make(modules.Pooling(WIDTH, mode, include_prompt=include), prompts=PROMPTS, default="query")
    assert_equal_to_encode(folder)
    short = slice(0, 2)
    for given, options in (("passage", {"prompt_name": "passage"}), ("on pan, ", {"prompt": "on pan, "})):
        np.testing.assert_allclose(run(folder, prompt=given)[short], encode(folder, **options)[short], atol=TOLERANCE)
    np.testing.assert_allclose(run(folder, prompt=""), encode(folder, prompt=""), atol=TOLERANCE)


def test_prompt_that_does_not_exist_is_no_text(modules: Any, make: Maker) -> None:
    folder = make(modules.Pooling(WIDTH), prompts=PROMPTS)
    with pytest.raises(InputError, match=r"prompt='question'.*passage, query"):
        topwork.load_backbone(f"hf:{folder}", prompt="question")
    assert topwork.load_backbone(f"hf:{folder}", prompt="question: ").input_spec.prompt == "question: "  # type: ignore[union-attr]


def test_embedding_is_truncated_where_the_pipeline_says_so(modules: Any, make: Maker) -> None:
    folder = make(modules.Pooling(WIDTH), modules.Normalize())
    change_json(folder / "config_sentence_transformers.json", truncate_dim=8)
    assert encode(folder).shape == (len(TEXTS), 8)
    assert_equal_to_encode(folder)


def test_classifier_of_the_checkpoint_is_not_used(modules: Any, make: Maker, text_folder: Path) -> None:
    folder = make(modules.Pooling(WIDTH))
    change_json(folder / "config.json", architectures=["BertForSequenceClassification"])
    assert_equal_to_encode(folder)


def change_entries(folder: Path, position: int, **changes: Any) -> None:
    entries = json.loads((folder / "modules.json").read_text())
    entries[position].update(changes)
    (folder / "modules.json").write_text(json.dumps(entries))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"type": "sentence_transformers.models.LSTM"}, "LSTM"),
        ({"type": "sentence_transformers.sparse_encoder.modules.SpladePooling"}, "SpladePooling"),
        ({"type": "sentence_transformers.models.WordWeights"}, "WordWeights"),
        ({"type": "custom_code.MyPooling"}, "custom_code.MyPooling.*never runs"),
        ({"type": "sentence_transformers.models.Transformer"}, "one Transformer"),
        ({"path": "../elsewhere"}, r"\.\./elsewhere"),
        ({"path": "/etc"}, "/etc"),
        ({"type": "sentence_transformers.models.Normalize"}, "sentence_embedding"),
    ],
)
def test_module_that_cannot_be_reproduced_is_named(
    changes: dict[str, Any], message: str, modules: Any, make: Maker
) -> None:
    folder = make(modules.Pooling(WIDTH))
    if changes.get("type", "").endswith("Normalize"):
        (folder / "1_Pooling" / "config.json").write_text("{}")
    change_entries(folder, 1, **changes)
    with pytest.raises(InputError, match=message):
        topwork.load_backbone(f"hf:{folder}")


@pytest.mark.parametrize(
    ("file", "changes", "message"),
    [
        ("1_Pooling/config.json", {"pooling_mode": "median"}, "median"),
        ("1_Pooling/config.json", {"pooling_temperature": 2}, "pooling_temperature"),
        ("2_Dense/config.json", {"activation_function": "os.system"}, "os.system"),
        ("2_Dense/config.json", {"activation_function": "torch.nn.functional.relu"}, "relu"),
        ("2_Dense/config.json", {"module_input_name": "scores"}, "scores"),
        ("sentence_bert_config.json", {"transformer_task": "fill-mask"}, "fill-mask"),
        ("sentence_bert_config.json", {"processing_kwargs": {"text": {"padding": "max_length"}}}, "processing_kwargs"),
        ("sentence_bert_config.json", {"model_args": {"num_hidden_layers": 1}}, "num_hidden_layers"),
        ("config_sentence_transformers.json", {"model_type": "SparseEncoder"}, "SparseEncoder"),
        ("config_sentence_transformers.json", {"default_prompt_name": "nothing"}, "nothing"),
    ],
)
def test_setting_that_cannot_be_reproduced_is_named(
    file: str, changes: dict[str, Any], message: str, modules: Any, make: Maker
) -> None:
    folder = make(modules.Pooling(WIDTH), modules.Dense(WIDTH, 8))
    change_json(folder / file, **changes)
    with pytest.raises(InputError, match=message):
        topwork.load_backbone(f"hf:{folder}")


def test_pipeline_without_a_pooling_is_refused(modules: Any, make: Maker) -> None:
    folder = make(modules.Dense(WIDTH, 8, module_input_name="token_embeddings"))
    with pytest.raises(InputError, match="no Pooling"):
        topwork.load_backbone(f"hf:{folder}")


def test_weights_of_modules_are_not_made_up(modules: Any, make: Maker, tmp_path: Path) -> None:
    folder = make(modules.Pooling(WIDTH), modules.Dense(WIDTH, 8))
    digest = topwork.load_backbone(f"hf:{folder}").weights_digest
    of_file = topwork.load_backbone(f"hf:{folder}", weights=folder / "model.safetensors")
    assert of_file.weights_digest == digest
    assert topwork.load_backbone(f"hf:{folder}", weights="random").weights_digest != digest
    change_json(folder / "2_Dense" / "config.json", out_features=9)
    with pytest.raises(WeightsError, match=r"linear\.weight \(8, 32\), expected \(9, 32\)"):
        topwork.load_backbone(f"hf:{folder}")
    (folder / "2_Dense" / "model.safetensors").unlink()
    with pytest.raises(WeightsError, match="2_Dense"):
        topwork.load_backbone(f"hf:{folder}")


def test_backbone_of_the_hub_is_found_in_its_folder(
    modules: Any, make: Maker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make(modules.Pooling(WIDTH, "cls"), modules.Normalize())
    right = encode(folder)
    revision = "0" * 40
    repository = tmp_path / "models--someone--sentences"
    snapshot = repository / "snapshots" / revision
    shutil.copytree(folder, snapshot / "0_Transformer")
    for name in ("modules.json", "1_Pooling", "2_Normalize"):
        if (folder / name).exists():
            (snapshot / "0_Transformer" / name).rename(snapshot / name)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(revision)
    change_entries(snapshot, 0, path="0_Transformer")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("transformers.utils.hub.constants.HF_HUB_CACHE", str(tmp_path))
    np.testing.assert_allclose(run(Path("someone/sentences")), right, atol=TOLERANCE)
