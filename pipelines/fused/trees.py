"""Decision trees, forests and boosted trees, whose leaves are found and added as scikit-learn does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .graph_builder import GraphBuilder, Prediction, Value

HALF_BINOMIAL_SCALES = {"log_loss": 1.0, "exponential": 2.0}
"""What the score of two classes is multiplied by in the logistic function, by the loss of gradient boosting."""


@dataclass(frozen=True)
class Tree:
    """Nodes of a decision tree; rows whose `feature` is at most the `threshold` go to the left.

    All but `values`, float64 of shape (n_nodes, width), have the shape (n_nodes,). Where a feature is not a number,
    rows go to the left if `is_missing_left`.
    """

    features: NDArray[Any]
    thresholds: NDArray[Any]
    left: NDArray[Any]
    right: NDArray[Any]
    is_leaf: NDArray[np.bool_]
    is_missing_left: NDArray[np.bool_]
    values: NDArray[np.float64]

    @classmethod
    def of_estimator(cls, estimator: Any, factor: float = 1.0) -> Tree:
        """Read a fitted decision tree of scikit-learn; values of its leaves are multiplied by a factor."""
        tree = estimator.tree_
        return cls(
            features=tree.feature,
            thresholds=tree.threshold,
            left=tree.children_left,
            right=tree.children_right,
            is_leaf=tree.children_left < 0,
            is_missing_left=tree.missing_go_to_left.astype(bool),
            values=factor * tree.value[:, 0, :],
        )

    @classmethod
    def of_predictor(cls, predictor: Any) -> Tree:
        """Read a tree of histogram-based boosting without categorical features."""
        nodes = predictor.nodes
        return cls(
            features=nodes["feature_idx"],
            thresholds=nodes["num_threshold"],
            left=nodes["left"],
            right=nodes["right"],
            is_leaf=nodes["is_leaf"].astype(bool),
            is_missing_left=nodes["missing_go_to_left"].astype(bool),
            values=nodes["value"][:, None],
        )


# Conditions.


def is_decision_tree(model: Any) -> bool:
    """Check for a decision tree or a forest that predicts one class for each row."""
    from sklearn import ensemble, tree

    types = (
        tree.DecisionTreeClassifier,
        tree.ExtraTreeClassifier,
        ensemble.RandomForestClassifier,
        ensemble.ExtraTreesClassifier,
    )
    return type(model) in types and model.n_outputs_ == 1


def is_gradient_boosting(model: Any) -> bool:
    """Check for gradient boosting that begins with the same score for all rows."""
    from sklearn.dummy import DummyClassifier
    from sklearn.ensemble import GradientBoostingClassifier

    if type(model) is not GradientBoostingClassifier:
        return False
    return isinstance(model.init_, str) or type(model.init_) is DummyClassifier


def is_histogram_boosting(model: Any) -> bool:
    """Check for histogram-based boosting without categorical features."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    return type(model) is HistGradientBoostingClassifier and model.is_categorical_ is None


def is_histogram_boosting_regressor(model: Any) -> bool:
    """Check for histogram-based boosting for values, without categorical features, that sums leaves only."""
    from sklearn.ensemble import HistGradientBoostingRegressor

    if type(model) is not HistGradientBoostingRegressor or model.is_categorical_ is not None:
        return False
    return model.loss in ("squared_error", "absolute_error", "quantile")


# Converters.


def convert_decision_trees(graph: GraphBuilder, model: Any, features: Value) -> Prediction:
    """Choose the most probable class in the mean over trees."""
    estimators = getattr(model, "estimators_", [model])
    trees = [Tree.of_estimator(estimator) for estimator in estimators]
    total = add_tree_sums(graph, features, trees, start=np.zeros(len(model.classes_)))
    mean = graph.add("Div", total, graph.numbers(float(len(trees))))
    return Prediction(graph.argmax(mean), mean)


def convert_gradient_boosting(graph: GraphBuilder, model: Any, features: Value) -> Prediction:
    """Choose the class of the highest score; of two classes the second if the only score is zero."""
    row = np.zeros((1, model.n_features_in_), np.float32)
    start = model._raw_predict_init(row)[0]
    trees = [Tree.of_estimator(estimator, model.learning_rate) for estimator in model.estimators_.ravel()]
    scores = add_tree_sums(graph, features, trees, start=start)
    if len(start) > 1:
        return Prediction(graph.argmax(scores), graph.add("Softmax", scores, axis=1))
    is_first = graph.add("Less", scores, graph.numbers(0.0))
    second = graph.cast(graph.add("Not", is_first), np.int64)
    scaled = graph.add("Mul", scores, graph.numbers(HALF_BINOMIAL_SCALES[model.loss]))
    positions = graph.add("Reshape", second, graph.constant(np.array([-1], np.int64)))
    return Prediction(positions, graph.add_complement(graph.add("Sigmoid", scaled)))


def convert_histogram_boosting(graph: GraphBuilder, model: Any, features: Value) -> Prediction:
    """Choose the class of the highest score; of two classes the first if the only score is zero."""
    scores = convert_histogram_boosting_regressor(graph, model, features)
    if model.n_trees_per_iteration_ > 1:
        return Prediction(graph.argmax(scores), graph.add("Softmax", scores, axis=1))
    return Prediction(graph.choose_of_two(scores), graph.add_complement(graph.add("Sigmoid", scores)), scores)


def convert_histogram_boosting_regressor(graph: GraphBuilder, model: Any, features: Value) -> Value:
    """Return the sums of histogram-based boosting, values or scores, ``(n_rows, n_sums)``."""
    trees = [Tree.of_predictor(tree) for iteration in model._predictors for tree in iteration]
    return add_tree_sums(graph, features, trees, start=model._baseline_prediction.ravel())


def add_tree_sums(graph: GraphBuilder, features: Value, trees: Sequence[Tree], *, start: NDArray[np.float64]) -> Value:
    """Return sums of leaves in the order of their trees, beginning with `start`, as ``(n_rows, len(start))``.

    The leaves of a tree have one value for each sum; or trees take turns, each with a value for one of the sums.
    """
    width = len(start)
    tables = [tree.values[tree.is_leaf] for tree in trees]
    n_first = max(1, width // tables[0].shape[1])  # trees that together have one value for each sum
    for number in range(n_first):
        tables[number] = tables[number] + (start if n_first == 1 else start[number])
    sizes = [len(table) for table in tables]
    offsets = np.cumsum([0, *sizes[:-1]]).astype(np.int64)
    leaves = graph.cast(add_leaf_numbers(graph, features, trees), np.int64)  # (n_rows, n_trees)
    positions = graph.add("Add", leaves, graph.constant(offsets))
    values = graph.add("Gather", graph.constant(np.concatenate(tables)), positions, axis=0)
    n_terms = len(trees) // n_first
    shape = graph.constant(np.array([-1, n_terms, width], np.int64))
    terms = graph.add("Reshape", values, shape)
    sums = graph.add("CumSum", terms, graph.constant(np.array(1, np.int64)))
    return graph.add("Gather", sums, graph.constant(np.array(n_terms - 1, np.int64)), axis=1)


def add_leaf_numbers(graph: GraphBuilder, features: Value, trees: Sequence[Tree]) -> Value:
    """Return the number of the leaf of each tree that a row ends in, float32 of shape (n_rows, n_trees)."""
    sizes = [len(tree.is_leaf) for tree in trees]
    is_leaf = np.concatenate([tree.is_leaf for tree in trees])
    tree_of_node = np.repeat(np.arange(len(trees)), sizes)
    node_of_tree = np.concatenate([np.arange(size) for size in sizes])
    leaf_numbers = np.concatenate([np.arange(np.count_nonzero(tree.is_leaf)) for tree in trees])
    thresholds = round_down(np.concatenate([tree.thresholds for tree in trees]))
    is_missing_left = np.concatenate([tree.is_missing_left for tree in trees])
    left = np.concatenate([tree.left for tree in trees])
    right = np.concatenate([tree.right for tree in trees])
    feature_of_node = np.concatenate([tree.features for tree in trees])
    return graph.add(
        "TreeEnsembleRegressor",
        graph.cast(features, np.float32),
        domain="ai.onnx.ml",
        n_targets=len(trees),
        nodes_treeids=tree_of_node.tolist(),
        nodes_nodeids=node_of_tree.tolist(),
        nodes_featureids=np.where(is_leaf, 0, feature_of_node).tolist(),
        nodes_modes=np.where(is_leaf, "LEAF", "BRANCH_LEQ").tolist(),
        nodes_values=np.where(is_leaf, 0, thresholds).tolist(),
        nodes_truenodeids=np.where(is_leaf, 0, left).tolist(),
        nodes_falsenodeids=np.where(is_leaf, 0, right).tolist(),
        nodes_missing_value_tracks_true=(is_missing_left & ~is_leaf).astype(int).tolist(),
        target_treeids=tree_of_node[is_leaf].tolist(),
        target_nodeids=node_of_tree[is_leaf].tolist(),
        target_ids=tree_of_node[is_leaf].tolist(),
        target_weights=leaf_numbers.astype(float).tolist(),
    )


def round_down(thresholds: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return the largest float32 that is not above each threshold, which the same float32 features do not exceed."""
    with np.errstate(over="ignore"):
        rounded = thresholds.astype(np.float32)
    is_above = rounded.astype(np.float64) > thresholds
    lowered: NDArray[np.float32] = np.where(is_above, np.nextafter(rounded, np.float32(-np.inf)), rounded)
    return lowered
