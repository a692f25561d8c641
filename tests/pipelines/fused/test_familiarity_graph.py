"""A graph calls those features familiar that the bundle calls so."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper
from sklearn.datasets import load_digits, load_iris
from topwork.extract.runtime.session import open_session
from topwork.heads.familiarity import Familiarity, learn_familiarity
from topwork.pipelines.fused.familiarity_graph import add_familiarity
from topwork.pipelines.fused.graph_builder import GraphBuilder

Array = NDArray[Any]


def run_graph(known: Familiarity, features: Array) -> Array:
    wanted = helper.make_tensor_value_info("features", TensorProto.FLOAT, [None, len(known.mean)])
    graph = helper.make_graph([], "familiarity", [wanted], [])
    found = add_familiarity(GraphBuilder(graph, "familiarity/"), "features", known)
    graph.output.append(helper.make_tensor_value_info(found, TensorProto.BOOL, [None]))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    (answers,) = open_session(model.SerializeToString(), "cpu").run({"features": features})
    return np.asarray(answers)


def make_queries(X: Array) -> Array:
    """Return rows, rows between them, rows far away, and two that are not finite."""
    generator = np.random.default_rng(0)
    between = (X + generator.permutation(X)) / 2
    noise = X + generator.normal(0, X.std(), X.shape)
    others = np.array([np.full(X.shape[1], np.nan), np.full(X.shape[1], np.inf)])
    return np.concatenate([X, between, noise, 3 * X, 1e6 * X, others]).astype(np.float32)


@pytest.mark.parametrize("case", ["balanced", "unbalanced", "one class", "small classes", "values"])
def test_graph_equals_bundle(case: str) -> None:
    X, y = load_digits(return_X_y=True) if case != "values" else load_iris(return_X_y=True)
    labels = {
        "balanced": y,
        "unbalanced": np.minimum(y, 2),
        "one class": np.zeros_like(y),
        "small classes": np.where(np.arange(len(y)) < 6, 100 + np.arange(len(y)) // 2, y),  # of fewer rows than k
        "values": X[:, 0],
    }[case]
    known = learn_familiarity(X, labels, by_class=case != "values")
    assert known is not None
    queries = make_queries(X)
    measured = known.measure(queries)
    is_clear = np.abs(measured - known.limit) > 1e-4 * known.limit
    assert is_clear.mean() > 0.99
    expected = measured <= known.limit
    assert 0.05 < expected.mean() < 0.95
    found = run_graph(known, queries)
    assert np.array_equal(found[is_clear], expected[is_clear])
    assert not found[-2:].any()
