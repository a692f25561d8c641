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
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

from . import CIFAR10_MEAN, CIFAR10_STD
from .network import TinyResNet

EVALUATION_BATCH_SIZE = 1000
AVERAGE_DECAY = 0.998


def read_archive(path: Path) -> tuple[Tensor, Tensor]:
    """Return images ``(n, 3, 32, 32)`` as uint8 and class numbers ``(n,)``, classes in alphabetical order."""
    images = []
    names = []
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
    """Scale uint8 images ``(n, 3, height, width)`` to zero mean and unit variance."""
    mean = torch.tensor(CIFAR10_MEAN).view(1, 3, 1, 1)
    std = torch.tensor(CIFAR10_STD).view(1, 3, 1, 1)
    return (images.float() / 255 - mean) / std


def augment(images: Tensor) -> Tensor:
    """Crop, flip and cut a hole out of each image of a batch ``(n, 3, size, size)``, at random."""
    crops = crop_and_flip(images.float(), pad=4)
    cut_holes(crops, side=8)
    return crops.permute(0, 3, 1, 2)  # (n, 3, size, size)


def crop_and_flip(images: Tensor, pad: int) -> Tensor:
    """Shift each image ``(n, 3, size, size)`` and flip about half of them, at random, to ``(n, size, size, 3)``."""
    n_images = len(images)
    padded = functional.pad(images, (pad,) * 4, mode="reflect")
    top, left = torch.randint(0, 2 * pad + 1, (2, n_images, 1))
    span = torch.arange(images.shape[-1])
    rows = top + span  # (n, size)
    columns = left + span  # (n, size)
    columns = torch.where(torch.rand(n_images, 1) < 0.5, columns, columns.flip(1))
    image_index = torch.arange(n_images)[:, None, None]
    return padded.permute(0, 2, 3, 1)[image_index, rows[:, :, None], columns[:, None, :]]


def cut_holes(images: Tensor, side: int) -> None:
    """Fill a square of each image ``(n, size, size, 3)`` with the mean colour, at random, in place."""
    n_images, size = images.shape[:2]
    span = torch.arange(size)
    centre_row, centre_column = torch.randint(0, size, (2, n_images, 1))
    is_hole_row = (span - centre_row).abs() < side // 2  # (n, size)
    is_hole_column = (span - centre_column).abs() < side // 2  # (n, size)
    images[is_hole_row[:, :, None] & is_hole_column[:, None, :]] = 255 * torch.tensor(CIFAR10_MEAN)


@dataclass
class Training:
    """A model in training, and its exponential average."""

    model: nn.Module
    compiled: Callable[[Tensor], Tensor]
    average: nn.Module
    optimiser: torch.optim.SGD
    schedule: torch.optim.lr_scheduler.OneCycleLR

    @classmethod
    def start(cls, epochs: int, steps_per_epoch: int) -> Training:
        """Make a model with random weights, and its optimiser."""
        model = TinyResNet()
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        optimiser = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimiser, max_lr=0.4, epochs=epochs, steps_per_epoch=steps_per_epoch, pct_start=0.25
        )
        return cls(
            model=model,
            compiled=torch.compile(model),
            average=copy.deepcopy(model).eval(),
            optimiser=optimiser,
            schedule=schedule,
        )

    def run_epoch(self, images: Tensor, targets: Tensor, batch_size: int) -> None:
        """Make one step with each full batch of the uint8 images, in a random order."""
        self.model.train()
        n_used = len(images) // batch_size * batch_size
        order = torch.randperm(len(images))[:n_used]
        for batch in torch.split(order, batch_size):
            self.step(images[batch], targets[batch])

    def step(self, images: Tensor, targets: Tensor) -> None:
        """Make one step with a batch of uint8 images."""
        inputs = normalise(augment(images)).to(memory_format=torch.channels_last)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            scores = self.compiled(inputs)
        loss = functional.cross_entropy(scores.float(), targets, label_smoothing=0.1)
        self.optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimiser.step()
        self.schedule.step()
        update_average(self.average, self.model, decay=AVERAGE_DECAY)


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
    guesses = [model(normalise(block)).argmax(1) for block in torch.split(images, EVALUATION_BATCH_SIZE)]
    return (torch.cat(guesses) == targets).float().mean().item()


def train(archives: tuple[Path, Path], *, epochs: int, batch_size: int, out: Path) -> None:
    """Train, print the test accuracy of each epoch, write the averaged weights."""
    torch.manual_seed(0)
    images, targets = read_archive(archives[0])
    test_images, test_targets = read_archive(archives[1])
    training = Training.start(epochs, steps_per_epoch=len(images) // batch_size)
    started = time.monotonic()
    for epoch in range(epochs):
        training.run_epoch(images, targets, batch_size)
        minutes = (time.monotonic() - started) / 60
        share = accuracy(training.average, test_images, test_targets)
        print(f"epoch {epoch + 1}/{epochs}  test accuracy {share:.4f}  {minutes:.1f} min", flush=True)
        save_file({name: tensor.contiguous() for name, tensor in training.average.state_dict().items()}, out)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("train", type=Path, help="archive of training images")
    parser.add_argument("test", type=Path, help="archive of test images")
    parser.add_argument("--epochs", type=int, default=18)
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--out", type=Path, default=Path("weights.safetensors"))
    options = parser.parse_args()
    train((options.train, options.test), epochs=options.epochs, batch_size=options.batch_size, out=options.out)


if __name__ == "__main__":
    main()
