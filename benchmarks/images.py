"""Images, end to end: JPEG files to features in a store, compared with a ``DataLoader`` and PyTorch.

For each model the peers are eager float32, autocast to bfloat16, and ``torch.compile`` in bfloat16 (in float32, and
without autocast, where the processor lacks it), channels last, with freezing; each uses the best of a few batch sizes.
Nothing is compiled or exported during the measurement. The
share of the possible is the speed of a job divided by cores / (seconds to decode an item on one core + core-seconds
to infer it), both measured separately.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np
from contest import Outcome, arguments, contest, fastest, relative_errors, use_work_folder
from data_sets import photographs
from page import table, write_section
from topwork.hardware import available_cores, has_bfloat16, instruction_sets

NETWORKS = {"ResNet-50": "resnet50", "ViT-S/16": "vit_small_patch16_224", "MobileNetV3-Large": "mobilenetv3_large_100"}
PEERS = {"eager float32": "float32", "compiled float32": "compiled"}
if has_bfloat16():
    PEERS = {"eager float32": "float32", "autocast bfloat16": "autocast", "compiled bfloat16": "compiled"}
OURS = {
    "auto": ["--precision", "auto"],
    "auto, fast decoding": ["--precision", "auto", "--decode", "fast"],
    "fp32": ["--precision", "fp32"],
}
BATCH_SIZES = (16, 32, 64)
IMAGES = 1024
"""Whole batches of every size."""
PROBED = 512
"""Images by which a batch size is chosen."""
WORKERS = 2
SHARE = 0.9


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--images", type=int, default=IMAGES)
    parser.add_argument("--provider", default="auto", help="of topwork")
    parser.add_argument("--networks", type=lambda text: text.split(","), default=list(NETWORKS))
    options = parser.parse_args()
    use_work_folder(options.work)
    folder = photographs(options.data, options.work, options.images)
    for name in options.networks:
        text = body(name, measured(name, folder, options), options)
        write_section(f"Images, {name}", text, options.page, ("timm", "torchvision"))


def measured(name: str, folder: Path, options: argparse.Namespace) -> dict[str, Outcome]:
    """Return the outcomes of a network's contenders, each peer in its best batch size."""
    contest({f"{name}, {way}: preparation": ours(name, way, folder, options, "prepare") for way in OURS}, 1)
    contenders: dict[str, list[Any]] = {}
    for peer, mode in PEERS.items():
        sizes = [size for size in BATCH_SIZES if size <= options.images]
        probes = {size: [*torch(name, mode, size, folder), "--limit", PROBED] for size in sizes}
        contenders[peer] = torch(name, mode, fastest(probes), folder) + kept(name, peer, options)
    contenders |= {way: ours(name, way, folder, options) + kept(name, way, options) for way in OURS}
    contenders["apart"] = ours(name, "auto", folder, options, "apart")
    print(f"{name}: {options.repeats} runs of each contender", file=sys.stderr, flush=True)
    return contest(contenders, options.repeats)


def torch(name: str, mode: str, batch_size: int, folder: Path) -> list[Any]:
    return ["contender_torch.py", folder, "--network", NETWORKS[name], "--mode", mode, "--batch-size", batch_size]


def ours(name: str, way: str, folder: Path, options: argparse.Namespace, timed: str = "store") -> list[Any]:
    backbone = ["--backbone", f"timm:{NETWORKS[name]}", "--weights", "random", "--work", options.work]
    return ["contender_topwork.py", folder, *backbone, *OURS[way], "--provider", options.provider, "--way", timed]


def kept(name: str, contender: str, options: argparse.Namespace) -> list[Any]:
    """Let a contender leave its features for comparison; those of an earlier run are removed."""
    path = features_of(name, contender, options)
    path.unlink(missing_ok=True)
    return ["--features", path]


def features_of(name: str, contender: str, options: argparse.Namespace) -> Path:
    return options.work / f"{NETWORKS[name]}, {contender}.npy"


def body(name: str, outcomes: dict[str, Outcome], options: argparse.Namespace) -> str:
    return TEMPLATE.format(
        name=name,
        images=options.images,
        repeats=options.repeats,
        workers=WORKERS,
        sizes=", ".join(map(str, BATCH_SIZES)),
        cores=available_cores(),
        ratios=table(["peer", "batch", "images/s", *OURS, "at least"], [row(name, peer, outcomes) for peer in PEERS]),
        jobs=table(
            ["job", "precision", "images/s", "opening", "writing", "error"],
            [job(name, way, outcomes, options) for way in OURS],
        ),
        shares=table(["images/s", "decoding", "inference", "possible", "share", "at least"], [share(outcomes)]),
    )


def row(name: str, peer: str, outcomes: dict[str, Outcome]) -> list[Any]:
    """Return how many times as fast as a peer each job is."""
    theirs = outcomes[peer]
    if theirs.failure:
        return [peer, "", theirs.told, *("" for _ in OURS), goal(name, peer)]
    ratios = [outcomes[way].ratio_to(theirs) for way in OURS]
    return [peer, theirs["batch_size"], theirs.told, *ratios, goal(name, peer)]


def goal(name: str, peer: str) -> str:
    """Return what is asked of topwork on this machine."""
    if not has_bfloat16():
        eager = {"ResNet-50": "auto 3, fp32 2.8", "ViT-S/16": "auto 1.5", "MobileNetV3-Large": "auto 3.5"}
        return eager[name] if peer == "eager float32" else {"ResNet-50": "auto 1.3"}.get(name, "")
    if peer == "compiled bfloat16":
        return "auto 1.2"
    if peer == "autocast bfloat16":
        return "auto 6" if name == "ResNet-50" else ""
    if name != "ResNet-50":
        return {"ViT-S/16": "auto 4", "MobileNetV3-Large": "auto 5"}[name]
    return "auto 12, fast decoding 15, fp32 2.8" if "amx_bf16" in instruction_sets() else "auto 4, fp32 2.8"


def job(name: str, way: str, outcomes: dict[str, Outcome], options: argparse.Namespace) -> list[Any]:
    """Return what a job took, and how far its features are from those of eager float32."""
    ours = outcomes[way]
    if ours.failure:
        return [way, "", ours.told]
    chosen, writing = f"{ours['precision']}, {ours['provider']}", ours["write"] / ours["whole"]
    return [way, chosen, ours.told, f"{ours['opening']:.1f} s", f"{writing:.1%}", error(name, way, options)]


def error(name: str, way: str, options: argparse.Namespace) -> str:
    """Return the 99th percentile and the largest of the relative L2 errors."""
    paths = [features_of(name, contender, options) for contender in (way, "eager float32")]
    if not all(path.is_file() for path in paths):
        return ""
    errors = relative_errors(*map(np.load, paths))
    return f"{np.percentile(errors, 99):.1e}, {max(errors):.1e}"


def share(outcomes: dict[str, Outcome]) -> list[Any]:
    """Return the share of the possible that a job with precision auto reaches."""
    apart, ours = outcomes["apart"], outcomes["auto"]
    if apart.failure or ours.failure:
        return [apart.told, ours.told]
    possible = available_cores() / (apart["decode"] + apart["inference"])
    costs = [f"{1000 * apart[stage]:.2f} ms" for stage in ("decode", "inference")]
    reached = [f"{ours['items'] / ours[time] / possible:.2f}" for time in ("seconds", "whole")]
    return [ours.told, *costs, f"{possible:.1f}", f"{reached[0]} ({reached[1]})", SHARE]


TEMPLATE = """`images.py`: {name} on {images} JPEG files of 470 x 390, made from the ants and bees of PyTorch's
tutorial; medians of {repeats} runs. A peer is a `DataLoader` with {workers} workers and timm's own transform and
network, in its best batch size of {sizes}; a job of topwork goes from the folder to a new store. The ratios say how
many times as fast the job is, once its session is open, and in brackets with the opening. Both sides have the same
random weights.

{ratios}

What the jobs took. The opening of the session is not in images/s; writing is a share of the whole; the error is that of
the features beside eager float32 (relative L2, 99th percentile and largest), and with random weights says no more than
that both compute the same.

{jobs}

The share of the possible with precision auto: images/s beside {cores} cores / (decoding + inference), in core-seconds
for one image, each measured alone; in brackets with the opening.

{shares}
"""

if __name__ == "__main__":
    main()
