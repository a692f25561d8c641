"""One fit of the heads' benchmark, compared with that of scikit-learn at a tight tolerance."""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
from contender_heads import FOLDS, PLAIN, feature_set
from feature_sets import FeatureSet
from scipy.special import logsumexp
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import StratifiedKFold
from sklearn.preprocessing import StandardScaler
from topwork.heads.linear.linear_probe import LinearProbe, LinearProbeCV

TOLERANCE = 1e-8


def objective(X: np.ndarray, places: np.ndarray, C: float, coefficients: np.ndarray, intercepts: np.ndarray) -> float:
    scores = X @ coefficients.T + intercepts
    losses = logsumexp(scores, axis=1) - scores[np.arange(len(X)), places]
    return float(losses.sum() + (coefficients**2).sum() / (2 * C))


def held_out_difference(features: FeatureSet, X: np.ndarray, C: float, plain: bool) -> float:
    """Return by how much our mean loss of held-out rows is above that of exact fits to the other folds."""
    folds, losses = StratifiedKFold(FOLDS), []
    for train, held in folds.split(X, features.y):
        peer = LogisticRegression(C=C, tol=TOLERANCE, max_iter=100_000).fit(X[train], features.y[train])
        losses.append(log_loss(features.y[held], peer.predict_proba(X[held])))
    ours = LinearProbeCV([C / 10, C], cv=folds, standardize=not plain).fit(features.X, features.y)
    return float(ours.cv_results_["mean_loss"][1] - np.mean(losses))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("features")
    parser.add_argument("data", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("C", type=float)
    arguments = parser.parse_args()
    features = feature_set(arguments.features, arguments.data, arguments.work)
    plain = arguments.features.endswith(PLAIN)
    scaler = StandardScaler(with_std=not plain).fit(features.X.astype(np.float64))
    X, places = scaler.transform(features.X.astype(np.float64)), np.unique(features.y, return_inverse=True)[1]
    start = time.perf_counter()
    peer = LogisticRegression(C=arguments.C, tol=TOLERANCE, max_iter=100_000).fit(X, features.y)
    seconds = time.perf_counter() - start
    ours = LinearProbe(arguments.C, standardize=not plain).fit(features.X, features.y)
    coefficients = ours.coef_ * (1.0 if plain else scaler.scale_)
    intercepts = ours.intercept_ + ours.coef_ @ scaler.mean_
    exact = objective(X, places, arguments.C, peer.coef_, peer.intercept_)
    found = objective(X, places, arguments.C, coefficients, intercepts)
    distance = np.linalg.norm(coefficients - peer.coef_) / np.linalg.norm(peer.coef_)
    report = {"seconds": seconds, "items": len(X), "objective": (found - exact) / exact}
    held_out = held_out_difference(features, X, arguments.C, plain)
    print(json.dumps({**report, "coefficients": float(distance), "held_out": held_out}))


if __name__ == "__main__":
    main()
