"""A session runs where it was asked to, or says why not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from topwork.errors import InputError, ProviderError
from topwork.extract.cut import CutRequest
from topwork.extract.graph_cache import graph_for
from topwork.extract.session import available_cores, choose_provider, open_session

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"


@pytest.fixture(scope="module")
def graph() -> Path:
    return graph_for("topwork:tiny", CutRequest(("layer1",), ("avg",))).path


def test_file_and_content_compute_the_same_features(graph: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    feed = {"image": images}
    (from_file,), (from_content,) = (open_session(g, "cpu").run(feed) for g in (graph, graph.read_bytes()))
    assert from_file.shape == (3, 16)
    assert from_file.dtype == np.float32
    np.testing.assert_array_equal(from_file, from_content)


def test_inputs_that_the_graph_does_not_use_are_left_out(graph: Path) -> None:
    images = np.zeros((1, 32, 32, 3), np.uint8)
    session = open_session(graph, "cpu")
    (found,), (expected,) = session.run({"image": images, "mask": images}), session.run({"image": images})
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("threads", [1, None])
def test_number_of_threads_reaches_the_runtime(graph: Path, threads: int | None) -> None:
    options = open_session(graph, "cpu", threads).runtime.get_session_options()
    assert options.intra_op_num_threads == (threads or available_cores())


def test_unknown_provider_is_refused_with_the_known_ones(graph: Path) -> None:
    with pytest.raises(InputError, match="provider 'gpu' does not exist; expected auto, cuda, cpu"):
        open_session(graph, "gpu")


@pytest.mark.skipif(CUDA in onnxruntime.get_available_providers(), reason="this machine has the CUDA provider")
def test_absent_provider_is_an_error_that_names_its_package(graph: Path) -> None:
    with pytest.raises(ProviderError, match=r"provider 'cuda' is not there; found .*CPU.*onnxruntime-gpu") as caught:
        open_session(graph, "cuda")
    assert caught.value.exit_code == 3
    assert isinstance(caught.value, RuntimeError)
    assert open_session(graph, "auto").provider == "cpu"


@pytest.mark.parametrize(
    ("provider", "available", "expected"),
    [("auto", [CPU], "cpu"), ("auto", [CPU, CUDA], "cuda"), ("cpu", [CUDA, CPU], "cpu"), ("cuda", [CUDA], "cuda")],
)
def test_auto_takes_the_fastest_that_is_there(provider: str, available: list[str], expected: str) -> None:
    assert choose_provider(provider, available) == expected
