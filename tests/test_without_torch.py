"""Extraction, stores and bundles of exported graphs run with the import of torch blocked."""

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
ledger = topwork.extract_features({str(images)!r}, store)
assert np.array_equal(store.matrix("layer2"), Z)
again = topwork.TransferClassifier.from_store(store, head="logreg").fit(store)
bundle = topwork.load({str(tmp_path / "bundle")!r})
print(ledger.ok, bundle.predict({str(images)!r}).tolist(), again.score(store))
np.save({str(tmp_path / "Z.npy")!r}, Z)
""")

    assert np.array_equal(np.load(tmp_path / "Z.npy"), expected)
    assert output.strip() == f"8 {classifier.predict(str(images)).tolist()} 1.0"


def test_cached_extractor_store_and_bundle_for_text_run_without_torch_and_transformers(
    tmp_path: Path, text_folder: Path, texts: tuple[list[str], list[str]]
) -> None:
    sentences, labels = texts
    backbone = f"hf:{text_folder}"
    store = topwork.FeatureStore.create(tmp_path / "store", topwork.Extractor(backbone, precision="fp32"))
    classifier = topwork.TransferClassifier(backbone, head="lda", precision="fp32").fit(sentences, labels)
    classifier.save(tmp_path / "bundle")
    expected = classifier.extractor_.transform(sentences)
    (tmp_path / "texts.csv").write_text("text,label\n" + "".join(f"{x},{y}\n" for x, y in zip(*texts, strict=True)))

    output = run_blocked(f"""
import numpy as np
table = {str(tmp_path / "texts.csv")!r}
Z = topwork.Extractor({backbone!r}).fit_transform(table)  # nothing can be converted: float32
store = topwork.FeatureStore.open({str(store.path)!r})
ledger = topwork.extract_features(table, store)
assert np.array_equal(store.matrix("last"), Z)
again = topwork.TransferClassifier.from_store(store, head="lda").fit(store)
bundle = topwork.load({str(tmp_path / "bundle")!r})
print(ledger.ok, bundle.predict(table).tolist(), again.predict(table).tolist() == bundle.predict(table).tolist())
np.save({str(tmp_path / "Z.npy")!r}, Z)
""")

    assert np.array_equal(np.load(tmp_path / "Z.npy"), expected)
    assert output.strip() == f"{len(sentences)} {classifier.predict(sentences).tolist()} True"


def test_cached_extractor_of_tensors_runs_without_torch(tmp_path: Path) -> None:
    import torch

    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.ReLU())
    rows = np.random.default_rng(0).normal(size=(12, 4))
    np.save(tmp_path / "rows.npy", rows)
    backbone = topwork.load_backbone(module, input_spec=topwork.TensorSpec((4,)))
    classifier = topwork.TransferClassifier(backbone, head="knn").fit(rows, rows[:, 0] > 0)
    classifier.save(tmp_path / "bundle")
    output = run_blocked(
        f"print(topwork.load({str(tmp_path / 'bundle')!r}).predict({str(tmp_path / 'rows.npy')!r}).tolist())"
    )
    assert output.strip() == str(classifier.predict(rows).tolist())


def test_blocked_import_is_really_blocked() -> None:
    result = subprocess.run(
        [sys.executable, "-c", BLOCKED + "import torch"], capture_output=True, text=True, check=False
    )
    assert "torch is blocked" in result.stderr


def test_bundle_of_trained_layers_predicts_without_torch(tmp_path: Path, write_images: Callable[..., Path]) -> None:
    images = str(write_images(each=10))
    options = {"from_layer": "layer2", "epochs": 1, "precision": "fp32", "random_state": 0}
    classifier = topwork.FineTunedClassifier("topwork:tiny", **options).fit(images)
    classifier.save(tmp_path / "bundle")
    np.save(tmp_path / "expected.npy", classifier.predict_proba(images))
    output = run_blocked(f"""
import numpy as np
found = topwork.load({str(tmp_path / "bundle")!r}).predict_proba({images!r})
print(np.abs(found - np.load({str(tmp_path / "expected.npy")!r})).max() < 1e-5)
""")
    assert output.strip() == "True"
