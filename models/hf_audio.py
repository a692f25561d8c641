"""The sound that a transformers model expects: its feature extractor as an input specification and a front end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import InputError, reason
from .audio_spec import AudioSpec
from .hf_files import find_file, refuse_code
from .log_mel import Framing, attach, make_mel_energies

if TYPE_CHECKING:
    from torch import Tensor, nn

SOUND_INPUTS = ("input_values", "input_features")
"""Names of the main input of models of sound."""
EXTRACTOR_FILES = ("preprocessor_config.json", "processor_config.json")
LONGEST_SECONDS = 30.0
"""Window of models that take sounds of any length; memory and time of attention grow with its square."""
KALDI_FRAME, KALDI_HOP, KALDI_FFT = 400, 160, 512
KALDI_PREEMPHASIS = 0.97
KALDI_FLOOR = 1.192092955078125e-07
"""Smallest energy of a band before its logarithm: float32's distance of 1 to the next number."""
LOG_FLOOR = 1e-10
WHISPER_RANGE = 8.0
"""Powers of ten below its loudest band in which a spectrogram is kept."""
CLAP_PADDINGS = {"repeatpad": "repeat_whole", "repeat": "repeat", "pad": "silence"}
TEST_SECONDS = 1.3
TEST_SEED = 0
MAX_DIFFERENCE = 1e-3
"""Largest relative L2 difference of a front end's values from those of the feature extractor itself."""


@dataclass(frozen=True)
class SoundInput:
    """An input specification, and a module between samples and the network; None if it takes samples."""

    spec: AudioSpec
    front_end: nn.Module | None = None


def prepare_sounds(name: str, module: Any, config: Any) -> tuple[AudioSpec, dict[str, Any]]:
    """Let a model take samples, and return its input specification and the settings of its feature extractor.

    Raise an InputError if its preparation is not one of :data:`READERS`, or the front end computes other values than
    the feature extractor does.
    """
    extractor = load_extractor(name)
    name_of_class = type(extractor).__name__
    if name_of_class not in READERS:
        raise InputError(
            f"hf:{name} prepares sounds by a {name_of_class}, which topwork does not reproduce; expected "
            f"one of {', '.join(READERS)}. Load the model yourself, wrap it in a module that takes samples, and pass "
            "this with input_spec=AudioSpec(…)"
        )
    read, fields = READERS[name_of_class]
    found = read(name, extractor, config)
    if found.front_end is not None:
        compare_with_extractor(name, extractor, found)
        attach(module, found.front_end)
    return found.spec, {field: getattr(extractor, field) for field in fields}


def load_extractor(name: str) -> Any:
    """Return transformers' feature extractor; raise an InputError if the folder has none that it reads."""
    from transformers import AutoFeatureExtractor

    try:
        if not any(find_file(name, file) for file in EXTRACTOR_FILES):
            raise OSError(f"it has none of {', '.join(EXTRACTOR_FILES)}")
        refuse_code(name, EXTRACTOR_FILES[0])
        return AutoFeatureExtractor.from_pretrained(name, trust_remote_code=False)
    except Exception as error:
        raise InputError(
            f"hf:{name} does not say how its sounds are prepared ({reason(error)}): expected a feature extractor of "
            "transformers. Pass input_spec=AudioSpec(…) for a model that takes samples"
        ) from error


def read_samples(name: str, extractor: Any, config: Any) -> SoundInput:
    """Read a model of samples, such as wav2vec 2.0."""
    return SoundInput(
        AudioSpec(
            rate=extractor.sampling_rate,
            window=LONGEST_SECONDS,
            padding="none",
            standardize=extractor.do_normalize,
            shortest=count_first_samples(config),
        )
    )


def count_first_samples(config: Any) -> int:
    """Return the number of samples from which a stack of convolutions makes two frames."""
    n_samples = 2
    layers = zip(getattr(config, "conv_kernel", ()), getattr(config, "conv_stride", ()), strict=True)
    for kernel, stride in reversed(list(layers)):
        n_samples = (n_samples - 1) * stride + kernel
    return n_samples


def read_whisper(name: str, extractor: Any, config: Any) -> SoundInput:
    """Read Whisper: log-mel spectrograms of 30 seconds, in the range of each sound's loudest band."""
    import torch
    from torch import nn
    from transformers.audio_utils import window_function

    if extractor.dither or extractor.padding_value:
        raise InputError(f"hf:{name} adds noise or pads with other values than silence, which topwork does not do")
    framing = Framing(window_function(extractor.n_fft, "hann"), extractor.hop_length, extractor.mel_filters)

    class WhisperFrontEnd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.mel = make_mel_energies(framing)

        def forward(self, samples: Tensor) -> Tensor:
            energies = self.mel(samples)[..., :-1]
            logarithms = energies.clamp(min=LOG_FLOOR).log10()
            floor = logarithms.amax((1, 2), keepdim=True) - WHISPER_RANGE
            return (torch.maximum(logarithms, floor) + 4.0) / 4.0

    spec = AudioSpec(rate=extractor.sampling_rate, window=extractor.n_samples / extractor.sampling_rate)
    return SoundInput(spec, WhisperFrontEnd())


def read_ast(name: str, extractor: Any, config: Any) -> SoundInput:
    """Read the Audio Spectrogram Transformer: Kaldi's filter banks, and zeros behind the end of a sound."""
    import torch
    from torch import nn
    from transformers.audio_utils import mel_filter_bank, window_function

    rate = extractor.sampling_rate
    filters = mel_filter_bank(
        num_frequency_bins=KALDI_FFT // 2 + 1,
        num_mel_filters=extractor.num_mel_bins,
        min_frequency=20,
        max_frequency=rate // 2,
        sampling_rate=rate,
        norm=None,
        mel_scale="kaldi",
        triangularize_in_mel_space=True,
    )
    window = window_function(KALDI_FRAME, "hann", periodic=False)
    framing = Framing(window, KALDI_HOP, filters, is_centred=False, removes_mean=True, preemphasis=KALDI_PREEMPHASIS)
    n_frames = extractor.max_length
    mean, spread = (extractor.mean, 2 * extractor.std) if extractor.do_normalize else (0.0, 1.0)

    class KaldiFrontEnd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.mel = make_mel_energies(framing)

        def forward(self, samples: Tensor, n_samples: Tensor) -> Tensor:
            bands = self.mel(samples).clamp(min=KALDI_FLOOR).log().transpose(1, 2)  # (batch, frames, bands)
            n_present = (n_samples - KALDI_FRAME) // KALDI_HOP + 1
            is_present = torch.arange(n_frames).unsqueeze(0) < n_present.unsqueeze(1)
            return (torch.where(is_present.unsqueeze(2), bands, 0.0) - mean) / spread

    n_samples = (n_frames - 1) * KALDI_HOP + KALDI_FRAME
    spec = AudioSpec(rate=rate, window=n_samples / rate, shortest=KALDI_FRAME, passes_length=True)
    return SoundInput(spec, KaldiFrontEnd())


def read_clap(name: str, extractor: Any, config: Any) -> SoundInput:
    """Read CLAP without fusion: spectrograms in decibels."""
    from torch import nn
    from transformers.audio_utils import window_function

    if getattr(config, "enable_fusion", False) or extractor.truncation == "fusion":
        raise InputError(
            f"hf:{name} fuses several views of a sound, and transformers draws at random for which sound of a batch: "
            "features would not depend on the sound alone. Expected a CLAP without fusion, such as "
            "laion/clap-htsat-unfused"
        )
    window = window_function(extractor.fft_window_size, "hann")
    framing = Framing(window, extractor.hop_length, extractor.mel_filters_slaney)

    class DecibelFrontEnd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.mel = make_mel_energies(framing)

        def forward(self, samples: Tensor) -> Tensor:
            decibels: Tensor = 10.0 * self.mel(samples).clamp(min=LOG_FLOOR).log10()
            return decibels.transpose(1, 2).unsqueeze(1)  # (batch, 1, frames, bands)

    spec = AudioSpec(
        rate=extractor.sampling_rate, window=extractor.max_length_s, padding=CLAP_PADDINGS[extractor.padding]
    )
    return SoundInput(spec, DecibelFrontEnd())


READERS: dict[str, tuple[Callable[[str, Any, Any], SoundInput], tuple[str, ...]]] = {
    "Wav2Vec2FeatureExtractor": (read_samples, ()),
    "WhisperFeatureExtractor": (read_whisper, ("feature_size", "n_fft", "hop_length")),
    "ASTFeatureExtractor": (read_ast, ("num_mel_bins", "max_length", "do_normalize", "mean", "std")),
    "ClapFeatureExtractor": (
        read_clap,
        ("feature_size", "fft_window_size", "hop_length", "frequency_min", "frequency_max"),
    ),
}
"""How each class of feature extractors is read, and its settings that the input specification does not have."""


def compare_with_extractor(name: str, extractor: Any, found: SoundInput) -> None:
    """Raise an InputError if a front end computes other values of a short sound than the feature extractor itself."""
    import torch

    spec = found.spec
    generator = np.random.default_rng(TEST_SEED)
    n_samples = min(round(TEST_SECONDS * spec.rate), spec.window_samples * 2 // 3)
    seconds = np.arange(n_samples) / spec.rate
    sound = 0.3 * np.sin(2 * np.pi * (200 + 900 * seconds) * seconds) + 0.02 * generator.standard_normal(n_samples)
    sound = sound.astype(np.float32)
    features = extractor(sound, sampling_rate=spec.rate, return_tensors="np")
    expected = np.asarray(features[extractor.model_input_names[0]], np.float64)
    times = spec.window_samples // n_samples if spec.padding == "repeat_whole" else 1
    padded = np.resize(sound, times * n_samples) if spec.padding != "repeat" else np.resize(sound, spec.window_samples)
    batch = np.zeros((1, spec.window_samples), np.float32)
    batch[0, : len(padded)] = padded
    inputs = [torch.from_numpy(batch)]
    if spec.passes_length:
        inputs.append(torch.tensor([n_samples]))
    assert found.front_end is not None
    with torch.no_grad():
        values = found.front_end(*inputs).double().numpy()
    has_shape = values.shape == expected.shape
    difference = np.linalg.norm(values - expected) / np.linalg.norm(expected) if has_shape else float("inf")
    if not difference <= MAX_DIFFERENCE:
        raise InputError(
            f"the front end of hf:{name} differs from its {type(extractor).__name__} by {difference:.2g}: this version "
            "of transformers prepares sounds in another way than topwork. Pass a module of your own with "
            "input_spec=AudioSpec(…)"
        )
