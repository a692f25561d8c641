"""Contender: text embedded by sentence-transformers or by fastembed; loading the model is not timed."""

from __future__ import annotations

import argparse
import csv
import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

ONNX_FOLDER, ONNX_FILE, WIDTH = "minilm-onnx", "model.onnx", 384
NAME = "local/all-MiniLM-L6-v2"
Embed = Callable[[list[str]], Any]


def main() -> None:
    options = parsed()
    if options.contender == "export":
        export(options.model, options.work / ONNX_FOLDER)
        return
    with options.source.open(encoding="utf-8", newline="") as stream:
        texts = [row["text"] for row in csv.DictReader(stream)]
    embed = CONTENDERS[options.contender](options)
    embed(texts[: options.batch_size])  # warms up
    started = time.perf_counter()
    vectors = embed(texts)
    if options.features:
        np.save(options.features, vectors)
    seconds = time.perf_counter() - started
    print(json.dumps({"seconds": seconds, "items": len(texts)}))


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("contender", choices=[*CONTENDERS, "export"])
    parser.add_argument("--source", type=Path, help="a table with a column text")
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--features", type=Path, help="where the vectors are put")
    return parser.parse_args()


def sentence_transformers(options: argparse.Namespace) -> Embed:
    from topwork.models.torchvision_operators import ensure_torchvision_operators

    ensure_torchvision_operators()  # transformers imports torchvision
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(options.model), device="cpu")
    named = {"batch_size": options.batch_size, "normalize_embeddings": True, "show_progress_bar": False}
    return lambda texts: model.encode(texts, **named)


def fastembed(options: argparse.Namespace) -> Embed:
    from fastembed import TextEmbedding
    from fastembed.common.model_description import ModelSource, PoolingType

    sources, folder = ModelSource(hf=NAME), str(options.work / ONNX_FOLDER)
    TextEmbedding.add_custom_model(NAME, PoolingType.MEAN, True, sources, WIDTH, model_file=ONNX_FILE)
    model = TextEmbedding(NAME, specific_model_path=folder)
    return lambda texts: np.stack(list(model.embed(texts, batch_size=options.batch_size)))


CONTENDERS = {"sentence-transformers": sentence_transformers, "fastembed": fastembed}


def export(model: Path, folder: Path) -> None:
    """Make the ONNX file that fastembed runs, with the inputs that it feeds, beside the tokeniser's files."""
    if (folder / ONNX_FILE).is_file():
        return
    import torch
    from topwork.models.torchvision_operators import ensure_torchvision_operators

    ensure_torchvision_operators()  # transformers imports torchvision
    from transformers import AutoModel, AutoTokenizer

    encoded = AutoTokenizer.from_pretrained(model)(["two texts", "of which one is longer"], padding=True)
    inputs = {name: torch.tensor(values) for name, values in encoded.items()}
    network = AutoModel.from_pretrained(model, attn_implementation="eager").eval()
    folder.mkdir(exist_ok=True)
    for path in model.glob("*.json"):
        shutil.copy(path, folder)
    free = {name: dict.fromkeys(range(2), torch.export.Dim.DYNAMIC) for name in inputs}
    with torch.no_grad():
        unfinished = folder / f"unfinished-{ONNX_FILE}"
        program = torch.onnx.export(network, (), kwargs=inputs, dynamo=True, dynamic_shapes=free, verbose=False)
        program.save(unfinished, external_data=False)
        unfinished.rename(folder / ONNX_FILE)


if __name__ == "__main__":
    main()
