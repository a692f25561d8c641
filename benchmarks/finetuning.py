"""Training above a cut from cached maps, against the same training in plain PyTorch.

``python benchmarks/finetuning.py`` measures four things, each a section of ``docs/benchmarks.md``:

- the losses of 50 steps from maps in float32, against a plain loop over the whole network with a frozen trunk, with the
  same weights, batches and optimiser;
- the time of an epoch, against that loop: by turns in one process, on tensors in memory, and for images with decoding;
- the bytes of the maps, as ``topwork extract --plan`` forecasts them, against those on the disk;
- reading maps that are too large for the memory in the order of training, against reading them as they lie.
"""

from __future__ import annotations

import copy
import itertools
import os
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import topwork
import torch
from contest import arguments, use_work_folder
from data_sets import banking77, cifar, hymenoptera, minilm, unpacked
from page import write_section
from topwork.extract.engine.run_config import RunConfig
from topwork.extract.graphs.cutting import cutter_for
from topwork.extract.jobs.plan import plan
from topwork.heads.module_training.options import ModuleTrainingOptions
from topwork.heads.module_training.rows import shuffle_rows
from topwork.heads.module_training.trainer import ModuleTrainer
from topwork.models.torchvision_operators import ensure_torchvision_operators
from topwork.pipelines.finetuning.linear_heads import Standardisation
from topwork.pipelines.finetuning.network import make_network
from topwork.pipelines.finetuning.stored_maps import StoredMaps
from topwork.pipelines.finetuning.tuning import LabelledMaps
from torch import Tensor, nn
from trained_cases import cifar_network, mobilenet

BATCH_SIZE = 64
N_STEPS = 50
N_CLASSES = 10
RATE = 1e-3
Features = Callable[[nn.Module, Sequence[Tensor]], Tensor]


@dataclass(frozen=True)
class Case:
    """A network and its items: which block is the lowest that is trained, and how PyTorch computes its features."""

    name: str
    backbone: topwork.Backbone
    cut: str
    trained: str
    """Beginning of the names of the first parameters above the cut."""
    items: Any
    features: Features
    transform: Any = None
    """For images: what torchvision does to them."""


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--parts", default="epochs,losses,disk,reading", help="what to measure")
    options = parser.parse_args()
    use_work_folder(options.work)
    ensure_torchvision_operators()
    cases = list(make_cases(options.data, options.work))
    parts: dict[str, tuple[str, Callable[[], str]]] = {
        "epochs": ("Fine-tuning: time of an epoch", lambda: describe_epochs(cases, options.work, options.repeats)),
        "losses": ("Fine-tuning: losses", lambda: describe_losses(cases, options.work)),
        "disk": ("Fine-tuning: disk", lambda: describe_disk(options.data, options.work)),
        "reading": (
            "Fine-tuning: reading maps",
            lambda: describe_reading(options.data, options.work, options.repeats),
        ),
    }
    for part in options.parts.split(","):
        title, describe = parts[part]
        body = f"`python benchmarks/{Path(__file__).name} --parts {part}`. Batches of {BATCH_SIZE}.\n\n{describe()}"
        write_section(title, body, options.page, ("torch", "onnxruntime"))


def make_cases(data: Path, work: Path) -> Iterator[Case]:
    """Yield the three networks with their items."""
    from torchvision import transforms

    yield Case(
        "ResNet-20, CIFAR-10",
        cifar_network(data, "exact"),
        "layer2",
        "layer3",
        cifar(data, work, 2000),
        compute_resnet20,
        transforms.Compose([transforms.ToTensor(), transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))]),
    )
    yield Case(
        "MobileNetV2 0.35, hymenoptera",
        mobilenet(data, "exact"),
        "blocks.4",
        "blocks.5",
        hymenoptera(data, work) / "train",
        lambda module, inputs: module(inputs[0]),
        transforms.Compose(
            [
                transforms.Resize(256, transforms.InterpolationMode.BICUBIC),
                transforms.CenterCrop(224),
                transforms.ToTensor(),
                transforms.Normalize(0.5, 0.5),
            ]
        ),
    )
    texts, _ = banking77(data, "train", 2000)
    no_dropout = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    yield Case(
        "MiniLM, Banking77",
        topwork.load_backbone(f"hf:{minilm()}", model_args=no_dropout),
        "encoder.layer.4",
        "encoder.layer.5",
        texts,
        lambda module, inputs: module(*inputs),
    )


def compute_resnet20(module: nn.Module, inputs: Sequence[Tensor]) -> Tensor:
    """Return the features of ResNet-20, as its own ``forward`` computes them."""
    x: Any = torch.relu(module.bn1(module.conv1(inputs[0])))
    features: Tensor = module.layer3(module.layer2(module.layer1(x))).mean((2, 3))
    return features


# Training, in both ways.


class Recorder(ModuleTrainer):
    """A trainer that keeps the loss of each step."""

    losses: list[float]

    def run_step(self, *given: Any) -> float:
        """Make one step, and keep its loss."""
        loss = super().run_step(*given)
        self.losses.append(loss)
        return loss


def store_maps(case: Case, layer: str, dtype: str, work: Path) -> topwork.FeatureStore:
    """Return a store of the maps of a case, in float32 arithmetic on ONNX Runtime's own provider."""
    extractor = topwork.Extractor(case.backbone, layer=layer, pool="none", precision="fp32", provider="cpu")
    path = work / "maps" / f"{case.name}-{layer}-{dtype}-{extractor.identity['weights'][:12]}".replace(" ", "")
    store = topwork.FeatureStore.open_or_create(path, extractor, dtype)
    topwork.extract_features(case.items, store, provider="cpu", on_error="record")
    return store


def open_maps(case: Case, layer: str, dtype: str, work: Path) -> LabelledMaps:
    """Return the maps of a case with labels that only have to be learned by heart."""
    store = store_maps(case, layer, dtype, work)
    n_rows = len(store.ids)
    maps = StoredMaps(store.matrix(store.columns[0]), np.arange(n_rows), cutter_for(case.backbone).describe(layer))
    labels = np.random.default_rng(0).integers(0, N_CLASSES, n_rows)
    return LabelledMaps(maps.load(), labels, np.ones(n_rows, np.float32))


def make_trainer(case: Case, rows: LabelledMaps, **options: Any) -> Recorder:
    """Return topwork's trainer of what is above the cut, with a head of its own."""
    network = make_network(case.backbone, case.cut, "last", pool="auto", train_batch_norm=False)
    n_features = network.eval().compute_features(*map(torch.from_numpy, rows.read(np.arange(2)))).shape[1]
    generator = np.random.default_rng(1)
    as_they_are = Standardisation(np.zeros(n_features), np.ones(n_features))
    network.set_head(generator.normal(0, 0.01, (N_CLASSES, n_features)), np.zeros(N_CLASSES), as_they_are)
    plain: dict[str, Any] = {
        "layer_decay": 1.0,
        "weight_decay": 0.0,
        "warmup": 0.0,
        "cosine": False,
        "max_gradient": 0.0,
    }
    trainer = Recorder(
        network, rows, None, ModuleTrainingOptions(batch_size=BATCH_SIZE, device="cpu", **plain, **options)
    )
    trainer.losses = []
    return trainer


class PlainLoop:
    """The same training as one writes it in PyTorch: the whole network, its trunk frozen."""

    def __init__(self, case: Case, trainer: Recorder) -> None:
        self.case = case
        self.module = copy.deepcopy(case.backbone.module).requires_grad_(False).train()
        for part in self.module.modules():
            if isinstance(part, nn.modules.batchnorm._BatchNorm):
                part.eval()
        names = [name for name, _ in self.module.named_parameters()]
        first = next(place for place, name in enumerate(names) if name.startswith(case.trained))
        trained = {name for name, _ in trainer.module.upper.named_parameters()}
        for name, parameter in self.module.named_parameters():
            parameter.requires_grad_(name in names[first:] and name in trained)
        self.head = copy.deepcopy(trainer.module.head)
        learned = [parameter for parameter in self.module.parameters() if parameter.requires_grad]
        parameters = [*learned, *self.head.parameters()]
        rate = trainer.options.learning_rate
        self.optimizer: torch.optim.Optimizer = torch.optim.AdamW(parameters, lr=rate, weight_decay=0.0)
        if trainer.options.optimizer == "sgd":
            self.optimizer = torch.optim.SGD(parameters, lr=rate, momentum=0.9)

    def run_step(self, inputs: Sequence[Tensor], target: Tensor) -> float:
        """Make one step, and return its loss."""
        self.optimizer.zero_grad(set_to_none=True)
        loss = nn.functional.cross_entropy(self.head(self.case.features(self.module, inputs)), target)
        loss.backward()
        self.optimizer.step()
        return float(loss.detach())


def iterate_batches(n_rows: int, seed: int) -> Iterator[np.ndarray]:
    """Yield the rows of each batch, epoch by epoch, as the trainer draws them."""
    for epoch in itertools.count():
        order = shuffle_rows(n_rows, 1, np.random.default_rng([seed, epoch]))
        yield from np.array_split(order, -(-n_rows // BATCH_SIZE))


def open_inputs(case: Case, work: Path) -> LabelledMaps | TokenRows:
    """Return what enters the network, in memory: pixels as topwork prepares them, or tokens of texts."""
    return TokenRows(case.items) if isinstance(case.items, list) else open_maps(case, "input", "float32", work)


class TokenRows:
    """Texts as tokens, padded to the longest of a batch."""

    def __init__(self, texts: Sequence[str]) -> None:
        from transformers import AutoTokenizer

        self.tokenizer = AutoTokenizer.from_pretrained(minilm())
        self.texts = texts

    def read(self, rows: np.ndarray) -> list[np.ndarray]:
        """Return ids and mask, int64."""
        found = self.tokenizer([self.texts[row] for row in rows], padding=True, truncation=True, return_tensors="np")
        return [found["input_ids"], found["attention_mask"]]


# Parts.


def describe_losses(cases: Sequence[Case], work: Path) -> str:
    """Return a table of the largest differences of the losses in 50 steps."""
    lines = [
        f"Losses of {N_STEPS} steps from maps in float32, without dropout: largest difference to plain PyTorch with "
        "the same weights, batches and optimiser, relative to the loss. In brackets that of plain PyTorch to itself, "
        "if the weights of its head are moved by their last bit: how much of the difference is rounding that training "
        "amplifies.\n",
        "| network, trained from | SGD, momentum 0.9 | AdamW |",
        "|---|---|---|",
    ]
    for case in cases:
        cells = ["{:.1e} ({:.1e})".format(*compare_losses(case, work, name, RATE)) for name in ("sgd", "adamw")]
        lines.append(f"| {case.name}, `{case.trained}` | {' | '.join(cells)} |")
        print(lines[-1], flush=True)
    return "\n".join([*lines, ""])


def compare_losses(case: Case, work: Path, optimizer: str, rate: float) -> tuple[float, float]:
    """Return the largest relative difference of the losses of both loops, and of the plain loop to a nudged one."""
    rows = open_maps(case, case.cut, "float32", work)
    trainer = make_trainer(case, rows, optimizer=optimizer, learning_rate=rate, epochs=1000, seed=3)
    plain, nudged = PlainLoop(case, trainer), PlainLoop(case, trainer)
    with torch.no_grad():
        nudged.head.weight.mul_(1 + torch.finfo(torch.float32).eps)
    inputs = open_inputs(case, work)
    expected: dict[PlainLoop, list[float]] = {plain: [], nudged: []}
    for index in itertools.islice(iterate_batches(len(rows), 3), N_STEPS):
        tensors = [torch.from_numpy(array) for array in inputs.read(index)]
        for loop, losses in expected.items():
            losses.append(loop.run_step(tensors, torch.from_numpy(rows.target[index])))
    for _ in trainer.run():
        if len(trainer.losses) >= N_STEPS:
            break
    reference = np.array(expected[plain])
    found, other = (
        float(np.max(np.abs(np.array(losses[:N_STEPS]) - reference) / np.abs(reference)))
        for losses in (trainer.losses, expected[nudged])
    )
    return found, other


def describe_epochs(cases: Sequence[Case], work: Path, repeats: int) -> str:
    """Return a table of the times of an epoch."""
    lines = [
        "Time of an epoch with AdamW from cached maps in float16, and of the frozen trunk in PyTorch. The ceiling is "
        "what the multiplications allow if a backward pass takes twice a forward one: the trunk and three times the "
        "upper part, over three times the upper part; early layers cost more than their share of these."
        f"{describe_allocator()}\n",
        "| network, trained from | items | maps, s | PyTorch, in memory, s | decoding, s | ratio | decoding "
        "| ceiling |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for case in cases:
        lines.append(time_epochs(case, work, repeats))
        print(lines[-1], flush=True)
    return "\n".join([*lines, ""])


def describe_allocator() -> str:
    """Return in a sentence how the allocator of the C library was set, which both loops depend on."""
    found = [f"{name}={value}" for name, value in sorted(os.environ.items()) if name.startswith("MALLOC_")]
    return f" Both ran with {', '.join(found)}." if found else ""


def time_epochs(case: Case, work: Path, repeats: int) -> str:
    """Return the row of a case: medians of epochs that ran by turns."""
    rows = open_maps(case, case.cut, "float16", work)
    trainer = make_trainer(case, rows, optimizer="adamw", epochs=1000, seed=3)
    loop = PlainLoop(case, trainer)
    inputs = open_inputs(case, work)
    runs: dict[str, Callable[[], None]] = {
        "maps": lambda: [*itertools.islice(trainer.run(), 1)] and None,
        "memory": lambda: run_plain(loop, inputs, rows.target),
    }
    if case.transform is not None:
        runs["decoding"] = lambda: run_decoding(case, loop)
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(repeats + 1):  # the first is a warm-up
        for name, run in runs.items():
            started = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - started)
    median = {name: statistics.median(values[1:]) for name, values in seconds.items()}
    share = next(layer.flops for layer in topwork.layers(case.backbone) if layer.name == case.cut)
    ceiling = (share + 3 * (1 - share)) / (3 * (1 - share))
    decoding = median.get("decoding")
    cells = [
        f"{case.name}, `{case.trained}`",
        f"{len(rows):,}",
        f"{median['maps']:.2f}",
        f"{median['memory']:.2f}",
        "" if decoding is None else f"{decoding:.2f}",
        f"{median['memory'] / median['maps']:.2f}",
        "" if decoding is None else f"{decoding / median['maps']:.2f}",
        f"{ceiling:.2f}",
    ]
    return f"| {' | '.join(cells)} |"


def run_plain(loop: PlainLoop, inputs: Any, target: np.ndarray) -> None:
    """Run an epoch of the plain loop on tensors in memory."""
    n_batches = -(-len(target) // BATCH_SIZE)
    for index in itertools.islice(iterate_batches(len(target), 3), n_batches):
        loop.run_step([torch.from_numpy(array) for array in inputs.read(index)], torch.from_numpy(target[index]))


def run_decoding(case: Case, loop: PlainLoop) -> None:
    """Run an epoch of the plain loop as tutorials have it: images are decoded by the workers of a DataLoader."""
    from torch.utils.data import DataLoader
    from torchvision.datasets import ImageFolder

    loader = DataLoader(ImageFolder(case.items, case.transform), BATCH_SIZE, shuffle=True, num_workers=2)
    for images, labels in loader:
        loop.run_step([images], labels % N_CLASSES)


def describe_disk(data: Path, work: Path) -> str:
    """Return a table of the bytes of the maps of 5,000 images, as they were planned and as they are."""
    backbone = cifar_network(data, "exact")
    images = cifar(data, work, 5000)
    lines = [
        "Disk of the maps of 5,000 images (CIFAR-10, ResNet-20) in float16:\n",
        "| cut | planned, MB | on the disk, MB | difference |",
        "|---|---|---|---|",
    ]
    for cut in ("layer1", "layer2", "layer3"):
        extractor = topwork.Extractor(backbone, layer=cut, pool="none", precision="fp32", provider="cpu").fit(None)
        path = work / "disk" / cut
        config = RunConfig(provider="cpu")
        planned = plan(extractor.open(images), extractor.graph, config=config, dtype="float16").disk_bytes
        store = topwork.FeatureStore.open_or_create(path, extractor, "float16")
        topwork.extract_features(images, store, provider="cpu")
        found = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
        lines.append(f"| `{cut}` | {planned / 1e6:.1f} | {found / 1e6:.1f} | {planned / found - 1:+.2%} |")
        print(lines[-1], flush=True)
    return "\n".join([*lines, ""])


def describe_reading(data: Path, work: Path, repeats: int) -> str:
    """Return a table of the time to read maps that stay on the disk, in three orders."""
    backbone = cifar_network(data, "exact")
    extractor = topwork.Extractor(backbone, layer="layer1", pool="none", precision="fp32", provider="cpu")
    store = topwork.FeatureStore.open_or_create(work / "maps" / "reading", extractor, "float16")
    topwork.extract_features(unpacked(data / "cifar10-train.tar.gz", work) / "train", store, provider="cpu")
    maps = StoredMaps(
        store.matrix(store.columns[0]), np.arange(len(store.ids)), cutter_for(backbone).describe("layer1")
    )
    assert maps.load() is maps  # they are read from the disk
    orders: dict[str, Callable[[np.random.Generator], np.ndarray]] = {
        "as they lie": lambda generator: np.arange(len(maps)),
        "shuffled blocks": lambda generator: shuffle_rows(len(maps), maps.rows_of_block, generator),
        "any order": lambda generator: generator.permutation(len(maps)),
    }
    seconds: dict[str, list[float]] = {name: [] for name in orders}
    for repeat, (name, draw) in itertools.product(range(repeats), orders.items()):
        order = draw(np.random.default_rng(repeat))
        started = time.perf_counter()
        for index in np.array_split(order, -(-len(order) // BATCH_SIZE)):
            maps.read(index)
        seconds[name].append(time.perf_counter() - started)
    n_bytes = len(maps) * maps.matrix.shape[1] * maps.matrix.dtype.itemsize
    lines = [
        f"Reading {len(maps):,} maps (CIFAR-10, ResNet-20, `layer1`, float16, {n_bytes / 1e9:.2f} GB), batch by batch, "
        "from files that the system may hold in memory. Training reads shuffled blocks.\n",
        "| order | s | GB/s | ratio |",
        "|---|---|---|---|",
    ]
    median = {name: statistics.median(values) for name, values in seconds.items()}
    for name, value in median.items():
        lines.append(f"| {name} | {value:.2f} | {n_bytes / value / 1e9:.2f} | {value / median['as they lie']:.2f} |")
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    main()
