"""``FineTunedRegressor``: the layers above a cut, trained from cached maps to predict values."""

from __future__ import annotations

from ..estimators.transfer_regressor import TransferRegressor
from .finetuned_estimator import FineTuning


class FineTunedRegressor(FineTuning, TransferRegressor):
    """A backbone whose upper layers are trained to predict values.

    As :class:`topwork.FineTunedClassifier`, with the squared error of standardised values as the loss.

    Parameters
    ----------
    backbone, from_layer, to, pool, store, precision, provider, on_error, max_pixels, views, max_disk
        As for :class:`topwork.FineTunedClassifier`.
    epochs, batch_size, optimizer, learning_rate, layer_decay, weight_decay, warmup, mixup, patience, train_batch_norm
        As for :class:`topwork.FineTunedClassifier`.
    label_smoothing : float
        Without effect on values.
    validation_fraction, test_fraction, loss, callbacks, checkpoint, random_state, device, progress
        As for :class:`topwork.FineTunedClassifier`; a loss takes outputs and targets ``(n, n_targets)`` that are
        standardised.

    Attributes
    ----------
    extractor_ : Extractor
        Of the trained network.
    head_ : LinearRegression
    n_targets_ : int or None
        Number of values for each item; None if `y` was a vector.
    from_layer_, trials_, comparison_, history_, map_error_
        As of :class:`topwork.FineTunedClassifier`; scores are R2.
    fit_report_, failures_, n_rows_, familiarity_
        As of :class:`topwork.TransferRegressor`.

    Examples
    --------
    >>> import topwork
    >>> grey = [np.full((32, 32, 3), level, np.uint8) for level in range(0, 240, 4)]
    >>> regressor = topwork.FineTunedRegressor("topwork:tiny", from_layer="layer2", epochs=3, random_state=0)
    >>> bool(abs(regressor.fit(grey, range(0, 240, 4)).predict(grey[30:31])[0] - 120) < 30)
    True
    """
