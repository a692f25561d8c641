"""Which layers and poolings a search compares."""

from __future__ import annotations

import pytest
import topwork
from topwork.extract.graphs.candidate_layers import choose_candidate_layers, choose_candidate_poolings
from topwork.extract.graphs.layer import Kind, Layer


def chain(*names: str, kind: Kind = "map") -> list[Layer]:
    """Return layers that follow each other, each with the same amount of computation."""
    shape = {"map": (8, 4, 4), "tokens": (5, 8), "vector": (8,)}[kind]
    made = [
        Layer(name, shape, kind, channel_axis=0, prefix_tokens=1, flops=(place + 1) / len(names), single_tensor=True)
        for place, name in enumerate(names)
    ]
    return [*made, Layer("last", (8,), "vector", flops=1.0, single_tensor=True)]


def names_of(layers: list[Layer]) -> list[str]:
    return [layer.name for layer in layers]


def test_ends_of_blocks_of_the_default_backbone() -> None:
    layers = topwork.layers(topwork.load_backbone("topwork:tiny"))
    chosen = choose_candidate_layers(layers)
    assert names_of(chosen) == ["stem", "layer1", "layer2.0", "layer2", "layer3.0", "last"]
    assert choose_candidate_poolings(chosen) == ("auto", "max", "avg2x2")


def test_ends_of_stages_precede_those_of_blocks() -> None:
    names = ["stem", *[f"stage{stage}.{block}" for stage in (1, 2) for block in (0, 1, 2)], "head"]
    layers = chain(*names)
    closing = [Layer("stage1", (8, 4, 4), "map", flops=layers[3].flops, single_tensor=True)]
    chosen = choose_candidate_layers([*layers[:4], *closing, *layers[4:]], n_candidates=4)
    assert names_of(chosen) == ["stem", "stage1", "stage2.1", "last"]
    assert names_of(choose_candidate_layers(layers[:4] + layers[-1:], n_candidates=99)) == [
        "stem",
        "stage1.0",
        "stage1.1",
        "stage1.2",
        "last",
    ]


def test_branches_and_the_classifier_are_no_candidates() -> None:
    layers = chain("a", "b", "c")
    branch = Layer("branch", (8, 4, 4), "map", flops=0.5, single_tensor=False)
    classifier = Layer("fc", (10,), "vector", flops=1.0, single_tensor=True)
    assert names_of(choose_candidate_layers([layers[0], branch, *layers[1:3], classifier, layers[-1]])) == [
        "a",
        "b",
        "last",
    ]


@pytest.mark.parametrize(
    ("kind", "expected"), [("map", ("auto", "max", "avg2x2")), ("tokens", ("auto", "mean", "max", "cls"))]
)
def test_poolings_apply_to_all_layers(kind: Kind, expected: tuple[str, ...]) -> None:
    assert choose_candidate_poolings(chain("a", "b", kind=kind)) == expected
    mixed = [*chain("a", kind=kind), Layer("flat", (4, 4), "map")]
    assert choose_candidate_poolings(mixed) == ("auto",)
    assert choose_candidate_poolings(chain("a", kind="vector")) == ("auto",)
