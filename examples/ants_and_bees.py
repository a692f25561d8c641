"""Ants or bees: ``python ants_and_bees.py PHOTOGRAPHS [WEIGHTS]``.

PHOTOGRAPHS has ``train`` and ``val``, each with a folder for each class. Without WEIGHTS of MobileNetV2 0.35, converted
from Keras, timm downloads those of MobileNetV2 0.50.
"""

import sys
import tempfile
from pathlib import Path

import topwork
from topwork.pipelines.report import write_report


def load_backbone(weights: list[str]) -> topwork.Backbone:
    """Return a small network for photographs."""
    if not weights:
        return topwork.load_backbone("timm:mobilenetv2_050")
    return topwork.load_backbone(
        "timm:mobilenetv2_035",
        weights=weights[0],
        model_args={"num_classes": 0, "pad_type": "same", "bn_eps": 1e-3},  # as in Keras
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
    )


photographs, *weights = sys.argv[1:]
backbone = load_backbone(weights)
work = Path(tempfile.mkdtemp())

# Which layer? Three are enough to see where it leads.
probe = topwork.LayerProbe(backbone, layers=["blocks.3", "blocks.5", "last"], baselines=False)
probe.fit(f"{photographs}/train")
print("best layer", probe.best_.layer)

# Train on its features, which are kept in a store.
classifier = topwork.TransferClassifier(backbone, layer=probe.best_.layer, store=work / "insects")
classifier.fit(f"{photographs}/train")
print(classifier.fit_report_)
print(f"accuracy {classifier.score(f'{photographs}/val'):.3f} on new photographs")

# What to look at: a report, and the file to deploy.
classifier.save(work / "bundle")
written = write_report(work / "bundle", work / "report.html", f"{photographs}/val")
print(written["items"], "photographs in the report")
fused = classifier.to_onnx(work / "ants-or-bees.onnx", items=f"{photographs}/val")
print("one file, compared on", fused.n_items, "photographs")
