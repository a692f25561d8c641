"""Which cuts are trained above: named ones, or a few spread over the depth, within a budget of disk."""

from __future__ import annotations

import pytest
import topwork
from topwork.errors import InputError, LayerError
from topwork.extract.graphs.cut import Column
from topwork.pipelines.finetuning.cuts import choose_cuts, keep_within_disk


@pytest.fixture(scope="module")
def backbone() -> topwork.Backbone:
    return topwork.load_backbone("topwork:tiny")


def test_automatic_cuts_lie_below_the_end(backbone: topwork.Backbone) -> None:
    ends = [layer.name for layer in topwork.layers(backbone) if layer.single_tensor]
    cuts = choose_cuts(backbone, "auto", "last")
    assert 2 <= len(cuts) <= 4
    assert cuts == sorted(cuts, key=ends.index)
    assert "last" not in cuts
    below = choose_cuts(backbone, "auto", "layer2")
    assert below
    assert all(ends.index(cut) < ends.index("layer2") for cut in below)


def test_named_cuts_are_ordered_and_checked(backbone: topwork.Backbone) -> None:
    assert choose_cuts(backbone, ["layer2", "input", "layer1"], "last") == ["input", "layer1", "layer2"]
    assert choose_cuts(backbone, "input", "last") == ["input"]
    with pytest.raises(LayerError, match="'layer9' is no layer of the backbone"):
        choose_cuts(backbone, ["layer1", "layer9"], "last")


def test_largest_maps_are_left_out_first() -> None:
    columns = [Column(name, name, "flatten", width) for name, width in (("a", 100), ("b", 400), ("c", 50))]
    assert keep_within_disk(columns, 10, None, "float16") == ["a", "b", "c"]
    assert keep_within_disk(columns, 10, 3_000, "float16") == ["a", "c"]
    assert keep_within_disk(columns, 10, 1_000, "float16") == ["c"]
    with pytest.raises(InputError, match=r"maps of 'c' for 1000000 rows take 0\.10 GB, but max_disk allows 0\.05 GB"):
        keep_within_disk(columns, 1_000_000, 5e7, "float16")
