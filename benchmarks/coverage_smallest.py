"""Find the smallest model of every timm module and torchvision family, and write ``coverage_models.py``.

Run ``python benchmarks/coverage_smallest.py`` after an update of timm or torchvision; it takes some minutes.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path

import torch
from topwork.models.torchvision_operators import ensure_torchvision_operators

TABLE = Path(__file__).with_name("coverage_models.py")
# fmt: off
FAMILIES = [
    "alexnet", "convnext", "densenet", "efficientnet", "efficientnet_v2", "googlenet", "inception_v3", "maxvit",
    "mnasnet", "mobilenet_v2", "mobilenet_v3", "regnet", "resnet", "resnext", "wide_resnet", "shufflenet_v2",
    "squeezenet", "swin", "swin_v2", "vgg", "vit",
]
# fmt: on


def main() -> None:
    warnings.simplefilter("ignore")
    ensure_torchvision_operators()
    versions = ", ".join(f'"{package}": "{version(package)}"' for package in ("timm", "torchvision"))
    TABLE.write_text(TEMPLATE.format(versions=versions, timm=rows(timm()), torchvision=rows(torchvision())), "utf-8")


def timm() -> dict[str, tuple[int, str]]:
    """Return the smallest model of each module, after its number of parameters."""
    import timm

    return {module: smallest_of_timm(timm.list_models(module=module)) for module in timm.list_modules()}


def smallest_of_timm(names: Iterable[str]) -> tuple[int, str]:
    """Create models on the meta device, where they need no memory; those that cannot be are left out."""
    import timm

    sizes: dict[str, int] = {}
    for name in names:
        try:
            with torch.device("meta"):
                sizes[name] = sum(p.numel() for p in timm.create_model(name).parameters())
        except Exception as error:
            print(f"left out: {name}: {type(error).__name__}: {error}", flush=True)
    return min((size, name) for name, size in sizes.items())


def torchvision() -> dict[str, tuple[int, str]]:
    """Return the smallest model of each family of classification networks, as the cards of their weights say."""
    from torchvision import models

    found: dict[str, list[tuple[int, str]]] = {family: [] for family in FAMILIES}
    for name in models.list_models(module=models):
        family = max((f for f in FAMILIES if name.startswith(f)), key=len)
        found[family].append((models.get_model_weights(name).DEFAULT.meta["num_params"], name))
    return {family: min(members) for family, members in found.items()}


def rows(found: dict[str, tuple[int, str]]) -> str:
    return "\n".join(f'    "{group}": ("{name}", {size:_}),' for group, (size, name) in found.items())


TEMPLATE = '''"""The smallest model of every timm module and torchvision family, with its number of parameters.

Written by ``python benchmarks/coverage_smallest.py``; not edited by hand.
"""

VERSIONS = {{{versions}}}

TIMM = {{
{timm}
}}

TORCHVISION = {{
{torchvision}
}}
'''

if __name__ == "__main__":
    main()
