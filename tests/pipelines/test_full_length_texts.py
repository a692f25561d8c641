"""Models that take texts of their full length equal transformers: SigLIP and FNet without a mask, ConvBERT with one."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import topwork
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from topwork.errors import InputError, LayerError
from topwork.models.torchvision_operators import ensure_torchvision_operators

SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
LENGTH = 24
TEXTS = ["bird song at dawn", "the engine of a car and a wheel of a train", "a", "sea " * 40, "bird", "train and car"]
LARGEST_ERROR = 1e-5
PADDING_SIDES = {"siglip": "right", "siglip2": "left", "fnet": "right", "fnet classifier": "right", "convbert": "right"}


def make_config(transformers: Any, name: str, n_tokens: int) -> Any:
    text = {**SMALL, "vocab_size": n_tokens, "max_position_embeddings": LENGTH}
    if name.startswith("fnet"):
        return transformers.FNetConfig(**text, pad_token_id=0, num_labels=3)
    if name == "convbert":
        return transformers.ConvBertConfig(**text, embedding_size=32, pad_token_id=0)
    vision = {**SMALL, "image_size": 32, "patch_size": 8}
    text.update(projection_size=20, bos_token_id=2, eos_token_id=3, pad_token_id=0)
    config_class = transformers.SiglipConfig if name == "siglip" else transformers.Siglip2Config
    return config_class(text_config=text, vision_config=vision)


def make_model(transformers: Any, name: str, n_tokens: int) -> Any:
    config = make_config(transformers, name, n_tokens)
    classes = {
        "siglip": transformers.SiglipModel,
        "siglip2": transformers.Siglip2Model,
        "fnet": transformers.FNetModel,
        "fnet classifier": transformers.FNetForSequenceClassification,
        "convbert": transformers.ConvBertModel,
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        model = classes[name](config)
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.data.normal_(0, 0.3)
    return model.eval()


@pytest.fixture(scope="module")
def transformers() -> Any:
    ensure_torchvision_operators()
    return pytest.importorskip("transformers")


@pytest.fixture(scope="module")
def make(transformers: Any, text_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Any]:
    """Return a function that saves a model with a tokeniser, and returns the folder and the model."""
    made: dict[str, Any] = {}

    def save(name: str) -> Any:
        if name in made:
            return made[name]
        folder = tmp_path_factory.mktemp("models") / name.replace(" ", "-")
        tokenizer = transformers.AutoTokenizer.from_pretrained(text_folder)
        model = make_model(transformers, name, len(tokenizer) + 8)  # Siglip2Tokenizer adds its own special tokens
        model.save_pretrained(folder)
        shutil.copy(text_folder / "tokenizer.json", folder)
        fields = json.loads((text_folder / "tokenizer_config.json").read_text())
        fields["padding_side"] = PADDING_SIDES[name]
        (folder / "tokenizer_config.json").write_text(json.dumps(fields))
        made[name] = (folder, model)
        return made[name]

    return save


def load(folder: Path, **options: Any) -> Any:
    tower = {"model_args": {"tower": "text"}} if "siglip" in folder.name else {}
    return topwork.load_backbone(f"hf:{folder}", **tower, **options)


def tokenize(transformers: Any, folder: Path, name: str) -> Any:
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, padding_side=PADDING_SIDES[name])
    return tokenizer(TEXTS, padding="max_length", truncation=True, max_length=LENGTH, return_tensors="pt")


def compute_right(transformers: Any, folder: Path, name: str, model: Any) -> dict[str, NDArray[np.float32]]:
    """Return what the model itself yields, by the name of the column that must equal it."""
    tokens = tokenize(transformers, folder, name)
    ids = tokens["input_ids"]
    mask = tokens["attention_mask"]
    with torch.no_grad():
        if name == "convbert":
            states = model(ids, attention_mask=mask).last_hidden_state * mask.unsqueeze(-1)
            return {"last": (states.sum(1) / mask.sum(1, keepdim=True)).numpy()}
        if name == "fnet classifier":
            return {"last": model.fnet(ids).pooler_output.numpy()}
        if name == "fnet":
            states = model(ids).last_hidden_state
            return {"last.cls": states[:, 0].numpy(), "last.mean": states.mean(1).numpy()}
        states = model.text_model(ids).last_hidden_state
        projected = model.get_text_features(ids).pooler_output.numpy()
        return {"last.last_token": states[:, -1].numpy(), "last.mean": states.mean(1).numpy(), "head": projected}


def error(found: NDArray[Any], right: NDArray[Any]) -> float:
    return float(np.linalg.norm(found - right) / np.linalg.norm(right))


@pytest.mark.parametrize("name", PADDING_SIDES)
def test_features_are_those_of_transformers_alone_and_in_a_batch(
    name: str, transformers: Any, make: Callable[[str], Any]
) -> None:
    folder, model = make(name)
    expected = compute_right(transformers, folder, name, model)
    layers = list(dict.fromkeys(column.partition(".")[0] for column in expected))
    extractor = topwork.Extractor(load(folder), layer=layers, pool=["auto", "mean"], provider="cpu", precision="fp32")
    found = extractor.fit_transform(TEXTS)
    assert [column.name for column in extractor.columns] == list(expected)
    right = np.concatenate(list(expected.values()), axis=1)
    assert error(found, right) < LARGEST_ERROR
    alone = np.concatenate([extractor.transform([text]) for text in TEXTS[:3]])
    assert error(alone, right[:3]) < LARGEST_ERROR


@pytest.mark.parametrize("name", ["siglip2", "fnet"])
def test_store_bundle_and_fused_file_pad_alike(
    name: str, transformers: Any, make: Callable[[str], Any], tmp_path: Path
) -> None:
    folder, model = make(name)
    right = next(iter(compute_right(transformers, folder, name, model).values()))
    options: dict[str, Any] = {"provider": "cpu", "precision": "fp32"}
    extractor = topwork.Extractor(load(folder), **options)
    store = topwork.FeatureStore.create(tmp_path / "store", extractor)
    topwork.extract_features(TEXTS, store)
    assert error(np.asarray(store.matrix("last")), right) < LARGEST_ERROR

    classifier = topwork.TransferClassifier(load(folder), head="logreg", cv=0, **options)
    classifier.fit(TEXTS, [0, 1, 0, 1, 0, 1])
    expected = classifier.head_.predict_proba(right)
    classifier.save(tmp_path / "bundle")
    np.testing.assert_allclose(topwork.load(tmp_path / "bundle").predict_proba(TEXTS), expected, atol=1e-4)

    classifier.to_onnx(tmp_path / "model.onnx")
    tokenizer = Tokenizer.from_file(str(tmp_path / "model.tokenizer.json"))
    ids = np.array([encoded.ids for encoded in tokenizer.encode_batch(TEXTS)], np.int64)
    session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"), providers=["CPUExecutionProvider"])
    (probabilities,) = session.run(["probabilities"], {"input_ids": ids})
    np.testing.assert_allclose(probabilities, expected, atol=1e-4)


def test_padding_with_a_mask_and_shorter_texts_are_refused(make: Callable[[str], Any]) -> None:
    folder, _ = make("siglip")
    masked = topwork.TextSpec.from_file(folder / "tokenizer.json", LENGTH)
    with pytest.raises(InputError, match=r"padding='max_length'"):
        load(folder, input_spec=masked)
    with pytest.raises(InputError, match=f"max_length=16.*{LENGTH}"):
        load(folder, max_length=16)
    assert load(folder, max_length=LENGTH).input_spec == load(folder).input_spec
    shorter = load(make("convbert")[0], max_length=16).input_spec
    assert (shorter.padding, shorter.max_length) == ("max_length", 16)


class NeighbourTokens(torch.nn.Module):
    """A text model whose tokens see their neighbours, padding included."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = torch.nn.Embedding(100, 8)
        self.convolution = torch.nn.Conv1d(8, 8, 3, padding=1)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        states = self.embedding(input_ids).transpose(1, 2)  # (batch, features, tokens)
        convolved: torch.Tensor = self.convolution(states).transpose(1, 2)
        return convolved


def test_model_whose_texts_change_with_their_padding_needs_one_length(text_folder: Path) -> None:
    tokenizer = text_folder / "tokenizer.json"
    torch.manual_seed(0)
    module = NeighbourTokens().eval()
    longest = topwork.load_backbone(module, input_spec=topwork.TextSpec.from_file(tokenizer, LENGTH))
    with pytest.raises(LayerError, match=r"padding of its batch.*padding='max_length'"):
        topwork.Extractor(longest, provider="cpu").fit(TEXTS)
    spec = topwork.TextSpec.from_file(tokenizer, LENGTH, padding="max_length")
    extractor = topwork.Extractor(topwork.load_backbone(module, input_spec=spec), provider="cpu", precision="fp32")
    np.testing.assert_allclose(extractor.fit_transform(TEXTS)[:1], extractor.transform(TEXTS[:1]), rtol=1e-5)


class UnmaskedTokens(NeighbourTokens):
    """A text model without a mask."""

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        return super().forward(input_ids, input_ids)


def test_onnx_file_without_a_mask_takes_the_length_of_its_tokeniser(text_folder: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = UnmaskedTokens().eval()
    path = tmp_path / "model.onnx"
    axes = {"input_ids": {0: "batch", 1: "tokens"}, "states": {0: "batch", 1: "tokens"}}
    example = torch.zeros(2, 6, dtype=torch.int64)
    names: dict[str, Any] = {"input_names": ["input_ids"], "output_names": ["states"], "dynamic_axes": axes}
    torch.onnx.export(module, (example,), path, dynamo=False, **names)
    shutil.copy(text_folder / "tokenizer.json", tmp_path)
    with pytest.raises(InputError, match=r"no attention_mask.*padding='max_length'"):
        topwork.load_backbone(f"onnx:{path}")

    tokenizer = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    tokenizer.enable_padding(length=LENGTH)
    tokenizer.enable_truncation(LENGTH)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    ids = torch.tensor([encoded.ids for encoded in tokenizer.encode_batch(TEXTS)])
    right = module(ids).detach().numpy()
    backbone = topwork.load_backbone(f"onnx:{path}")
    extractor = topwork.Extractor(backbone, pool=["mean", "last_token"], provider="cpu", precision="fp32")
    found = extractor.fit_transform(TEXTS)
    assert error(found, np.concatenate([right.mean(1), right[:, -1]], axis=1)) < LARGEST_ERROR
    assert error(extractor.transform(TEXTS[:1]), found[:1]) < LARGEST_ERROR


def test_models_that_no_graph_can_compute_say_why(transformers: Any, text_folder: Path, tmp_path: Path) -> None:
    text = {**SMALL, "vocab_size": 100}
    longformer = transformers.LongformerConfig(**text, attention_window=8, max_position_embeddings=26)
    funnel = transformers.FunnelConfig(vocab_size=100, block_sizes=[1, 1], d_model=32, n_head=2, d_head=16, d_inner=64)
    for config, message in ((longformer, "longformer.*values of the mask"), (funnel, "funnel.*averages")):
        folder = tmp_path / config.model_type
        shutil.copytree(text_folder, folder)
        config.save_pretrained(folder)
        with pytest.raises(InputError, match=message):
            load(folder, weights="random")


def test_pipeline_of_sentence_transformers_without_a_mask_is_refused(
    make: Callable[[str], Any], tmp_path: Path
) -> None:
    folder = tmp_path / "pipeline"
    shutil.copytree(make("fnet")[0], folder)
    modules = [
        {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
        {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(InputError, match="attention mask"):
        load(folder)
