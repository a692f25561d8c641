"""What is known about a task, and the text that says what follows from it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
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
    drop : float
        The score of the best layer less that of the last.
    gain_over_random, gain_error : float or None
        The score less that of the same network with random weights, and its standard error.
    """

    is_similar: bool
    is_certain: bool
    best_layer: str
    best_depth: float | None
    last_layer: str
    drop: float
    gain_over_random: float | None
    gain_error: float | None


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
        What twice the labels would add.
    """

    is_large: bool
    is_certain: bool
    n_items: int
    n_classes: int | None
    slope: Slope | None


@dataclass(frozen=True)
class Advice:
    """Which of the four cases a task is, and what follows.

    Parameters
    ----------
    similarity : Similarity
    size : Size
    best : Recommendation
        The features to use without fine-tuning, and how far they get.
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
        """Estimate seconds on this machine: features of all items once, and fine-tuning the whole backbone."""
        if self.seconds is None:
            return None
        once = self.seconds * self.size.n_items / 1000
        return {"extract": once, "finetune": EPOCHS * PASSES_PER_STEP * once}

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
            f"size        {self.describe_size()}",
            f"similarity  {self.describe_similarity()}",
            f"frozen      --layer {self.best.layer} --pool {self.best.pool}: {self.metric} {self.best.score:.3f} "
            f"({self.best.low:.3f} to {self.best.high:.3f})",
        ]
        costs = self.estimate_costs()
        if costs is not None:
            lines.append(
                f"cost        {costs['extract']:,.0f} s for the features, once; about {costs['finetune']:,.0f} s to "
                f"fine-tune everything for {EPOCHS} epochs"
            )
        return "\n".join([*lines, *(f"warning     {warning}" for warning in self.warnings)])

    def describe_size(self) -> str:
        """Return the number of items, and what more of them would add."""
        items = f"{self.size.n_items:,} items"
        if self.size.n_classes is not None:
            items += f" of {self.size.n_classes} classes"
        if self.size.slope is None:
            return items
        return f"{items}; twice as many would add about {100 * self.size.slope.gain:.1f} points"

    def describe_similarity(self) -> str:
        """Return where the best layer lies, and what the pretraining brings."""
        own = self.similarity
        where = "" if own.best_depth is None else f", after {own.best_depth:.0%} of the computation"
        text = f"the best layer is {own.best_layer}{where}"
        if own.best_layer != own.last_layer:
            text += f"; the last is {100 * own.drop:.1f} points worse"
        if own.gain_over_random is not None:
            text += f"; {100 * own.gain_over_random:+.1f} points over random weights"
        return text
