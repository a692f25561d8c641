"""Hand-written digits with ten labels of each class, by a network that has only seen photographs."""

import numpy as np
import topwork
from sklearn.datasets import load_digits

digits = load_digits()
images = [np.kron(image * 15, np.ones((4, 4))).astype(np.uint8) for image in digits.images]  # 8 x 8 -> 32 x 32
images = [np.repeat(image[..., None], 3, axis=2) for image in images]
chosen = np.concatenate([np.flatnonzero(digits.target == label)[:10] for label in range(10)])
others = np.setdiff1d(np.arange(len(images)), chosen)
new_images, new_labels = [images[row] for row in others], digits.target[others]

# The last layer knows photographs; one in the middle knows strokes.
for layer in ("layer1", "layer2", "last"):
    classifier = topwork.TransferClassifier("topwork:tiny", layer=layer, pool="avg2x2", cv=0)
    classifier.fit([images[row] for row in chosen], digits.target[chosen])
    print(f"{layer:6} {classifier.score(new_images, new_labels):.3f}")

# Let the items decide, and say how sure that is.
classifier = topwork.TransferClassifier("topwork:tiny", layer="auto", cv=0)
classifier.fit([images[row] for row in chosen], digits.target[chosen])
print(f"chosen {classifier.score(new_images, new_labels):.3f} on {len(others)} new digits")
