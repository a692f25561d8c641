"""No library reports its use: nothing connects anywhere unless the user named it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SECONDS = 15
"""After which ONNX Runtime 1.32 has asked for its host, if it was not told to be quiet."""
SCRIPT = """
import sys, time
started = time.monotonic()
from pathlib import Path
import numpy as np
import topwork
from topwork.extract.runtime.openvino_runtime import import_openvino

folder, text_folder = map(Path, sys.argv[1:3])
images = list(np.random.default_rng(0).integers(0, 256, (40, 40, 40, 3), dtype=np.uint8))
classifier = topwork.TransferClassifier("topwork:tiny", layer="layer2", head="centroid", store=folder / "store")
classifier.fit(images, [number % 2 for number in range(40)]).save(folder / "bundle")
topwork.load(folder / "bundle").predict(images)
topwork.Extractor("topwork:tiny", "layer2", provider="openvino", precision="fp32").transform(images)
import_openvino()
topwork.Extractor(f"hf:{text_folder}").transform(["a text"])
network = topwork.load_backbone("timm:resnet10t", weights="random")
topwork.Extractor(network, "layer1").transform(images[:2])
time.sleep(max(0, float(sys.argv[3]) - (time.monotonic() - started)))
print("done")
"""


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_no_connection_is_opened(tmp_path: Path, text_folder: Path, graph_cache: Path) -> None:
    home, trace = tmp_path / "home", tmp_path / "trace.txt"
    home.mkdir()
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    environment = {name: value for name, value in os.environ.items() if name not in ("CI", "ORT_DISABLE_TELEMETRY")}
    command = ["strace", "-f", "-e", "trace=connect,sendto,sendmsg", "-o", str(trace), sys.executable, script.name]
    ran = subprocess.run(
        [*command, str(tmp_path), str(text_folder), str(SECONDS)],
        env=environment | {"HOME": str(home)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    if "PTRACE" in ran.stderr or "ptrace" in ran.stderr:
        pytest.skip("processes cannot be traced here")
    assert ran.stdout.strip().endswith("done"), ran.stderr
    connections = [line for line in trace.read_text().splitlines() if "AF_INET" in line]
    assert connections == []
    written = [path.relative_to(home).as_posix() for path in home.rglob("*") if path.is_file()]
    assert not any("intel" in path or "Microsoft" in path for path in written)
