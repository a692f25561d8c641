"""Estimators in notebooks: scikit-learn's representation, and what was learned."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn import config_context
from topwork import FeatureStore, TransferClassifier, TransferRegressor
from topwork.extract.graphs.exported_graph import ExportedGraph

from ...html_reading import HOSTILE, HOSTILE_DIRECTION, check_harmless


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    """Two classes with hostile names, in a folder with one, which are easily told apart."""
    is_second = np.arange(60) % 2 == 1
    features = np.random.default_rng(0).normal(size=(60, 5)) + 4 * is_second[:, None]
    labels = [HOSTILE_DIRECTION if second else HOSTILE for second in is_second.tolist()]
    return FeatureStore.import_features(tmp_path / HOSTILE, features.astype(np.float32), labels=labels)


def test_unfitted_estimator_is_shown_as_by_scikit_learn(store: FeatureStore) -> None:
    read = check_harmless(TransferClassifier.from_store(store)._repr_html_())
    assert "TransferClassifier" in read.text
    assert "Training and scores" not in read.texts


def test_fitted_classifier_shows_classes_and_scores(store: FeatureStore) -> None:
    classifier = TransferClassifier.from_store(store, head="linear").fit(store)
    read = check_harmless(classifier._repr_html_())
    shown = read.texts[read.texts.index("Training and scores") :]
    facts = dict(zip(shown[1::2], shown[2::2], strict=False))
    assert facts["trained on"] == "60 rows"
    assert facts["features"] == "features (5 features)"
    assert facts["head"] == "LinearProbeCV"
    assert facts["classes"] == f"2: {HOSTILE}, " + HOSTILE_DIRECTION.replace("\u202e", "\\u202e")
    assert classifier.fit_report_ is not None
    assert facts["accuracy on held-out rows"].startswith(f"{classifier.fit_report_.held_out:.3f} ± ")
    assert facts["accuracy in training"] == f"{classifier.fit_report_.training:.3f}"
    assert "text/html" in classifier._repr_mimebundle_()
    with config_context(display="text"):
        assert not hasattr(classifier, "_repr_html_")


def test_regressor_and_reason_that_it_is_not_evaluated(store: FeatureStore) -> None:
    regressor = TransferRegressor.from_store(store).fit(store, np.arange(60.0))
    shown = check_harmless(regressor._repr_html_()).texts
    assert "R2 on held-out rows" in shown
    assert "classes" not in shown
    silent = TransferRegressor.from_store(store, cv=0).fit(store, np.arange(60.0))
    assert "R2 in training" not in check_harmless(silent._repr_html_()).texts


def test_backbone_and_certificate_are_shown(graph: ExportedGraph, paths: list[Path], names: NDArray[np.str_]) -> None:
    classifier = TransferClassifier(graph, "layer2", head="centroid", cv=0).fit(paths, names)
    texts = check_harmless(classifier._repr_html_()).texts
    shown = texts[texts.index("Training and scores") :]  # below what scikit-learn shows
    assert shown[shown.index("backbone") + 1] == graph.metadata.identity["architecture"]
    assert "Certificate" in shown
    worst = graph.certificate.worst
    assert any(text.startswith(f"{worst.relative_l2:.1e} ({worst.output}") for text in shown)
