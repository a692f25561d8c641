"""What is known about a task, and the text that says what follows from it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from math import isfinite
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ...heads.learning_curve import LearningCurve, Slope
    from .probe_result import Recommendation

EPOCHS = 10
"""Passes over the data that the cost of fine-tuning is estimated for."""
PASSES_PER_STEP = 3
"""Computation of a training step, in passes through the network: forward, and twice as much backward."""
ACTIONS = {
    ("small", "similar"): "keep the whole backbone and train a head on its last layer.",
    ("large", "similar"): (
        "keep the backbone; a head on its last layer is a good start, and fine-tuning its upper layers may gain a "
        "little."
    ),
    ("small", "different"): "cut early: the last layers are made for another task. Do not fine-tune on so few items.",
    ("large", "different"): "cut early, or train much: fine-tune the layers above the cut.",
}
"""What the textbook says about each case."""


@dataclass(frozen=True)
class Similarity:
    """How much a task is like the one that the backbone was trained on.

    Parameters
    ----------
    is_similar, is_certain : bool
        Whether the last layer is as good as the best, and whether the difference is clear of chance.
    best_layer, last_layer : str
        The single layer with the highest score, and the last one, each with the backbone's own pooling.
    best_depth : float or None
        Share of the backbone's computation below the best layer.
    drop, drop_error : float
        The score of the best layer less that of the last, and the standard error of the difference between the last
        layer and the best of the others.
    gain_over_random, gain_error : float or None
        The score of the recommended features less that of the same network with random weights, and its standard error.
    gain_over_raw : float or None
        Their score less that of the raw inputs.
    """

    is_similar: bool
    is_certain: bool
    best_layer: str
    best_depth: float | None
    last_layer: str
    drop: float
    drop_error: float
    gain_over_random: float | None
    gain_error: float | None
    gain_over_raw: float | None

    def __str__(self) -> str:
        where = "" if self.best_depth is None else f", after {self.best_depth:.0%} of the computation"
        parts = [f"the best layer is {self.best_layer}{where}"]
        if self.best_layer != self.last_layer:
            parts.append(f"the last is {100 * self.drop:.1f} ± {100 * self.drop_error:.1f} points worse")
        if self.gain_over_random is not None:
            parts.append(f"{100 * self.gain_over_random:+.1f} points over random weights")
        if self.gain_over_raw is not None:
            parts.append(f"{100 * self.gain_over_raw:+.1f} over the raw inputs")
        if not self.is_certain:
            parts.append("not certain")
        return "; ".join(parts)


@dataclass(frozen=True)
class Size:
    """Whether there are many labels for the task.

    Parameters
    ----------
    is_large, is_certain : bool
        Whether twice the labels would hardly help, and whether the learning curve shows that clear of chance.
    n_items : int
        Labelled items.
    n_classes : int or None
        None for values and several labels.
    slope : Slope or None
        What twice the labels would add, as predicted by the learning curve.
    """

    is_large: bool
    is_certain: bool
    n_items: int
    n_classes: int | None
    slope: Slope | None

    def __str__(self) -> str:
        items = f"{self.n_items:,} items"
        if self.n_classes is not None:
            items += f" of {self.n_classes} classes"
        parts = [items]
        if self.slope is not None:
            gain = f"twice as many would add about {100 * self.slope.gain:.1f} points"
            low, high = self.slope.low, self.slope.high
            is_known = isfinite(low) and isfinite(high)
            parts.append(f"{gain} ({100 * low:.1f} to {100 * high:.1f})" if is_known else gain)
        if not self.is_certain:
            parts.append("not certain")
        return "; ".join(parts)


@dataclass(frozen=True)
class Advice:
    """Which of the four cases a task is, and what follows.

    Parameters
    ----------
    similarity : Similarity
    size : Size
    best : Recommendation
        The features to use without fine-tuning, and how far they get.
    depth : float or None
        Share of the backbone's computation that they need; None for a store.
    metric : str
        "accuracy" or "R2".
    seconds : float or None
        Time that 1,000 items take in the whole backbone on this machine.
    curve : LearningCurve or None
        Of the recommended features.
    warnings : tuple of str
        What makes the advice, or a head, less reliable.
    """

    similarity: Similarity
    size: Size
    best: Recommendation
    depth: float | None
    metric: str
    seconds: float | None
    curve: LearningCurve | None
    warnings: tuple[str, ...]

    @property
    def case(self) -> tuple[str, str]:
        """The case: "small" or "large", "similar" or "different"."""
        size = "large" if self.size.is_large else "small"
        return size, "similar" if self.similarity.is_similar else "different"

    @property
    def is_certain(self) -> bool:
        """Whether both answers are clear of chance."""
        return self.size.is_certain and self.similarity.is_certain

    def estimate_costs(self) -> dict[str, float] | None:
        """Estimate the seconds that each option takes on this machine, for all items.

        Returns
        -------
        dict of str to float, or None
            ``extract``: the features of the last layer, once; ``frozen``: the recommended ones, once;
            ``finetune_above``: those of the cut once, and training what is above it; ``finetune``: training everything.
            None for a store, whose backbone did not run.
        """
        if self.seconds is None:
            return None
        once = self.seconds * self.size.n_items / 1000
        below = once if self.depth is None else self.depth * once
        passes = EPOCHS * PASSES_PER_STEP
        return {
            "extract": once,
            "frozen": below,
            "finetune_above": below + passes * (once - below),
            "finetune": passes * once,
        }

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON can hold it."""
        return {
            "case": list(self.case),
            "certain": self.is_certain,
            "action": ACTIONS[self.case],
            "similarity": asdict(self.similarity),
            "size": asdict(self.size),
            "best": asdict(self.best),
            "metric": self.metric,
            "seconds": self.estimate_costs(),
            "curve": None if self.curve is None else self.curve.to_dict(),
            "warnings": list(self.warnings),
        }

    def __str__(self) -> str:
        size, _ = self.case
        lines = [
            f"A {size} data set, {'like' if self.similarity.is_similar else 'unlike'} what the backbone was trained on"
            f"{'' if self.is_certain else ' (not certain)'}: {ACTIONS[self.case]}",
            "",
            f"size        {self.size}",
            f"similarity  {self.similarity}",
            f"frozen      --layer {self.best.layer} --pool {self.best.pool}: {self.metric} {self.best.score:.3f} "
            f"({self.best.low:.3f} to {self.best.high:.3f})",
        ]
        costs = self.estimate_costs()
        if costs is not None:
            lines.append(f"cost        {costs['frozen']:,.0f} s for these features, once")
            if costs["frozen"] < costs["extract"]:
                lines += [
                    f"            {costs['extract']:,.0f} s for those of the last layer, once",
                    f"            about {costs['finetune_above']:,.0f} s to fine-tune what is above the cut for "
                    f"{EPOCHS} epochs",
                ]
            lines.append(f"            about {costs['finetune']:,.0f} s to fine-tune everything for {EPOCHS} epochs")
        return "\n".join([*lines, *(f"warning     {warning}" for warning in self.warnings)])
