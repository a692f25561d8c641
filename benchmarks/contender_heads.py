"""Contender of the heads' benchmark: a sweep over penalties with cross-validation, on one set of features."""

from __future__ import annotations

import argparse
import json
import os
import time
import warnings
from pathlib import Path

import numpy as np
from feature_sets import FeatureSet, banking77_minilm, cifar10_resnet20, hymenoptera_mobilenet, synthetic
from sklearn.linear_model import LogisticRegressionCV
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from topwork.heads.linear.linear_probe import LinearProbeCV
from topwork.heads.metrics import score_head
from topwork.heads.registry import resolve_head

CS = np.logspace(-6, 0, 10)
PLAIN_CS = np.logspace(-4, 4, 10)
"""scikit-learn's grid, for features of length one as they are."""
PLAIN = "-plain"
FOLDS = 5


def feature_set(name: str, data: Path, work: Path) -> FeatureSet:
    name = name.removesuffix(PLAIN)
    if name.startswith("synthetic"):
        return synthetic(*(int(each) for each in name.split("-")[1].split("x")))
    known = {"banking77": banking77_minilm, "cifar10": cifar10_resnet20, "hymenoptera": hymenoptera_mobilenet}
    return known[name](data, work)


def topwork_sweep(features: FeatureSet, plain: bool) -> tuple[object, np.ndarray, float]:
    probe = LinearProbeCV(PLAIN_CS if plain else CS, cv=StratifiedKFold(FOLDS), standardize=not plain)
    probe.fit(features.X, features.y)
    return probe, probe.cv_results_["mean_loss"], probe.C_


def default_head(features: FeatureSet, plain: bool) -> tuple[object, np.ndarray, float]:
    head = resolve_head("linear").fit(features.X, features.y)
    return head, head.cv_results_["mean_loss"], head.C_


def sklearn_sweep(features: FeatureSet, plain: bool) -> tuple[object, np.ndarray, float]:
    cores = len(os.sched_getaffinity(0))
    sweep = LogisticRegressionCV(
        Cs=PLAIN_CS if plain else CS,
        cv=StratifiedKFold(FOLDS),
        n_jobs=cores,
        scoring="neg_log_loss",
        use_legacy_attributes=False,
        max_iter=1000,
    )
    peer = sweep if plain else make_pipeline(StandardScaler(), sweep)
    peer.fit(features.X, features.y)
    return peer, -np.mean(sweep.scores_, axis=0).reshape(-1), float(sweep.C_)


CONTENDERS = {
    "topwork": topwork_sweep,
    "default": default_head,
    "sklearn": sklearn_sweep,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("contender", choices=CONTENDERS)
    parser.add_argument("features", help="banking77, cifar10, synthetic-ROWSxCOLUMNSxCLASSES; with -plain as they are")
    parser.add_argument("data", type=Path)
    parser.add_argument("work", type=Path)
    arguments = parser.parse_args()
    features = feature_set(arguments.features, arguments.data, arguments.work)
    sweep = CONTENDERS[arguments.contender]
    start = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        head, losses, C = sweep(features, arguments.features.endswith(PLAIN))
    seconds = time.perf_counter() - start
    accuracy = score_head(head, features.X_test, features.y_test)
    print(
        json.dumps(
            {"seconds": seconds, "items": len(features.X), "accuracy": accuracy, "C": C, "losses": losses.tolist()}
        )
    )


if __name__ == "__main__":
    main()
