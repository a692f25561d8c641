"""``LayerProbe``: the layers of a backbone, of several, or of a store, compared with what needs no training."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from sklearn.base import clone
from sklearn.datasets import load_digits
from topwork import FeatureStore, LayerProbe, TensorSpec, TransferClassifier, load_backbone
from topwork.errors import InputError, LayerError, MissingPackageError
from topwork.heads.feature_comparison import MOST_GIVEN_AWAY
from topwork.models.text_spec import TextSpec
from topwork.pipelines.selection.probe import RANDOM, RAW
from topwork.pipelines.selection.raw_inputs import N_TENSOR_FEATURES, RAW_SIDE, describe_inputs

from ...html_reading import check_harmless

Array = NDArray[Any]


@pytest.fixture(scope="module")
def digits() -> tuple[list[Array], Array]:
    """Return twelve images of each digit."""
    given = load_digits()
    rows = np.concatenate([np.flatnonzero(given.target == label)[20:32] for label in range(10)])
    images = [Image.fromarray((given.images[row] / 16 * 255).astype(np.uint8)).resize((32, 32)) for row in rows]
    return [np.asarray(image.convert("RGB")) for image in images], given.target[rows]


@pytest.fixture(scope="module")
def probe(digits: tuple[list[Array], Array], graph_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> LayerProbe:
    store = tmp_path_factory.mktemp("probe") / "store"
    return LayerProbe(store=store).fit(*digits)


def test_table_has_layers_poolings_and_concatenations(probe: LayerProbe) -> None:
    own = [row.layer for row in probe.table_ if row.pool == "auto" and "," not in row.layer]
    assert own == ["stem", "layer1", "layer2.0", "layer2", "layer3.0", "last"]
    assert any("," in row.layer for row in probe.table_)
    assert {"max", "avg2x2"} <= {row.pool for row in probe.table_}
    for row in probe.table_:
        assert row.low <= row.score <= row.high
        assert row.bytes == 4 * row.width
        assert row.depth is not None
        assert (row.transferability is None) == ("," in row.layer)
    assert probe.n_items_ == 120


def test_recommendation_is_the_cheapest_of_the_best(probe: LayerProbe) -> None:
    best = probe.best_
    chosen = next(row for row in probe.table_ if (row.layer, row.pool) == (best.layer, best.pool))
    assert chosen.difference is not None
    assert chosen.error is not None
    assert chosen.difference >= -chosen.error
    judged = [row for row in probe.table_ if row.difference is not None]
    within = [row for row in judged if (row.difference or 0.0) >= -min(row.error or 0.0, MOST_GIVEN_AWAY)]
    assert chosen.depth == min(row.depth or 0.0 for row in within)
    assert best.low <= best.score <= best.high
    assert best.score <= max(row.score for row in within)


def test_baselines_are_of_the_same_items(probe: LayerProbe) -> None:
    assert [baseline.name for baseline in probe.baselines_] == [RAW, RANDOM]
    for baseline in probe.baselines_:
        assert 0.2 < baseline.score < 1.0
        assert baseline.error > 0
    assert probe.seconds_["baselines"] > 0


def test_store_has_the_recommended_features(probe: LayerProbe, digits: tuple[list[Array], Array]) -> None:
    store = probe.store_
    assert store is not None
    assert [column.layer for column in store.columns] == probe.best_.layer.split(",")
    assert sum(column.width for column in store.columns) == probe.best_.width
    assert store.labels == [str(label) for label in digits[1].tolist()]


def test_result_as_json_and_table(probe: LayerProbe) -> None:
    found = json.loads(json.dumps(probe.to_dict()))
    assert {"layer", "pool", "score"} <= set(found["best"])
    assert found["metric"] == "accuracy"
    frame = probe.to_frame()
    assert len(frame) == len(found["table"]) == len(probe.table_)
    assert {"layer", "pool", "score", "logme", "effective_rank", "seconds"} <= set(frame.columns)
    assert clone(probe).get_params()["backbone"] == "topwork:tiny"


def test_curve_shows_layers_recommendation_and_baselines(probe: LayerProbe) -> None:
    pyplot = pytest.importorskip("matplotlib.pyplot")
    pyplot.switch_backend("agg")
    axes = probe.plot()
    x, y = axes.lines[0].get_data()
    own = [row for row in probe.table_ if row.pool == "auto" and "," not in row.layer]
    np.testing.assert_allclose(x, [row.depth for row in own])
    np.testing.assert_allclose(y, [row.score for row in own])
    labels = axes.get_legend_handles_labels()[1]
    assert labels == ["topwork:tiny", f"recommended: {probe.best_.layer} ({probe.best_.pool})", RAW, RANDOM]
    assert probe.plot(axes) is axes
    pyplot.close(axes.figure)


def test_plot_without_matplotlib_names_what_to_install(probe: LayerProbe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingPackageError, match=r"topwork\[plots\]"):
        probe.plot()


def test_notebook_shows_the_recommendation_and_the_best_layers(probe: LayerProbe) -> None:
    shown = check_harmless(probe._repr_html_()).texts
    best = probe.best_
    start = shown.index("recommended")
    assert f"layer {best.layer}, pooling {best.pool} ({best.width} features)" in shown[start + 1]
    assert shown[start + 3].startswith(f"{best.score:.3f} ({best.low:.3f} to {best.high:.3f})")
    assert {RAW, RANDOM} <= set(shown)
    highest = max(probe.table_, key=lambda row: row.score)
    assert f"{highest.score:.3f} ({highest.low:.3f} to {highest.high:.3f})" in shown
    assert "recommended" not in check_harmless(clone(probe)._repr_html_()).texts


def test_columns_of_a_store_are_compared_without_the_backbone(
    digits: tuple[list[Array], Array], tmp_path: Path
) -> None:
    images, labels = digits
    TransferClassifier(layer=["layer2", "last"], store=tmp_path / "store", cv=0).fit(images, labels)
    store = FeatureStore.open(tmp_path / "store")
    store.set_labels(dict(zip(store.ids, labels.tolist(), strict=True)))
    found = LayerProbe().fit(store)
    assert [(row.layer, row.depth) for row in found.table_] == [("layer2", None), ("last", None), ("layer2,last", None)]
    assert found.baselines_ == []
    assert found.store_ is store


def test_named_layers_and_several_backbones(digits: tuple[list[Array], Array]) -> None:
    images, labels = digits
    backbones = ["topwork:tiny", load_backbone("topwork:tiny", weights="random")]
    found = LayerProbe(backbones, layers=["layer2", "last"], pool="avg", baselines=False).fit(images, labels)
    assert [row.layer for row in found.table_] == ["layer2", "last", "layer2,last"] * 2
    assert len({row.backbone for row in found.table_}) == 2
    with pytest.raises(LayerError, match="'layer9' is no layer"):
        LayerProbe(layers=["layer9"]).fit(images, labels)


def test_values_are_probed_too(digits: tuple[list[Array], Array]) -> None:
    images, labels = digits
    probe = LayerProbe(task="regression", layers=["layer2", "last"], pool="avg", baselines=False)
    found = probe.fit(images, labels.astype(float))
    assert found.to_dict()["metric"] == "R2"
    assert 0.3 < found.best_.score < 1.0
    assert found.to_dict()["table"][0]["h_score"] is None


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"task": "ranking"}, "task='ranking'"),
        ({"layers": "last"}, "layers='last'"),
        ({"max_items": 1}, "max_items=1"),
        ({"backbone": []}, "expected at least one"),
        ({"store": 7}, "store=7"),
    ],
)
def test_unusable_parameters_are_refused(
    parameters: dict[str, Any], message: str, digits: tuple[list[Array], Array]
) -> None:
    with pytest.raises(InputError, match=message.replace("[", r"\[")):
        LayerProbe(**parameters).fit(*digits)
    with pytest.raises(InputError, match="at least two classes"):
        LayerProbe(layers=["layer2", "last"], pool="avg").fit(digits[0][:12], [1] * 12)


def test_raw_inputs_of_each_kind() -> None:
    from topwork.extract.sources.opening import open_source

    images = [np.full((40, 30, 3), shade, np.uint8) for shade in (0, 255)]
    spec = load_backbone("topwork:tiny").input_spec
    pixels = describe_inputs(open_source(images, kind="image"), spec, 10**6)
    assert pixels.shape == (2, 3 * RAW_SIDE**2)
    assert (pixels.min(), pixels.max()) == (0.0, 1.0)

    arrays = np.random.default_rng(0).normal(size=(3, 5000)).astype(np.float32)
    wide = describe_inputs(open_source(arrays, kind="tensor"), TensorSpec((5000,)), 10**6)
    assert wide.shape == (3, N_TENSOR_FEATURES)
    narrow = describe_inputs(open_source(arrays[:, :7], kind="tensor"), TensorSpec((7,)), 10**6)
    np.testing.assert_array_equal(narrow, arrays[:, :7])
    assert TextSpec.kind == "text"
