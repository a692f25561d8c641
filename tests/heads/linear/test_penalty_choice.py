"""The choice among penalties by the scores of held-out rows."""

from __future__ import annotations

import numpy as np
from topwork.heads.linear.penalty_choice import choose_penalty


def test_log_loss_decides_where_one_row_makes_the_difference() -> None:
    scores = np.array([[1.0, 1.0, 1.0, 1.0, 1.0], [1.0, 1.0, 1.0, 1.0, 0.8]])
    losses = np.repeat([[0.6], [0.2]], 5, axis=1)
    assert choose_penalty(scores, losses, "best") == 1
    assert choose_penalty(scores, losses[::-1], "best") == 0


def test_score_decides_where_all_folds_agree() -> None:
    scores = np.array([[0.92, 0.93, 0.92, 0.94, 0.92], [0.90, 0.91, 0.90, 0.91, 0.90]])
    losses = np.repeat([[0.6], [0.2]], 5, axis=1)
    assert choose_penalty(scores, losses, "best") == 0
    assert choose_penalty(scores[:, :1], losses[:, :1], "best") == 0
