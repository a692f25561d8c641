"""Groups of options that several commands share.

A command takes a group as one argument; :mod:`.registration` turns each field of it into an option of the command line.
"""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ...errors import InputError

if TYPE_CHECKING:
    from ...extract.jobs.ray_engine import RayEngine
    from ...extract.sources.several import SourceNames
    from ...extract.sources.table import Table
    from ...extract.store.feature_store import FeatureStore
    from ...models.loading import BackboneSpec

DEFAULT_BACKBONE = "topwork:tiny"
AUTOMATIC = "auto"
"""Layer that ``fit`` searches for."""
BACKBONE_PANEL = "Backbone"
CUT_PANEL = "Cut"
RUN_PANEL = "Run"
TABLE_PANEL = "Table"
STORE_PANEL = "Store"
ENGINE_PANEL = "Engine"
TASK_PANEL = "Task"


def option(text: str, panel: str, *names: str) -> Any:
    """Return an option with a help text, listed in a panel of ``--help``."""
    return typer.Option(*names, help=text, rich_help_panel=panel)


@dataclass(frozen=True)
class BackboneOptions:
    """Weights, architecture arguments and preprocessing of the backbone."""

    weights: Annotated[
        str | None, option("Weights: a .safetensors file, a checkpoint of torch, or 'random'.", BACKBONE_PANEL)
    ] = None
    weights_key: Annotated[
        str | None,
        option("Entry of a checkpoint to take: averaged weights by default, if there are some.", BACKBONE_PANEL),
    ] = None
    model_arg: Annotated[
        list[str] | None, option("Argument of the architecture, as key=value; repeatable.", BACKBONE_PANEL)
    ] = None
    mean: Annotated[str | None, option("Mean per channel, as 0.5,0.5,0.5.", BACKBONE_PANEL)] = None
    std: Annotated[str | None, option("Standard deviation per channel.", BACKBONE_PANEL)] = None
    size: Annotated[str | None, option("Size of the input, as 224 or 192x256 (height x width).", BACKBONE_PANEL)] = None
    crop: Annotated[float | None, option("Share of the shorter side to keep.", BACKBONE_PANEL)] = None
    interpolation: Annotated[str | None, option("Resampling filter, by its name in Pillow.", BACKBONE_PANEL)] = None
    decode: Annotated[
        str | None,
        option("JPEG decoding: exact (default), or fast: large files at a reduced size.", BACKBONE_PANEL),
    ] = None
    max_length: Annotated[
        int | None, option("Maximum length of a text in tokens; longer texts are truncated.", BACKBONE_PANEL)
    ] = None
    prompt: Annotated[
        str | None,
        option(
            "Put in front of every text: the name of a prompt of a sentence-transformers model, or a text.",
            BACKBONE_PANEL,
        ),
    ] = None
    rate: Annotated[
        int | None, option("Samples per second that an ONNX file of sounds takes, in Hz.", BACKBONE_PANEL)
    ] = None
    window: Annotated[
        float | None, option("Seconds of a sound that enter the model at a time, if it takes any.", BACKBONE_PANEL)
    ] = None
    hop: Annotated[
        float | None, option("Seconds from one window of a sound to the next; by default a window.", BACKBONE_PANEL)
    ] = None
    long: Annotated[
        str | None,
        option(
            "Sounds longer than the window: truncate (default), windows (each a row) or mean (of their features).",
            BACKBONE_PANEL,
        ),
    ] = None
    scale: Annotated[
        str | None, option("Samples for an ONNX file of sounds: unit (-1 to 1, default) or int16.", BACKBONE_PANEL)
    ] = None

    def to_spec(self, name: str | None) -> BackboneSpec:
        """Return the specification of the named backbone; of the built-in one by default."""
        from ...models.input_spec import InputOverrides
        from ...models.loading import BackboneSpec

        overrides = InputOverrides(
            mean=parse_channels(self.mean, "--mean"),
            std=parse_channels(self.std, "--std"),
            size=parse_size(self.size),
            crop=self.crop,
            interpolation=self.interpolation,
            max_length=self.max_length,
            prompt=self.prompt,
            decode=self.decode,
            rate=self.rate,
            window=self.window,
            hop=self.hop,
            long=self.long,
            scale=self.scale,
        )
        return BackboneSpec(
            name or DEFAULT_BACKBONE,
            weights=self.weights,
            model_args=parse_model_args(self.model_arg or []),
            preprocessing=overrides,
            weights_key=self.weights_key or "",
        )


@dataclass(frozen=True)
class CutOptions:
    """Where to cut the backbone, and how to pool."""

    layer: Annotated[
        str | None,
        option(
            "Layers to cut at, separated by commas; by default those of an existing store, else last. auto: fit "
            "compares several.",
            CUT_PANEL,
        ),
    ] = None
    pool: Annotated[
        str | None,
        option(
            "Poolings, separated by commas: auto (default); for maps avg, max, gem, avg2x2, flatten; for tokens "
            "mean, cls.",
            CUT_PANEL,
        ),
    ] = None
    normalize: Annotated[bool, option("Divide each vector by its L2 norm.", CUT_PANEL, "--normalize")] = False

    @property
    def layers(self) -> list[str]:
        """The layers; ``last`` by default."""
        return parse_names(self.layer or "last")

    @property
    def is_automatic(self) -> bool:
        """Whether layer and pooling are to be searched for."""
        return self.layer == AUTOMATIC

    @property
    def pools(self) -> list[str]:
        """The poolings; ``auto`` by default."""
        return parse_names(self.pool or "auto")


@dataclass(frozen=True)
class RunOptions:
    """How the graph is run."""

    precision: Annotated[
        str,
        option("fp32, bf16, fp16, int8, or auto: the fastest one that is close to fp32 on your items.", RUN_PANEL),
    ] = "auto"
    provider: Annotated[
        str, option("Execution provider: auto (the fastest available), or a name from `topwork doctor`.", RUN_PANEL)
    ] = "auto"
    max_pixels: Annotated[int, option("Images with more pixels fail and are not decoded.", RUN_PANEL)] = 89_478_485
    on_error: Annotated[str, option("What to do about failed items: record, raise or limit:N%.", RUN_PANEL)] = "record"

    def to_parameters(self) -> dict[str, Any]:
        """Return the parameters that :class:`Extraction` and :class:`TransferClassifier` take."""
        if self.max_pixels < 1:
            raise InputError(f"--max-pixels {self.max_pixels}: expected a positive number")
        return dict(vars(self))


@dataclass(frozen=True)
class ExecutionOptions(RunOptions):
    """How the graph is run, and in which batches."""

    batch_size: Annotated[str, option("Items per batch, or auto.", RUN_PANEL)] = "auto"

    def to_parameters(self) -> dict[str, Any]:
        """Return the parameters that :class:`Extraction` and :class:`TransferClassifier` take."""
        return super().to_parameters() | {"batch_size": parse_batch_size(self.batch_size)}


FidelityOption = Annotated[
    str,
    option(
        "What lets a lower precision pass: features, close to fp32; or score, of a head on held-out items.", RUN_PANEL
    ),
]


@dataclass(frozen=True)
class EngineOptions:
    """On which machines items are computed."""

    engine: Annotated[
        str | None, option("ray: on the workers of a Ray cluster; by default in this process.", ENGINE_PANEL)
    ] = None
    address: Annotated[
        str | None,
        option("Address of a running Ray cluster; by default that of RAY_ADDRESS, else Ray is started.", ENGINE_PANEL),
    ] = None
    concurrency: Annotated[
        str | None,
        option("Number of workers, or the least and the most, as 2,16; by default all that fit.", ENGINE_PANEL),
    ] = None
    num_cpus_per_worker: Annotated[int, option("Cores that a worker uses.", ENGINE_PANEL)] = 1
    num_gpus_per_worker: Annotated[float, option("GPUs that a worker needs, or a share of one.", ENGINE_PANEL)] = 0.0

    def to_engine(self) -> RayEngine | None:
        """Return the engine; None if this process computes."""
        if self.engine is None:
            given = [name for name, value in vars(self).items() if value != getattr(EngineOptions, name)]
            if given:
                raise InputError(f"--{given[0].replace('_', '-')}: expected --engine ray as well")
            return None
        if self.engine != "ray":
            raise InputError(f"--engine {self.engine}: expected ray")
        from ...extract.jobs.ray_engine import RayEngine

        return RayEngine(
            address=self.address,
            concurrency=parse_concurrency(self.concurrency),
            num_cpus_per_worker=self.num_cpus_per_worker,
            num_gpus_per_worker=self.num_gpus_per_worker,
        )


@dataclass(frozen=True)
class StoreOptions:
    """What to keep in the store."""

    views: Annotated[int | None, option("Augmented versions to store of each training image.", STORE_PANEL)] = None
    dtype: Annotated[str, option("Data type of the features in a new store: float32 or float16.", STORE_PANEL)] = (
        "float32"
    )
    retry: Annotated[bool, option("Retry items that failed before.", STORE_PANEL, "--retry")] = False
    rehash: Annotated[
        bool,
        option(
            "Compare the contents of files also where size and modification time are unchanged.",
            STORE_PANEL,
            "--rehash",
        ),
    ] = False
    recompute: Annotated[
        bool, option("Compute the items of SOURCE again, changed or not.", STORE_PANEL, "--recompute")
    ] = False
    prune: Annotated[bool, option("Remove items of the store that are not in SOURCE.", STORE_PANEL, "--prune")] = False
    add_columns: Annotated[
        bool, option("Add the layers that the store lacks; nothing else is computed.", STORE_PANEL, "--add-columns")
    ] = False


@dataclass(frozen=True)
class TaskOptions:
    """What the head predicts."""

    task: Annotated[str, option("Task: classification (labels) or regression (values).", TASK_PANEL)] = "classification"
    calibrate: Annotated[
        bool, option("Calibrate the probabilities by temperature scaling.", TASK_PANEL, "--calibrate")
    ] = False
    abstain_below: Annotated[
        float | None, option("Predict no label where the highest probability is lower.", TASK_PANEL)
    ] = None

    head_arg: Annotated[
        list[str] | None, option("Parameter of the head, as key=value (C=0.1); repeatable.", TASK_PANEL)
    ] = None
    class_weight: Annotated[
        str | None, option("balanced: weigh classes by their frequency, for heads that can.", TASK_PANEL)
    ] = None

    def to_estimator(self) -> tuple[Any, dict[str, Any]]:
        """Return the class of the estimator, and its parameters."""
        from ..estimators.transfer_classifier import TransferClassifier
        from ..estimators.transfer_regressor import TransferRegressor

        head_params = parse_model_args(self.head_arg or [], "--head-arg", "C=0.1") or None
        if self.task == "regression":
            if self.calibrate or self.abstain_below is not None or self.class_weight is not None:
                raise InputError(
                    "--calibrate, --abstain-below and --class-weight apply to labels, not to --task regression"
                )
            return TransferRegressor, {"head_params": head_params}
        if self.task != "classification":
            raise InputError(f"--task {self.task}: expected classification or regression")
        if self.class_weight not in (None, "balanced"):
            raise InputError(f"--class-weight {self.class_weight}: expected balanced")
        parameters = {
            "calibrate": self.calibrate,
            "abstain_below": self.abstain_below,
            "head_params": head_params,
            "class_weight": self.class_weight,
        }
        return TransferClassifier, parameters


@dataclass(frozen=True)
class TrainingColumns:
    """Columns of a table, or labels of a store, that only training uses."""

    group_column: Annotated[
        str | None,
        option(
            "Column of groups: items of a group are held out together; of a store, labels of that name.", TABLE_PANEL
        ),
    ] = None
    weight_column: Annotated[
        str | None,
        option("Column of the weights of items in training; of a store, labels of that name.", TABLE_PANEL),
    ] = None

    def read_from(self, store: FeatureStore) -> dict[str, Any]:
        """Return the arguments of ``fit`` that labels of a store state."""
        named = {"groups": self.group_column, "sample_weight": self.weight_column}
        return {argument: store.get_labels(name) for argument, name in named.items() if name is not None}

    def add_to(self, data: Any) -> Any:
        """Return a table with these columns; raise an InputError for any other source."""
        from ...extract.sources.table import Table
        from ...extract.sources.table_file import TABLE_SUFFIXES

        if self.group_column is None and self.weight_column is None:
            return data
        if isinstance(data, str) and Path(data).suffix.lower() in TABLE_SUFFIXES:
            data = Table(data)
        if not isinstance(data, Table):
            raise InputError("--group-column and --weight-column are for a table or a store; the source is neither")
        return replace(data, group=self.group_column, weight=self.weight_column)


@dataclass(frozen=True)
class TableOptions:
    """The columns of a table."""

    path_column: Annotated[str | None, option("Column of file paths, relative to the table.", TABLE_PANEL)] = None
    text_column: Annotated[str | None, option("Column of text.", TABLE_PANEL)] = None
    label_column: Annotated[
        str | None,
        option("Column of labels; of several, A,B,C, each says with 1 or 0 whether its label applies.", TABLE_PANEL),
    ] = None
    label_separator: Annotated[
        str | None, option("Text between several labels in a cell, such as '|'.", TABLE_PANEL)
    ] = None
    id_column: Annotated[str | None, option("Column of ids.", TABLE_PANEL)] = None
    allow_hosts: Annotated[
        str | None,
        option(
            "Hosts, separated by commas, whose files a table at a URL may name beside those of its own folder.",
            TABLE_PANEL,
        ),
    ] = None
    allow_local: Annotated[
        bool, option("Let a table at a URL name files of this machine.", TABLE_PANEL, "--allow-local")
    ] = False

    def to_source(self, source: str) -> str | Table:
        """Return the source: a table if a column is named, or a table at a URL whose rows may name more."""
        from ...extract.sources.remote import is_remote_table
        from ...extract.sources.table import Table

        access: dict[str, Any] = {
            "allow_hosts": tuple(parse_names(self.allow_hosts or "")),
            "allow_local": self.allow_local,
        }
        columns: dict[str, Any] = {
            name.removesuffix("_column"): value for name, value in vars(self).items() if name not in access
        }
        if self.label_column is not None and "," in self.label_column:
            columns["label"] = tuple(name.strip() for name in self.label_column.split(","))
        is_widened = any(access.values()) and is_remote_table(source)
        return Table(source, **columns, **access) if any(columns.values()) or is_widened else source

    def to_sources(self, sources: list[str]) -> str | Table | SourceNames:
        """Return one source, or the names of several."""
        from ...extract.sources.several import SourceNames

        if len(sources) == 1:
            return self.to_source(sources[0])
        return SourceNames(tuple(self.to_source(source) for source in sources))


def parse_numbers(text: str, option_name: str, example: str) -> tuple[float, ...]:
    """Read numbers separated by commas."""
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise InputError(f"{option_name} {text}: expected numbers separated by commas, such as {example}") from error


def parse_channels(text: str | None, option_name: str) -> tuple[float, ...] | None:
    """Read a number for each channel; a single one applies to all three."""
    if text is None:
        return None
    values = parse_numbers(text, option_name, "0.5,0.5,0.5")
    return values * 3 if len(values) == 1 else values


def parse_names(text: str) -> list[str]:
    """Read names separated by commas, without empty ones and repetitions."""
    names = [part.strip() for part in text.split(",")]
    return list(dict.fromkeys(name for name in names if name))


def parse_concurrency(text: str | None) -> int | tuple[int, int] | None:
    """Read a number of workers, or the least and the most of them: ``4``, ``2,16``."""
    if text is None:
        return None
    match = re.fullmatch(r"(\d+)(?:,(\d+))?", text)
    if match is None:
        raise InputError(f"--concurrency {text}: expected a number of workers, or the least and the most, as 2,16")
    least, most = match.groups()
    return int(least) if most is None else (int(least), int(most))


def parse_split(text: str | None) -> list[str] | None:
    """Read the names of splits, None for none that were named."""
    return None if text is None else parse_names(text)


def parse_size(text: str | None) -> int | tuple[int, int] | None:
    """Read the size of an image in pixels: ``224``, or height and width as ``192x256``."""
    if text is None:
        return None
    match = re.fullmatch(r"(\d+)(?:x(\d+))?", text.lower())
    if match is None:
        raise InputError(f"--size {text}: expected pixels, as 224 or 192x256")
    height, width = match.groups()
    return int(height) if width is None else (int(height), int(width))


def parse_batch_size(text: str) -> int | str:
    """Read a number of items, or ``auto``."""
    if text == "auto":
        return text
    if not text.isdecimal():
        raise InputError(f"--batch-size {text}: expected a positive number or auto")
    return int(text)


def parse_model_args(
    pairs: list[str], option_name: str = "--model-arg", example: str = "num_classes=0"
) -> dict[str, Any]:
    """Read ``key=value`` pairs; a value that is not a Python literal is a string."""
    arguments: dict[str, Any] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise InputError(f"{option_name} {pair}: expected key=value, such as {example}")
        try:
            arguments[key] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            arguments[key] = value
    return arguments


SOURCES_HELP = (
    "A folder (its sub-folders are labels), a .zip or .tar, a .csv, .tsv, .jsonl or .parquet table, an .npy, a URL, or "
    "a pattern as 'shard-{000..099}.tar'"
)
BACKBONES_HELP = "timm:NAME, torchvision:NAME, hf:ID or hf:FOLDER, onnx:FILE, topwork:tiny"
SourceArgument = Annotated[str, typer.Argument(help=f"{SOURCES_HELP}.")]
SourcesArgument = Annotated[list[str], typer.Argument(help=f"{SOURCES_HELP}; several are read one after the other.")]
DataArgument = Annotated[str, typer.Argument(help=f"{SOURCES_HELP}; or a feature store.")]
BundleArgument = Annotated[Path, typer.Argument(help="A bundle written by `topwork fit`.")]
StoreArgument = Annotated[str, typer.Argument(help="A feature store: its folder, or its URL in object storage.")]
BackboneOption = Annotated[
    str | None,
    typer.Option(
        help=f"{BACKBONES_HELP}; by default that of an existing store, else topwork:tiny.",
        rich_help_panel=BACKBONE_PANEL,
    ),
]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Replace a bundle that is there already.")]
ExcelSafeOption = Annotated[
    bool,
    typer.Option(
        "--excel-safe", help="Write an apostrophe before texts in .csv that a spreadsheet would take for a formula."
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output.")]
LabelSeparatorOption = Annotated[
    str | None, typer.Option(help="Text between several labels in a cell of the table, such as '|'.")
]
SplitOption = Annotated[
    str | None,
    typer.Option(help="Splits to use, as val,test; by default train on what is not held out, evaluate what is."),
]
TrustOption = Annotated[
    list[str] | None, typer.Option(help="A type that the bundle's head is allowed to contain; repeatable.")
]
