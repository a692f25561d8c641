"""``pool="none"`` keeps whole maps, and the tokens of texts, which the store gives back bit by bit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import topwork
from topwork.errors import LayerError
from topwork.models.backbone import TorchBackbone


@pytest.fixture
def images() -> list[np.ndarray]:
    generator = np.random.default_rng(0)
    return list(generator.integers(0, 256, (5, 32, 32, 3), dtype=np.uint8))


def test_map_is_kept_in_the_order_of_its_axes(images: list[np.ndarray], tmp_path: Path) -> None:
    extractor = topwork.Extractor("topwork:tiny", layer=["layer2", "last"], pool="none", precision="fp32")
    maps = extractor.fit_transform(images)[:, : 40 * 16 * 16].reshape(5, 40, 16, 16)
    pooled = topwork.Extractor("topwork:tiny", layer="layer2", pool="avg", precision="fp32").fit_transform(images)
    np.testing.assert_allclose(maps.mean((2, 3)), pooled, rtol=1e-4, atol=1e-5)

    store = topwork.FeatureStore.create(tmp_path / "maps", extractor, dtype="float16")
    np.savez(tmp_path / "images.npz", X=np.stack(images))
    topwork.extract_features(tmp_path / "images.npz", store)
    assert [(column.name, column.pool, column.width) for column in store.columns] == [
        ("layer2", "flatten", 10240),
        ("last", "none", 80),
    ]
    kept = store.matrix("layer2")
    assert kept.dtype == np.float16
    np.testing.assert_allclose(kept.reshape(5, 40, 16, 16), maps, rtol=1e-3, atol=1e-3)
    adding = topwork.Extractor("topwork:tiny", layer=["layer2", "last"], pool="none", precision="fp32")
    assert topwork.extract_features(tmp_path / "images.npz", topwork.FeatureStore.open(tmp_path / "maps")).computed == 0
    assert adding.fit(None).columns[0].pool == "flatten"


def test_tokens_are_padded_with_zeros_to_the_longest_text(text_folder: Path) -> None:
    backbone = topwork.load_backbone(f"hf:{text_folder}", max_length=12)
    assert isinstance(backbone, TorchBackbone)
    extractor = topwork.Extractor(backbone, layer="encoder.layer.0", pool="none", precision="fp32")
    texts = ["the cat", "a dog with the horse and the cow"]
    tokens = extractor.fit_transform(texts).reshape(2, 12, 32)
    assert extractor.columns[0].pool == "tokens12"
    assert (tokens != 0).any(-1).sum(1).tolist() == [4, 10]
    alone = extractor.transform(texts[:1]).reshape(1, 12, 32)
    np.testing.assert_allclose(alone[0], tokens[0], rtol=1e-4, atol=1e-5)


def test_input_is_what_enters_the_model(images: list[np.ndarray]) -> None:
    extractor = topwork.Extractor("topwork:tiny", layer="input", pool="none", precision="fp32")
    kept = extractor.fit_transform(images).reshape(5, 3, 32, 32)
    spec = topwork.load_backbone("topwork:tiny").input_spec
    pixels = np.stack(images).transpose(0, 3, 1, 2) / 255
    mean, std = (np.array(values).reshape(3, 1, 1) for values in (spec.mean, spec.std))
    np.testing.assert_allclose(kept, (pixels - mean) / std, rtol=1e-5, atol=1e-5)


def test_input_of_texts_is_refused(text_folder: Path) -> None:
    with pytest.raises(LayerError, match="the input of a text model is token ids"):
        topwork.Extractor(f"hf:{text_folder}", layer="input", pool="none").fit(None)
