"""What ``FineTunedClassifier`` and ``FineTunedRegressor`` share: maps in a store, training, the tuned extractor."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from sklearn.utils import check_random_state
from sklearn.utils.class_weight import compute_sample_weight

from ...errors import InputError, ParityError
from ...extract.extractor.extractor import Extractor, ItemFeatures
from ...extract.graphs.cutting import cutter_for
from ...extract.graphs.pooling import UNPOOLED, satisfies
from ...extract.jobs.job import extract_features
from ...extract.sources.item import Source
from ...extract.sources.selected import SelectedSource
from ...extract.store.feature_store import FeatureStore
from ...heads.fit_report import FitReport
from ...heads.module_training.options import ModuleTrainingOptions
from ...heads.parameters import (
    BOOLEAN,
    DEVICE,
    NUMBER_FROM_0,
    NUMBER_FROM_0_BELOW_1,
    POSITIVE_INTEGER,
    POSITIVE_NUMBER,
    Constraint,
    check_parameters,
    one_of,
)
from ...identity import digest
from ...models.backbone import Backbone, TorchBackbone
from ...models.loading import BackboneSpec, load_backbone
from ...progress import report_step
from ..estimators.item_features import LOCK_PATIENCE_SECONDS, compute_features, select_items
from ..estimators.training_set import TrainingSet
from ..estimators.transfer_estimator import TransferEstimator
from .checkpoint import load_checkpoint, save_checkpoint
from .stored_maps import StoredMaps

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ...extract.graphs.cut import Column
    from ...heads.module_training.trainer import EpochRecord, ModuleTrainer
    from .tuning import Comparison, Tuning

MAP_DTYPE = "float16"
"""Of maps in a new store: half the bytes, and an error of 1 in 2,000."""
MAX_MAP_ERROR = 0.02
"""Largest relative L2 error of features that are computed from stored maps."""
N_CHECKED_ITEMS = 8
SHARE_BELOW_1 = Constraint("a number from 0 to below 1", NUMBER_FROM_0_BELOW_1.is_met)
LOSS = Constraint("None, or a function of outputs and targets", lambda value: value is None or callable(value))
CALLBACKS = Constraint(
    "a sequence of functions", lambda value: isinstance(value, Sequence) and all(map(callable, value))
)

CONSTRAINTS = {
    "epochs": POSITIVE_INTEGER,
    "batch_size": POSITIVE_INTEGER,
    "optimizer": one_of("adamw", "sgd"),
    "learning_rate": POSITIVE_NUMBER,
    "layer_decay": POSITIVE_NUMBER,
    "weight_decay": NUMBER_FROM_0,
    "warmup": SHARE_BELOW_1,
    "label_smoothing": SHARE_BELOW_1,
    "mixup": NUMBER_FROM_0,
    "patience": POSITIVE_INTEGER,
    "train_batch_norm": BOOLEAN,
    "validation_fraction": SHARE_BELOW_1,
    "test_fraction": SHARE_BELOW_1,
    "device": DEVICE,
    "loss": LOSS,
    "callbacks": CALLBACKS,
}


class FineTuning(TransferEstimator):
    """Trains the layers above a cut in place of a head; subclasses add what the targets are."""

    head = "linear"
    head_params = None
    normalize = False
    cv = 0

    from_layer: str
    to: str
    epochs: int
    optimizer: str
    learning_rate: float
    layer_decay: float
    weight_decay: float
    warmup: float
    label_smoothing: float
    mixup: float
    patience: int
    train_batch_norm: bool
    validation_fraction: float
    test_fraction: float
    loss: Callable[..., Any] | None
    callbacks: Sequence[Callable[..., Any]]
    checkpoint: str | Path | None
    random_state: Any
    device: str
    comparison_: Comparison | None

    @property
    def _chooses_layer(self) -> bool:
        return False

    def _compute_items(self, X: Any, extractor: Extractor) -> ItemFeatures:
        return compute_features(extractor, X)  # the store holds maps, not features of the trained network

    @property
    def layer(self) -> str:  # type: ignore[override]
        """The cut."""
        return self.from_layer

    # Fitting.

    def fit(
        self,
        X: Any,
        y: Any = None,
        sample_weight: Any = None,
        groups: Any = None,
        split: str | Sequence[str] | None = None,
    ) -> Self:
        """Compute the maps that are not stored yet, and train the layers above the cut on them.

        Parameters
        ----------
        X, y, sample_weight, groups, split
            As for :meth:`topwork.TransferClassifier.fit`; a store must hold the maps of the cut
            (``topwork extract --pool none``).

        Returns
        -------
        Self
            Itself.

        Raises
        ------
        InputError
            If an item, a label or a parameter is wrong.
        LayerError
            If the layers above the cut cannot be trained: several tensors cross it, or it is above `to`.
        ParityError
            If the features computed from the maps are not those of the whole network.
        """
        self._check_parameters()
        self._backbone = self._load_backbone()
        with self._choose_map_folder():
            super().fit(X, y, sample_weight=sample_weight, groups=groups, split=split)
        del self._backbone
        if not isinstance(X, FeatureStore):
            self._check_maps(X)
            self.extractor_.set_params(precision=self.precision).fit(X)
        return self

    @contextlib.contextmanager
    def _choose_map_folder(self) -> Iterator[None]:
        """Keep maps in the store, or else in a temporary folder."""
        if self.store is not None:
            self._map_folder = Path(self.store)
            yield
            return
        with tempfile.TemporaryDirectory(prefix="topwork-maps-") as folder:
            self._map_folder = Path(folder) / "maps"
            yield

    def _check_parameters(self) -> None:
        super()._check_parameters()
        check_parameters(self, CONSTRAINTS)

    def _build_extractor(self) -> Extractor:
        return self._make_extractor(self._backbone, self.from_layer, UNPOOLED)

    def _make_extractor(self, backbone: Any, layer: str, pool: Any) -> Extractor:
        """Return an extractor in float32, which runs as this estimator is to run."""
        return Extractor(
            backbone,
            layer=layer,
            pool=pool,
            precision="fp32",
            provider=self.provider,
            on_error=self.on_error,
            max_pixels=self.max_pixels,
        )

    def _fit_extractor(self, X: Any) -> None:
        if isinstance(X, FeatureStore):
            X.admit(self.extractor_)
        else:
            self.extractor_.fit(X)

    def _compute_training_features(
        self, items: Source | FeatureStore, chosen: NDArray[np.intp], is_labelled: NDArray[np.bool_]
    ) -> ItemFeatures:
        """Return the maps of the labelled ones of the chosen items, and of their views, as :class:`StoredMaps`."""
        if isinstance(items, FeatureStore):
            rows = chosen[is_labelled]
            return self._take_maps(items, rows, np.arange(len(rows)), failures=items.failures())
        source = SelectedSource(items, chosen.tolist())
        store = FeatureStore.open_or_create(self._map_folder, self.extractor_, MAP_DTYPE, adds_columns=True)
        config = self.extractor_.run_config
        ledger = extract_features(
            source, store, config=config, patience=LOCK_PATIENCE_SECONDS, views=self.views or None
        )
        if self._find_column(store) is None:
            store.add_columns(self.extractor_, source, config=config, patience=LOCK_PATIENCE_SECONDS, partial=True)
        positions = {item.id: position for position, item in enumerate(source)}
        pairs = sorted((positions[item_id], row) for row, item_id in enumerate(store.groups) if item_id in positions)
        kept, rows = np.array(pairs, np.intp).reshape(-1, 2).T
        return select_items(self._take_maps(store, rows, kept, failures=ledger.failures), is_labelled)

    def _take_maps(
        self, store: FeatureStore, rows: NDArray[np.intp], kept: NDArray[np.intp], failures: list[tuple[str, str]]
    ) -> ItemFeatures:
        column = self._find_column(store)
        if column is None:
            raise InputError(
                f"{store.path} has no maps of {self.from_layer!r}; expected a store made with "
                f"--layer {self.from_layer} --pool none, or the items themselves"
            )
        layer = cutter_for(self._backbone).describe(self.from_layer)
        maps: Any = StoredMaps(store.matrix(column), rows, layer)
        return ItemFeatures(maps, kept, failures)

    def _find_column(self, store: FeatureStore) -> Column | None:
        """Return the column of the maps in a store, None if it has none."""
        for column in store.columns:
            if column.layer == self.from_layer and satisfies(column.pool, UNPOOLED) and not column.normalize:
                return column
        return None

    def train(self, head: Any, given: TrainingSet) -> None:
        """Train the layers above the cut, with a linear head, on maps; record what they were trained on."""
        rows = self._encode_labels(given)
        tuning = self._tune(rows)
        self.comparison_ = tuning.comparison
        self.history_ = [asdict(record) for record in tuning.records]
        super().train(tuning.head, replace(given, X=tuning.features))

    def _fit_head(self, head: Any, rows: TrainingSet) -> Any:
        return head  # it was trained with the layers

    def _tune(self, rows: TrainingSet) -> Tuning:
        """Train the layers above the cut, and make the extractor one of the trained network."""
        from .network import make_network, tune_backbone
        from .tuning import Tuner, divide_rows

        backbone = self._backbone
        report_step(f"tracing {backbone.name} above {self.from_layer}")
        network = make_network(
            backbone, self.from_layer, self.to, pool=str(self.pool), train_batch_norm=self.train_batch_norm
        )
        options = self._training_options()
        task = self.find_task(rows.y)
        is_original = np.ones(len(rows), bool) if rows.is_original is None else rows.is_original
        division = divide_rows(
            rows.y,
            rows.groups,
            is_original,
            shares=(self.validation_fraction, self.test_fraction),
            by_class=task == "classification",
            seed=options.seed,
        )
        tuner = Tuner(
            network,
            rows.X,  # type: ignore[arg-type]
            rows.y,
            self._weigh_rows(rows),
            task=task,
            division=division,
            options=options,
        )
        identity = self._identify_training(backbone, rows, options)
        state = None if self.checkpoint is None else load_checkpoint(Path(self.checkpoint), identity)

        def after_epoch(trainer: ModuleTrainer, record: EpochRecord) -> None:
            if self.checkpoint is not None:
                save_checkpoint(Path(self.checkpoint), trainer.save_state(), identity)
            for callback in self.callbacks:
                callback(trainer, record)

        tuning = tuner.run(after_epoch, state)
        few = np.flatnonzero(is_original)[:N_CHECKED_ITEMS]
        ids = few if rows.ids is None else rows.ids[few]
        self._checked_features = (ids.tolist(), tuning.features[few])
        tuned = tune_backbone(backbone, network.upper)
        self.extractor_ = self._make_extractor(tuned, self.to, self.pool).fit(None)
        return tuning

    def _load_backbone(self) -> TorchBackbone:
        """Return the backbone with its PyTorch module."""
        backbone = self.backbone
        if isinstance(backbone, str):
            backbone = load_backbone(backbone)
        if isinstance(backbone, BackboneSpec):
            backbone = backbone.load()
        if not isinstance(backbone, Backbone):
            raise InputError(
                f"backbone is a {type(backbone).__name__}, whose layers cannot be trained; expected a name such as "
                "timm:NAME, or what topwork.load_backbone returns"
            )
        return backbone  # type: ignore[return-value]

    def _training_options(self) -> ModuleTrainingOptions:
        seed = check_random_state(self.random_state).randint(2**31 - 1)
        return ModuleTrainingOptions(
            loss=self.loss or "classes",
            epochs=self.epochs,
            batch_size=self.batch_size,  # type: ignore[arg-type]
            optimizer=self.optimizer,  # type: ignore[arg-type]
            learning_rate=self.learning_rate,
            layer_decay=self.layer_decay,
            weight_decay=self.weight_decay,
            warmup=self.warmup,
            label_smoothing=self.label_smoothing,
            mixup=self.mixup,
            patience=self.patience,
            seed=int(seed),
            device=self.device,
        )

    def _identify_training(self, backbone: TorchBackbone, rows: TrainingSet, options: ModuleTrainingOptions) -> str:
        """Return the digest of everything that training depends on."""
        ids = np.arange(len(rows)) if rows.ids is None else rows.ids
        named_loss = options.loss if isinstance(options.loss, str) else "own"
        return digest(
            {
                "backbone": backbone.identity(),
                "cut": [self.from_layer, self.to, str(self.pool), bool(self.train_batch_norm)],
                "options": asdict(replace(options, loss=named_loss)),  # type: ignore[arg-type]
                "shares": [self.validation_fraction, self.test_fraction],
                "rows": [[str(item_id) for item_id in ids], rows.y.tolist()],
            }
        )

    def _weigh_rows(self, rows: TrainingSet) -> NDArray[np.float32]:
        """Return the weight of each row."""
        weights = np.ones(len(rows)) if rows.sample_weight is None else np.asarray(rows.sample_weight, float)
        class_weight = getattr(self, "class_weight", None)
        if class_weight is not None:
            weights = weights * compute_sample_weight(class_weight, rows.y)
        return weights.astype(np.float32)

    def _report_fit(self, head: Any, rows: TrainingSet) -> None:
        """Report the score on the rows that neither training nor its end depended on."""
        self.fit_report_ = None
        self.not_evaluated_ = None
        if self.comparison_ is None:
            self.not_evaluated_ = "too few rows could be held out"
            return
        self.fit_report_ = FitReport(
            metric=self.metric,
            training=self.score_predictions(rows.y, np.asarray(head.predict(rows.X))),
            held_out=self.comparison_.tuned,
            spread=None,
            n_folds=1,
        )

    def _check_maps(self, X: Any) -> None:
        """Raise a ParityError if features of the whole network differ from those that were computed from maps."""
        ids, from_maps = self._checked_features
        source = self.extractor_.open(X)
        positions = {item.id: position for position, item in enumerate(source)}
        few = SelectedSource(source, [positions[item_id] for item_id in ids])
        whole = compute_features(self.extractor_, few).matrix
        self.map_error_ = float(np.linalg.norm(from_maps - whole) / np.linalg.norm(whole))
        if not self.map_error_ <= MAX_MAP_ERROR:
            raise ParityError(
                f"the features of {self.to!r} computed from maps of {self.from_layer!r} differ from those of the whole "
                f"network by {self.map_error_:.1e}; expected at most {MAX_MAP_ERROR}. Cut at another layer."
            )
