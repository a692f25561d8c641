"""Sounds, end to end: 1,000 clips of three seconds to features, compared with the pipeline of transformers.

The network is DistilHuBERT (Chang et al. 2022, https://arxiv.org/abs/2110.01900: HuBERT's convolutions and two layers
of its transformer) with random weights, at 16 kHz; the clips are made by the script. The pipeline uses the best of a
few batch sizes, and classifies what it computes, which takes next to no time.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from contest import Outcome, arguments, contest, fastest, use_work_folder
from page import table, write_section

CLIPS = 1_000
SECONDS = 3.0
RATE = 16_000
BATCH_SIZES = (1, 4, 16)
PROBED = 64
"""Clips by which a batch size is chosen."""
OURS = ("auto", "fp32")
PEER = "transformers"


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--clips", type=int, default=CLIPS)
    options = parser.parse_args()
    use_work_folder(options.work)
    clips = make_clips(options.work / f"clips-{options.clips}", options.clips)
    model = make_model(options.work / "distilhubert")
    contest({f"{way}: preparation": ours(way, clips, model, options, "prepare") for way in OURS}, 1)
    size = fastest({size: [*peer(size, clips, model), "--limit", PROBED] for size in BATCH_SIZES})
    contenders = {PEER: peer(size, clips, model)} | {way: ours(way, clips, model, options) for way in OURS}
    found = contest(contenders, options.repeats)
    write_section("Sounds: speed", body(found, size, options), options.page, ("transformers", "soundfile", "soxr"))


def make_clips(folder: Path, count: int) -> Path:
    """Write chirps with noise, all different."""
    folder.mkdir(exist_ok=True)
    time = np.arange(round(SECONDS * RATE)) / RATE
    for number in range(count):
        path = folder / f"{number:04d}.wav"
        if not path.is_file():
            generator = np.random.default_rng(number)
            pitch, rise = generator.uniform(80, 800), generator.uniform(-50, 400)
            samples = 0.3 * np.sin(2 * np.pi * (pitch + rise * time) * time)
            noise = 0.02 * generator.standard_normal(len(time))
            soundfile.write(path, samples + noise, RATE, subtype="PCM_16")
    return folder


def make_model(folder: Path) -> Path:
    """Write the network with random weights and its feature extractor."""
    if (folder / "preprocessor_config.json").is_file():
        return folder
    import torch
    from topwork.models.torchvision_operators import ensure_torchvision_operators

    ensure_torchvision_operators()
    from transformers import HubertConfig, HubertForSequenceClassification, Wav2Vec2FeatureExtractor

    torch.manual_seed(0)
    HubertForSequenceClassification(HubertConfig(num_hidden_layers=2, num_labels=2)).save_pretrained(folder)
    Wav2Vec2FeatureExtractor().save_pretrained(folder)
    return folder


def peer(batch_size: int, clips: Path, model: Path) -> list[Any]:
    return ["contender_sounds.py", clips, "--model", model, "--batch-size", batch_size]


def ours(way: str, clips: Path, model: Path, options: argparse.Namespace, timed: str = "store") -> list[Any]:
    command = ["contender_topwork.py", clips, "--backbone", f"hf:{model}", "--precision", way]
    return [*command, "--work", options.work, "--way", timed]


def body(found: dict[str, Outcome], size: int, options: argparse.Namespace) -> str:
    rows = [[PEER, size, found[PEER].told, "", ""]]
    for way in OURS:
        job = found[way]
        name = f"topwork, {way}" if job.failure else f"topwork, {way}: {job['precision']}, {job['provider']}"
        opening = "" if job.failure else f"{job['opening']:.1f} s"
        rows.append([name, "", job.told, opening, job.ratio_to(found[PEER])])
    return TEMPLATE.format(clips=options.clips, repeats=options.repeats, rows=table(COLUMNS, rows))


COLUMNS = ["contender", "batch", "clips/s", "opening", PEER]
TEMPLATE = """`sound_speed.py`: {clips} clips of 3 s at 16 kHz through DistilHuBERT with random weights; medians of
{repeats} runs. The pipeline of transformers takes samples that soundfile decoded. The ratios say how many times as fast
the job is, once its session is open, and in brackets with the opening; writing the store belongs to it.

{rows}
"""

if __name__ == "__main__":
    main()
