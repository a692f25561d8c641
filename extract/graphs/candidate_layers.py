"""What a search compares: a few layers, spread over the depth of a model at the ends of its blocks, and poolings."""

from __future__ import annotations

from collections.abc import Sequence

from .layer import LAST, Layer
from .pooling import AUTO, applicable_poolings

N_CANDIDATES = 8
CANDIDATE_POOLINGS = {"map": (AUTO, "max", "avg2x2"), "tokens": (AUTO, "mean", "max", "cls")}
"""Poolings that are compared, for each kind of layer; a vector is not pooled."""


def choose_candidate_layers(layers: Sequence[Layer], n_candidates: int = N_CANDIDATES) -> list[Layer]:
    """Return the layers that represent a model's depth, in order of execution, ``last`` at the end.

    Parameters
    ----------
    layers : sequence of Layer
        As :func:`topwork.layers` returns them.
    n_candidates : int
        Largest number of layers.

    Returns
    -------
    list of Layer
        Those through which all data flow, one for each amount of computation, the outermost module first: the ends of
        stages, then those of blocks within them, each time the one that lies farthest from those chosen before.
    """
    ends = find_block_ends(layers)
    chosen = [len(ends) - 1]
    for depth in sorted({count_modules(layer) for layer in ends}):
        places = [place for place, layer in enumerate(ends) if count_modules(layer) <= depth]
        while len(chosen) < min(n_candidates, len(places)):
            chosen.append(find_farthest(places, chosen))
    return [ends[place] for place in sorted(chosen)]


def find_farthest(places: Sequence[int], chosen: Sequence[int]) -> int:
    """Return the place whose distance to the nearest of those chosen before is largest, the last of equals."""
    distances = [min(abs(place - other) for other in chosen) for place in places]
    return max(zip(distances, places, strict=True))[1]


def find_block_ends(layers: Sequence[Layer]) -> list[Layer]:
    """Return the layers before the model's classifier through which all data flow, each computation once.

    Of layers that end with the same share of the model's computation, such as a block, its activation and the stage
    that it closes, the outermost one is kept, the last of equals; ``last`` stands for all that end where it does.
    """
    last = next(layer for layer in layers if layer.name == LAST)
    ends: dict[float, Layer] = {}
    for layer in layers:
        if not layer.single_tensor or layer.flops >= last.flops:
            continue
        known = ends.get(layer.flops)
        if known is None or count_modules(layer) <= count_modules(known):
            ends[layer.flops] = layer
    return [*(ends[share] for share in sorted(ends)), last]


def count_modules(layer: Layer) -> int:
    """Return how many modules a layer lies in."""
    return layer.name.count(".")


def choose_candidate_poolings(layers: Sequence[Layer]) -> tuple[str, ...]:
    """Return the poolings to compare that apply to all of some layers, the model's own (``auto``) first."""
    pooled = [layer for layer in layers if layer.kind != "vector"]
    if not pooled:
        return (AUTO,)
    wanted = CANDIDATE_POOLINGS[pooled[0].kind]
    applicable = [{AUTO, *applicable_poolings(layer)} for layer in pooled]
    return tuple(pool for pool in wanted if all(pool in own for own in applicable))
