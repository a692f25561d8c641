"""Hold an exported graph against its network.

Each check has its own message: a fixed batch size, something random left on, items that change with their neighbours, a
mask that has gone, exchanged channels, and any other difference.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import ParityError, reason
from ...models.backbone import LARGEST_TOLERANCE
from ..preprocess.by_kind import preprocessor_for
from .certificate import Certificate, Deviation, Port

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..preprocess.preprocessor import Feed
    from ..runtime.session import Session
    from .cut import Cut

BATCHES = (1, 2, 5)
SEED = 0


def certify(
    cut: Cut,
    session: Session,
    versions: dict[str, str],
    items: Sequence[NDArray[Any]] = (),
    route: str = "",
    refused: Sequence[str] = (),
) -> Certificate:
    """Compare a graph with the network it came from, in batches of 1, 2 and 5.

    The reference is the untouched network, not what was traced or exported.

    Parameters
    ----------
    cut : Cut
    session : Session
        The graph.
    versions : dict
        Of the packages that took part.
    items : sequence of ndarray
        Real inputs, as the preprocessor prepares them.
    route : str
        How the graph was exported.
    refused : sequence of str
        Routes that were tried before.

    Raises
    ------
    ParityError
        If the graph is not the network; the first output that deviates is named.
    """
    inputs, outputs = _ports(session.runtime.get_inputs()), _ports(session.runtime.get_outputs())
    _require_ports(cut, inputs, outputs)
    _require_evaluation_mode(cut)
    check = _Check(cut, session)
    for case, batch, feed in _cases(cut, items):
        check.run(case, batch, feed)
    found, bound = tuple(check.deviations), cut.backbone.tolerance
    return Certificate(
        bound, session.provider, "fp32", route, tuple(refused), versions, inputs, outputs, found, check.independence
    )


def _ports(arguments: Any) -> tuple[Port, ...]:
    return tuple(Port(argument.name, argument.type, tuple(argument.shape)) for argument in arguments)


def _require_ports(cut: Cut, inputs: Sequence[Port], outputs: Sequence[Port]) -> None:
    """Check names, types and axes of the graph's inputs and outputs."""
    names = tuple(port.name for port in outputs)
    if names != cut.names:
        raise ParityError(f"the exported graph has the outputs {', '.join(names)}; expected {', '.join(cut.names)}")
    n_free_input_axes = len(cut.backbone.input_spec.graph_inputs[0].free_axes)
    for port in (*inputs, *outputs):
        free = port.axes[: n_free_input_axes if port in inputs else 1]
        if not free or any(isinstance(axis, int) for axis in free):
            raise ParityError(
                f"{port.name!r} of the exported graph has axes {port.axes}: the exporter fixed the batch size, or the "
                "number of tokens. Expected a free batch size as the first axis, and any number of tokens."
            )
    for port in outputs:
        if port.type != "tensor(float)" or len(port.axes) != 2:
            raise ParityError(
                f"output {port.name!r} of the exported graph is a {port.type} with axes {port.axes}; "
                "expected float32 (batch, features)"
            )


def _require_evaluation_mode(cut: Cut) -> None:
    """Check the network itself: random layers and batch statistics must be switched off."""
    preprocessor, generator = preprocessor_for(cut.backbone.input_spec), np.random.default_rng(SEED)
    feed = preprocessor.random_feeds(2, generator)["random"]
    alone = {name: array[:1] for name, array in feed.items()}
    together, again, single = (cut.cutter.reference(cut, batch) for batch in (feed, feed, alone))
    for name, first, second, item in zip(cut.names, together, again, single, strict=True):
        if not np.array_equal(first, second, equal_nan=True):
            raise ParityError(
                f"two runs of {cut.backbone.name} itself on the same batch differ at output {name!r}: something "
                "random, such as dropout, is on even in evaluation mode. Nothing was kept."
            )
        if not _relative(first[:1], item) <= LARGEST_TOLERANCE:
            raise ParityError(
                f"features of {cut.backbone.name} itself at output {name!r} change with the other items of their "
                "batch: batch normalisation is in training mode even in evaluation mode. Nothing was kept."
            )


def _cases(cut: Cut, items: Sequence[NDArray[Any]]) -> Iterator[tuple[str, int, Feed]]:
    preprocessor, generator = preprocessor_for(cut.backbone.input_spec), np.random.default_rng(SEED)
    for batch in BATCHES:
        for case, feed in preprocessor.random_feeds(batch, generator).items():
            yield case, batch, feed
    for batch in BATCHES if items else ():
        yield "real", batch, preprocessor.collate([items[number % len(items)] for number in range(batch)])


class _Check:
    """The comparisons, and what they found so far."""

    def __init__(self, cut: Cut, session: Session) -> None:
        self.cut, self.session = cut, session
        self.deviations: list[Deviation] = []
        self.independence = 0.0

    def run(self, case: str, batch: int, feed: Feed) -> None:
        """Run one batch through graph and network."""
        found = self._outputs(feed, batch)
        self._require_repeatable(found, feed, batch)
        expected = self.cut.cutter.reference(self.cut, feed)
        for name, ours, theirs in zip(self.cut.names, found, expected, strict=True):
            if ours.shape != theirs.shape:
                raise ParityError(
                    f"output {name!r} has shape {ours.shape} on a batch of {batch}, expected {theirs.shape}"
                )
        if batch > 1:
            self._require_independent(found, feed)
        for name, ours, theirs in zip(self.cut.names, found, expected, strict=True):
            self.deviations.append(_compare(name, case, batch, ours, theirs))
            if not self.deviations[-1].relative_l2 <= self.cut.backbone.tolerance:
                raise ParityError(self._explain(feed, expected))

    def _outputs(self, feed: Feed, batch: int) -> list[NDArray[np.float32]]:
        try:
            return self.session.run(feed)
        except Exception as error:
            raise ParityError(
                f"the exported graph does not run on a batch of {batch}: {reason(error)}. "
                "Expected a free batch size; the exporter may have fixed it."
            ) from error

    def _require_repeatable(self, found: list[NDArray[np.float32]], feed: Feed, batch: int) -> None:
        for name, once, again in zip(self.cut.names, found, self._outputs(feed, batch), strict=True):
            if not np.array_equal(once, again, equal_nan=True):
                raise ParityError(
                    f"two runs of the exported graph on the same batch differ at output {name!r}: something random, "
                    "such as dropout, is left on. Expected a network in evaluation mode."
                )

    def _require_independent(self, found: list[NDArray[np.float32]], feed: Feed) -> None:
        alone = self._outputs({name: array[:1] for name, array in feed.items()}, 1)
        for name, ours, single in zip(self.cut.names, found, alone, strict=True):
            difference = _relative(ours[:1], single)
            self.independence = max(self.independence, difference)
            if not difference <= LARGEST_TOLERANCE:
                raise ParityError(
                    f"an item's features at output {name!r} change by {difference:.2g} with the other items of its "
                    "batch: batch normalisation is left in training mode. Expected a network in evaluation mode."
                )

    def _explain(self, feed: Feed, expected: list[NDArray[np.float32]]) -> str:
        """Say what is wrong with the last comparison, as closely as can be told."""
        worst, bound = self.deviations[-1], self.cut.backbone.tolerance
        fault = ""
        if worst.case == "padded":
            fault = "Without padding it agrees: the attention mask is gone from the graph. "
        elif self._agrees_reversed(feed, expected):
            fault = "It agrees when red and blue are exchanged: the order of the channels is wrong. "
        return (
            f"the exported graph differs from the network: output {worst.output!r}, {worst.case} batch of "
            f"{worst.batch}, relative L2 error {worst.relative_l2:.2g}, cosine {worst.cosine:.4f}; "
            f"expected at most {bound:.0e}. {fault}Nothing was kept."
        )

    def _agrees_reversed(self, feed: Feed, expected: list[NDArray[np.float32]]) -> bool:
        axis = self.cut.backbone.input_spec.color_axis
        if axis is None:
            return False
        reversed_feed = {name: np.ascontiguousarray(np.flip(array, axis)) for name, array in feed.items()}
        found = self.session.run(reversed_feed)
        pairs = zip(found, expected, strict=True)
        return all(_relative(ours, theirs) <= self.cut.backbone.tolerance for ours, theirs in pairs)


def _relative(found: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
    """Return the relative L2 error."""
    ours, theirs = found.astype(np.float64), expected.astype(np.float64)
    difference = ours - theirs
    return float(np.linalg.norm(difference)) / max(float(np.linalg.norm(theirs)), 1e-300) if difference.any() else 0.0


def _compare(name: str, case: str, batch: int, found: NDArray[np.float32], expected: NDArray[np.float32]) -> Deviation:
    ours, theirs = found.astype(np.float64), expected.astype(np.float64)
    lengths = np.linalg.norm(ours, axis=1) * np.linalg.norm(theirs, axis=1)
    cosines = np.where(lengths > 0, (ours * theirs).sum(1) / np.maximum(lengths, 1e-300), 1.0)
    largest = float(np.abs(ours - theirs).max())
    return Deviation(name, case, batch, _relative(found, expected), largest, float(cosines.min()))
