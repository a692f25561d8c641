"""Groups of options that several commands share.

A command takes a group as one argument; :func:`grouped` spreads it into options on the command line.
"""

from __future__ import annotations

import ast
import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from ...errors import InputError

if TYPE_CHECKING:
    from ...extract.extractor.extraction import Extraction
    from ...extract.sources.table import Table
    from ...models.loading import BackboneSpec

DEFAULT_BACKBONE = "topwork:tiny"
MODEL, CUT, RUN, TABLE, STORE, ANSWER = "Backbone", "Cut", "Run", "Table", "Store", "Answers"


def _option(text: str, panel: str, *names: str) -> Any:
    return typer.Option(*names, help=text, rich_help_panel=panel)


@dataclass(frozen=True)
class BackboneOptions:
    """Which network, with which weights and preprocessing."""

    weights: Annotated[str | None, _option("Weights: a .safetensors, .pth, .th or .pt file, or 'random'.", MODEL)] = (
        None
    )
    model_arg: Annotated[
        list[str] | None, _option("Argument of the architecture, as key=value; repeatable.", MODEL)
    ] = None
    mean: Annotated[str | None, _option("Mean per channel, as 0.5,0.5,0.5.", MODEL)] = None
    std: Annotated[str | None, _option("Standard deviation per channel.", MODEL)] = None
    size: Annotated[str | None, _option("Size of the input, as 224 or 192x256 (height x width).", MODEL)] = None
    crop: Annotated[float | None, _option("Share of the shorter side that is kept.", MODEL)] = None
    interpolation: Annotated[str | None, _option("Filter for resizing, as Pillow names it.", MODEL)] = None
    decode: Annotated[
        str | None,
        _option("How JPEG files are decoded: exact (default), or fast: large ones at a reduced size.", MODEL),
    ] = None
    max_length: Annotated[int | None, _option("Longest text, in tokens; the rest is cut off.", MODEL)] = None

    def spec(self, name: str | None) -> BackboneSpec:
        """Return the specification of a backbone; the built-in one by default."""
        from ...models.input_overrides import InputOverrides
        from ...models.loading import BackboneSpec

        changes = InputOverrides(
            mean=_numbers(self.mean),
            std=_numbers(self.std),
            size=_size(self.size),
            crop=self.crop,
            interpolation=self.interpolation,
            max_length=self.max_length,
            decode=self.decode,
        )
        return BackboneSpec(name or DEFAULT_BACKBONE, self.weights, _model_args(self.model_arg or []), changes)


@dataclass(frozen=True)
class CutOptions:
    """Where to cut."""

    layer: Annotated[str | None, _option("Layers to cut at, separated by commas.", CUT)] = None
    pool: Annotated[
        str | None,
        _option(
            "Pooling: auto (default), avg, max, gem, avg2x2, flatten for maps; mean, cls for tokens; by commas.",
            CUT,
        ),
    ] = None
    normalize: Annotated[bool, _option("Divide each vector by its length (L2 norm).", CUT, "--normalize")] = False

    @property
    def layers(self) -> list[str]:
        """The layers; ``last`` by default."""
        return _names(self.layer or "last")

    @property
    def pools(self) -> list[str]:
        """The poolings; ``auto`` by default."""
        return _names(self.pool or "auto")


@dataclass(frozen=True)
class RunFlags:
    """How to run."""

    precision: Annotated[
        str, _option("Arithmetic: fp32, bf16, fp16, int8, or auto: the fastest that is near fp32 on your items.", RUN)
    ] = "auto"
    provider: Annotated[
        str, _option("Execution provider: auto (the fastest here), or one that `topwork doctor` lists.", RUN)
    ] = "auto"
    batch_size: Annotated[str, _option("Items that are inferred at once, or auto.", RUN)] = "auto"
    max_pixels: Annotated[int, _option("A larger image fails instead of being decoded.", RUN)] = 89_478_485
    on_error: Annotated[str, _option("Items that fail: record, raise or limit:N%.", RUN)] = "record"

    def parameters(self) -> dict[str, Any]:
        """Return the parameters that :class:`Extraction` and :class:`TransferClassifier` take."""
        if self.max_pixels < 1:
            raise InputError(f"--max-pixels {self.max_pixels}: expected a positive number")
        size = self.batch_size
        if size != "auto" and not size.isdecimal():
            raise InputError(f"--batch-size {size}: expected a positive number or auto")
        return {
            "precision": self.precision,
            "provider": self.provider,
            "max_pixels": self.max_pixels,
            "on_error": self.on_error,
            "batch_size": size if size == "auto" else int(size),
        }


@dataclass(frozen=True)
class StoreFlags:
    """What becomes of the store."""

    views: Annotated[
        int | None, _option("Augmented versions to store of each image that may be trained on.", STORE)
    ] = None
    dtype: Annotated[str, _option("How features of a new store are kept: float32 or float16.", STORE)] = "float32"
    retry: Annotated[bool, _option("Compute items that failed before again.", STORE, "--retry")] = False
    prune: Annotated[bool, _option("Remove items of the store that are not in SOURCE.", STORE, "--prune")] = False
    add_columns: Annotated[
        bool, _option("Add the layers that the store lacks; only they are computed.", STORE, "--add-columns")
    ] = False


@dataclass(frozen=True)
class AnswerFlags:
    """What the head answers."""

    task: Annotated[str, _option("What to learn: classification (labels), or regression (values).", ANSWER)] = (
        "classification"
    )
    calibrate: Annotated[
        bool, _option("Scale probabilities by a temperature, so that they mean what they say.", ANSWER, "--calibrate")
    ] = False
    abstain_below: Annotated[float | None, _option("Give no label where no probability is as high.", ANSWER)] = None

    def estimator(self) -> tuple[Any, dict[str, Any]]:
        """Return the class of estimator, and its parameters."""
        from ..estimators.transfer_classifier import TransferClassifier
        from ..estimators.transfer_regressor import TransferRegressor

        if self.task == "regression":
            if self.calibrate or self.abstain_below is not None:
                raise InputError("--calibrate and --abstain-below are for labels; --task regression has none")
            return TransferRegressor, {}
        if self.task != "classification":
            raise InputError(f"--task {self.task}: expected classification or regression")
        return TransferClassifier, {"calibrate": self.calibrate, "abstain_below": self.abstain_below}


@dataclass(frozen=True)
class TableFlags:
    """Which columns of a table say what."""

    path_column: Annotated[str | None, _option("Column of files, relative to the table.", TABLE)] = None
    text_column: Annotated[str | None, _option("Column of texts.", TABLE)] = None
    label_column: Annotated[str | None, _option("Column of labels.", TABLE)] = None
    id_column: Annotated[str | None, _option("Column of ids.", TABLE)] = None

    def source(self, source: str) -> str | Table:
        """Return the source, as a table if columns were named."""
        from ...extract.sources.table import Table

        names = (self.path_column, self.text_column, self.label_column, self.id_column)
        return Table(source, *names) if any(names) else source


def extractor(name: str | None, backbone: BackboneOptions, cut: CutOptions, run: RunFlags) -> Extraction:
    """Return the extractor that the options describe."""
    from ...extract.extractor.extraction import Extraction

    return Extraction(backbone.spec(name), cut.layers, cut.pools, cut.normalize, **run.parameters())


def grouped(function: Callable[..., None]) -> Callable[..., None]:
    """Spread arguments that are annotated with a group of options into one option per field."""
    hints = get_type_hints(function, include_extras=True)
    groups: dict[str, Any] = {name: hint for name, hint in hints.items() if is_dataclass(hint)}

    @functools.wraps(function)
    def command(**values: Any) -> None:
        for name, group in groups.items():
            values[name] = group(**{field.name: values.pop(field.name) for field in fields(group)})
        function(**values)

    parameters: list[inspect.Parameter] = []
    for name, parameter in inspect.signature(function).parameters.items():
        parameters += (
            _spread(groups[name]) if name in groups else [parameter.replace(annotation=hints[name], kind=_KEYWORD)]
        )
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {p.name: p.annotation for p in parameters}
    return command


_KEYWORD = inspect.Parameter.KEYWORD_ONLY


def _spread(group: Any) -> list[inspect.Parameter]:
    hints = get_type_hints(group, include_extras=True)
    return [inspect.Parameter(f.name, _KEYWORD, default=f.default, annotation=hints[f.name]) for f in fields(group)]


def _numbers(text: str | None) -> tuple[float, ...] | None:
    if text is None:
        return None
    try:
        values = tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise InputError(f"{text!r}: expected numbers separated by commas, such as 0.5,0.5,0.5") from error
    return values * 3 if len(values) == 1 else values


def _names(text: str) -> list[str]:
    """Read names separated by commas, each once."""
    return list(dict.fromkeys(name for part in text.split(",") if (name := part.strip())))


def _size(text: str | None) -> int | tuple[int, int] | None:
    if text is None:
        return None
    sides = text.lower().split("x")
    if len(sides) > 2 or not all(side.isdecimal() for side in sides):
        raise InputError(f"--size {text}: expected pixels, as 224 or 192x256")
    return int(sides[0]) if len(sides) == 1 else (int(sides[0]), int(sides[1]))


def _model_args(pairs: list[str]) -> dict[str, Any]:
    """Read ``key=value``; a value that is no Python literal is a string."""
    arguments: dict[str, Any] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise InputError(f"--model-arg {pair}: expected key=value, such as num_classes=0")
        try:
            arguments[key] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            arguments[key] = value
    return arguments


SOURCES = "A folder (its sub-folders are labels), a .tar[.gz], a .csv, .tsv, .jsonl or .parquet table, or an .npy"
SourceArgument = Annotated[str, typer.Argument(help=f"{SOURCES}.")]
DataArgument = Annotated[str, typer.Argument(help=f"{SOURCES}; or a feature store.")]
BundleArgument = Annotated[Path, typer.Argument(help="A bundle, as `topwork fit` writes it.")]
BACKBONES = "timm:NAME, torchvision:NAME, hf:ID or hf:FOLDER, onnx:FILE, topwork:tiny"
StoreArgument = Annotated[Path, typer.Argument(help="A feature store.")]
BackboneOption = Annotated[
    str | None, typer.Option(help=f"{BACKBONES}; topwork:tiny by default.", rich_help_panel=MODEL)
]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON object on standard output, for machines.")]
TrustOption = Annotated[list[str] | None, typer.Option(help="A type that the bundle's head may hold; repeatable.")]
