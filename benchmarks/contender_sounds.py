"""Contender: sounds through a pipeline of transformers; loading the model is not timed.

The pipeline for audio classification is the one that takes sounds; it decodes names of files with ffmpeg, so that
sounds are given to it as samples that soundfile decoded, as its documentation does with data sets.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import soundfile


def main() -> None:
    options = parsed()
    from topwork.models.torchvision_operators import ensure_torchvision_operators

    ensure_torchvision_operators()  # transformers imports torchvision
    from transformers import pipeline

    files = sorted(options.source.rglob("*.wav"))[: options.limit]
    classify = pipeline("audio-classification", model=str(options.model), device="cpu", batch_size=options.batch_size)
    list(classify(decoded(files[: options.batch_size])))  # warms up
    started = time.perf_counter()
    answers = list(classify(decoded(files)))
    print(json.dumps({"seconds": time.perf_counter() - started, "items": len(answers)}))


def decoded(files: list[Path]) -> Iterator[dict[str, Any]]:
    """Yield the samples of files, mono, with their rate."""
    for file in files:
        samples, rate = soundfile.read(file, dtype="float32", always_2d=True)
        yield {"raw": np.ascontiguousarray(samples.mean(axis=1)), "sampling_rate": rate}


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="a folder of .wav files")
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--batch-size", type=int, default=1)
    parser.add_argument("--limit", type=int)
    return parser.parse_args()


if __name__ == "__main__":
    main()
