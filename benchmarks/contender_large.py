"""Contender: one step of work with a text encoder of more than 2 GiB; see ``large_networks.py``."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import topwork

HIDDEN, LAYERS, VOCABULARY = 1024, 24, 250_002
"""The shape of XLM-RoBERTa-large."""
KNOWN_WORDS = 1000
"""Words of the tokeniser, which needs fewer than the network."""
SEED = 0
TEXTS = [f"word{number % 700 + 10} " * (4 + number % 29) + f"word{number + 10}" for number in range(32)]
LABELS = ["few" if number % 29 < 14 else "many" for number in range(32)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("step", choices=STEPS)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--layers", type=int, default=LAYERS)
    parser.add_argument("--vocabulary", type=int, default=VOCABULARY)
    options = parser.parse_args()
    warnings.simplefilter("ignore")  # of a provider that is passed over
    started = time.perf_counter()
    found = STEPS[options.step](options)
    print(json.dumps({"seconds": time.perf_counter() - started, "items": len(TEXTS), **found}))


def make(options: argparse.Namespace) -> dict[str, Any]:
    """Save the encoder with random weights and a small tokeniser."""
    from topwork.models.torchvision_operators import ensure_torchvision_operators

    ensure_torchvision_operators()  # transformers imports torchvision
    import torch
    import transformers

    torch.manual_seed(SEED)
    config = transformers.XLMRobertaConfig(
        vocab_size=options.vocabulary,
        hidden_size=HIDDEN,
        num_hidden_layers=options.layers,
        num_attention_heads=16,
        intermediate_size=4 * HIDDEN,
        max_position_embeddings=514,
        type_vocab_size=1,
    )
    model = transformers.XLMRobertaModel(config)
    folder = model_folder(options)
    model.save_pretrained(folder)
    save_tokenizer(folder, config.pad_token_id)
    return {"gigabytes": sum(weight.nbytes for weight in model.parameters()) / 1e9}


def save_tokenizer(folder: Path, pad_id: int) -> None:
    """Save a tokeniser of whole words."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    ids = {f"word{number}": number for number in range(KNOWN_WORDS) if number != pad_id}
    ids.update({"[PAD]": pad_id, "[UNK]": KNOWN_WORDS})
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    special = {"pad_token": "[PAD]", "unk_token": "[UNK]", "model_max_length": 512}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special).save_pretrained(folder)


def model_folder(options: argparse.Namespace) -> Path:
    """Return the folder of the encoder."""
    folder: Path = options.work / f"xlm-roberta-{options.layers}-{options.vocabulary}"
    return folder


def export(options: argparse.Namespace) -> dict[str, Any]:
    """Load the encoder, export it and compare it with itself: the certificate."""
    graph = extractor(options).fit(TEXTS).graph
    found: dict[str, Any] = {"gigabytes": sum(path.stat().st_size for path in graph.list_files()) / 1e9}
    deviations = graph.certificate.deviations
    return {**found, "error": max(deviation.relative_l2 for deviation in deviations)}


def extract(options: argparse.Namespace) -> dict[str, Any]:
    """Compute the features of some texts with the graph that was exported before."""
    features = extractor(options).fit_transform(TEXTS)
    np.save(options.work / "features.npy", features)
    return {"torch": "torch" in sys.modules}


def store(options: argparse.Namespace) -> dict[str, Any]:
    """Compute them into a new store, with a copy of the graph, and open it again."""
    folder = options.work / "store"
    shutil.rmtree(folder, ignore_errors=True)
    created = topwork.FeatureStore.create(folder, extractor(options).fit(TEXTS))
    topwork.extract_features(TEXTS, created)
    opened = topwork.FeatureStore.open(folder)
    return {"rows": len(opened.matrix(opened.columns[0].name))}


def fit(options: argparse.Namespace) -> dict[str, Any]:
    """Train a head on some texts, and save a bundle."""
    backbone = topwork.BackboneSpec(f"hf:{model_folder(options)}")
    classifier = topwork.TransferClassifier(backbone, precision="fp32").fit(TEXTS, LABELS)
    shutil.rmtree(options.work / "bundle", ignore_errors=True)
    classifier.save(options.work / "bundle")
    return {}


def predict(options: argparse.Namespace) -> dict[str, Any]:
    """Load the bundle, and predict."""
    labels = topwork.load(options.work / "bundle").predict(TEXTS)
    return {"torch": "torch" in sys.modules, "right": float(np.mean(labels == np.array(LABELS)))}


def extractor(options: argparse.Namespace) -> Any:
    """Return an extractor of the encoder."""
    return topwork.Extractor(topwork.BackboneSpec(f"hf:{model_folder(options)}"), precision="fp32")


STEPS: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {
    "make": make,
    "export": export,
    "extract": extract,
    "store": store,
    "fit": fit,
    "predict": predict,
}

if __name__ == "__main__":
    main()
