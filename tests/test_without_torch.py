"""What is exported needs no torch: extraction, stores and bundles run with its import blocked."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import topwork

BLOCKED = """
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "timm", "torchvision", "transformers", "onnx", "onnxscript", "skl2onnx"):
            raise ImportError(f"{name} is blocked")

sys.meta_path.insert(0, Blocker())
import topwork
"""


def run_blocked(code: str) -> str:
    result = subprocess.run([sys.executable, "-c", BLOCKED + code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_cached_extractor_store_and_bundle_run_without_torch(tmp_path: Path, write_images: Callable[..., Path]) -> None:
    images = write_images(each=4)
    store = topwork.FeatureStore.create(tmp_path / "store", topwork.Extractor("topwork:tiny", layer="layer2"))
    classifier = topwork.TransferClassifier("topwork:tiny", layer="layer2", head="lda").fit(str(images))
    classifier.save(tmp_path / "bundle")
    expected = classifier.extractor_.transform(str(images))

    output = run_blocked(f"""
import numpy as np
Z = topwork.Extractor("topwork:tiny", layer="layer2").fit_transform({str(images)!r})
store = topwork.FeatureStore.open({str(store.path)!r})
ledger = topwork.extract({str(images)!r}, store)
assert np.array_equal(store.matrix("layer2"), Z)
again = topwork.TransferClassifier.from_store(store, head="logreg").fit(store)
bundle = topwork.load({str(tmp_path / "bundle")!r})
print(ledger.ok, bundle.predict({str(images)!r}).tolist(), again.score(store))
np.save({str(tmp_path / "Z.npy")!r}, Z)
""")

    assert np.array_equal(np.load(tmp_path / "Z.npy"), expected)
    assert output.strip() == f"8 {classifier.predict(str(images)).tolist()} 1.0"


def test_blocked_import_is_really_blocked() -> None:
    result = subprocess.run(
        [sys.executable, "-c", BLOCKED + "import torch"], capture_output=True, text=True, check=False
    )
    assert "torch is blocked" in result.stderr
