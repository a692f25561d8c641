"""A session runs where it was asked to, or says why not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from topwork.errors import ProviderError
from topwork.extract.graphs.cut import CutRequest
from topwork.extract.graphs.graph_cache import graph_for
from topwork.extract.runtime.providers import PROVIDERS, Provider, explain_absence
from topwork.extract.runtime.session import (
    SessionOptions,
    locate_engines,
    make_provider_options,
    open_on_first,
    open_session,
)
from topwork.hardware import available_cores


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


@pytest.mark.parametrize("provider", [p.name for p in PROVIDERS.values() if explain_absence(p)])
def test_absent_provider_is_an_error_that_names_its_package(graph: Path, provider: str) -> None:
    package = PROVIDERS[provider].package
    with pytest.raises(ProviderError, match=rf"provider '{provider}' is not available: .* package {package}") as caught:
        open_session(graph, provider)
    assert caught.value.exit_code == 3
    assert isinstance(caught.value, RuntimeError)


def test_auto_takes_what_is_there_and_computes_the_same(graph: Path) -> None:
    feed = {"image": np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)}
    session = open_session(graph, "auto")
    assert not explain_absence(PROVIDERS[session.provider])
    (found,), (expected,) = session.run(feed), open_session(graph, "cpu").run(feed)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_results_of_one_run_survive_the_next(graph: Path) -> None:
    session = open_session(graph, "auto")
    dark, light = (np.full((2, 32, 32, 3), shade, np.uint8) for shade in (0, 255))
    (first,) = session.run({"image": dark})
    kept = first.copy()
    session.run({"image": light})
    np.testing.assert_array_equal(first, kept)


def test_provider_that_does_not_load_is_skipped_with_a_warning(graph: Path) -> None:
    broken = Provider("broken", "BrokenExecutionProvider", "broken", ("fp32",))
    options = SessionOptions("fp32", threads=1, runs=1, float32_until="")
    with pytest.warns(UserWarning, match=r"'broken' is not used: .*BrokenExecutionProvider"):
        assert open_on_first(graph, [broken, PROVIDERS["cpu"]], options).provider == "cpu"
    with pytest.raises(ProviderError, match="BrokenExecutionProvider"):
        open_on_first(graph, [broken], options)


@pytest.mark.skipif("CUDAExecutionProvider" in onnxruntime.get_available_providers(), reason="this machine has CUDA")
def test_without_openvino_the_cpu_provider_computes_the_same(graph: Path, disable: Callable[..., None]) -> None:
    feed = {"image": np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)}
    (expected,) = open_session(graph, "auto").run(feed)
    disable("openvino")
    session = open_session(graph, "auto")
    assert session.provider == "cpu"
    np.testing.assert_allclose(session.run(feed)[0], expected, rtol=1e-4, atol=1e-5)
    with pytest.raises(ProviderError, match="openvino"):
        open_session(graph, "openvino")


def test_tensorrt_keeps_the_engines_of_each_graph_and_precision_apart(
    graph: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOPWORK_CACHE", str(tmp_path / "cache"))
    tensorrt = PROVIDERS["tensorrt"]
    other = tmp_path / "other.onnx"
    other.write_bytes(graph.read_bytes() + b"\0")
    folders = []
    for content, precision in ((graph, "fp32"), (graph, "fp16"), (graph, "bf16"), (other, "bf16")):
        options = make_provider_options(content, tensorrt, precision)
        assert options.pop("trt_engine_cache_enable") == "1"
        folders.append(Path(options.pop("trt_engine_cache_path")))
        assert options == ({} if precision == "fp32" else {f"trt_{precision}_enable": "1"})
    assert len(set(folders)) == 4
    assert all(folder.is_dir() and folder.stat().st_mode & 0o777 == 0o700 for folder in folders)
    assert locate_engines(graph.read_bytes(), "fp16") == folders[1]


def test_only_tensorrt_keeps_engines() -> None:
    assert make_provider_options(b"", PROVIDERS["cuda"], "fp32") == {"use_tf32": "0"}
    assert make_provider_options(b"", PROVIDERS["cuda"], "fp16") == {}
    assert make_provider_options(b"", PROVIDERS["cpu"], "fp32") == {}


def test_tensorrt_refuses_graphs_whose_beginning_is_in_float32(graph: Path) -> None:
    options = SessionOptions("bf16", threads=1, runs=1, float32_until="value")
    with pytest.raises(ProviderError, match="'tensorrt' computes whole graphs in bf16; expected openvino"):
        open_on_first(graph, [PROVIDERS["tensorrt"]], options)
