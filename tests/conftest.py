"""Fixtures that several folders of tests share: real data, real weights, a cache of exported graphs."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from PIL import Image

from .hostile_server import HostileServer, start_hostile_server

settings.register_profile("untimed", deadline=None)  # machines are shared, and nothing is timed in a test
settings.load_profile("untimed")

if "PYTEST_XDIST_WORKER" in os.environ:  # threads of several workers that wait for one another take ten times as long
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("MKL_NUM_THREADS", "1")

os.environ.setdefault("RAY_AUTH_MODE", "disabled")  # a process that had a cluster with tokens can join none without

CAPABILITIES = ("int8", "bf16", "openvino")
"""What a test may need of the machine: ``@pytest.mark.needs("int8")``."""

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT.parent / "shared" / "data"

TOPICS = {
    "animals": ["cat", "dog", "horse", "cow", "sheep", "lion", "tiger", "mouse", "bird", "fish"],
    "weather": ["rain", "snow", "wind", "storm", "cloud", "sun", "fog", "hail", "frost", "thunder"],
    "kitchen": ["bread", "butter", "cheese", "soup", "salt", "pepper", "onion", "oil", "cake", "pan"],
}
FILLERS = ["the", "a", "and", "with", "of", "in", "on", "very", "old", "new"]
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
LONGEST_TEXT = 24


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip tests that need an instruction set or a package that this machine does not have."""
    for marker in item.iter_markers("needs"):
        for capability in marker.args:
            if not is_available(capability):
                pytest.skip(f"this machine lacks {capability}")


def is_available(capability: str) -> bool:
    """Return whether this machine can do what a test needs, and ``TOPWORK_DISABLE`` does not forbid it."""
    from topwork.extract.runtime.providers import OPENVINO, PROVIDERS, explain_absence, find_usable_providers

    assert capability in CAPABILITIES
    if capability == OPENVINO:
        return not explain_absence(PROVIDERS[OPENVINO])
    return bool(find_usable_providers(capability))


@pytest.fixture
def disable(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Return a function that makes providers and precisions absent for the rest of a test, child processes included."""

    def disable_names(*names: str) -> None:
        monkeypatch.setenv("TOPWORK_DISABLE", ",".join(names))

    return disable_names


@pytest.fixture(scope="session", autouse=True)
def graph_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Export into a cache of this run alone, and let all its processes share it."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "cache-of-graphs"
    folder.mkdir(exist_ok=True)
    before = os.environ.get("TOPWORK_CACHE")
    os.environ["TOPWORK_CACHE"] = str(folder)
    yield folder
    os.environ.pop("TOPWORK_CACHE")
    if before is not None:
        os.environ["TOPWORK_CACHE"] = before


@pytest.fixture(scope="session", autouse=True)
def operators_parsed_once() -> Iterator[None]:
    """Spare each export what torch's exporter does anew for every model: it parses the source of 500 operators."""
    if "torch" not in sys.modules:
        yield
        return
    from torch.onnx._internal.exporter._registration import onnxscript_apis

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(onnxscript_apis, "get_torchlib_ops", functools.cache(onnxscript_apis.get_torchlib_ops))
        yield


@pytest.fixture(scope="session")
def demo(graph_cache: Path) -> tuple[Path, str]:
    """Return the folder that ``topwork demo --keep demo`` wrote, which is not to be changed, and what it printed.

    The first process of a run that needs it makes it, and the others wait.
    """
    from .pipelines.cli.running import topwork_command

    folder = graph_cache.parent / "demo-of-this-run"
    report, finished = folder / "report.txt", folder / "finished"
    try:
        folder.mkdir()
    except FileExistsError:
        while not finished.exists():
            time.sleep(0.1)
    else:
        try:
            with contextlib.chdir(folder):
                report.write_text(topwork_command("demo", "--keep", "demo").stdout, encoding="utf-8")
        finally:
            finished.touch()
    return folder / "demo", report.read_text(encoding="utf-8")


@pytest.fixture(scope="session")
def data() -> Path:
    """Return the folder of real data; without it tests are skipped, in CI they fail."""
    if not DATA.is_dir():
        message = f"the real data are not at {DATA}"
        (pytest.fail if os.environ.get("CI") else pytest.skip)(message)
    return DATA


@pytest.fixture(scope="session")
def hymenoptera(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the unpacked photographs of ants and bees, with ``train/`` and ``val/``."""
    folder = tmp_path_factory.mktemp("hymenoptera")
    with tarfile.open(data / "hymenoptera.tar") as archive:
        archive.extractall(folder, filter="data")
    return folder


@pytest.fixture(scope="session")
def mobilenet_options(data: Path) -> dict[str, object]:
    """Return the options of ``load_backbone`` for the real MobileNetV2 weights."""
    return {
        "weights": data / "backbones" / "mobilenetv2_035.in1k.safetensors",
        "model_args": {"num_classes": 0, "pad_type": "same", "bn_eps": 1e-3},
        "mean": (0.5, 0.5, 0.5),
        "std": (0.5, 0.5, 0.5),
    }


@pytest.fixture
def write_images(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes a folder of small random PNG files, ``{label}/{number}.png``."""

    def write(name: str = "images", labels: tuple[str, ...] = ("cat", "dog"), each: int = 3, seed: int = 0) -> Path:
        generator = np.random.default_rng(seed)
        for label in labels:
            folder = tmp_path / name / label
            folder.mkdir(parents=True, exist_ok=True)
            for number in range(each):
                pixels = generator.integers(0, 256, (40, 48, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{number}.png")
        return tmp_path / name

    return write


@pytest.fixture(scope="session")
def texts() -> tuple[list[str], list[str]]:
    """Return sentences of 2 to 16 words about three topics, all of them different, and their topics."""
    generator, labels = np.random.default_rng(0), [topic for topic in TOPICS for _ in range(12)]
    sentences = []
    for topic in labels:
        words = generator.choice(TOPICS[topic], generator.integers(1, 9)).tolist()
        fillers = generator.choice(FILLERS, len(words)).tolist()
        sentences.append(" ".join(word for pair in zip(fillers, words, strict=True) for word in pair))
    assert len(set(sentences)) == len(sentences)
    return sentences, labels


@pytest.fixture(scope="session")
def text_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a small BERT of random weights and its tokeniser, to be loaded as ``hf:FOLDER``.

    It knows the words of ``TOPICS`` and ``FILLERS`` and takes ``LONGEST_TEXT`` tokens.
    """
    folder = tmp_path_factory.mktemp("texts") / "bert"
    _save_bert(folder, len(_save_tokenizer(folder)))
    return folder


def _save_tokenizer(folder: Path) -> list[str]:
    """Write a tokeniser of whole words and letters, as the tokenizers library does, and return its tokens."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    letters = [chr(ord("a") + number) for number in range(26)]
    tokens = [*SPECIAL, *(word for words in TOPICS.values() for word in words), *FILLERS]
    tokens = list(dict.fromkeys([*tokens, *letters, *(f"##{letter}" for letter in letters)]))
    vocabulary = {token: number for number, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    folder.mkdir()
    tokenizer.save(str(folder / "tokenizer.json"))
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    fields = {"tokenizer_class": "PreTrainedTokenizerFast", **names}
    (folder / "tokenizer_config.json").write_text(json.dumps(fields))
    return tokens


def _save_bert(folder: Path, tokens: int) -> None:
    import torch
    from topwork.models.torchvision_operators import ensure_torchvision_operators

    ensure_torchvision_operators()  # transformers imports torchvision
    from transformers import BertConfig, BertModel

    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = BertModel(BertConfig(vocab_size=tokens, max_position_embeddings=LONGEST_TEXT, **sizes))
    model.save_pretrained(folder)


@pytest.fixture
def hostile_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[HostileServer]:
    """Return a web server without answers; downloads lose patience with it after a fraction of a second."""
    monkeypatch.setenv("TOPWORK_READ_TIMEOUT", "0.3")
    with start_hostile_server() as server:
        yield server


@pytest.fixture
def pyplot() -> Iterator[Any]:
    """Return matplotlib's pyplot, which draws into memory; figures are closed in the end."""
    pyplot = pytest.importorskip("matplotlib.pyplot")
    pyplot.switch_backend("agg")
    yield pyplot
    pyplot.close("all")
