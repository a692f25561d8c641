"""Draw the pictures of the tutorial: ``python docs/images/draw_pictures.py PHOTOGRAPHS WEIGHTS``.

PHOTOGRAPHS is the folder of ants and bees with ``train`` and ``val``, WEIGHTS are those of MobileNetV2 0.35.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import topwork
from matplotlib import pyplot
from matplotlib.figure import Figure

FOLDER = Path(__file__).parent
GREY = "#808890"
"""Readable on white and on black."""
STYLE = {
    "axes.edgecolor": GREY,
    "axes.facecolor": "none",
    "axes.labelcolor": GREY,
    "axes.titlecolor": GREY,
    "figure.facecolor": "none",
    "figure.figsize": (6.4, 4.0),
    "font.family": "sans-serif",
    "grid.color": GREY,
    "legend.labelcolor": GREY,
    "savefig.bbox": "tight",
    "svg.fonttype": "none",
    "svg.hashsalt": "topwork",
    "text.color": GREY,
    "xtick.color": GREY,
    "ytick.color": GREY,
}


def main() -> None:
    """Draw all pictures."""
    photographs, weights = map(Path, sys.argv[1:])
    backbone = topwork.load_backbone(
        "timm:mobilenetv2_035",
        weights=weights,
        model_args={"num_classes": 0, "pad_type": "same", "bn_eps": 1e-3},
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
    )
    with tempfile.TemporaryDirectory() as folder, pyplot.rc_context(STYLE):
        store = Path(folder) / "insects"
        save(topwork.LayerProbe(backbone, baselines=False).fit(photographs / "train").plot().figure, "layers")
        classifier = topwork.TransferClassifier(backbone, store=store).fit(photographs / "train")
        save(topwork.FeatureStore.open(store).plot_map().figure_, "map")
        save(classifier.plot_confusion(photographs / "val").figure_, "confusion")


def save(figure: Figure, name: str) -> None:
    """Write a picture, without the date."""
    figure.savefig(FOLDER / f"{name}.svg", transparent=True, metadata={"Date": None})


if __name__ == "__main__":
    main()
