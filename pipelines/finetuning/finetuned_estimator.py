"""What ``FineTunedClassifier`` and ``FineTunedRegressor`` share: maps in a store, training, the tuned extractor."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.validation import check_is_fitted

from ...errors import InputError, LayerError, ParityError, warn_caller
from ...extract.extractor.extractor import Extractor, ItemFeatures
from ...extract.graphs.cutting import cutter_for
from ...extract.graphs.graph_cache import load_or_reuse
from ...extract.graphs.layer import INPUT, LAST
from ...extract.graphs.pooling import AUTO, UNPOOLED
from ...extract.preprocess.decode import MAX_PIXELS
from ...extract.sources.item import Source
from ...extract.sources.selected import SelectedSource
from ...extract.store.feature_store import FeatureStore
from ...heads.fit_report import FitReport
from ...heads.module_training.options import ModuleTrainingOptions
from ...heads.parameters import check_parameters, is_integer
from ...heads.registry import CLASSIFICATION
from ...identity import digest
from ...models.backbone import Backbone, TorchBackbone
from ...models.loading import BackboneSpec
from ...progress import report_step
from ..bundle.bundle_files import BundleContents
from ..bundle.lineage import describe_training, hash_each_id, hash_ids
from ..bundle.manifest import FINETUNING
from ..estimators.candidate_features import is_automatic
from ..estimators.item_features import compute_features, warn_of_pending
from ..estimators.load import restore_estimator
from ..estimators.precision_scores import FEATURES
from ..estimators.training_set import TrainingSet
from ..estimators.transfer_estimator import TransferEstimator
from .checkpoint import Checkpoint
from .cuts import choose_cuts
from .map_stores import choose_map_folder, compute_maps, find_affordable_cuts, list_stored_cuts, open_maps
from .trained_layers import TrainedLayers
from .training_parameters import CONSTRAINTS, choose_rates, list_rates, make_training_options, name_function
from .training_run import FIXED_PARAMETERS, Passes, TrainingRun

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ...extract.graphs.exported_graph import ExportedGraph
    from ...extract.graphs.layer import Layer
    from ...heads.module_training.rows import TrainingRows
    from ...heads.module_training.trainer import EpochRecord, ModuleTrainer, TrainingState
    from ..estimators.cut_search import CutSearch
    from ..estimators.transfer_classifier import TransferClassifier
    from ..estimators.transfer_regressor import TransferRegressor
    from .frozen_layers import FrozenLayers
    from .halving import Candidate, Trial
    from .network import TunedNetwork
    from .tuning import Comparison, Task, Tuned, Tuning

MAX_MAP_ERROR = 0.02
"""Largest relative L2 error of features that are computed from stored maps."""
N_CHECKED_ITEMS = 8


class FineTuning(TransferEstimator):
    """Trains the layers above a cut in place of a head; subclasses add what the targets are."""

    head = "linear"
    head_params = None
    normalize = False
    cv = 0
    fidelity = FEATURES

    comparison_: Comparison | None
    trials_: list[Trial]
    map_error_: float | None
    to_: str
    pool_: str
    layers_: TrainedLayers

    _passes: Passes | None = None
    _run: TrainingRun = TrainingRun()
    history_: list[dict[str, Any]]

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
        self.backbone = backbone
        self.from_layer = from_layer
        self.to = to
        self.pool = pool
        self.store = store
        self.precision = precision
        self.provider = provider
        self.on_error = on_error
        self.max_pixels = max_pixels
        self.views = views
        self.max_disk = max_disk
        self.epochs = epochs
        self.batch_size = batch_size
        self.optimizer = optimizer
        self.learning_rate = learning_rate
        self.layer_decay = layer_decay
        self.weight_decay = weight_decay
        self.warmup = warmup
        self.label_smoothing = label_smoothing
        self.mixup = mixup
        self.brightness = brightness
        self.patience = patience
        self.train_batch_norm = train_batch_norm
        self.validation_fraction = validation_fraction
        self.test_fraction = test_fraction
        self.train_on_all = train_on_all
        self.loss = loss
        self.callbacks = callbacks
        self.checkpoint = checkpoint
        self.start_from = start_from
        self.random_state = random_state
        self.device = device
        self.progress = progress

    def __sklearn_clone__(self) -> Self:
        """Return an unfitted copy, which starts from the same layers: an estimator that was fitted stays so."""
        cloned: Self = super().__sklearn_clone__()
        cloned.start_from = self.start_from
        return cloned

    @property
    def _chooses_layer(self) -> bool:
        return False

    def _compute_items(self, X: Any, extractor: Extractor) -> ItemFeatures:
        return compute_features(extractor, X)  # the store holds maps, not features of the trained network

    @property
    def layer(self) -> str:  # type: ignore[override]
        """The layer whose features enter the head."""
        return self.to

    # Construction.

    @classmethod
    def from_store(cls, store: FeatureStore, layer: str | Sequence[str] | None = None, **options: Any) -> Self:
        """Return an unfitted estimator for the maps of a store.

        Parameters
        ----------
        layer : str or sequence of str, optional
            The cut, or several to compare; by default those of which the store has maps that ``fit`` is given.
        **options
            Other parameters of the estimator, with `backbone`: a store has only what lies below the cut.

        Returns
        -------
        Self
            Unfitted.

        Raises
        ------
        InputError
            If `backbone` is missing.
        """
        if "backbone" not in options:
            raise InputError(
                f"backbone is missing: {store.path} has no layers that can be trained; name the network whose maps it "
                f"has, which was {store.identity.get('architecture', 'unknown')}"
            )
        return cls(**{"from_layer": AUTO if layer is None else layer, **options})

    @classmethod
    def from_graph(cls, graph: ExportedGraph, **options: Any) -> Self:
        """Raise an InputError: the layers of an exported graph cannot be trained."""
        raise InputError("an exported graph has no layers that can be trained; name its backbone instead")

    def as_frozen(self) -> TransferClassifier | TransferRegressor:
        """Return an estimator of the trained network whose layers are frozen, as loading a bundle does."""
        check_is_fitted(self, "head_")
        return restore_estimator(self._describe_bundle())

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
            If the features computed from the maps are not those of the whole network. A store has no items to compare
            them on.
        """
        try:
            self._passes = None
            self._run = TrainingRun(start=read_start(self.start_from))
            return self._train_on(X, y, sample_weight=sample_weight, groups=groups, split=split)
        except BaseException:
            for name in [name for name in vars(self) if name.endswith("_")]:
                delattr(self, name)  # what failed must not predict
            raise
        finally:
            self.__dict__.pop("_run", None)

    def partial_fit(self, X: Any, y: Any = None, classes: Any = None, sample_weight: Any = None) -> Self:
        """Train the layers for one more pass over some items, at a constant learning rate.

        After ``fit``, training goes on from what it came to, at its learning rate unless one is named. Without it, the
        first call chooses where the head sits, and begins with a linear probe of its items. No item is held out, so
        there is no comparison with frozen features, and which items are familiar is known of a first call only. The
        state of the optimiser is kept from call to call; ``checkpoint`` is not used. Each call exports the network
        anew: give it many items.

        Parameters
        ----------
        X, y, sample_weight
            As for :meth:`fit`.
        classes : array-like, optional
            All classes. The first items of an estimator that is not fitted must have all of them.

        Returns
        -------
        Self
            Itself.

        Raises
        ------
        InputError
            If an item, a label or a parameter is wrong, `from_layer` names no single cut, a later label is of no class,
            or a parameter has changed that must not. The estimator is then as it was.
        LayerError, ParityError
            As by :meth:`fit`.
        """
        before = dict(vars(self))
        try:
            earlier = self._passes if "head_" in before else None
            start = read_start(self.start_from)
            if earlier is not None:
                earlier.require_same_parameters(self.get_params(deep=False))
                start = self.layers_
            self._run = TrainingRun(is_pass=True, earlier=earlier, classes=classes, start=start)
            return self._train_on(X, y, sample_weight=sample_weight, groups=None, split=None)
        except BaseException:
            self.__dict__.clear()
            self.__dict__.update(before)
            raise
        finally:
            self.__dict__.pop("_run", None)

    def _train_on(self, X: Any, y: Any, *, sample_weight: Any, groups: Any, split: Any) -> Self:
        """Compute maps, train the layers, and check what came."""
        run = self._run
        self.check_parameters()
        self.map_error_ = None
        run.backbone = self._load_backbone()
        if run.start is not None:
            run.start.require_backbone(run.backbone.identity())
        if run.earlier is None:
            self.to_, self.pool_ = self._find_named_end()
        run.networks = self._trace_networks(self._choose_cuts(X))  # errors are named before maps are computed
        with choose_map_folder(self.store) as run.map_folder:
            super().fit(X, y, sample_weight=sample_weight, groups=groups, split=split)
        if not isinstance(X, FeatureStore):
            self._check_maps(X)
            self.extractor_.set_params(precision=self.precision).fit(X)
        return self

    def _find_named_end(self) -> tuple[str, str]:
        """Return the last layer to keep, and its pooling, as they are named or training starts from them.

        Otherwise it is the network's last, with its own pooling.
        """
        start = self._run.start
        if start is None:
            return (LAST if is_automatic(self.to) else self.to), str(self.pool)
        if not is_automatic(self.to):
            start.require_end(self.to)
        return start.to, (start.pool if is_automatic(self.pool) else str(self.pool))

    def _choose_cuts(self, X: Any) -> list[str]:
        """Return the cuts to train above, in order of execution; of a store, those that it has maps of."""
        run = self._run
        if run.start is not None and (run.earlier is not None or is_automatic(self.from_layer)):
            return [run.start.from_layer]
        if isinstance(X, FeatureStore) and is_automatic(self.from_layer):
            stored = list_stored_cuts(X, self.to_)
            known = [INPUT, *(layer.name for layer in cutter_for(run.backbone).layers())]
            cuts = [name for name in known if name in stored]
        else:
            cuts = choose_cuts(run.backbone, self.from_layer, self.to_)
        if run.is_pass and len(cuts) > 1:
            raise InputError(f"from_layer stands for several cuts ({', '.join(cuts)}); partial_fit expects one")
        return cuts

    def _trace_networks(self, cuts: Sequence[str]) -> dict[str, TunedNetwork]:
        """Return the network above each cut; of cuts that are not named, those that cannot be trained are left out."""
        from .network import make_network, put_layers

        networks: dict[str, TunedNetwork] = {}
        for cut in cuts:
            report_step(f"tracing {self._run.backbone.name} from {cut} to {self.to_}")
            try:
                network = make_network(
                    self._run.backbone,
                    cut,
                    self.to_,
                    pool=self.pool_,
                    train_batch_norm=self.train_batch_norm,
                    brightness=self.brightness,
                )
                if self._run.start is not None:
                    put_layers(self._run.start, network.upper)
                networks[cut] = network
            except (LayerError, ParityError):
                if not is_automatic(self.from_layer) or (cut == cuts[-1] and not networks):
                    raise
        return networks

    def check_parameters(self) -> None:
        """Raise an InputError if a parameter that does not concern the features is wrong."""
        super().check_parameters()
        check_parameters(self, CONSTRAINTS)
        if self.checkpoint is not None and not is_integer(self.random_state):
            raise InputError(
                f"random_state is {self.random_state!r}, but checkpoint is given; expected an integer, with which "
                "training goes on as it began"
            )

    def _build_extractor(self) -> Extractor:
        return self._make_extractor(self._run.backbone, list(self._run.networks), UNPOOLED)

    def _make_extractor(self, backbone: Any, layer: str | list[str], pool: str) -> Extractor:
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
        """Return the maps of the labelled ones of the chosen items, and of their views, as :class:`MapsOfCuts`."""
        chosen = chosen[is_labelled]
        if isinstance(items, FeatureStore):
            warn_of_pending(items)
            maps: Any = open_maps(items, chosen, self.extractor_.columns, self._list_cut_layers())
            return ItemFeatures(maps, np.arange(len(chosen)), items.failures())
        source = SelectedSource(items, chosen.tolist())
        self._keep_within_disk(source)
        return compute_maps(source, self.extractor_, self._run.map_folder, self._list_cut_layers(), self.views)

    def _list_cut_layers(self) -> dict[str, Layer]:
        """Return the layers of the cuts by their names."""
        return {cut: network.upper.layer for cut, network in self._run.networks.items()}

    def _keep_within_disk(self, source: Source) -> None:
        """Leave out cuts whose maps need more disk than there may be; raise an InputError if none is left."""
        columns = self.extractor_.columns
        kept = find_affordable_cuts(columns, source, self._run.map_folder, self.views, self.max_disk)
        if len(kept) < len(self._run.networks):
            self._run.networks = {cut: self._run.networks[cut] for cut in kept}
            self.extractor_ = self._build_extractor().fit(None)

    def train(self, head: Any, given: TrainingSet) -> None:
        """Train the layers above the cut, with a linear head, on maps; record what they were trained on."""
        from .network import read_trained_weights, tune_backbone

        rows = self._encode_labels(given)
        run = self._run
        train = self._train_pass if run.is_pass else self._train_layers
        tuned, known = train(rows, self._weigh_rows(given))
        self.pool_ = tuned.network.pool

        # The network is the backbone with other weights.
        few = np.flatnonzero(rows.find_originals())[:N_CHECKED_ITEMS]
        ids = few if rows.ids is None else rows.ids[few]
        run.checked = (ids.tolist(), tuned.features[few])
        weights = read_trained_weights(run.backbone, tuned.network.upper)
        backbone = tune_backbone(run.backbone, weights)
        self.extractor_ = self._make_extractor(backbone, self.to_, self.pool_).fit(None)
        super().train(tuned.head, replace(given, X=tuned.features))
        if given.ids is not None:
            self.learned_ = hash_ids(given.ids[known])
            if run.start is not None and run.start.learned_ids is not None:
                self.learned_ = np.union1d(self.learned_, run.start.learned_ids)
        end = (self.to_, self.pool_)
        self.layers_ = TrainedLayers(run.backbone.identity(), self.from_layer_, *end, weights, self.learned_)
        self._passes = self._describe_passes(tuned, given)

    def _describe_passes(self, tuned: Tuned, given: TrainingSet) -> Passes:
        """Return what later passes go on from; what is known of the rows becomes that of all passes."""
        run = self._run
        ids, labels = np.arange(len(given)) if given.ids is None else given.ids, given.y
        if run.earlier is not None:
            ids, labels = run.earlier.add_items(ids, labels)
            self.n_rows_ = len(ids)
            self.lineage_ = describe_training(self.extractor_, ids, labels)
            self.familiarity_ = None  # the features of earlier items have changed
        parameters = self.get_params(deep=False)
        fixed = {name: parameters[name] for name in FIXED_PARAMETERS}
        return Passes(tuned.head, run.targets, tuned.network.standardisation, run.state, fixed, ids, labels)

    def _train_layers(self, rows: TrainingSet, weights: NDArray[np.float32]) -> tuple[Tuned, NDArray[np.intp]]:
        """Choose where the head sits and how to train, and compare with frozen features.

        Return what was trained, and the rows that it depends on.
        """
        run = self._run
        options = make_training_options(self)
        task = self._make_task(rows, weights, options.seed, (self.validation_fraction, self.test_fraction))
        frozen, search = self._search_frozen_layers(rows.X, task)
        self._place_head(frozen, search)
        tuning, candidates = self._prepare_tuning(rows, task, options)
        tuned, self.trials_ = tuning.choose(candidates)
        self.from_layer_, self.learning_rate_, _ = tuned.candidate
        self.history_ = [asdict(record) for record in tuned.records]
        baseline = (self.to_, tuning.frozen)
        if search is not None:
            baseline = (search.chosen.name, frozen.compute_candidate(search.chosen))
        self.comparison_ = tuning.compare(tuned, *baseline)
        run.learned, known = task.division.training, task.division.known
        if self.train_on_all and len(run.learned) < len(rows):
            tuned = tuning.train_on_all(tuned)
            run.learned = known = np.arange(len(rows))
        run.targets, run.state = task.targets, None
        return tuned, known

    def _train_pass(self, rows: TrainingSet, weights: NDArray[np.float32]) -> tuple[Tuned, NDArray[np.intp]]:
        """Train for one pass over rows; return what came, and the rows."""
        from .halving import Candidate

        run, earlier = self._run, self._run.earlier
        options = make_training_options(self)
        task = self._make_task(rows, weights, options.seed, (0.0, 0.0))
        run.learned = np.arange(len(rows))
        if earlier is None:
            if is_automatic(self.to):
                self._place_head(*self._search_frozen_layers(rows.X, task))
            (self.from_layer_,) = run.networks
            self.learning_rate_ = choose_rates(self, can_compare=False)[0]
            self.trials_, self.history_ = [], []
        else:
            task.targets = earlier.targets
            if list_rates(self.learning_rate) != [AUTO]:
                self.learning_rate_ = choose_rates(self, can_compare=False)[0]
        self.comparison_ = None
        candidate = Candidate(self.from_layer_, self.learning_rate_, on_all_rows=True)
        states = {} if earlier is None or earlier.state is None else {candidate: earlier.state}
        tuning = self._make_tuning(rows, task, options, states)
        going_on = () if earlier is None else (earlier.head, earlier.features)
        tuned, run.state = tuning.run_pass(candidate, *going_on)
        run.targets = task.targets
        self.history_ = [*self.history_, asdict(tuned.records[-1])]
        return tuned, run.learned

    def _fit_head(self, head: Any, rows: TrainingSet) -> Any:
        return head  # it was trained with the layers

    def _make_task(
        self, rows: TrainingSet, weights: NDArray[np.float32], seed: int, shares: tuple[float, float]
    ) -> Task:
        """Return what is learned from rows, some of which are held out."""
        from .tuning import Task, divide_rows

        name = self.find_task(rows.y)
        is_original = rows.find_originals()
        division = divide_rows(
            rows.y,
            rows.groups,
            is_original & ~self._find_learned(rows) & (weights > 0),
            shares=shares,
            by_class=name == CLASSIFICATION,
            seed=seed,
        )
        return Task(name, rows.y, weights, rows.groups, is_original, division)

    def _search_frozen_layers(self, maps: Any, task: Task) -> tuple[FrozenLayers, CutSearch | None]:
        """Return the frozen layers, and how they compare; None for that if there are too few rows."""
        from .frozen_layers import FrozenLayers

        frozen = FrozenLayers(
            self._run.backbone,
            maps.of_cut,
            pool=str(self.pool) if is_automatic(self.to) else AUTO,
            train_batch_norm=self.train_batch_norm,
            device=self.device,
        )
        return frozen, frozen.search(task)

    def _place_head(self, frozen: FrozenLayers, search: CutSearch | None) -> None:
        """Put the head where frozen features are best, unless its place is known; leave out cuts that do not lie below.

        With too few rows to search by, it stays on the network's last layer.
        """
        if search is None or not is_automatic(self.to) or self._run.start is not None:
            return
        end = frozen.choose_end(search)
        (to,) = end.layers
        if (to, end.pool) == (self.to_, self.pool_):
            return
        self.to_, self.pool_ = to, end.pool
        below = [cut for cut in self._run.networks if frozen.lies_below(cut, to)]
        above = [cut for cut in self._run.networks if cut not in below]
        if above and not is_automatic(self.from_layer):
            warn_caller(
                f"nothing is trained above {', '.join(above)}: the head sits on {end.name}, whose frozen features are "
                "as good as the best. Name another layer with to"
            )
        self._run.networks = self._trace_networks(below)

    def _prepare_tuning(
        self, rows: TrainingSet, task: Task, options: ModuleTrainingOptions
    ) -> tuple[Tuning, list[Candidate]]:
        """Return what trains the layers above each cut on rows, and the ways to train that are compared."""
        from .halving import Candidate

        can_compare = len(task.division.validation) > 0
        if not can_compare and is_automatic(self.from_layer):
            self._run.networks = dict([*self._run.networks.items()][-1:])  # the uppermost has the least to train
        rates = choose_rates(self, can_compare=can_compare)
        candidates = [Candidate(cut, rate) for cut in self._run.networks for rate in rates]
        checkpoint = self._open_checkpoint(rows, task, options, candidates)
        states = {} if checkpoint is None else checkpoint.load()
        return self._make_tuning(rows, task, options, states, checkpoint), candidates

    def _make_tuning(
        self,
        rows: TrainingSet,
        task: Task,
        options: ModuleTrainingOptions,
        states: Mapping[Candidate, TrainingState],
        checkpoint: Checkpoint | None = None,
    ) -> Tuning:
        """Return what trains the layers above each cut on rows, from earlier states; they are kept in a checkpoint."""
        from .tuning import Tuning

        def after_epoch(candidate: Candidate, trainer: ModuleTrainer, record: EpochRecord) -> None:
            of_all = " on all rows" if candidate.on_all_rows else ""
            epochs = f"epoch {record.epoch} of {trainer.options.epochs}, loss {record.loss:.3f}"
            report_step(f"training the layers above {candidate.layer}{of_all}: {epochs}")
            if checkpoint is not None:
                checkpoint.save(candidate, trainer.save_state())
            for callback in self.callbacks:
                callback(trainer, record)

        maps: Any = rows.X
        return Tuning(
            self._run.networks,
            maps.of_cut,
            task,
            options,
            make_trainer=self.make_trainer,
            after_epoch=after_epoch,
            states=states,
        )

    def make_trainer(
        self,
        network: TunedNetwork,
        rows: TrainingRows,
        validation: TrainingRows | None,
        options: ModuleTrainingOptions,
    ) -> ModuleTrainer:
        """Return what trains a network; a subclass may return a trainer of its own.

        Parameters
        ----------
        network : nn.Module
            The layers above a cut (``upper``), and a linear head of standardised features (``head``).
        rows, validation : TrainingRows
            Maps and targets to train on, and those to stop by, if any.
        options : ModuleTrainingOptions
            How to train, with the learning rate to try.

        Returns
        -------
        ModuleTrainer
            Not started.
        """
        from ...heads.module_training.trainer import ModuleTrainer

        return ModuleTrainer(network, rows, validation, options)

    def _find_learned(self, rows: TrainingSet) -> NDArray[np.bool_]:
        """Return which rows the layers that training starts from have learned, or may have: all, if unknown."""
        if self._run.start is None:
            return np.zeros(len(rows), bool)
        if self._run.start.learned_ids is None or rows.ids is None:
            return np.ones(len(rows), bool)
        return np.isin(hash_each_id(rows.ids), self._run.start.learned_ids)

    def _open_checkpoint(
        self, rows: TrainingSet, task: Task, options: ModuleTrainingOptions, candidates: Sequence[Candidate]
    ) -> Checkpoint | None:
        """Return the folder of the state of training, for exactly these rows, layers and options; None for none."""
        if self.checkpoint is None:
            return None
        ids = np.arange(len(rows)) if rows.ids is None else rows.ids
        loss = options.loss if isinstance(options.loss, str) else name_function(options.loss)
        division = task.division
        identity = {
            "backbone": self._run.backbone.identity(),
            "estimator": name_function(type(self)),
            "cut": [*self._run.networks, self.to_, self.pool_, bool(self.train_batch_norm), float(self.brightness)],
            "options": asdict(replace(options, loss=loss)),  # type: ignore[arg-type]
            "rows": [[str(item_id) for item_id in ids], rows.y.tolist(), task.weights.tolist()],
            "start": None if self._run.start is None else self._run.start.digest_weights(),
            "division": [part.tolist() for part in (division.training, division.validation, division.test)],
        }
        return Checkpoint(Path(self.checkpoint), digest(identity), candidates)

    def _load_backbone(self) -> TorchBackbone:
        """Return the backbone with its PyTorch module."""
        backbone = BackboneSpec(self.backbone) if isinstance(self.backbone, str) else self.backbone
        if isinstance(backbone, BackboneSpec):
            backbone = load_or_reuse(backbone)  # it is copied before it is trained
        if not isinstance(backbone, Backbone):
            raise InputError(
                f"backbone is a {type(backbone).__name__}, whose layers cannot be trained; expected a name such as "
                "timm:NAME, or what topwork.load_backbone returns"
            )
        if backbone.input_spec.averages_windows:
            raise InputError(
                "long='mean' averages features, and layers would be trained on averaged maps; expected long='windows' "
                "or 'truncate' (--long)"
            )
        return backbone  # type: ignore[return-value]

    def _weigh_rows(self, given: TrainingSet) -> NDArray[np.float32]:
        """Return the weight of each row, whose labels are as the user gave them."""
        weights = np.ones(len(given)) if given.sample_weight is None else np.asarray(given.sample_weight, float)
        class_weight = getattr(self, "class_weight", None)
        if class_weight is not None:
            weights = weights * compute_sample_weight(class_weight, given.y)
        return weights.astype(np.float32)

    def _report_fit(self, head: Any, rows: TrainingSet) -> None:
        """Report the score on the rows that neither training nor its end depended on."""
        self.fit_report_ = None
        self.not_evaluated_ = None
        if self._run.is_pass:
            self.not_evaluated_ = "partial_fit holds no row out"
            return
        if self.comparison_ is None:
            self.not_evaluated_ = "too few rows could be held out"
            return
        learned = rows.take(self._run.learned)
        self.fit_report_ = FitReport(
            metric=self.metric,
            training=self.score_predictions(learned.y, np.asarray(head.predict(learned.X))),
            held_out=self.comparison_.tuned,
            spread=None,
            n_folds=1,
        )

    def _check_maps(self, X: Any) -> None:
        """Raise a ParityError if features of the whole network differ from those that were computed from maps."""
        ids, from_maps = self._run.checked
        source = self.extractor_.open(X)
        positions = {item.id: position for position, item in enumerate(source)}
        few = SelectedSource(source, [positions[item_id] for item_id in ids])
        whole = compute_features(self.extractor_, few).matrix
        error = self.map_error_ = float(np.linalg.norm(from_maps - whole) / np.linalg.norm(whole))
        if not error <= MAX_MAP_ERROR:
            raise ParityError(
                f"the features of {self.to_!r} from maps of {self.from_layer_!r} differ from those of the whole "
                f"network by {error:.1e}; expected at most {MAX_MAP_ERROR}. Cut at another layer."
            )

    def describe_training(self) -> dict[str, Any]:
        """Return which layers were trained, and how that went, as JSON can hold it.

        Returns
        -------
        dict
            ``from``, ``to``, ``pool`` and ``learning_rate``; ``trials`` and ``history``, see the attributes
            ``trials_`` and ``history_``; and ``comparison`` with frozen features, None if nothing was held out.
        """
        check_is_fitted(self, "head_")
        return {
            "from": self.from_layer_,
            "to": self.to_,
            "pool": self.pool_,
            "learning_rate": self.learning_rate_,
            "trials": [asdict(trial) for trial in self.trials_],
            "history": self.history_,
            "comparison": None if self.comparison_ is None else self.comparison_.to_json(),
        }

    def _describe_bundle(self) -> BundleContents:
        contents = super()._describe_bundle()
        recorded = {**self.describe_training(), "backbone": self.layers_.backbone}
        properties = {**contents.properties, FINETUNING: recorded}
        return replace(contents, properties=properties, upper_weights=self.layers_.weights)


def read_start(start_from: Any) -> TrainedLayers | None:
    """Return the layers that training starts from, of a bundle or of an estimator; None for those of the backbone."""
    if start_from is None:
        return None
    if isinstance(start_from, str | Path):
        return TrainedLayers.read(Path(start_from))
    if not isinstance(start_from, FineTuning):
        raise InputError(
            f"start_from is a {type(start_from).__name__}; expected a bundle that `topwork finetune` wrote, or a "
            "fitted FineTunedClassifier or FineTunedRegressor"
        )
    if not hasattr(start_from, "head_"):
        raise InputError(f"start_from is a {type(start_from).__name__} that is not fitted; fit it, or name its bundle")
    return start_from.layers_
