"""Contender: photographs embedded as a user of PyTorch would, with a ``DataLoader`` of two workers and a timm model.

Building, compiling and warming up the model are not timed.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from topwork.hardware import has_bfloat16
from topwork.models.torchvision_operators import ensure_torchvision_operators
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

ensure_torchvision_operators()  # timm imports torchvision
import timm  # noqa: E402

WORKERS = 2
SEED = 0
MODES = ("float32", "autocast", "compiled")
Network = Callable[[Tensor], Tensor]


class Photographs(Dataset[Tensor]):
    """The files of a folder."""

    def __init__(self, paths: list[Path], transform: Callable[[Image.Image], Tensor]) -> None:
        self.paths, self.transform = paths, transform

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, place: int) -> Tensor:
        with Image.open(self.paths[place]) as image:
            return self.transform(image.convert("RGB"))


def main() -> None:
    options = parsed()
    torch.manual_seed(SEED)  # the weights that topwork makes
    network = timm.create_model(options.network)
    network.reset_classifier(0)
    config = timm.data.resolve_data_config({}, model=network)
    images = Photographs(sorted(options.folder.glob("*.jpg"))[: options.limit], timm.data.create_transform(**config))
    with torch.inference_mode():
        embed = MODES_OF[options.mode](network.eval())
        shape = config["input_size"]
        for size in {min(options.batch_size, len(images)), len(images) % options.batch_size} - {0}:
            embed(torch.zeros(size, *shape))  # compiles, if it has to
            embed(torch.zeros(size, *shape))
        started = time.perf_counter()
        loader = DataLoader(images, batch_size=options.batch_size, num_workers=WORKERS)
        features = torch.cat([embed(batch) for batch in loader]).numpy()
        if options.features:
            np.save(options.features, features)
        seconds = time.perf_counter() - started
    print(json.dumps({"seconds": seconds, "items": len(images), "batch_size": options.batch_size}))


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--network", required=True)
    parser.add_argument("--mode", choices=MODES, required=True)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--limit", type=int, help="images")
    parser.add_argument("--features", type=Path, help="where the features are put")
    return parser.parse_args()


def float32(network: Any) -> Network:
    return network


def autocast(network: Any) -> Network:
    def embed(batch: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return network(batch).float()

    return embed


def compiled(network: Any) -> Network:
    """Compile with everything that helps, bfloat16 too if the processor has it; autocast takes longer to compile."""
    import torch._inductor.config

    torch._inductor.config.freezing = True
    dtype = torch.bfloat16 if has_bfloat16() else torch.float32
    inner = torch.compile(network.to(dtype, memory_format=torch.channels_last), dynamic=False)
    return lambda batch: inner(batch.to(dtype, memory_format=torch.channels_last)).float()


MODES_OF = {"float32": float32, "autocast": autocast, "compiled": compiled}

if __name__ == "__main__":
    main()
