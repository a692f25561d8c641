"""Pictures of predictions: scikit-learn's displays with the values of its functions."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest
from sklearn.calibration import CalibrationDisplay, calibration_curve
from sklearn.datasets import load_digits
from sklearn.exceptions import NotFittedError
from sklearn.metrics import ConfusionMatrixDisplay, confusion_matrix
from topwork import FeatureStore, TransferClassifier
from topwork.errors import InputError, MissingPackageError

X, Y = load_digits(return_X_y=True)
TRAINING = 150
N_ROWS = 400


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> FeatureStore:
    """Digits, of which the last 250 are a test split."""
    path = tmp_path_factory.mktemp("digits") / "store"
    labels = [f"digit {label}" for label in Y[:N_ROWS].tolist()]
    store = FeatureStore.import_features(path, X[:N_ROWS].astype(np.float32), labels=labels)
    splits = ["train"] * TRAINING + ["test"] * (N_ROWS - TRAINING)
    store.set_labels(dict(zip(store.ids, splits, strict=True)), name="split")
    return FeatureStore.open(path)


@pytest.fixture(scope="module")
def classifier(store: FeatureStore) -> TransferClassifier:
    return TransferClassifier.from_store(store, head="logreg", cv=0).fit(store)


def find_test_rows(store: FeatureStore, classifier: TransferClassifier) -> tuple[Any, Any, Any]:
    """Return the labels, predictions and probabilities of the test split."""
    test = slice(TRAINING, N_ROWS)
    truth = np.array(store.labels)[test]
    return truth, classifier.predict(store)[test], classifier.predict_proba(store)[test]


def test_confusion_matrix_is_that_of_scikit_learn(
    store: FeatureStore, classifier: TransferClassifier, pyplot: Any
) -> None:
    display = classifier.plot_confusion(store, split="test")
    assert isinstance(display, ConfusionMatrixDisplay)
    truth, predicted, _ = find_test_rows(store, classifier)
    np.testing.assert_array_equal(display.confusion_matrix, confusion_matrix(truth, predicted))
    assert 0 < np.trace(display.confusion_matrix) < N_ROWS - TRAINING  # it has mistakes to show
    assert list(display.display_labels) == classifier.classes_.tolist()
    assert [label.get_text() for label in display.ax_.get_xticklabels()] == classifier.classes_.tolist()
    assert display.ax_.get_title() == "250 items"
    shares = classifier.plot_confusion(store, split="test", normalize="true").confusion_matrix
    np.testing.assert_allclose(shares, confusion_matrix(truth, predicted, normalize="true"))


def test_display_of_scikit_learn_takes_the_classifier(
    store: FeatureStore, classifier: TransferClassifier, pyplot: Any
) -> None:
    rows = store[np.arange(TRAINING, N_ROWS)]
    own = ConfusionMatrixDisplay.from_estimator(classifier, rows, store.labels[TRAINING:])
    np.testing.assert_array_equal(own.confusion_matrix, classifier.plot_confusion(rows).confusion_matrix)


def test_given_axes_are_used(store: FeatureStore, classifier: TransferClassifier, pyplot: Any) -> None:
    figure, axes = pyplot.subplots(1, 2)
    confusion = classifier.plot_confusion(store, ax=axes[0])
    calibration = classifier.plot_calibration(store, ax=axes[1])
    assert confusion.ax_ is axes[0]
    assert calibration.ax_ is axes[1]
    assert confusion.figure_ is calibration.figure_ is figure


def test_labels_that_were_not_learned_have_rows(
    store: FeatureStore, classifier: TransferClassifier, pyplot: Any
) -> None:
    labels = ["unknown" if row % 2 else label for row, label in enumerate(store.labels)]
    display = classifier.plot_confusion(store, labels)
    assert list(display.display_labels) == [*classifier.classes_.tolist(), "unknown"]
    assert display.confusion_matrix[-1].sum() == N_ROWS // 2
    assert display.confusion_matrix[:, -1].sum() == 0


def test_items_without_an_answer_are_counted(store: FeatureStore, pyplot: Any) -> None:
    unsure = TransferClassifier.from_store(store, head="logreg", cv=0, abstain_below=0.9).fit(store)
    answers = unsure.predict(store)[TRAINING:]
    n_answers = sum(answer is not None for answer in answers)
    display = unsure.plot_confusion(store, split="test")
    assert display.confusion_matrix.sum() == n_answers < N_ROWS - TRAINING
    assert display.ax_.get_title() == f"{n_answers} items; {250 - n_answers} without an answer are left out"
    unanswered = [TRAINING + row for row, answer in enumerate(answers) if answer is None]
    with pytest.raises(InputError, match=f"none of {len(unanswered)} items has an answer"):
        unsure.plot_confusion(store[unanswered])


def test_names_of_classes_are_drawn_as_they_are(store: FeatureStore, pyplot: Any) -> None:
    names = {"digit 0": "$\\nonsense{$", "digit 1": "_hidden", "digit 2": "a\u202eb"}
    labels = [names.get(label, label) for label in store.labels]
    display = (
        TransferClassifier.from_store(store, head="centroid", cv=0).fit(store, labels).plot_confusion(store, labels)
    )
    display.figure_.canvas.draw()
    drawn = [label.get_text() for label in display.ax_.get_yticklabels()]
    assert {"\\$\\nonsense{\\$", "_hidden", "a\\u202eb"} <= set(drawn)


def test_calibration_is_that_of_scikit_learn(store: FeatureStore, classifier: TransferClassifier, pyplot: Any) -> None:
    truth, _, probabilities = find_test_rows(store, classifier)
    display = classifier.plot_calibration(store, split="test", label="digit 8", n_bins=5)
    assert isinstance(display, CalibrationDisplay)
    own = probabilities[:, classifier.classes_.tolist().index("digit 8")]
    is_true, mean = calibration_curve(truth == "digit 8", own, n_bins=5)
    np.testing.assert_allclose(display.prob_true, is_true)
    np.testing.assert_allclose(display.prob_pred, mean)
    np.testing.assert_allclose(display.line_.get_xydata(), np.stack([mean, is_true], axis=1))
    assert display.ax_.get_xlabel() == "mean probability of digit 8"


def test_calibration_of_the_likeliest_label(store: FeatureStore, classifier: TransferClassifier, pyplot: Any) -> None:
    truth, _, probabilities = find_test_rows(store, classifier)
    display = classifier.plot_calibration(store, split="test")
    is_right = classifier.classes_[probabilities.argmax(axis=1)] == truth
    expected, mean = calibration_curve(is_right, probabilities.max(axis=1), n_bins=10)
    np.testing.assert_allclose(display.prob_true, expected)
    np.testing.assert_allclose(display.prob_pred, mean)
    assert display.ax_.get_xlabel() == "mean probability of the likeliest label"


def test_what_cannot_be_drawn_is_named(
    store: FeatureStore, classifier: TransferClassifier, pyplot: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(NotFittedError):
        TransferClassifier.from_store(store).plot_confusion(store)
    with pytest.raises(InputError, match="'rows'"):
        classifier.plot_confusion(store, normalize="rows")
    with pytest.raises(InputError, match=r"'digit 12'.*'digit 9'"):
        classifier.plot_calibration(store, label="digit 12")
    with pytest.raises(InputError, match="n_bins=0"):
        classifier.plot_calibration(store, n_bins=0)
    several = [["odd"] if label % 2 else ["even", "small"] for label in Y[:N_ROWS]]
    of_several = TransferClassifier.from_store(store, head="ridge", cv=0).fit(store, several)
    with pytest.raises(InputError, match="several"):
        of_several.plot_confusion(store, several)
    assert not hasattr(TransferClassifier.from_store(store, head="ridge", cv=0).fit(store), "plot_calibration")
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    for plot in (classifier.plot_confusion, classifier.plot_calibration):
        with pytest.raises(MissingPackageError, match=r"topwork\[plots\]"):
            plot(store)
