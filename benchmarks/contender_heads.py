"""One contender of the heads' benchmark: a sweep over penalties with cross-validation, on one set of features."""

from __future__ import annotations

import argparse
import json
import os
import time
import warnings
from pathlib import Path

import numpy as np
from feature_sets import FeatureSet, banking77_minilm, cifar10_resnet20, synthetic
from sklearn.linear_model import LogisticRegressionCV
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from topwork.heads.linear_probe import LinearProbeCV

CS = np.logspace(-6, 0, 10)
FOLDS = 5


def feature_set(name: str, data: Path, work: Path) -> FeatureSet:
    if name.startswith("synthetic"):
        return synthetic(*(int(each) for each in name.split("-")[1].split("x")))
    return {"banking77": banking77_minilm, "cifar10": cifar10_resnet20}[name](data, work)


def topwork_sweep(features: FeatureSet) -> tuple[object, np.ndarray, float]:
    probe = LinearProbeCV(CS, cv=StratifiedKFold(FOLDS)).fit(features.X, features.y)
    return probe, probe.cv_results_["mean_loss"], probe.C_


def sklearn_sweep(features: FeatureSet) -> tuple[object, np.ndarray, float]:
    cores = len(os.sched_getaffinity(0))
    sweep = LogisticRegressionCV(
        Cs=CS,
        cv=StratifiedKFold(FOLDS),
        n_jobs=cores,
        scoring="neg_log_loss",
        use_legacy_attributes=False,
        max_iter=1000,
    )
    peer = make_pipeline(StandardScaler(), sweep).fit(features.X, features.y)
    return peer, -np.mean(sweep.scores_, axis=0).reshape(-1), float(sweep.C_)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("contender", choices=("topwork", "sklearn"))
    parser.add_argument("features", help="banking77, cifar10 or synthetic-ROWSxCOLUMNSxCLASSES")
    parser.add_argument("data", type=Path)
    parser.add_argument("work", type=Path)
    arguments = parser.parse_args()
    features = feature_set(arguments.features, arguments.data, arguments.work)
    start = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        head, losses, C = (topwork_sweep if arguments.contender == "topwork" else sklearn_sweep)(features)
    seconds = time.perf_counter() - start
    accuracy = float(np.mean(head.predict(features.X_test) == features.y_test))
    print(
        json.dumps(
            {"seconds": seconds, "items": len(features.X), "accuracy": accuracy, "C": C, "losses": losses.tolist()}
        )
    )


if __name__ == "__main__":
    main()
