"""Ancestors, dominators and channels are found in any graph whose nodes list their sources."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from topwork.extract.graphs.dataflow import (
    AxisReader,
    Cost,
    add_costs,
    find_ancestors,
    find_channel_axis,
    find_dominators,
    match_axes,
    measure_layers,
    walk_back,
)
from topwork.extract.graphs.layer import Layer, guess_channel_axis


@dataclass(eq=False)
class Node:
    name: str
    all_input_nodes: list[Node] = field(default_factory=list)
    channels: int | None = None
    moved: tuple[int | None, ...] | None = None


@pytest.fixture
def block() -> dict[str, Node]:
    """Return a residual block: image -> stem -> (branch, shortcut) -> sum -> output, and a weight of the branch."""
    image, weight = Node("image"), Node("weight")
    stem = Node("stem", [image])
    branch, shortcut = Node("branch", [stem, weight]), Node("shortcut", [stem])
    total = Node("sum", [branch, shortcut])
    nodes = (image, weight, stem, branch, shortcut, total, Node("output", [total]))
    return {node.name: node for node in nodes}


def names(nodes: set[Node]) -> set[str]:
    return {node.name for node in nodes}


def test_ancestors_are_all_that_a_node_needs(block: dict[str, Node]) -> None:
    assert names(find_ancestors([block["branch"]])) == {"image", "weight", "stem", "branch"}


def test_dominators_are_passed_by_every_path(block: dict[str, Node]) -> None:
    live = [node for node in block.values() if node.name != "weight"]
    assert names(find_dominators(live, block["output"])) == {"image", "stem", "sum", "output"}
    assert names(find_dominators(live, block["branch"])) == {"image", "stem", "branch"}


def test_walk_yields_each_node_once_nearest_first(block: dict[str, Node]) -> None:
    walked = [node.name for node in walk_back(block["output"], lambda node: node.all_input_nodes)]
    assert walked == ["output", "sum", "branch", "shortcut", "stem", "weight", "image"]


def test_layers_are_measured_by_what_lies_below(block: dict[str, Node]) -> None:
    costs = {node: Cost(flops=10) for node in block.values()} | {block["weight"]: Cost(parameters=4)}
    layers = [(Layer(name, (3,), "vector"), block[name]) for name in ("stem", "sum")]
    stem, total = measure_layers(layers, costs, total=add_costs(costs.values()), dominators={block["stem"]})
    assert (stem.parameters, stem.flops, stem.single_tensor) == (0.0, pytest.approx(20 / 60), True)
    assert (total.parameters, total.flops, total.single_tensor) == (1.0, pytest.approx(50 / 60), False)


READER = AxisReader(lambda node: node.all_input_nodes, lambda node: node.channels, lambda node: node.moved)


@pytest.mark.parametrize(
    ("channels", "moved", "expected"),
    [
        (1, None, 0),
        (3, None, -1),
        (1, (0, 2, 3, 1), -1),
        (3, (0, 3, 1, 2), 0),
        (1, (0, None, 1), -1),
        (1, (0, 1, None), 0),
        (2, (0, 2, None), 0),
        (1, (0, 2, 1, 3), None),
    ],
)
def test_channels_are_followed_through_permutations(
    channels: int, moved: tuple[int | None, ...] | None, expected: int | None
) -> None:
    source = Node("convolution", channels=channels)
    n_axes = 4 if moved is None else len(moved)
    assert find_channel_axis(Node("map", [source], moved=moved), n_axes, READER) == expected


def test_channels_that_no_operation_defines_are_unknown() -> None:
    assert find_channel_axis(Node("map", [Node("image")]), 4, READER) is None


@pytest.mark.parametrize(("shape", "expected"), [((3, 8, 8), 0), ((8, 8, 3), -1), ((8, 8, 8), None), ((5, 6, 7), None)])
def test_channels_of_a_square_map_are_the_side_of_its_own(shape: tuple[int, ...], expected: int | None) -> None:
    assert guess_channel_axis(shape) == expected


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ((2, 8, 4, 4), (2, 8, 16), [0, 1, None]),
        ((2, 16, 8), (2, 4, 4, 8), [0, None, None, 2]),
        ((2, 8, 4), (2, 4, 8), [0, None, None]),
        ((2, 8, 1, 1), (2, 8), [0, 1]),
        ((2, 6), (2, 6), [0, 1]),
        ((2, 6), (12,), [None]),
        ((2, 3, 4), (6, 4), [None, 2]),
    ],
)
def test_axes_are_matched_through_reshapes(
    before: tuple[int, ...], after: tuple[int, ...], expected: list[int | None]
) -> None:
    assert match_axes(before, after) == expected
