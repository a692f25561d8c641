"""New digits every night: their features are added, the head is trained again, and replaced if it is no worse."""

import tempfile
from pathlib import Path

import numpy as np
import topwork
from PIL import Image
from sklearn.datasets import load_digits

digits = load_digits()
work = Path(tempfile.mkdtemp())
order = np.random.default_rng(0).permutation(len(digits.target))


def receive(rows: np.ndarray) -> None:
    """Put some digits where they arrive: in the folder of their label."""
    for row in rows:
        folder = work / "digits" / str(digits.target[row])
        folder.mkdir(parents=True, exist_ok=True)
        image = Image.fromarray((digits.images[row] * 15).astype(np.uint8))
        image.resize((32, 32)).convert("RGB").save(folder / f"{row}.png")


# The first night.
receive(order[:200])
classifier = topwork.TransferClassifier("topwork:tiny", layer="layer2", pool="avg2x2", store=work / "features")
classifier.fit(work / "digits").save(work / "bundle")
print("night 0:", classifier.n_rows_, "digits")

# Every night after that.
for night, first in enumerate(range(200, 1000, 400), start=1):
    receive(order[first : first + 400])
    store = topwork.FeatureStore.open(work / "features")
    ledger = topwork.extract_features(work / "digits", store)
    child = topwork.refit(work / "bundle", work / "features", warm=False)
    accuracy = child.lineage_["metrics"]["held_out"]
    print(f"night {night}: computed {ledger.computed} of {ledger.items}; accuracy {accuracy:.3f} on held-out digits")
    child.save(work / "bundle", overwrite=True)

three = sorted((work / "digits" / "3").iterdir())[0]
print("a three is read as", topwork.load(work / "bundle").predict([three])[0])
