"""Compare an exported graph with its model.

Each check has its own message: a fixed batch size, something random left on, items that change with their neighbours, a
lost attention mask, exchanged channels, and any other difference.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import LayerError, ParityError, reason
from ...models.backbone import LARGEST_TOLERANCE
from ..preprocess.by_kind import preprocessor_for
from .certificate import Certificate, Deviation, Port
from .fidelity import relative_error

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ...models.input_spec import InputSpec
    from ..preprocess.preprocessor import Feed
    from ..runtime.session import Session
    from .cut import Cut
    from .layer import Layer

    Matrices = Sequence[NDArray[np.float32]]

BATCH_SIZES = (1, 2, 5)
FEED_SEED = 0
MIN_DIFFERENCE_OF_TEXTS = 1e-5
"""Relative L2 difference of two texts' vectors below which they are the same."""


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
    deviations: list[Deviation] = []
    independence = 0.0
    for case, feed in make_feeds(cut, items):
        deviations_of_case, independence_of_case = compare(cut, session, case=case, feed=feed)
        deviations.extend(deviations_of_case)
        independence = max(independence, independence_of_case)
    return Certificate(
        tolerance=cut.backbone.tolerance,
        provider=session.provider,
        precision="fp32",
        route=route,
        refused=tuple(refused),
        versions=versions,
        inputs=inputs,
        outputs=outputs,
        deviations=tuple(deviations),
        independence=independence,
    )


def _read_ports(arguments: Any) -> tuple[Port, ...]:
    return tuple(Port(argument.name, argument.type, tuple(argument.shape)) for argument in arguments)


def check_ports(cut: Cut, inputs: Sequence[Port], outputs: Sequence[Port]) -> None:
    """Check names, types and axes of a graph's inputs and outputs, and raise a ParityError."""
    names = tuple(port.name for port in outputs)
    if names != cut.names:
        raise ParityError(f"the exported graph has the outputs {', '.join(names)}; expected {', '.join(cut.names)}")
    free_axes = {port.name: port.free_axes for port in cut.backbone.input_spec.graph_inputs}
    for port in inputs:
        _check_free_axes(port, free_axes[port.name])
    for port in outputs:
        _check_free_axes(port, (0,))
        if port.type != "tensor(float)" or len(port.axes) != 2:
            raise ParityError(
                f"output {port.name!r} of the exported graph is a {port.type} with axes {port.axes}; "
                "expected float32 (batch, features)"
            )


def _check_free_axes(port: Port, positions: Iterable[int]) -> None:
    is_fixed = any(isinstance(port.axes[position], int) for position in positions if position < len(port.axes))
    if is_fixed or not port.axes:
        raise ParityError(
            f"{port.name!r} of the exported graph has axes {port.axes}: the exporter fixed the batch size, or the "
            "number of tokens or samples. Expected a free batch size as the first axis, and any number of these."
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


def check_padding(cut: Cut) -> None:
    """Raise a LayerError if the model itself changes a text's features with its padding, in spite of the mask."""
    spec = cut.backbone.input_spec
    if not spec.has_mask:
        return
    preprocessor = preprocessor_for(spec)
    padded = preprocessor.random_feeds(1, np.random.default_rng(FEED_SEED))["padded"]
    ids, mask = padded.values()
    alone = preprocessor.collate([ids[0][mask[0] == 1]])
    features = zip(cut.cutter.reference(cut, padded), cut.cutter.reference(cut, alone), strict=True)
    for name, (with_padding, without) in zip(cut.names, features, strict=True):
        difference = relative_error(with_padding, without)
        if not difference <= LARGEST_TOLERANCE:
            raise LayerError(
                f"the features of a text in {cut.backbone.name} itself at output {name!r} change by {difference:.2g} "
                "with the padding of its batch, in spite of the attention mask. Expected a layer or a model that "
                "ignores padding, or texts padded to one length: input_spec=TextSpec(…, padding='max_length')."
            )


def check_first_token(cut: Cut) -> None:
    """Raise a LayerError if ``cls`` takes the first token of a model whose tokens see only those before them.

    Every text that begins with the same token would have the same vector.
    """
    taken = [layer for layer, pool in cut.chosen if layer.is_masked and pool == "cls"]
    if not taken or sees_later_tokens(cut, taken[0]):
        return
    deepest = [layer for layer in cut.cutter.layers() if layer.is_masked][-1]
    if not sees_later_tokens(cut, deepest):  # unlike that of an embedding, below all attention
        raise LayerError(
            f"pooling 'cls' of {taken[0].name!r} takes the first token, which in {cut.backbone.name} sees itself "
            "alone: every text would have the same vector. Expected another pooling, such as 'last_token'."
        )


def sees_later_tokens(cut: Cut, layer: Layer) -> bool:
    """Return whether the first token of a layer differs between two texts that begin with the same token."""
    generator = np.random.default_rng(FEED_SEED)
    feed = preprocessor_for(cut.backbone.input_spec).random_feeds(2, generator)["random"]
    ids = feed[next(iter(feed))]
    ids[1, 0] = ids[0, 0]
    (features,) = cut.cutter.reference(replace(cut, chosen=((layer, "cls"),)), feed)
    return relative_error(features[0], features[1]) >= MIN_DIFFERENCE_OF_TEXTS


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
            yield "real", preprocessor.collate(choose_real_items(items, size, cut.backbone.input_spec))


def choose_real_items(items: Sequence[NDArray[Any]], size: int, spec: InputSpec) -> list[NDArray[Any]]:
    """Return a batch of items; where batches are not padded, one of them as often as needed."""
    if spec.lengths_vary and not spec.pads_batches:
        return [items[size % len(items)]] * size
    return [items[number % len(items)] for number in range(size)]


def compare(cut: Cut, session: Session, *, case: str, feed: Feed) -> tuple[list[Deviation], float]:
    """Run one batch through graph and model, and compare every output.

    The number is the largest relative L2 difference between the first item's features alone and in the batch.
    """
    size = len(next(iter(feed.values())))
    found = run_graph(session, feed)
    check_repeatable(cut, found, run_graph(session, feed))
    expected = cut.cutter.reference(cut, feed)
    check_shapes(cut, found, expected)
    independence = 0.0
    if size > 1:
        alone = run_graph(session, _first_item(feed))
        independence = measure_independence(cut, found, alone)
    deviations = []
    for name, features, reference in zip(cut.names, found, expected, strict=True):
        deviation = measure_deviation(features, reference, output=name, case=case)
        if not deviation.relative_l2 <= cut.backbone.tolerance:
            cause = find_cause(cut, session, case, feed=feed, expected=expected)
            raise deviation_error(deviation, cut.backbone.tolerance, cause)
        deviations.append(deviation)
    return deviations, independence


def run_graph(session: Session, feed: Feed) -> Matrices:
    """Return the graph's outputs for a batch; if it does not run, a fixed batch size is the likely cause."""
    try:
        return session.run(feed)
    except Exception as error:
        size = len(next(iter(feed.values())))
        raise ParityError(
            f"the exported graph does not run on a batch of {size}: {reason(error)}. "
            "Expected a free batch size; the exporter may have fixed it."
        ) from error


def check_repeatable(cut: Cut, once: Matrices, again: Matrices) -> None:
    """Raise a ParityError if two runs of the graph on the same batch differ."""
    for name, features, repeated in zip(cut.names, once, again, strict=True):
        if not np.array_equal(features, repeated, equal_nan=True):
            raise ParityError(
                f"two runs of the exported graph on the same batch differ at output {name!r}: something random, "
                "such as dropout, is left on. Expected a model in evaluation mode."
            )


def check_shapes(cut: Cut, found: Matrices, expected: Matrices) -> None:
    """Raise a ParityError if an output of the graph has another shape than the model's."""
    for name, features, reference in zip(cut.names, found, expected, strict=True):
        if features.shape != reference.shape:
            raise ParityError(
                f"output {name!r} has shape {features.shape} on a batch of {len(reference)}, expected {reference.shape}"
            )


def measure_independence(cut: Cut, found: Matrices, alone: Matrices) -> float:
    """Return the largest difference of the first item's features alone and in a batch; a ParityError if too large."""
    largest = 0.0
    for name, features, single in zip(cut.names, found, alone, strict=True):
        difference = relative_error(features[:1], single)
        if not difference <= LARGEST_TOLERANCE:
            raise ParityError(
                f"an item's features at output {name!r} change by {difference:.2g} with the other items of its "
                "batch: batch normalisation is left in training mode. Expected a model in evaluation mode."
            )
        largest = max(largest, difference)
    return largest


def find_cause(cut: Cut, session: Session, case: str, *, feed: Feed, expected: Matrices) -> str:
    """Say why a graph deviates, "" where that cannot be determined."""
    if cut.backbone.tolerance > LARGEST_TOLERANCE:
        return (
            "The file is quantised, and the rounding of its numbers changes its features more than that; "
            "use the file that is not quantised. "
        )
    if case == "padded" and cut.backbone.input_spec.has_mask:
        return "Without padding it agrees: the attention mask is gone from the graph. "
    axis = cut.backbone.input_spec.color_axis
    if axis is None:
        return ""
    exchanged = {name: np.ascontiguousarray(np.flip(images, axis)) for name, images in feed.items()}
    errors = [relative_error(*pair) for pair in zip(session.run(exchanged), expected, strict=True)]
    if max(errors) <= cut.backbone.tolerance:
        return "It agrees when red and blue are exchanged: the order of the channels is wrong. "
    return ""


def deviation_error(deviation: Deviation, tolerance: float, cause: str) -> ParityError:
    """Say how a graph deviates, and why."""
    return ParityError(
        f"the exported graph differs from the model: output {deviation.output!r}, {deviation.case} batch of "
        f"{deviation.batch}, relative L2 error {deviation.relative_l2:.2g}, cosine {deviation.cosine:.4f}; "
        f"expected at most {tolerance:.0e}. {cause}Nothing was kept."
    )


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
