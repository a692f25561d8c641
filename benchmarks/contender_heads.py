"""Contender of the heads' benchmark: a sweep over penalties with cross-validation, on one set of features."""

from __future__ import annotations

import argparse
import json
import os
import time
import warnings
from pathlib import Path

import numpy as np
from feature_sets import (
    FeatureSet,
    banking77_minilm,
    cifar10_resnet20,
    digits,
    fewer_rows,
    hymenoptera_mobilenet,
    synthetic,
)
from sklearn.datasets import load_iris
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
MIN_ROWS_FOR_JOBS = 2000
"""With fewer, scikit-learn is faster without processes."""
MAX_RUNS = 5
SECONDS_TO_REPEAT = 3
"""Shorter sweeps are repeated, and the median counts."""


def feature_set(name: str, data: Path, work: Path) -> FeatureSet:
    name = name.removesuffix(PLAIN)
    if name.startswith("synthetic"):
        return synthetic(*(int(each) for each in name.split("-")[1].split("x")))
    name, _, rows_per_class = name.partition("-")
    known = {"banking77": banking77_minilm, "cifar10": cifar10_resnet20, "hymenoptera": hymenoptera_mobilenet}
    features = digits() if name == "digits" else known[name](data, work)
    return fewer_rows(features, int(rows_per_class)) if rows_per_class else features


def topwork_sweep(features: FeatureSet, plain: bool, scoring: str) -> tuple[object, np.ndarray, float]:
    probe = LinearProbeCV(PLAIN_CS if plain else CS, cv=StratifiedKFold(FOLDS), standardize=not plain, scoring=scoring)
    probe.fit(features.X, features.y)
    return probe, probe.cv_results_["mean_loss"], probe.C_


def default_head(features: FeatureSet, plain: bool, scoring: str) -> tuple[object, np.ndarray, float]:
    head = resolve_head("linear").fit(features.X, features.y)
    return head, head.cv_results_["mean_loss"], head.C_


def sklearn_sweep(features: FeatureSet, plain: bool, scoring: str) -> tuple[object, np.ndarray, float]:
    cores = len(os.sched_getaffinity(0))
    sweep = LogisticRegressionCV(
        Cs=PLAIN_CS if plain else CS,
        cv=StratifiedKFold(FOLDS),
        n_jobs=cores if len(features.X) >= MIN_ROWS_FOR_JOBS else 1,
        scoring=scoring,
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
    parser.add_argument(
        "features", help="banking77, digits-5 (a class), synthetic-ROWSxCOLUMNSxCLASSES; with -plain as they are"
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--scoring", default="accuracy")
    arguments = parser.parse_args()
    features = feature_set(arguments.features, arguments.data, arguments.work)
    sweep = CONTENDERS[arguments.contender]
    X, y = load_iris(return_X_y=True)
    is_plain = arguments.features.endswith(PLAIN)
    seconds: list[float] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sweep(FeatureSet(X, y, X, y), is_plain, arguments.scoring)  # what is imported and measured once
        while not seconds or (len(seconds) < MAX_RUNS and sum(seconds) < SECONDS_TO_REPEAT):
            start = time.perf_counter()
            head, losses, C = sweep(features, is_plain, arguments.scoring)
            seconds.append(time.perf_counter() - start)
    report = {
        "seconds": float(np.median(seconds)),
        "items": len(features.X),
        "shape": f"{len(features.X):,} x {features.X.shape[1]:,}, {len(np.unique(features.y))} classes",
        "accuracy": score_head(head, features.X_test, features.y_test),
        "C": C,
        "losses": losses[np.isfinite(losses)].tolist(),
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main()
