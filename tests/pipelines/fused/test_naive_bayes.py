"""Gaussian naive Bayes in ONNX adds likelihoods in the order of numpy, so that ties equal scikit-learn's."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
from sklearn.naive_bayes import GaussianNB
from topwork.extract.graphs.torch.cutter import OPSET
from topwork.pipelines.fused.fuse import convert_head


@pytest.mark.parametrize("n_features", [1, 5, 8, 13, 128, 200, 300])
def test_labels_equal_scikit_learn_where_classes_tie(n_features: int) -> None:
    """Classes are rotations of each other, so that the same terms are added in several orders."""
    generator = np.random.default_rng(0)
    pattern = generator.integers(-1, 2, (6, n_features))
    classes = [np.roll(pattern, shift, axis=1) + 1e-3 * generator.random((6, 1)) for shift in range(4)]
    rows = np.concatenate(classes).astype(np.float32)
    given = np.concatenate([0 * rows[:1], rows, generator.integers(-1, 2, (200, n_features))]).astype(np.float32)
    head = GaussianNB().fit(rows, np.repeat(np.arange(4), 6))
    model = convert_head(head, n_features, OPSET)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    labels, probabilities = session.run(None, {"features": given})
    assert np.array_equal(labels, head.predict(given))
    assert np.abs(probabilities - head.predict_proba(given)).max() < 1e-4
