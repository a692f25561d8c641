"""Compare an exported graph with its model.

Each check has its own message: a fixed batch size, something random left on, items that change with their neighbours, a
lost attention mask, exchanged channels, and any other difference.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import ParityError, reason
from ...models.backbone import LARGEST_TOLERANCE
from ..preprocess.by_kind import preprocessor_for
from .certificate import Certificate, Deviation, Port
from .fidelity import relative_error

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..preprocess.preprocessor import Feed
    from ..runtime.session import Session
    from .cut import Cut

    Matrices = Sequence[NDArray[np.float32]]

BATCH_SIZES = (1, 2, 5)
FEED_SEED = 0


def certify(
    cut: Cut,
    session: Session,
    *,
    versions: dict[str, str],
    items: Sequence[NDArray[Any]] = (),
    route: str = "",
    refused: Sequence[str] = (),
) -> Certificate:
    """Compare a graph with the model it came from, in batches of 1, 2 and 5 of random and real items.

    The reference is the untouched model, not what was traced or exported. Items are given as the preprocessor prepares
    them; `refused` are the routes that were tried before. A ParityError names the first output that deviates.
    """
    inputs = _read_ports(session.runtime.get_inputs())
    outputs = _read_ports(session.runtime.get_outputs())
    check_ports(cut, inputs, outputs)
    check_evaluation_mode(cut)
    comparison = _Comparison(cut, session)
    for case, feed in make_feeds(cut, items):
        comparison.run(case, feed)
    return Certificate(
        tolerance=cut.backbone.tolerance,
        provider=session.provider,
        precision="fp32",
        route=route,
        refused=tuple(refused),
        versions=versions,
        inputs=inputs,
        outputs=outputs,
        deviations=tuple(comparison.deviations),
        independence=comparison.independence,
    )


def _read_ports(arguments: Any) -> tuple[Port, ...]:
    return tuple(Port(argument.name, argument.type, tuple(argument.shape)) for argument in arguments)


def check_ports(cut: Cut, inputs: Sequence[Port], outputs: Sequence[Port]) -> None:
    """Check names, types and axes of a graph's inputs and outputs, and raise a ParityError."""
    names = tuple(port.name for port in outputs)
    if names != cut.names:
        raise ParityError(f"the exported graph has the outputs {', '.join(names)}; expected {', '.join(cut.names)}")
    free_input_axes = len(cut.backbone.input_spec.graph_inputs[0].free_axes)
    for port in inputs:
        _check_free_axes(port, free_input_axes)
    for port in outputs:
        _check_free_axes(port, 1)
        if port.type != "tensor(float)" or len(port.axes) != 2:
            raise ParityError(
                f"output {port.name!r} of the exported graph is a {port.type} with axes {port.axes}; "
                "expected float32 (batch, features)"
            )


def _check_free_axes(port: Port, count: int) -> None:
    axes = port.axes[:count]
    is_fixed = any(isinstance(axis, int) for axis in axes)
    if is_fixed or not axes:
        raise ParityError(
            f"{port.name!r} of the exported graph has axes {port.axes}: the exporter fixed the batch size, or the "
            "number of tokens. Expected a free batch size as the first axis, and any number of tokens."
        )


def check_evaluation_mode(cut: Cut) -> None:
    """Raise a ParityError if something random or batch statistics are on in the model itself.

    Then two runs differ, or an item's features change with the other items of its batch.
    """
    generator = np.random.default_rng(FEED_SEED)
    feed = preprocessor_for(cut.backbone.input_spec).random_feeds(2, generator)["random"]
    once = cut.cutter.reference(cut, feed)
    again = cut.cutter.reference(cut, feed)
    alone = cut.cutter.reference(cut, _first_item(feed))
    for number, name in enumerate(cut.names):
        if not np.array_equal(once[number], again[number], equal_nan=True):
            raise ParityError(
                f"two runs of {cut.backbone.name} itself on the same batch differ at output {name!r}: something "
                "random, such as dropout, is on even in evaluation mode. Nothing was kept."
            )
        if not relative_error(once[number][:1], alone[number]) <= LARGEST_TOLERANCE:
            raise ParityError(
                f"features of {cut.backbone.name} itself at output {name!r} change with the other items of their "
                "batch: batch normalisation is in training mode even in evaluation mode. Nothing was kept."
            )


def _first_item(feed: Feed) -> Feed:
    return {name: array[:1] for name, array in feed.items()}


def make_feeds(cut: Cut, items: Sequence[NDArray[Any]]) -> Iterator[tuple[str, Feed]]:
    """Yield the name of each case with a batch."""
    preprocessor = preprocessor_for(cut.backbone.input_spec)
    generator = np.random.default_rng(FEED_SEED)
    for size in BATCH_SIZES:
        yield from preprocessor.random_feeds(size, generator).items()
    if items:
        for size in BATCH_SIZES:
            yield "real", preprocessor.collate([items[number % len(items)] for number in range(size)])


class _Comparison:
    """The comparisons of a graph with its model, and what they found so far."""

    def __init__(self, cut: Cut, session: Session) -> None:
        self.cut = cut
        self.session = session
        self.deviations: list[Deviation] = []
        self.independence = 0.0

    def run(self, case: str, feed: Feed) -> None:
        """Run one batch through graph and model, and compare every output."""
        size = len(next(iter(feed.values())))
        found = self._run_graph(feed)
        self._check_repeatable(found, feed)
        expected = self.cut.cutter.reference(self.cut, feed)
        self._check_shapes(found, expected)
        if size > 1:
            self._check_independent(found, feed)
        for name, features, reference in zip(self.cut.names, found, expected, strict=True):
            deviation = measure_deviation(features, reference, output=name, case=case)
            self.deviations.append(deviation)
            if not deviation.relative_l2 <= self.cut.backbone.tolerance:
                raise self._deviation_error(deviation, feed, expected)

    def _run_graph(self, feed: Feed) -> Matrices:
        try:
            return self.session.run(feed)
        except Exception as error:
            size = len(next(iter(feed.values())))
            raise ParityError(
                f"the exported graph does not run on a batch of {size}: {reason(error)}. "
                "Expected a free batch size; the exporter may have fixed it."
            ) from error

    def _check_repeatable(self, found: Matrices, feed: Feed) -> None:
        again = self._run_graph(feed)
        for name, features, repeated in zip(self.cut.names, found, again, strict=True):
            if not np.array_equal(features, repeated, equal_nan=True):
                raise ParityError(
                    f"two runs of the exported graph on the same batch differ at output {name!r}: something random, "
                    "such as dropout, is left on. Expected a model in evaluation mode."
                )

    def _check_shapes(self, found: Matrices, expected: Matrices) -> None:
        for name, features, reference in zip(self.cut.names, found, expected, strict=True):
            if features.shape != reference.shape:
                raise ParityError(
                    f"output {name!r} has shape {features.shape} on a batch of {len(reference)}, "
                    f"expected {reference.shape}"
                )

    def _check_independent(self, found: Matrices, feed: Feed) -> None:
        alone = self._run_graph(_first_item(feed))
        for name, features, single in zip(self.cut.names, found, alone, strict=True):
            difference = relative_error(features[:1], single)
            self.independence = max(self.independence, difference)
            if not difference <= LARGEST_TOLERANCE:
                raise ParityError(
                    f"an item's features at output {name!r} change by {difference:.2g} with the other items of its "
                    "batch: batch normalisation is left in training mode. Expected a model in evaluation mode."
                )

    def _deviation_error(self, deviation: Deviation, feed: Feed, expected: Matrices) -> ParityError:
        """Say how the graph deviates, and why where that can be determined."""
        cause = ""
        if deviation.case == "padded":
            cause = "Without padding it agrees: the attention mask is gone from the graph. "
        elif self._agrees_with_exchanged_channels(feed, expected):
            cause = "It agrees when red and blue are exchanged: the order of the channels is wrong. "
        return ParityError(
            f"the exported graph differs from the model: output {deviation.output!r}, {deviation.case} batch of "
            f"{deviation.batch}, relative L2 error {deviation.relative_l2:.2g}, cosine {deviation.cosine:.4f}; "
            f"expected at most {self.cut.backbone.tolerance:.0e}. {cause}Nothing was kept."
        )

    def _agrees_with_exchanged_channels(self, feed: Feed, expected: Matrices) -> bool:
        axis = self.cut.backbone.input_spec.color_axis
        if axis is None:
            return False
        exchanged = {name: np.ascontiguousarray(np.flip(images, axis)) for name, images in feed.items()}
        errors = [relative_error(*pair) for pair in zip(self.session.run(exchanged), expected, strict=True)]
        return max(errors) <= self.cut.backbone.tolerance


def measure_deviation(
    found: NDArray[np.float32], expected: NDArray[np.float32], *, output: str, case: str
) -> Deviation:
    """Compare one output ``(batch, features)`` of a graph with the model's."""
    features = found.astype(np.float64)
    reference = expected.astype(np.float64)
    lengths = np.linalg.norm(features, axis=1) * np.linalg.norm(reference, axis=1)
    products = (features * reference).sum(axis=1)
    cosines = np.where(lengths > 0, products / np.maximum(lengths, 1e-300), 1.0)
    return Deviation(
        output=output,
        case=case,
        batch=len(expected),
        relative_l2=relative_error(found, expected),
        max_abs=float(np.abs(features - reference).max()),
        cosine=float(cosines.min()),
    )
