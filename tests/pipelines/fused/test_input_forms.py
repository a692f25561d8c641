"""Forms of a fused file's input, the output ``familiar`` and the metadata, used without topwork."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray
from sklearn.datasets import load_sample_image
from tokenizers import Tokenizer
from topwork import TransferClassifier, TransferRegressor
from topwork.errors import InputError, ParityError
from topwork.extract.graphs.exported_graph import ExportedGraph
from topwork.pipelines.fused import any_size
from topwork.pipelines.fused.interpolation import Axis, add_nearest_pixels


def open_file(path: Path) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


def read_metadata(path: Path) -> dict[str, Any]:
    metadata: dict[str, Any] = open_file(path).get_modelmeta().custom_metadata_map
    return metadata


def name_outputs(path: Path) -> list[str]:
    return [output.name for output in open_file(path).get_outputs()]


def make_tiles(n_tiles: int = 72) -> tuple[list[NDArray[np.uint8]], NDArray[np.str_]]:
    """Return different parts of two photographs, of several sizes, and their names."""
    tiles = []
    names = []
    generator = np.random.default_rng(0)
    for number in range(n_tiles):
        name = ("china", "flower")[number % 2]
        height, width = generator.integers(40, 120, 2)
        top, left = generator.integers(0, 300, 2)
        tiles.append(np.ascontiguousarray(load_sample_image(f"{name}.jpg")[top : top + height, left : left + width]))
        names.append(name)
    return tiles, np.array(names)


@pytest.fixture(scope="module")
def trained(graph: ExportedGraph) -> TransferClassifier:
    """Return a classifier of enough images to know which are familiar."""
    classifier = TransferClassifier(graph, "layer2", head="logreg", cv=0).fit(*make_tiles())
    assert classifier.familiarity_ is not None
    return classifier


def test_file_of_any_size_equals_predict(trained: TransferClassifier, photos: Path, tmp_path: Path) -> None:
    written = trained.to_onnx(tmp_path / "model.onnx", input="any-size", items=photos)
    assert (written.input, written.outputs) == ("any-size", ("label", "probabilities", "familiar"))
    assert written.n_items == 5 + 24  # sample photographs and given ones
    session = open_file(tmp_path / "model.onnx")
    (pixels,) = session.get_inputs()
    assert (pixels.name, pixels.type, pixels.shape) == ("pixels", "tensor(uint8)", ["batch", "height", "width", 3])
    images = [
        *make_tiles(12)[0],
        load_sample_image("china.jpg"),
        np.tile(np.eye(60, dtype=np.uint8)[..., None], 3) * 255,
    ]
    outputs = [session.run(None, {"pixels": image[None]}) for image in images]
    label, probabilities, familiar = (np.concatenate(values) for values in zip(*outputs, strict=True))
    assert label.tolist() == trained.predict(images).tolist()
    assert np.abs(probabilities - trained.predict_proba(images)).max() <= 1e-4
    assert familiar.tolist() == trained.familiar(images).tolist()
    assert len(set(familiar.tolist())) == 2


def test_images_of_one_size_are_predicted_at_once(trained: TransferClassifier, tmp_path: Path) -> None:
    trained.to_onnx(tmp_path / "model.onnx", input="any-size")
    china = load_sample_image("china.jpg")
    images = np.stack([china, china[::-1], load_sample_image("flower.jpg")])
    label, probabilities, familiar = open_file(tmp_path / "model.onnx").run(None, {"pixels": images})
    assert label.tolist() == trained.predict(list(images)).tolist()
    assert probabilities.shape == (3, 2)
    assert familiar.shape == (3,)


def test_file_of_the_models_size_is_familiar_too(trained: TransferClassifier, tmp_path: Path) -> None:
    written = trained.to_onnx(tmp_path / "model.onnx")
    assert (written.input, written.n_items) == ("model-size", 0)
    assert name_outputs(tmp_path / "model.onnx") == ["label", "probabilities", "familiar"]


def test_values_and_several_labels_are_familiar_too(graph: ExportedGraph, tmp_path: Path) -> None:
    tiles, names = make_tiles()
    brightness = np.array([tile.mean() for tile in tiles])
    TransferRegressor(graph, "layer1", cv=0).fit(tiles, brightness).to_onnx(tmp_path / "value.onnx", input="any-size")
    assert name_outputs(tmp_path / "value.onnx") == ["value", "familiar"]
    assert "topwork.classes" not in read_metadata(tmp_path / "value.onnx")
    Y = np.column_stack([names == "china", brightness > 100]).astype(int)
    TransferClassifier(graph, "layer1", cv=0).fit(tiles, Y).to_onnx(tmp_path / "labels.onnx", input="any-size")
    assert name_outputs(tmp_path / "labels.onnx") == ["labels", "probabilities", "familiar"]


def test_few_images_have_no_output_familiar(graph: ExportedGraph, photos: Path, tmp_path: Path) -> None:
    TransferClassifier(graph, "layer1", cv=0).fit(photos).to_onnx(tmp_path / "model.onnx", input="any-size")
    assert name_outputs(tmp_path / "model.onnx") == ["label", "probabilities"]


def test_metadata_carry_classes_and_preprocessing(trained: TransferClassifier, tmp_path: Path) -> None:
    trained.to_onnx(tmp_path / "model.onnx", input="any-size")
    metadata = read_metadata(tmp_path / "model.onnx")
    assert json.loads(metadata["topwork.classes"]) == ["china", "flower"]
    preprocessing = json.loads(metadata["topwork.preprocessing"])
    spec = trained.extractor_.graph.input_spec
    assert preprocessing.pop("input") == "any-size"
    assert preprocessing == json.loads(json.dumps(spec.to_json()))


def test_metadata_of_a_text_model_carry_its_tokenizer(
    text_graph: ExportedGraph, texts: tuple[list[str], list[str]], tmp_path: Path
) -> None:
    classifier = TransferClassifier(text_graph, "last", cv=0).fit(*texts)
    written = classifier.to_onnx(tmp_path / "model.onnx", input="tokens", items=texts[0])
    assert (written.input, written.n_items) == ("tokens", min(64, len(texts[0])))
    metadata = read_metadata(tmp_path / "model.onnx")
    assert metadata["topwork.tokenizer"] == (tmp_path / "model.tokenizer.json").read_text()
    preprocessing = json.loads(metadata["topwork.preprocessing"])
    assert preprocessing["input"] == "tokens"

    # Predict with the file alone.
    tokenizer = Tokenizer.from_str(metadata["topwork.tokenizer"])
    tokenizer.enable_truncation(preprocessing["max_length"])
    tokenizer.enable_padding(pad_id=preprocessing["pad_id"])
    encoded = tokenizer.encode_batch(texts[0])
    arrays = [[each.ids for each in encoded], [each.attention_mask for each in encoded]]
    feed = dict(zip(preprocessing["inputs"], np.array(arrays, np.int64), strict=True))
    label = open_file(tmp_path / "model.onnx").run(["label"], feed)[0]
    assert label.tolist() == classifier.predict(texts[0]).tolist()


@pytest.mark.parametrize("form", ["tokens", "any size", ""])
def test_form_that_images_do_not_have_is_refused(form: str, trained: TransferClassifier, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="'model-size' or 'any-size'"):
        trained.to_onnx(tmp_path / "model.onnx", input=form)
    assert list(tmp_path.iterdir()) == []


def test_form_that_texts_do_not_have_is_refused(
    text_graph: ExportedGraph, texts: tuple[list[str], list[str]], tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="expected 'tokens'"):
        TransferClassifier(text_graph, "last", cv=0).fit(*texts).to_onnx(tmp_path / "model.onnx", input="any-size")


@pytest.mark.parametrize("form", ["model-size", "any-size"])
def test_items_of_which_none_can_be_read_are_refused(
    form: str, trained: TransferClassifier, tmp_path: Path, write_images: Any
) -> None:
    folder = write_images(each=1)
    for path in folder.rglob("*.png"):
        path.write_bytes(b"no image")
    with pytest.raises(InputError, match="no item"):
        trained.to_onnx(tmp_path / "model.onnx", input=form, items=folder)
    assert not (tmp_path / "model.onnx").exists()


def test_file_that_resizes_otherwise_is_not_written(
    trained: TransferClassifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def choose_nearest(graph: Any, planes: str, rows: Axis, columns: Axis, *, interpolation: str) -> str:
        chosen = graph.add("Gather", planes, add_nearest_pixels(graph, columns), axis=3)
        chosen = graph.add("Gather", chosen, add_nearest_pixels(graph, rows), axis=2)
        return str(graph.cast(chosen, np.float32))

    monkeypatch.setattr(any_size, "add_interpolation", choose_nearest)
    with pytest.raises(ParityError, match="427 x 640"):
        trained.to_onnx(tmp_path / "model.onnx", input="any-size")
    assert list(tmp_path.iterdir()) == []
