"""A GPU: features, sweeps and training on it, against PyTorch, and how far its features are from the model's.

``python benchmarks/gpu.py`` takes at most eight minutes, and downloads nothing. Where no GPU is found, or with ``--size
small``, it is a test of itself on the processor, and its figures mean nothing. Each contender runs in a process of its
own; one that fails, or for which a package is missing, has its reason in its row.
"""

from __future__ import annotations

import argparse
import csv
import importlib.util
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from contest import Outcome, add_run, arguments, relative_errors, use_work_folder
from data_sets import banking77, hymenoptera, minilm, photographs
from page import PAGE, table, write_section
from PIL import Image
from topwork.hardware import available_cores

BATCH_SIZE_OF_PEER = 256
ORIGINALS = 512
"""Different photographs; further files are copies of them with a comment."""
COMMENT = b"\xff\xfe"
"""Marker of a comment in a JPEG file."""
MIN_SECONDS = 5.0
"""A contender for which less is left is not started."""
WORDS = ("which", "card", "payment", "account", "fee", "top up", "limit", "why", "was", "my", "not", "how", "long", "a")
NETWORKS = {
    "ResNet-50": ("timm:resnet50", "torchvision:resnet50"),
    "ViT-B/16": ("timm:vit_base_patch16_224", "torchvision:vit_b_16"),
    "tiny": ("topwork:tiny",),
}
"""Backbones of images, of which the first whose package is installed is taken, with random weights."""


@dataclass(frozen=True)
class Size:
    """How much is measured."""

    networks: Sequence[str]
    images: int
    texts: int
    batch_sizes: Sequence[int]
    rows: Sequence[int]
    """Rows of the sweeps; the peer has the first number only."""
    columns: int
    classes: int
    map_rows: Mapping[str, int]
    """Rows of fine-tuning on each device."""
    head_rows: int


SIZES = {
    "small": Size(
        networks=["tiny"],
        images=48,
        texts=48,
        batch_sizes=[16],
        rows=[400],
        columns=16,
        classes=5,
        map_rows={"cpu": 8},
        head_rows=500,
    ),
    "full": Size(
        networks=["ResNet-50", "ViT-B/16", "MiniLM"],
        images=8192,
        texts=40_000,
        batch_sizes=[32, 128, 256],
        rows=[40_000, 1_281_167],
        columns=2048,
        classes=1000,
        map_rows={"cpu": 256, "cuda": 4096},
        head_rows=50_000,
    ),
}


class Clock:
    """The time that is left for a part: all but what is reserved for the parts after it."""

    def __init__(self, seconds: float) -> None:
        self.started = time.monotonic()
        self.seconds = seconds
        self.reserved = 0.0

    @property
    def passed(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.started

    @property
    def left(self) -> float:
        """Seconds until the end of a part."""
        return self.seconds - self.reserved - self.passed

    def say(self, what: str) -> None:
        """Print what is done now."""
        print(f"[{self.passed:4.0f} s] {what}", file=sys.stderr, flush=True)


def main() -> None:
    parser = arguments(__doc__, repeats=3)
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--size", choices=SIZES, help="full on a GPU, otherwise small")
    parser.add_argument("--parts", type=lambda text: text.split(","), default=list(PARTS), help=",".join(PARTS))
    parser.add_argument("--networks", type=lambda text: text.split(","), help="some of the networks")
    parser.add_argument("--seconds", type=float, default=sum(SECONDS.values()), help="of all parts together")
    parser.set_defaults(page=None)
    options = parser.parse_args()
    clock = Clock(options.seconds)
    options.device, name = find_device(options.device)
    options.size = options.size or ("full" if options.device == "cuda" else "small")
    use_work_folder(options.work)
    page = options.page or (PAGE if options.size == "full" else options.work / "gpu.md")
    for number, part in enumerate(options.parts):
        clock.reserved = sum(SECONDS[later] for later in options.parts[number + 1 :])
        clock.say(f"{part}, on {name}")
        try:
            body = PARTS[part](options, SIZES[options.size], clock)
        except Exception as error:  # the other parts count
            clock.say(f"{part} failed: {error!r}")
            body = f"\nNot measured: {error!r}."
        about = f"`gpu.py --parts {part} --size {options.size}`, on {name}, with {available_cores()} cores."
        write_section(
            f"GPU: {part}", f"{about}{body}", page, ("onnxruntime-gpu", "timm", "torchvision", "transformers")
        )
    clock.say(f"written to {page}")


def find_device(wanted: str) -> tuple[str, str]:
    """Return the device, and its name."""
    import torch

    if wanted == "cpu" or (wanted == "auto" and not torch.cuda.is_available()):
        return "cpu", "the processor (a test: the figures of a GPU are owed)"
    return "cuda", torch.cuda.get_device_name()


def list_providers(device: str) -> list[str]:
    """Return the providers to measure; where a GPU has none, the row of ``cuda`` says so."""
    if device == "cpu":
        return ["cpu"]
    if importlib.util.find_spec("onnxruntime") is None:
        return ["cuda"]
    import onnxruntime

    has_tensorrt = "TensorrtExecutionProvider" in onnxruntime.get_available_providers()
    return ["cuda", "tensorrt"] if has_tensorrt else ["cuda"]


# Contenders.


def take_turns(
    contenders: Mapping[str, Sequence[Any]], clock: Clock, seconds: float, repeats: int = 1
) -> dict[str, Outcome]:
    """Let every contender run, then every one again, while there is time; the first run of each is a must."""
    end = clock.passed + min(seconds, clock.left)
    outcomes = {name: Outcome() for name in contenders}
    for repeat in range(repeats):
        for name, command in contenders.items():
            outcome = outcomes[name]
            left = end - clock.passed
            longest = max((run["wall"] for run in outcome.runs), default=0.0)
            if outcome.failure or (repeat and left < 1.2 * longest):
                continue
            if left < MIN_SECONDS and not outcome.runs:
                outcome.failure = "no time was left"
            else:
                add_run(outcome, f"[{clock.passed:4.0f} s] {name}", command, limit=left)
    return outcomes


def run_alone(name: str, command: Sequence[Any], clock: Clock, seconds: float) -> Outcome:
    """Let one contender run once."""
    return take_turns({name: command}, clock, seconds)[name]


# Networks.


def measure_networks(options: argparse.Namespace, size: Size, clock: Clock) -> str:
    rows: list[list[Any]] = []
    names = options.networks or size.networks
    for number, name in enumerate(names):
        share = clock.left / (len(names) - number)
        try:
            rows += measure_network(name, options, size, clock, share)
        except Exception as error:  # the other networks count
            rows.append([name, f"did not run: {error!r}"])
    return NETWORKS_TEMPLATE.format(
        images=size.images, texts=size.texts, peer=BATCH_SIZE_OF_PEER, table=table(NETWORK_COLUMNS, rows)
    )


def measure_network(
    name: str, options: argparse.Namespace, size: Size, clock: Clock, seconds: float
) -> list[list[Any]]:
    """Return the rows of a network: the peer, and topwork on each provider."""
    end = clock.passed + seconds
    described, source = describe_network(name, options, size)
    kept = {who: options.work / f"gpu-{who}.npy" for who in ("torch", *list_providers(options.device))}
    for path in kept.values():
        path.unlink(missing_ok=True)
    peer_size = min(BATCH_SIZE_OF_PEER, size.images)
    device = ["--device", options.device, "--batch-sizes", peer_size]
    contenders = {
        "torch": ["contender_gpu.py", "torch", "--source", source, *described, *device, "--features", kept["torch"]]
    }
    parts: dict[str, Outcome] = {}
    for provider in list_providers(options.device):
        way = [*described, "--provider", provider, "--precision", "auto" if options.device == "cuda" else "fp32"]
        command = ["contender_gpu.py", "parts", "--source", source, *way, "--batch-sizes", *size.batch_sizes]
        parts[provider] = run_alone(f"{name}, {provider}, parts", command, clock, end - clock.passed)
        if parts[provider].failure or parts[provider]["missing"]:
            continue
        batch = ["--batch-size", parts[provider]["batch_size"], "--features", kept[provider]]
        contenders[provider] = ["contender_topwork.py", source, *way, *batch, "--work", options.work]
    outcomes = take_turns(contenders, clock, end - clock.passed, options.repeats)
    return [
        describe_peer(name, outcomes["torch"], parts),
        *(describe_job(name, provider, outcomes, parts[provider], kept) for provider in parts),
    ]


def describe_network(name: str, options: argparse.Namespace, size: Size) -> tuple[list[Any], Path]:
    """Return the arguments that name a network, and its items."""
    if name == "MiniLM":
        return ["--backbone", f"hf:{minilm()}", "--normalize"], make_texts(options, size.texts)
    candidates = NETWORKS[name]
    installed = [each for each in candidates if importlib.util.find_spec(each.partition(":")[0]) is not None]
    backbone = ["--backbone", (installed or candidates)[0]]
    if not backbone[1].startswith("topwork:"):
        backbone += ["--weights", "random"]
    return backbone, make_images(options, size.images)


def describe_peer(name: str, peer: Outcome, parts: Mapping[str, Outcome]) -> list[Any]:
    """Return the row of PyTorch; its share is that of what topwork's decoder and its own network allow."""
    if peer.failure:
        return [name, "torch", "", "", peer.told]
    decoding = find_decoding(parts)
    bound = min(peer["device"], decoding) if decoding else peer["device"]
    rate = peer["items"] / peer["seconds"]
    bounds = [f"{decoding:.0f}" if decoding else "", f"{peer['device']:.0f}", f"{rate / bound:.2f}"]
    return [name, "torch", peer["batch_size"], "", peer.told, *bounds]


def describe_job(
    name: str, provider: str, outcomes: Mapping[str, Outcome], parts: Outcome, kept: Mapping[str, Path]
) -> list[Any]:
    """Return the row of topwork on a provider."""
    who = f"topwork, {provider}"
    if parts.failure:
        return [name, who, "", "", parts.told]
    decoding = f"{parts['decoding']:.0f}"
    if parts["missing"]:
        return [name, who, "", "", f"did not run: {parts['missing']}", decoding]
    ours = outcomes[provider]
    bounds = [decoding, f"{parts['device']:.0f}"]
    if ours.failure:
        return [name, who, parts["batch_size"], "", ours.told, *bounds]
    bound = min(parts["decoding"], parts["device"])
    share = ours["items"] / ours["seconds"] / bound
    times = ours.ratio_to(outcomes["torch"])
    opening = f"{parts['preparation']:.0f} s, {ours['opening']:.1f} s"
    error = describe_error(kept[provider], kept["torch"])
    return [
        name,
        who,
        parts["batch_size"],
        ours["precision"],
        ours.told,
        *bounds,
        f"{share:.2f}",
        times,
        opening,
        error,
    ]


def find_decoding(parts: Mapping[str, Outcome]) -> float | None:
    """Return the rate of decoding on all cores, if it was measured."""
    return next((outcome["decoding"] for outcome in parts.values() if not outcome.failure), None)


def describe_error(ours: Path, theirs: Path) -> str:
    """Return the 99th percentile of the relative L2 error beside PyTorch's features, where both are there."""
    if not ours.is_file() or not theirs.is_file():
        return ""
    return f"{np.percentile(relative_errors(np.load(ours), np.load(theirs)), 99):.1e}"


def make_images(options: argparse.Namespace, count: int) -> Path:
    """Return a folder of JPEG files; beyond the photographs they are copies whose comments differ."""
    folder: Path = options.work / f"gpu-images-{count}"
    if folder.is_dir():
        return folder
    originals = sorted(make_originals(options, min(count, ORIGINALS)).glob("*.jpg"))
    unfinished = folder.with_name(f"{folder.name}-unfinished")
    unfinished.mkdir(exist_ok=True)
    for number in range(count):
        content = originals[number % len(originals)].read_bytes()
        comment = b"%08d" % number
        marked = content[:2] + COMMENT + (2 + len(comment)).to_bytes(2, "big") + comment + content[2:]
        (unfinished / f"{number:06d}.jpg").write_bytes(marked)
    unfinished.rename(folder)
    return folder


def make_originals(options: argparse.Namespace, count: int) -> Path:
    """Return a folder of photographs, or where the data are missing of smooth noise of the same size."""
    if (options.data / "hymenoptera.tar").is_file():
        hymenoptera(options.data, options.work)
        return photographs(options.data, options.work, count)
    folder: Path = options.work / f"gpu-noise-{count}"
    folder.mkdir(exist_ok=True)
    generator = np.random.default_rng(0)
    for number in range(count):
        coarse = generator.integers(0, 256, (20, 24, 3), dtype=np.uint8)
        smooth = np.asarray(Image.fromarray(coarse).resize((470, 390), Image.Resampling.BICUBIC), np.int16)
        noisy = np.clip(smooth + generator.integers(-12, 13, smooth.shape), 0, 255).astype(np.uint8)
        Image.fromarray(noisy).save(folder / f"{number:05d}.jpg", quality=90)
    return folder


def make_texts(options: argparse.Namespace, count: int) -> Path:
    """Return a table of texts: Banking77's, or drawn words, again and again with a number in front of them."""
    path: Path = options.work / f"gpu-texts-{count}.csv"
    if (options.data / "banking77").is_dir():
        texts = banking77(options.data, "train")[0]
    else:
        generator = np.random.default_rng(0)
        texts = [" ".join(generator.choice(WORDS, generator.integers(6, 24))) for _ in range(min(count, 10_000))]
    with path.open("w", encoding="utf-8", newline="") as stream:
        rows = ([f"{number} {texts[number % len(texts)]}"] for number in range(count))
        csv.writer(stream).writerows([["text"], *rows])
    return path


# The other parts.

PRECISIONS = {"cpu": ["fp32"], "cuda": ["fp32", "fp16"], "tensorrt": ["fp32", "fp16", "bf16"]}


def measure_certificates(options: argparse.Namespace, size: Size, clock: Clock) -> str:
    rows = []
    for name in options.networks or size.networks:
        try:
            described, source = describe_network(name, options, size)
        except ImportError as error:
            rows.append([name, "", "", f"did not run: {error}"])
            continue
        for provider in list_providers(options.device):
            for precision in PRECISIONS[provider]:
                way = ["--source", source, *described, "--provider", provider, "--precision", precision]
                what = f"{name}, {provider}, {precision}"
                found = run_alone(what, ["contender_gpu.py", "certificate", *way], clock, clock.left)
                rows.append([name, provider, precision, *describe_certificate(found)])
    return f"{CERTIFICATE_TEXT}\n\n{table(('network', 'provider', 'precision', 'error', 'at most', 'wrong one'), rows)}"


def describe_certificate(found: Outcome) -> list[str]:
    if found.failure:
        return [found.told]
    refused = f"refused: {found['refused']}" if found["refused"] else "ACCEPTED"
    return [f"{found['error']:.1e}", f"{found['limit']:.0e}", refused]


def measure_heads(options: argparse.Namespace, size: Size, clock: Clock) -> str:
    contenders = {}
    for device in dict.fromkeys((options.device, "cpu")):
        shape = ["--rows", size.head_rows, "--columns", size.columns, "--classes", 100]
        contenders[device] = ["contender_gpu.py", "heads", *shape, "--device", device]
        contenders[device] += ["--map-rows", size.map_rows[device]]
    found = take_turns(contenders, clock, clock.left, options.repeats)
    rows = []
    for device, outcome in found.items():
        if outcome.failure:
            rows.append([device, outcome.told])
            continue
        rows.append([device, f"{outcome['perceptron']:.0f}", f"{outcome['finetuning']:.1f}"])
    text = HEADS_TEXT.format(rows=size.head_rows, columns=size.columns)
    return f"{text}\n\n{table(('device', 'perceptron, rows/s', 'fine-tuning, rows/s'), rows)}"


def measure_sweeps(options: argparse.Namespace, size: Size, clock: Clock) -> str:
    rows = []
    first, *larger = size.rows
    commands = {who: sweep_command(who, first, "float16", options, size) for who in ("topwork", "torch")}
    found = take_turns(commands, clock, clock.left / 2 if larger else clock.left, 1)
    rows += [describe_sweep(who, first, "float16", outcome) for who, outcome in found.items()]
    for n_rows in larger:
        for dtype in ("float16", "float32"):
            command = sweep_command("topwork", n_rows, dtype, options, size)
            outcome = run_alone(f"topwork, {n_rows} rows, {dtype}", command, clock, clock.left)
            rows.append(describe_sweep("topwork", n_rows, dtype, outcome))
    columns = ("who", "rows", "features", "seconds", "penalties fitted", "C", "loss held out", "accuracy")
    text = SWEEP_TEXT.format(columns=size.columns, classes=size.classes, first=first)
    return f"{text}\n\n{table(columns, rows)}"


def sweep_command(who: str, n_rows: int, dtype: str, options: argparse.Namespace, size: Size) -> list[Any]:
    shape = ["--rows", n_rows, "--columns", size.columns, "--classes", size.classes, "--dtype", dtype]
    return ["contender_gpu.py", "sweep", "--who", who, "--device", options.device, *shape]


def describe_sweep(who: str, n_rows: int, dtype: str, found: Outcome) -> list[Any]:
    cells = [who, f"{n_rows:,}", dtype]
    if found.failure:
        return [*cells, found.told]
    figures = [f"{found['seconds']:.1f}", f"{found['penalties']:.0f}", f"{found['C']:.2g}", f"{found['loss']:.4f}"]
    return [*cells, *figures, f"{found['accuracy']:.4f}"]


PARTS = {
    "networks": measure_networks,
    "certificate": measure_certificates,
    "heads": measure_heads,
    "sweep": measure_sweeps,
}
SECONDS = {"networks": 300, "certificate": 35, "heads": 35, "sweep": 100}
"""What the parts take at most; what one does not use is left to the next."""

NETWORK_COLUMNS = (
    *("network", "contender", "batch", "precision", "items/s", "decoding", "device alone", "share"),
    *("times torch", "preparing, opening", "error"),
)
NETWORKS_TEMPLATE = """
{images} JPEG files of 470 x 390 (photographs, each in files that differ in a comment), and {texts} texts. The peer is
a `DataLoader` with a worker for each core and pinned memory, in front of `torch.compile` in float16, channels last, in
batches of {peer}; pixels are sent as bytes and normalised on the device; workers are started and the network compiled
before the measurement. (On a processor nothing is compiled, and the peer computes in float32.) topwork goes from the
folder to a new store, with precision auto, in the best of a few batch sizes. *Decoding* is that of topwork on all
cores, *device alone* is inference of decoded items, both in items/s; the share is that of the smaller of the two.
*Times torch* is without the opening of the session, and in brackets with it; *preparing* is the export with the choice
of a precision, which is done once. The error is that beside PyTorch's features (relative L2, 99th percentile).

{table}
"""
CERTIFICATE_TEXT = """
The errors by which the provider check accepts a provider (relative L2, the largest of the canaries, against the
unmodified model), and whether it refuses a session of the same provider that computes other features: half of them with
another sign."""
HEADS_TEXT = """
Training of a perceptron (`MLPHead`, 256 hidden units, batches of 128) on {rows:,} x {columns:,} features of 100
classes, and of the last block of a ViT-B with a head from maps (197 x 768, float16, batches of 64)."""
SWEEP_TEXT = """
`LinearProbeCV`: ten penalties and five folds, {columns:,} drawn features and {classes:,} classes, chosen by accuracy.
The peer has {first:,} rows only: `torch.optim.LBFGS` on the same device, in float32, each fold from the weights of the
penalty before, until the loss changes by less than 1e-5. topwork leaves out penalties that are hopeless."""

if __name__ == "__main__":
    main()
