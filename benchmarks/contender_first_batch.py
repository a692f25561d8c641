"""Contender: the features of a first batch of photographs, in a new process.

topwork finds its graph in the cache; the peer builds the model with PyTorch and timm, with the transform of timm.
"""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path
from typing import Any

NETWORK = "resnet50"


def with_topwork(paths: list[Path]) -> Any:
    import topwork

    warnings.simplefilter("ignore")  # of a provider that is passed over
    features = topwork.Extractor(topwork.BackboneSpec(f"timm:{NETWORK}", "random")).fit_transform(paths)
    return features


def with_torch(paths: list[Path]) -> Any:
    import torch
    from PIL import Image
    from topwork.models.torchvision_operators import ensure_torchvision_operators

    ensure_torchvision_operators()  # timm imports torchvision
    import timm

    network = timm.create_model(NETWORK, num_classes=0).eval()
    transform = timm.data.create_transform(**timm.data.resolve_data_config({}, model=network))
    with torch.inference_mode():
        return network(torch.stack([transform(Image.open(path).convert("RGB")) for path in paths]))


def main() -> None:
    way, folder = {"topwork": with_topwork, "torch": with_torch}[sys.argv[1]], Path(sys.argv[2])
    paths = sorted(folder.glob("*.jpg"))
    rows = len(way(paths))
    print(json.dumps({"items": rows, "torch": "torch" in sys.modules}))


if __name__ == "__main__":
    main()
