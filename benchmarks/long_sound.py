"""A long recording in windows: memory beside that of a short one, and a job that is killed and resumed.

The network is a small one of the family of wav2vec 2.0 with random weights; the recordings are made by the script, at
44.1 kHz in stereo, so that every window is resampled. The killed job goes on with the same command, and its store is
compared with that of a job that ran through, bit for bit.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import topwork
from contest import arguments, use_work_folder
from page import table, write_section

RATE, CHANNELS = 44_100, 2
WINDOW, HOP = 10.0, 5.0
MINUTES = (10, 120)
BLOCK_SECONDS = 10
JOB = """
import json, resource, sys, topwork
backbone = topwork.load_backbone(f"hf:{sys.argv[1]}", window=float(sys.argv[4]), hop=float(sys.argv[5]), long="windows")
extractor = topwork.Extractor(backbone, precision="fp32")
store = topwork.FeatureStore.open_or_create(sys.argv[3], extractor)
ledger = topwork.extract_features(sys.argv[2], store)
print(json.dumps({"rows": store.n_rows, "computed": ledger.computed, "seconds": ledger.seconds,
                  "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}))
"""


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--minutes", type=lambda text: [int(part) for part in text.split(",")], default=list(MINUTES))
    options = parser.parse_args()
    use_work_folder(options.work)
    model = make_model(options.work / "small-wav2vec2")
    run(model, make_recording(options.work, options.minutes[0]), options.work / "whole")  # the graph is kept
    rows = []
    for minutes in options.minutes:
        folder = make_recording(options.work, minutes)
        found = run(model, folder, options.work / "whole")
        rows.append([minutes, found["rows"], f"{found['memory'] / 1024:.0f} MB", ""])
    kills, equal, found = interrupt(model, folder, options.work)
    memory = f"{found['memory'] / 1024:.0f} MB"
    rows.append([f"{options.minutes[-1]}, killed {kills} times", found["rows"], memory, equal])
    text = TEMPLATE.format(window=WINDOW, hop=HOP, rows=table(COLUMNS, rows))
    write_section("Sounds: a long recording", text, options.page, ("soundfile", "soxr"))


def make_model(folder: Path) -> Path:
    """Write a small network with random weights."""
    import torch
    from topwork.models.torchvision_operators import ensure_torchvision_operators

    ensure_torchvision_operators()
    from transformers import Wav2Vec2Config, Wav2Vec2FeatureExtractor, Wav2Vec2Model

    if not (folder / "preprocessor_config.json").is_file():
        torch.manual_seed(0)
        sizes = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 128}
        Wav2Vec2Model(Wav2Vec2Config(**sizes, conv_dim=(32,) * 7)).save_pretrained(folder)
        Wav2Vec2FeatureExtractor().save_pretrained(folder)
    return folder


def make_recording(work: Path, minutes: int) -> Path:
    """Return a folder with one recording of so many minutes, no ten seconds of which are alike."""
    folder = work / f"recording-{minutes}"
    path = folder / "recording.wav"
    if not path.is_file():
        folder.mkdir(exist_ok=True)
        unfinished = path.with_suffix(".unfinished")
        time_of_block = np.arange(BLOCK_SECONDS * RATE) / RATE
        with soundfile.SoundFile(unfinished, "w", RATE, CHANNELS, "PCM_16", format="WAV") as stream:
            for number in range(minutes * 60 // BLOCK_SECONDS):
                generator = np.random.default_rng(number)
                tone = 0.3 * np.sin(2 * np.pi * generator.uniform(80, 4_000) * time_of_block)
                stream.write(tone[:, None] + 0.02 * generator.standard_normal((len(tone), CHANNELS)))
        unfinished.rename(path)
    return folder


def command(model: Path, folder: Path, store: Path) -> list[Any]:
    return [sys.executable, "-c", JOB, model, folder, store, str(WINDOW), str(HOP)]


def run(model: Path, folder: Path, store: Path) -> dict[str, Any]:
    """Extract into a new store, in a process of its own."""
    shutil.rmtree(store, ignore_errors=True)
    done = subprocess.run(command(model, folder, store), check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def interrupt(model: Path, folder: Path, work: Path) -> tuple[int, str, dict[str, Any]]:
    """Kill a job several times while it computes; return how often, whether its rows are equal, and its last report."""
    store = work / "killed"
    shutil.rmtree(store, ignore_errors=True)
    kills = 0
    for _ in range(3):
        process = subprocess.Popen(command(model, folder, store), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        parts = count_parts(store)
        while process.poll() is None and count_parts(store) <= parts:
            time.sleep(0.05)
        if process.poll() is None:
            os.kill(process.pid, signal.SIGKILL)
            kills += 1
        process.wait()
    done = subprocess.run(command(model, folder, store), check=True, capture_output=True, text=True)
    whole, resumed = topwork.FeatureStore.open(work / "whole"), topwork.FeatureStore.open(store)
    column = whole.columns[0].name
    is_equal = whole.ids == resumed.ids and np.array_equal(whole.matrix(column), resumed.matrix(column))
    return kills, "yes" if is_equal else "no", json.loads(done.stdout.splitlines()[-1])


def count_parts(store: Path) -> int:
    return len(list((store / "parts").glob("*"))) if (store / "parts").is_dir() else 0


COLUMNS = ["minutes", "windows", "memory", "equal to the job that ran through"]
TEMPLATE = """`long_sound.py`: a recording at 44.1 kHz in stereo, in windows of {window:g} s every {hop:g} s, through a
small network of the family of wav2vec 2.0 with random weights. Memory is the largest of the process.

{rows}
"""

if __name__ == "__main__":
    main()
