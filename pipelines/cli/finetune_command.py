"""``topwork finetune``: train the layers above a cut, and say whether that is better than a head on frozen features."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ...errors import InputError
from ...extract.graphs.pooling import name_pooled
from .arguments import open_data
from .options import (
    TASK_PANEL,
    BackboneOption,
    BackboneOptions,
    DataArgument,
    JsonOption,
    OverwriteOption,
    RunOptions,
    SplitOption,
    TableOptions,
    TrainingColumns,
    option,
    parse_names,
    parse_numbers,
    parse_split,
)
from .output import echo, echo_lines, print_failures, print_json, print_table

if TYPE_CHECKING:
    from ..finetuning.halving import Trial
    from ..selection.advice import Advice

TRAINING_PANEL = "Training"
MAPS_PANEL = "Cut and maps"
UNITS = {"": 1, "K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}
SIZE_PATTERN = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]?)B?", re.IGNORECASE)


@dataclass(frozen=True)
class MapOptions:
    """Which layers are trained, and where the maps are kept that they are trained from."""

    from_: Annotated[
        str,
        option(
            "The cut: layers above it are trained. Several, separated by commas, are compared; auto: up to four. "
            "input: the whole network.",
            MAPS_PANEL,
            "--from",
        ),
    ] = "auto"
    to: Annotated[
        str,
        option(
            "Last layer to keep; those above it are removed. auto: the deepest one whose frozen features are as good "
            "as the best.",
            MAPS_PANEL,
        ),
    ] = "auto"
    pool: Annotated[str, option("How the last layer is pooled; chosen with it if both are auto.", MAPS_PANEL)] = "auto"
    store: Annotated[
        Path | None, option("Keep the maps here, for other trainings; by default in a temporary folder.", MAPS_PANEL)
    ] = None
    views: Annotated[int, option("Augmented versions of each image to train on as well.", MAPS_PANEL)] = 0
    max_disk: Annotated[str | None, option("What the maps may take, as 20GB.", MAPS_PANEL)] = None

    def to_parameters(self) -> dict[str, Any]:
        """Return the parameters of an estimator."""
        return {
            "from_layer": "auto" if self.from_ == "auto" else parse_names(self.from_),
            "to": self.to,
            "pool": self.pool,
            "store": self.store,
            "views": self.views,
            "max_disk": parse_bytes(self.max_disk),
        }


@dataclass(frozen=True)
class TrainingOptions:
    """How the layers are trained."""

    epochs: Annotated[int, option("Largest number of passes over the items.", TRAINING_PANEL)] = 30
    batch_size: Annotated[int, option("Items for each step.", TRAINING_PANEL)] = 64
    optimizer: Annotated[str, option("adamw or sgd.", TRAINING_PANEL)] = "adamw"
    learning_rate: Annotated[
        str, option("Largest learning rate. Several, separated by commas, are compared; auto: two.", TRAINING_PANEL)
    ] = "auto"
    layer_decay: Annotated[
        float, option("Factor of the learning rate from each block to the one below.", TRAINING_PANEL)
    ] = 0.8
    weight_decay: Annotated[float, option("Decay of the weights.", TRAINING_PANEL)] = 0.05
    warmup: Annotated[float, option("Share of the steps in which the learning rate rises.", TRAINING_PANEL)] = 0.1
    label_smoothing: Annotated[float, option("Share of each label that all classes get.", TRAINING_PANEL)] = 0.0
    mixup: Annotated[float, option("Mix pairs of maps, by a beta distribution of it.", TRAINING_PANEL)] = 0.0
    brightness: Annotated[
        float, option("Shift channels of maps by up to this share of their range.", TRAINING_PANEL)
    ] = 0.0
    patience: Annotated[int, option("Epochs without progress after which training ends.", TRAINING_PANEL)] = 10
    train_batch_norm: Annotated[
        bool, option("Normalise by the batch in training.", TRAINING_PANEL, "--train-batch-norm")
    ] = False
    validation_fraction: Annotated[float, option("Share of the items that end training.", TRAINING_PANEL)] = 0.15
    test_fraction: Annotated[
        float, option("Share of the items to compare with frozen features on.", TRAINING_PANEL)
    ] = 0.15
    train_on_all: Annotated[
        bool,
        option(
            "Train once more, on all items, after the comparison.", TRAINING_PANEL, "--train-on-all/--no-train-on-all"
        ),
    ] = True
    checkpoint: Annotated[
        Path | None, option("Folder of the state after each epoch, from which training goes on.", TRAINING_PANEL)
    ] = None
    start_from: Annotated[
        Path | None, option("Bundle of trained layers to go on from, as after new labels.", TRAINING_PANEL)
    ] = None
    seed: Annotated[int, option("Seed of everything that is random.", TRAINING_PANEL)] = 0
    device: Annotated[str, option("Where to train: auto (a GPU if there is one), cpu, cuda.", TRAINING_PANEL)] = "auto"

    def to_parameters(self) -> dict[str, Any]:
        """Return the parameters of an estimator."""
        parameters = dict(vars(self))
        parameters["random_state"] = parameters.pop("seed")
        if self.learning_rate != "auto":
            parameters["learning_rate"] = parse_numbers(self.learning_rate, "--learning-rate", "0.0001,0.001")
        return parameters


def finetune(
    source: DataArgument,
    out: Annotated[Path, typer.Option(help="The bundle to write.")],
    model: BackboneOptions,
    maps: MapOptions,
    training: TrainingOptions,
    run: RunOptions,
    table: TableOptions,
    columns: TrainingColumns,
    backbone: BackboneOption = None,
    task: Annotated[
        str, option("Task: classification (labels) or regression (values).", TASK_PANEL)
    ] = "classification",
    class_weight: Annotated[str | None, option("balanced: weigh classes by their frequency.", TASK_PANEL)] = None,
    split: SplitOption = None,
    advice: Annotated[
        bool, typer.Option("--advice/--no-advice", help="First say what `topwork advise` expects.")
    ] = True,
    overwrite: OverwriteOption = False,
    as_json: JsonOption = False,
) -> None:
    """Train the layers of a backbone above a cut from cached maps, and compare with a head on frozen features.

    SOURCE may be a store that has maps (`topwork extract --layer LAYER --pool none`), with --backbone.
    """
    from ...extract.store.feature_store import FeatureStore
    from ..bundle.bundle_files import require_bundle_place
    from ..finetuning.finetuned_classifier import FineTunedClassifier
    from ..finetuning.finetuned_regressor import FineTunedRegressor

    # Check what is asked for, and open the data.
    require_bundle_place(out, overwrite=overwrite)
    require_task(task, class_weight)
    data = open_data(source, table)
    of_rows: dict[str, Any] = {}
    if isinstance(data, FeatureStore):
        if backbone is None:
            raise InputError(
                f"{source} is a feature store, which has no layers that can be trained: name the network whose maps it "
                f"has with --backbone; it was {data.identity.get('architecture', 'unknown')}"
            )
        of_rows = columns.read_from(data)
    else:
        data = columns.add_to(data)
    spec = model.to_spec(backbone)

    parameters = {**maps.to_parameters(), **training.to_parameters(), **run.to_parameters()}
    estimator: Any = FineTunedRegressor(spec, **parameters)
    if task == "classification":
        estimator = FineTunedClassifier(spec, class_weight=class_weight, **parameters)
    estimator.check_parameters()

    # Say what is expected, and train.
    expected = None
    if advice and not isinstance(data, FeatureStore):
        expected = advise_on_source(data, spec, task=task, split=split, run=run)
        if not as_json:
            echo_lines(expected)
    estimator.fit(data, split=parse_split(split), **of_rows)
    estimator.save(out, overwrite=overwrite)

    # Say what came.
    facts = summarize_finetuning(estimator, out, expected)
    if as_json:
        print_json(facts)
    else:
        print_finetuning(estimator, facts)


def parse_bytes(text: str | None) -> float | None:
    """Read a number of bytes, such as ``500MB`` or ``20GB``."""
    if text is None:
        return None
    match = SIZE_PATTERN.fullmatch(text.strip())
    if match is None:
        raise InputError(f"--max-disk {text}: expected a size, such as 500MB or 20GB")
    number, unit = match.groups()
    return float(number) * UNITS[unit.upper()]


def require_task(task: str, class_weight: str | None) -> None:
    """Raise an InputError for an unknown task, or weights of classes where there are none."""
    if task not in ("classification", "regression"):
        raise InputError(f"--task {task}: expected classification or regression")
    if class_weight not in (None, "balanced"):
        raise InputError(f"--class-weight {class_weight}: expected balanced")
    if class_weight is not None and task == "regression":
        raise InputError("--class-weight applies to labels, not to --task regression")


def advise_on_source(data: Any, spec: Any, *, task: str, split: str | None, run: RunOptions) -> Advice:
    """Return what is known before layers are trained: whether the data are many, and like the backbone's own."""
    from ..selection.advise import advise

    options = {"provider": run.provider, "max_pixels": run.max_pixels, "on_error": run.on_error}
    return advise(data, backbone=spec, task=task, split=parse_split(split), **options)


def summarize_finetuning(estimator: Any, out: Path, expected: Advice | None) -> dict[str, Any]:
    """Return the facts about trained layers that are printed, for people and machines."""
    classes = getattr(estimator, "classes_", None)
    return {
        "bundle": str(out),
        **estimator.describe_training(),
        "n": estimator.n_rows_,
        "classes": None if classes is None else classes.tolist(),
        "advice": None if expected is None else expected.to_dict(),
        "failed": len(estimator.failures_),
        "left_out": estimator.left_out_,
        "unlabelled": estimator.n_unlabelled_,
        "not_evaluated": estimator.not_evaluated_,
    }


def print_finetuning(estimator: Any, facts: dict[str, Any]) -> None:
    """Print which layers were trained, how well they do, and whether it was worth it."""
    if len(facts["trials"]) > 1:
        print_table(
            ["cut", "learning rate", "epochs", "validation score", "loss"],
            [list_cells(trial) for trial in estimator.trials_],
        )
    items = f"{facts['n']} items"
    if facts["classes"] is not None:
        items += f" of {len(facts['classes'])} classes"
    n_epochs = len(facts["history"])
    epochs = "1 epoch" if n_epochs == 1 else f"{n_epochs} epochs"
    end = name_pooled(facts["to"], facts["pool"])
    echo(f"trained the layers above {facts['from']}, up to {end}: {items}, {epochs}")
    print_failures(estimator.failures_)
    if estimator.comparison_ is None:
        echo(f"not evaluated: {facts['not_evaluated']}")
    else:
        echo_lines(estimator.comparison_)
    echo(f"saved {facts['bundle']}")


def list_cells(trial: Trial) -> list[str]:
    """Return a row of the table of cuts as text."""
    if trial.validation_score is None or trial.validation_loss is None:
        found = ["diverged", ""]
    else:
        found = [f"{trial.validation_score:.4f}", f"{trial.validation_loss:.4f}"]
    return [trial.layer, f"{trial.learning_rate:g}", str(trial.epochs), *found]
