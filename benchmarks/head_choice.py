"""What `head="auto"` reaches and costs, beside scikit-learn's cross-validated logistic regression.

Banking77 with MiniLM, some texts of each class, ten draws; all are judged by the whole test set. The contenders run by
turns, in one process, on the same rows: `LogisticRegressionCV` with ten penalties and five folds,
`LogisticRegression` with C=1 and C=10, the default head, and `head="auto"`. Seconds are medians over draws, of the wall
clock and of all cores together.
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from pathlib import Path

import numpy as np
from feature_sets import banking77_minilm
from page import table
from sklearn.linear_model import LogisticRegression, LogisticRegressionCV
from topwork import LinearProbeCV
from topwork.heads import AutoHead
from topwork.heads.folds import draw_rows_of_each_class

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
NEEDED_ACCURACY = 0.835
PEER = "LogisticRegressionCV"
CONTENDERS = {
    PEER: lambda: LogisticRegressionCV(Cs=10, cv=5),
    "LogisticRegression, C=1": lambda: LogisticRegression(C=1, max_iter=300),
    "LogisticRegression, C=10": lambda: LogisticRegression(C=10, max_iter=300),
    "linear": LinearProbeCV,
    "auto": AutoHead,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA, help="folder of banking77/")
    parser.add_argument("--work", type=Path, default=Path("/tmp/topwork-benchmarks"), help="folder for features")
    parser.add_argument("--shots", type=int, default=8, help="texts of each class")
    parser.add_argument("--draws", type=int, default=10)
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    features = banking77_minilm(options.data, options.work)

    runs = {name: [] for name in CONTENDERS}
    chosen = []
    warnings.simplefilter("ignore")
    AutoHead().fit(features.X[:200], features.y[:200])  # loads the libraries
    for seed in range(options.draws):
        rows = draw_rows_of_each_class(features.y, options.shots, np.random.default_rng(seed))
        for name, make in CONTENDERS.items():
            head = make()
            wall, cpu = time.perf_counter(), time.process_time()
            head.fit(features.X[rows], features.y[rows])
            took = time.perf_counter() - wall, time.process_time() - cpu
            runs[name].append((head.score(features.X_test, features.y_test), *took))
        chosen.append(head.reason_.partition(":")[0])

    lines = []
    for name, values in runs.items():
        accuracy, wall, cpu = np.array(values).T
        spread = f"{accuracy.mean():.4f} ± {accuracy.std():.4f}"
        lines.append([name, spread, f"{np.median(wall):.2f}", f"{np.median(cpu):.2f}"])
    print(table(("head", "accuracy", "seconds", "core-seconds"), lines))
    print(f"\nChosen: {', '.join(f'{each} ({chosen.count(each)})' for each in sorted(set(chosen)))}.")
    auto = np.array(runs["auto"])
    peer = np.array(runs[PEER])
    is_met = auto[:, 0].mean() >= NEEDED_ACCURACY and np.median(auto[:, 1]) <= np.median(peer[:, 1])
    return 0 if is_met or options.shots != 8 else 1


if __name__ == "__main__":
    sys.exit(main())
