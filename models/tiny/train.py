"""Train ``topwork:tiny`` on CIFAR-10 and write its weights.

Run it from a checkout, with the two archives of JPEG files (``train/cat/0001.jpg``, ``test/cat/0001.jpg``)::

    python -m topwork.models.tiny.train cifar10-train.tar.gz cifar10-test.tar.gz --out weights.safetensors

SGD with Nesterov momentum, one learning-rate cycle (Smith and Topin 2017, https://arxiv.org/abs/1708.07120), label
smoothing, random crops, flips and cut-out (DeVries and Taylor 2017, https://arxiv.org/abs/1708.04552), and an
exponential average of the weights, which is what is saved.
"""

from __future__ import annotations

import argparse
import copy
import io
import tarfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

from .network import TinyResNet

MEAN = (0.4914, 0.4822, 0.4465)
STD = (0.2470, 0.2435, 0.2616)


def read_archive(path: Path) -> tuple[Tensor, Tensor]:
    """Return images ``(n, 3, 32, 32)`` as uint8 and class numbers ``(n,)``, classes in alphabetical order."""
    images, names = [], []
    with tarfile.open(path) as archive:
        for member in archive:
            if not member.isfile():
                continue
            stream = archive.extractfile(member)
            assert stream is not None
            images.append(np.asarray(Image.open(io.BytesIO(stream.read())).convert("RGB")))
            names.append(Path(member.name).parent.name)
    classes = sorted(set(names))
    pixels = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous()  # (n, 32, 32, 3) -> (n, 3, 32, 32)
    return pixels, torch.tensor([classes.index(name) for name in names])


def normalise(images: Tensor) -> Tensor:
    """Scale uint8 images to zero mean and unit variance."""
    mean, std = torch.tensor(MEAN).view(1, 3, 1, 1), torch.tensor(STD).view(1, 3, 1, 1)
    return (images.float() / 255 - mean) / std


def augment(images: Tensor, pad: int = 4, hole: int = 8) -> Tensor:
    """Crop, flip and cut a hole out of each image of a batch, at random."""
    n, size = len(images), images.shape[-1]
    padded = functional.pad(images.float(), (pad,) * 4, mode="reflect")
    top, left = torch.randint(0, 2 * pad + 1, (2, n, 1))
    span = torch.arange(size)
    rows, columns = top + span, left + span  # (n, size) each
    columns = torch.where(torch.rand(n, 1) < 0.5, columns, columns.flip(1))
    index = torch.arange(n)[:, None, None]
    crops = padded.permute(0, 2, 3, 1)[index, rows[:, :, None], columns[:, None, :]]  # (n, size, size, 3)
    centre = torch.randint(0, size, (2, n, 1))
    near_row, near_column = ((span - c).abs() < hole // 2 for c in centre)
    crops[near_row[:, :, None] & near_column[:, None, :]] = 255 * torch.tensor(MEAN)
    return crops.permute(0, 3, 1, 2)  # (n, 3, size, size)


def train_epoch(
    network: nn.Module,
    compiled: Callable[[Tensor], Tensor],
    batches: list[Tensor],
    data: tuple[Tensor, Tensor],
    optimiser: torch.optim.SGD,
    schedule: torch.optim.lr_scheduler.OneCycleLR,
    average: nn.Module,
) -> None:
    """Make one pass over the data."""
    for index in batches:
        inputs = normalise(augment(data[0][index])).to(memory_format=torch.channels_last)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            scores = compiled(inputs)
        loss = functional.cross_entropy(scores.float(), data[1][index], label_smoothing=0.1)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()
        update_average(average, network, decay=0.998)


@torch.no_grad()
def update_average(average: nn.Module, model: nn.Module, decay: float) -> None:
    """Move the averaged weights (and BatchNorm statistics) towards the present ones."""
    for target, source in zip(average.state_dict().values(), model.state_dict().values(), strict=True):
        if target.is_floating_point():
            target.lerp_(source, 1 - decay)


@torch.no_grad()
def accuracy(model: nn.Module, images: Tensor, targets: Tensor) -> float:
    """Return the share of images whose highest score is the right class."""
    model.eval()
    guesses = torch.cat([model(normalise(block)).argmax(1) for block in torch.split(images, 1000)])
    return (guesses == targets).float().mean().item()


def train(archives: tuple[Path, Path], epochs: int, batch_size: int, out: Path) -> None:
    """Train, print the test accuracy of each epoch, write the averaged weights."""
    torch.manual_seed(0)
    data, test = read_archive(archives[0]), read_archive(archives[1])
    model = TinyResNet()
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    average = copy.deepcopy(model).eval()
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4)
    steps = len(data[0]) // batch_size
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, max_lr=0.4, epochs=epochs, steps_per_epoch=steps, pct_start=0.25
    )
    compiled, started = torch.compile(model), time.monotonic()
    for epoch in range(epochs):
        model.train()
        batches = list(torch.split(torch.randperm(len(data[0]))[: steps * batch_size], batch_size))
        train_epoch(model, compiled, batches, data, optimiser, schedule, average)
        minutes = (time.monotonic() - started) / 60
        print(
            f"epoch {epoch + 1}/{epochs}  test accuracy {accuracy(average, *test):.4f}  {minutes:.1f} min", flush=True
        )
        save_file({k: v.contiguous() for k, v in average.state_dict().items()}, out)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("train", type=Path, help="archive of training images")
    parser.add_argument("test", type=Path, help="archive of test images")
    parser.add_argument("--epochs", type=int, default=18)
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--out", type=Path, default=Path("weights.safetensors"))
    options = parser.parse_args()
    train((options.train, options.test), options.epochs, options.batch_size, options.out)


if __name__ == "__main__":
    main()
