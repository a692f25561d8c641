"""Models of sound in transformers: features equal those of its own feature extractors and models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import topwork
import torch
from numpy.typing import NDArray
from topwork.errors import InputError
from topwork.models.torchvision_operators import ensure_torchvision_operators

from ..sounds import chirp, encode

ensure_torchvision_operators()
transformers = pytest.importorskip("transformers")
soxr = pytest.importorskip("soxr")

SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
CONVOLUTIONS = {"conv_dim": (16,) * 7, "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 4}
LAYER_NORM = {"feat_extract_norm": "layer", "do_stable_layer_norm": True}
WHISPER = {
    "d_model": 32,
    **{f"{side}_{field}": 2 for side in ("encoder", "decoder") for field in ("layers", "attention_heads")},
    **{f"{side}_ffn_dim": 64 for side in ("encoder", "decoder")},
    "vocab_size": 100,
    **{"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1},
}
CLAP = {
    "text_config": {**SMALL, "vocab_size": 100},
    "audio_config": {
        "hidden_size": 128,
        "patch_embeds_hidden_size": 16,
        "depths": [1, 1, 1, 1],
        "num_attention_heads": [1, 2, 2, 2],
        "projection_dim": 32,
    },
    "projection_dim": 32,
}
KINDS = {
    "wav2vec2": ("Wav2Vec2", {**SMALL, **CONVOLUTIONS}, "Wav2Vec2", {}),
    "hubert": ("Hubert", {**SMALL, **CONVOLUTIONS, **LAYER_NORM}, "Wav2Vec2", {"return_attention_mask": True}),
    "wavlm": ("WavLM", {**SMALL, **CONVOLUTIONS}, "Wav2Vec2", {"do_normalize": False}),
    "whisper": ("Whisper", WHISPER, "Whisper", {}),
    "ast": ("AST", SMALL, "AST", {}),
    "clap": ("Clap", CLAP, "Clap", {"truncation": "rand_trunc"}),
}
"""Prefix of the classes of model and configuration, fields of this, prefix of the feature extractor, its fields."""
SOURCES = [(8_000, 1, 1.0), (16_000, 2, 2.3), (44_100, 2, 0.7), (44_100, 1, 1.0)]
"""Rate, channels and seconds of the sounds."""


class Example:
    """A model with random weights in a folder, and what transformers computes with it."""

    def __init__(self, kind: str, folder: Path) -> None:
        self.kind = kind
        self.folder = folder
        model, fields, extractor, extractor_fields = KINDS[kind]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(3)
            config = getattr(transformers, f"{model}Config")(**fields)
            self.model = getattr(transformers, f"{model}Model")(config).eval()
        self.extractor = getattr(transformers, f"{extractor}FeatureExtractor")(**extractor_fields)
        self.model.save_pretrained(folder)
        self.extractor.save_pretrained(folder)

    @property
    def rate(self) -> int:
        return int(self.extractor.sampling_rate)

    def compute(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the mean over the frames that transformers computes; of CLAP its embedding."""
        inputs = self.extractor(samples, sampling_rate=self.rate, return_tensors="pt")
        with torch.no_grad():
            if self.kind == "clap":
                return self.model.get_audio_features(**inputs).pooler_output[0].numpy()  # type: ignore[no-any-return]
            if self.kind == "whisper":
                output = self.model.encoder(inputs["input_features"])
            else:
                output = self.model(**inputs)
        frames = output.last_hidden_state[0].numpy()
        skipped = 2 if self.kind == "ast" else 0  # class and distillation tokens
        return frames[skipped:].mean(axis=0)  # type: ignore[no-any-return]


@pytest.fixture(
    scope="module",
    params=[pytest.param(kind, marks=pytest.mark.coverage) if kind == "hubert" else kind for kind in KINDS],
)
def example(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Example:
    return Example(request.param, tmp_path_factory.mktemp("hf-audio") / request.param)


def make_extractor(example: Example, **parameters: Any) -> topwork.Extractor:
    backbone = topwork.load_backbone(f"hf:{example.folder}")
    is_embedding = example.kind == "clap"
    pool = "auto" if is_embedding else "mean"
    return topwork.Extractor(backbone, pool=pool, normalize=is_embedding, precision="fp32", **parameters)


def relative_l2(found: NDArray[Any], expected: NDArray[Any]) -> float:
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


def test_features_are_those_of_transformers(example: Example) -> None:
    sounds = [chirp(seconds, rate, channels) for rate, channels, seconds in SOURCES]
    files = [encode(samples, rate) for samples, (rate, _, _) in zip(sounds, SOURCES, strict=True)]
    extractor = make_extractor(example)
    together = extractor.fit_transform(files)
    for row, file, (rate, _, _) in zip(together, files, SOURCES, strict=True):
        decoded, _ = topwork_free_decode(file)
        resampled = decoded if rate == example.rate else soxr.resample(decoded, rate, example.rate, quality="HQ")
        assert relative_l2(row, example.compute(resampled)) < 1e-4
        assert relative_l2(extractor.transform([file])[0], row) < 1e-5


def topwork_free_decode(file: bytes) -> tuple[NDArray[np.float32], int]:
    """Return mono samples and their rate, decoded without topwork."""
    import io

    import soundfile

    samples, rate = soundfile.read(io.BytesIO(file), dtype="float32", always_2d=True)
    return samples.mean(axis=1), rate


def test_sounds_that_transformers_pads_have_the_same_features(tmp_path: Path) -> None:
    example = Example("hubert", tmp_path)
    sounds = [chirp(seconds, 16_000)[:, 0] for seconds in (0.7, 1.9)]
    inputs = example.extractor(sounds, sampling_rate=16_000, padding=True, return_tensors="pt")
    with torch.no_grad():
        output = example.model(**inputs).last_hidden_state.numpy()
    found = make_extractor(example).fit_transform([(samples, 16_000) for samples in sounds])
    for row, frames, samples in zip(found, output, sounds, strict=True):
        n_frames = int(example.model._get_feat_extract_output_lengths(len(samples)))
        assert relative_l2(row, frames[:n_frames].mean(axis=0)) < 1e-4


@pytest.mark.parametrize(
    "example",
    [kind if kind in ("wav2vec2", "ast") else pytest.param(kind, marks=pytest.mark.coverage) for kind in KINDS],
    indirect=True,
)
def test_layers_can_be_cut(example: Example) -> None:
    layers = topwork.layers(topwork.load_backbone(f"hf:{example.folder}"))
    names = [layer.name for layer in layers]
    assert names[-1] == "last"
    middle = next(layer for layer in layers if layer.kind in ("tokens", "map") and "layer" in layer.name)
    backbone = topwork.load_backbone(f"hf:{example.folder}")
    extractor = topwork.Extractor(backbone, layer=middle.name, precision="fp32")
    features = extractor.fit_transform([(chirp(0.6, 16_000), 16_000), (chirp(1.1, 16_000), 16_000)])
    assert features.shape[0] == 2
    assert np.isfinite(features).all()


def test_a_model_of_short_sounds_is_loaded(tmp_path: Path) -> None:
    transformers.ASTModel(transformers.ASTConfig(**SMALL, max_length=64)).save_pretrained(tmp_path)
    transformers.ASTFeatureExtractor(max_length=64).save_pretrained(tmp_path)
    spec = topwork.load_backbone(f"hf:{tmp_path}").input_spec
    assert spec.item_shape == (63 * 160 + 400,)


def test_a_fused_clap_is_refused(tmp_path: Path) -> None:
    example = Example("clap", tmp_path)
    settings = json.loads((tmp_path / "preprocessor_config.json").read_text())
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({**settings, "truncation": "fusion"}))
    with pytest.raises(InputError, match="without fusion"):
        topwork.load_backbone(f"hf:{example.folder}")


def test_an_unknown_preparation_is_refused(tmp_path: Path) -> None:
    example = Example("wav2vec2", tmp_path)
    transformers.SeamlessM4TFeatureExtractor().save_pretrained(tmp_path)
    with pytest.raises(InputError, match="SeamlessM4TFeatureExtractor"):
        topwork.load_backbone(f"hf:{example.folder}")


def test_a_model_without_a_feature_extractor_is_refused(tmp_path: Path) -> None:
    example = Example("wav2vec2", tmp_path)
    (tmp_path / "preprocessor_config.json").unlink()
    with pytest.raises(InputError, match="does not say how its sounds are prepared"):
        topwork.load_backbone(f"hf:{example.folder}")


def test_a_front_end_that_differs_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    example = Example("whisper", tmp_path)
    monkeypatch.setattr(topwork.models.hf_audio, "WHISPER_RANGE", 4.0)
    with pytest.raises(InputError, match="differs from its WhisperFeatureExtractor"):
        topwork.load_backbone(f"hf:{example.folder}")


def test_feature_extractor_belongs_to_the_identity(tmp_path: Path) -> None:
    example = Example("wav2vec2", tmp_path)
    before = topwork.load_backbone(f"hf:{example.folder}").identity()
    settings = json.loads((tmp_path / "preprocessor_config.json").read_text())
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({**settings, "do_normalize": False}))
    assert topwork.load_backbone(f"hf:{example.folder}").identity() != before


def test_window_and_long_can_be_chosen(tmp_path: Path) -> None:
    example = Example("wav2vec2", tmp_path)
    backbone = topwork.load_backbone(f"hf:{example.folder}", window=1.0, long="windows")
    assert (backbone.input_spec.window, backbone.input_spec.long) == (1.0, "windows")  # type: ignore[attr-defined]
    features = topwork.Extractor(backbone, pool="mean").fit_transform([(chirp(2.5, 16_000), 16_000)])
    assert features.shape == (3, 32)
