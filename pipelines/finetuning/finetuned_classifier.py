"""``FineTunedClassifier``: the layers above a cut, trained from cached maps, behind ``fit`` and ``predict``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import InputError
from ...extract.graphs.pooling import AUTO
from ...extract.preprocess.decode import MAX_PIXELS
from ...heads.label_formats import align_columns
from ..estimators.transfer_classifier import TransferClassifier
from .finetuned_estimator import FineTuning

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ...models.backbone import Backbone
    from ...models.loading import BackboneSpec
    from ..estimators.training_set import TrainingSet


class FineTunedClassifier(FineTuning, TransferClassifier):
    """A backbone whose upper layers are trained.

    What lies below the cut is frozen: it runs once for each item, and its maps are kept. The layers above it are
    trained from the maps, first a linear probe, then all of them from the probe's weights (Kumar et al. 2022, LP-FT,
    https://arxiv.org/abs/2202.10054). The result is a network like the backbone, which predicts, is saved and exported
    as that of :class:`topwork.TransferClassifier`.

    Parameters
    ----------
    backbone : str, BackboneSpec or Backbone
        What :func:`topwork.load_backbone` takes or returns; not an ONNX file.
    from_layer : str or sequence of str
        The cut: a layer that all data flow through, or ``"input"`` to train the whole network. Several are compared:
        they are trained for a few epochs, and each time the epochs double the worse half is given up, by the score
        of rows that are not trained on (successive halving). "auto" compares up to four ends of blocks, spread over
        the depth below the layer that the head sits on; it takes the uppermost if too few rows could be held out.
    to : str
        The last layer to keep, on which the head sits; those above it are removed. "auto" takes the deepest one whose
        frozen features are as good as the best for a linear head.
    pool : str
        How the value of `to` is pooled, as for :class:`topwork.Extractor`. If both are "auto", the pooling is chosen
        together with the layer.
    store : path, optional
        A feature store that keeps the maps, in float16; by default they are in a temporary folder while ``fit`` runs.
    precision, provider, on_error, max_pixels
        As for :class:`topwork.Extractor`, of the trained network. Maps are computed in float32.
    views : int
        Number of augmented versions of each image whose maps are trained on in addition.
    max_disk : float, optional
        Bytes that the maps may take; of several cuts, those with the largest maps are left out until the rest fits. If
        `store` has maps of all items at some of the cuts, it is these that are trained above.
    epochs, batch_size : int
        Passes over the rows, and rows for each step.
    optimizer : {"adamw", "sgd"}
    learning_rate : float, sequence of float or "auto"
        Largest learning rate, that of the head. Several are compared as cuts are. "auto" compares 1e-4 and 1e-3 (with
        SGD 1e-3 and 1e-2), or takes the lower one if there are too few rows to compare them by.
    layer_decay : float
        What the learning rate is multiplied with from each block of layers to the one below.
    weight_decay : float
    warmup : float
        Share of the steps in which the learning rate rises; afterwards it falls along a half cosine.
    label_smoothing, mixup : float
        See :class:`topwork.heads.module_training.options.ModuleTrainingOptions`; maps are mixed.
    brightness : float
        Largest shift of each channel of a map in training, drawn anew for each item, as a share of the channel's range
        (Bär et al. 2024, FroFA, https://arxiv.org/abs/2403.10519); 0 for none.
    patience : int
        Epochs after the one that is kept after which training ends. It is the last one whose score of validation rows
        is within a standard error of the best; the weights may be those before training.
    train_batch_norm : bool
        Whether BatchNorm normalises by the batch in training; by default it keeps its pretrained statistics.
    class_weight : "balanced", dict or None
        Weights of the classes.
    validation_fraction : float
        Share of the rows that decide when training ends; at most half of them, as of those left for `test_fraction`.
    test_fraction : float
        Share of the rows that nothing depends on, to compare the trained layers with a linear probe on the frozen
        ones; see ``comparison_``. 0 compares nothing.
    train_on_all : bool
        Whether the layers are trained once more after the comparison, on all rows, as many epochs as were kept. The
        scores are those of the layers before.
    loss : callable, optional
        Function of the outputs ``(n, n_classes)`` and the classes ``(n,)``, as tensors, that returns the loss of each
        row.
    callbacks : sequence of callable
        Called after each epoch with the trainer and a record of the epoch.
    checkpoint : path, optional
        Folder to which the state of training is written after each epoch. If it is there, training goes on from it,
        and ends as it would have without an interruption.
    start_from : path or estimator, optional
        A bundle of layers that were trained before, or the estimator that trained them: training goes on from their
        weights, and begins with a new probe, as labels and classes may be others. The cut must be theirs, or lie below
        it. Items that they have learned are not held out.
    random_state : int, RandomState or None
    device : str
        "auto" (a GPU if there is one), or a torch device.
    progress : bool
        Whether a line on a terminal or in a notebook shows what is being done.

    Attributes
    ----------
    extractor_ : Extractor
        Of the trained network.
    head_ : LinearProbe
    classes_ : ndarray
    from_layer_ : str
        The cut that was trained above.
    to_, pool_ : str
        The last layer that is kept, and its pooling.
    learning_rate_ : float
        The learning rate that it was trained with.
    trials_ : list of Trial
        How far training above each cut, with each learning rate, went, and its best validation score.
    comparison_ : Comparison or None
        Scores of the trained layers, and of the frozen features that ``layer="auto"`` would take of the layers from the
        lowest cut upwards, on rows that nothing depends on; and whether the difference is within its error.
    history_ : list of dict
        The losses of each epoch, and the score of validation rows, of the layers that were compared.
    map_error_ : float or None
        Relative L2 error of features from stored maps, against the whole network; None if a store was given.
    fit_report_, failures_, n_rows_, familiarity_
        As of :class:`topwork.TransferClassifier`.

    Examples
    --------
    >>> import numpy as np
    >>> import topwork
    >>> generator = np.random.default_rng(0)
    >>> images = list(generator.integers(0, 128, (40, 32, 32, 3), dtype=np.uint8))
    >>> images[20:] = [image + np.uint8(64) for image in images[20:]]
    >>> labels = ["dark"] * 20 + ["light"] * 20
    >>> classifier = topwork.FineTunedClassifier("topwork:tiny", from_layer="layer2", epochs=2, random_state=0)
    >>> classifier.fit(images, labels).predict(images[-1:]).tolist()
    ['light']
    """

    calibrate = False
    abstain_below = None

    def __init__(
        self,
        backbone: str | BackboneSpec | Backbone = "topwork:tiny",
        from_layer: str | Sequence[str] = AUTO,
        to: str = AUTO,
        pool: str = AUTO,
        store: str | Path | None = None,
        precision: str = "auto",
        provider: str = "auto",
        on_error: str = "raise",
        max_pixels: int = MAX_PIXELS,
        views: int = 0,
        max_disk: float | None = None,
        epochs: int = 30,
        batch_size: int = 64,
        optimizer: str = "adamw",
        learning_rate: float | str | Sequence[float] = AUTO,
        layer_decay: float = 0.8,
        weight_decay: float = 0.05,
        warmup: float = 0.1,
        label_smoothing: float = 0.0,
        mixup: float = 0.0,
        brightness: float = 0.0,
        patience: int = 10,
        train_batch_norm: bool = False,
        class_weight: Any = None,
        validation_fraction: float = 0.15,
        test_fraction: float = 0.15,
        train_on_all: bool = True,
        loss: Callable[..., Any] | None = None,
        callbacks: Sequence[Callable[..., Any]] = (),
        checkpoint: str | Path | None = None,
        start_from: str | Path | FineTuning | None = None,
        random_state: Any = None,
        device: str = "auto",
        progress: bool = False,
    ) -> None:
        super().__init__(
            backbone=backbone,
            from_layer=from_layer,
            to=to,
            pool=pool,
            store=store,
            precision=precision,
            provider=provider,
            on_error=on_error,
            max_pixels=max_pixels,
            views=views,
            max_disk=max_disk,
            epochs=epochs,
            batch_size=batch_size,
            optimizer=optimizer,
            learning_rate=learning_rate,
            layer_decay=layer_decay,
            weight_decay=weight_decay,
            warmup=warmup,
            label_smoothing=label_smoothing,
            mixup=mixup,
            brightness=brightness,
            patience=patience,
            train_batch_norm=train_batch_norm,
            validation_fraction=validation_fraction,
            test_fraction=test_fraction,
            train_on_all=train_on_all,
            loss=loss,
            callbacks=callbacks,
            checkpoint=checkpoint,
            start_from=start_from,
            random_state=random_state,
            device=device,
            progress=progress,
        )
        self.class_weight = class_weight

    # One more pass, whose items may be of some of the classes.

    def _require_learnable(self, targets: NDArray[Any]) -> None:
        self._require_class_weights(targets)
        if self._run.earlier is None:
            super()._require_learnable(targets)
            if targets.ndim == 1:
                self._require_classes(np.unique(targets.astype(str)).tolist())
            return
        if self.multilabel_ != (targets.ndim == 2):
            raise InputError("the first items had one label each, or several, and these differ; call fit to start anew")
        self._require_classes(list(map(str, self.classes_.tolist())))
        if not self.multilabel_:
            unknown = sorted(map(str, set(targets.tolist()).difference(self.classes_.tolist())))
            if unknown:
                raise InputError(f"no earlier item had the label {unknown[0]!r}; call fit to learn other classes")

    def _require_class_weights(self, targets: NDArray[Any]) -> None:
        """Raise an InputError if classes are weighed that the items have not."""
        if self.class_weight is None:
            return
        if targets.ndim == 2:
            raise InputError("class_weight applies to items with one label each, and these have several")
        if isinstance(self.class_weight, dict):
            unknown = sorted(map(str, set(self.class_weight).difference(targets.tolist())))
            if unknown:
                raise InputError(f"class_weight names {unknown[0]!r}, a label that no item has")

    def _require_classes(self, found: list[str]) -> None:
        """Raise an InputError if ``partial_fit`` was given other classes than the first items have."""
        given = self._run.classes
        if given is None:
            return
        named = list(map(str, np.asarray(given).tolist()))
        missing = sorted(set(named).difference(found))
        if missing:
            raise InputError(
                f"no item has the label {missing[0]!r}; expected all classes among the first items, as training begins "
                "with a linear probe of them"
            )

    def _encode_labels(self, rows: TrainingSet) -> TrainingSet:
        if self._run.earlier is None:
            encoded = super()._encode_labels(rows)
            if encoded.y.ndim == 2:
                self._require_classes(list(map(str, self.classes_.tolist())))
            return encoded
        classes = self.classes_.tolist()
        if self.multilabel_:
            names = list(range(rows.y.shape[1])) if rows.label_names is None else rows.label_names
            return replace(rows, y=align_columns(rows.y, names, classes), label_names=classes)
        if self.classes_.dtype != object:
            return rows
        return replace(rows, y=np.array([classes.index(label) for label in rows.y.tolist()]))

    def _record_targets(self, rows: TrainingSet) -> None:
        if self._run.earlier is None:
            super()._record_targets(rows)
