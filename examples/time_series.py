"""A network of your own: it was trained to tell movements apart, and its features recognise a new one."""

import numpy as np
import topwork
import torch
from torch import nn


class Movements(nn.Module):
    """A convolutional network for series of three axes, 128 steps."""

    def __init__(self, n_classes: int) -> None:
        super().__init__()
        self.blocks = nn.Sequential(
            nn.Conv1d(3, 16, 9, stride=2, padding=4), nn.BatchNorm1d(16), nn.ReLU(),
            nn.Conv1d(16, 32, 9, stride=2, padding=4), nn.BatchNorm1d(32), nn.ReLU(),
        )  # fmt: skip
        self.head = nn.Linear(32, n_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the scores of the movements."""
        return self.head(self.blocks(x).mean(2))


def draw(frequency: float, n_series: int, generator: np.random.Generator) -> np.ndarray:
    """Return noisy series (n_series, 3, 128) that swing with a frequency."""
    phases = generator.uniform(0, 6, (n_series, 3, 1))
    waves = np.sin(frequency * np.arange(128) / 10 + phases)
    return (waves + generator.normal(0, 0.7, waves.shape)).astype(np.float32)


# Train the network on four movements, as you may have done long ago.
torch.manual_seed(0)
generator = np.random.default_rng(0)
series = torch.from_numpy(np.concatenate([draw(frequency, 100, generator) for frequency in (1, 2, 4, 8)]))
targets = torch.arange(4).repeat_interleave(100)
network = Movements(4)
optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
for _ in range(30):
    optimizer.zero_grad()
    nn.functional.cross_entropy(network(series), targets).backward()
    optimizer.step()

# Two movements that it has never seen, eight examples of each.
backbone = topwork.load_backbone(network, input_spec=topwork.TensorSpec((3, 128)))
print([layer.name for layer in topwork.layers(backbone) if layer.kind == "map"][-1], "is the last map")
few = np.concatenate([draw(3, 8, generator), draw(5, 8, generator)])
classifier = topwork.TransferClassifier(backbone, cv=0).fit(few, ["walking"] * 8 + ["running"] * 8)
new = np.concatenate([draw(3, 200, generator), draw(5, 200, generator)])
print(f"accuracy {classifier.score(new, ['walking'] * 200 + ['running'] * 200):.2f} with 16 examples")
print(classifier.predict(draw(5, 3, generator)).tolist())
