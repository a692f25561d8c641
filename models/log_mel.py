"""Log-mel spectrograms as the first module of a network, so that an exported graph takes samples.

A frame of samples passes several linear steps before its power is taken: the removal of its mean, pre-emphasis, the
window, and a discrete Fourier transform. Their product is one matrix, and the matrix times all frames is a convolution,
which every runtime computes fast.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor, nn


@dataclass(frozen=True, eq=False)
class Framing:
    """How a sound becomes the power spectra of its frames, and these become the energies of mel bands.

    Parameters
    ----------
    window : ndarray, shape (frame,)
        Weights of the samples of a frame.
    hop : int
        Samples from one frame to the next.
    filters : ndarray, shape (n_fft // 2 + 1, n_bands)
        Weights of the frequencies in each band.
    is_centred : bool
        Whether the first frame is centred on the first sample; sounds are mirrored at their ends.
    removes_mean : bool
        Whether the mean of each frame is subtracted.
    preemphasis : float
        Share of each sample that is subtracted from the next one.
    """

    window: NDArray[np.float64]
    hop: int
    filters: NDArray[np.float64]
    is_centred: bool = True
    removes_mean: bool = False
    preemphasis: float = 0.0

    def spectrum_matrix(self) -> NDArray[np.float64]:
        """Return the real and then the imaginary parts of the transform, ``(2 * frequencies, frame)``."""
        size = len(self.window)
        n_frequencies = len(self.filters)
        n_fft = 2 * (n_frequencies - 1)
        angles = 2 * np.pi * np.outer(np.arange(n_frequencies), np.arange(size)) / n_fft
        transform = np.concatenate([np.cos(angles), -np.sin(angles)]) * self.window
        steps = np.eye(size)
        if self.preemphasis:
            steps -= self.preemphasis * np.eye(size, k=-1)
            steps[0, 0] = 1 - self.preemphasis
        if self.removes_mean:
            steps = steps @ (np.eye(size) - 1 / size)
        return transform @ steps


def make_mel_energies(framing: Framing) -> nn.Module:
    """Return a module from samples ``(batch, samples)`` to the energies of bands ``(batch, bands, frames)``."""
    import torch
    from torch import nn
    from torch.nn import functional

    class MelEnergies(nn.Module):
        kernel: Tensor
        filters: Tensor

        def __init__(self) -> None:
            super().__init__()
            kernel = torch.from_numpy(framing.spectrum_matrix()).float().unsqueeze(1)
            self.register_buffer("kernel", kernel, persistent=False)  # (2 * frequencies, 1, frame)
            filters = torch.from_numpy(np.ascontiguousarray(framing.filters.T)).float()
            self.register_buffer("filters", filters, persistent=False)

        def forward(self, samples: Tensor) -> Tensor:
            x = samples.unsqueeze(1)  # (batch, samples) -> (batch, 1, samples)
            if framing.is_centred:
                margin = len(framing.window) // 2
                x = functional.pad(x, (margin, margin), mode="reflect")
            parts = functional.conv1d(x, self.kernel, stride=framing.hop)  # (batch, 2 * frequencies, frames)
            real, imaginary = parts.chunk(2, dim=1)
            return torch.matmul(self.filters, real.square() + imaginary.square())

    return MelEnergies()


def attach(module: nn.Module, front_end: nn.Module) -> None:
    """Let a module take what its front end takes: this runs first, whenever the module is called."""

    def prepend(module: Any, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        prepared: Any = module.front_end(*inputs)
        return (prepared,)

    module.front_end = front_end
    module.register_forward_pre_hook(prepend)
