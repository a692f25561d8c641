"""``FineTunedRegressor``: the layers above a cut, trained from cached maps to predict values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ...errors import InputError
from ..estimators.transfer_regressor import TransferRegressor
from .finetuned_estimator import FineTuning

if TYPE_CHECKING:
    from numpy.typing import NDArray


class FineTunedRegressor(FineTuning, TransferRegressor):
    """A backbone whose upper layers are trained to predict values.

    As :class:`topwork.FineTunedClassifier`, with the squared error of standardised values as the loss.

    Parameters
    ----------
    backbone, from_layer, to, pool, store, precision, provider, on_error, max_pixels, views, max_disk
        As for :class:`topwork.FineTunedClassifier`.
    epochs, batch_size, optimizer, learning_rate, layer_decay, weight_decay, warmup
        As for :class:`topwork.FineTunedClassifier`.
    label_smoothing : float
        Without effect on values.
    mixup, brightness, patience, train_batch_norm, validation_fraction, test_fraction, train_on_all
        As for :class:`topwork.FineTunedClassifier`.
    loss : callable, optional
        Function of the outputs and the values, standardised tensors ``(n, n_targets)``, that returns the loss of each
        row.
    callbacks, checkpoint, start_from, random_state, device, progress
        As for :class:`topwork.FineTunedClassifier`.

    Attributes
    ----------
    extractor_ : Extractor
        Of the trained network.
    head_ : LinearRegression
    n_targets_ : int or None
        Number of values for each item; None if `y` was a vector.
    from_layer_, to_, pool_, learning_rate_, trials_, comparison_, history_, map_error_
        As of :class:`topwork.FineTunedClassifier`; scores are R2.
    fit_report_, failures_, n_rows_, familiarity_
        As of :class:`topwork.TransferRegressor`.

    Examples
    --------
    >>> import numpy as np
    >>> import topwork
    >>> generator = np.random.default_rng(0)
    >>> levels = generator.uniform(60, 200, 120)
    >>> images = [generator.normal(level, 30, (32, 32, 3)).clip(0, 255).astype(np.uint8) for level in levels]
    >>> regressor = topwork.FineTunedRegressor("topwork:tiny", from_layer="layer2", epochs=3, random_state=0)
    >>> bool(regressor.fit(images[:100], levels[:100]).score(images[100:], levels[100:]) > 0.7)
    True
    """

    def _require_learnable(self, targets: NDArray[Any]) -> None:
        super()._require_learnable(targets)
        n_targets = targets.shape[1] if targets.ndim == 2 else None
        if self._run.earlier is not None and n_targets != self.n_targets_:
            raise InputError(
                f"{n_targets} values for each item, but {self.n_targets_} for the first ones (None: a vector)"
            )
