"""Commands that train heads and use what was trained."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ...errors import InputError
from ...heads.registry import DEFAULT
from .options import (
    AnswerFlags,
    BackboneOption,
    BackboneOptions,
    BundleArgument,
    CutOptions,
    DataArgument,
    JsonOption,
    RunFlags,
    SourceArgument,
    TableFlags,
    TrustOption,
    grouped,
)
from .output import print_failures, print_json, print_table, progress_bar

if TYPE_CHECKING:
    from ..estimators.transfer_estimator import TransferEstimator


def heads(as_json: JsonOption = False) -> None:
    """List the heads that have a name, and what they are good for."""
    from ...heads.registry import HEADS, TASKS

    if as_json:
        entries = [{"name": entry.name, "tasks": entry.tasks, "good_for": entry.good_for} for entry in HEADS.values()]
        print_json({"heads": entries})
        return
    marks = [["yes" if task in entry.tasks else "" for task in TASKS] for entry in HEADS.values()]
    rows = [[entry.name, *own, entry.good_for] for entry, own in zip(HEADS.values(), marks, strict=True)]
    width = max(len(row[-1]) for row in rows)
    print_table(
        ["head", "class", "labels", "value", "good for".ljust(width)],
        [[*row[:-1], row[-1].ljust(width)] for row in rows],
    )
    typer.echo("\nclass: one for each item; labels: any number of them; value: to be predicted")


@grouped
def fit(
    source: DataArgument,
    out: Annotated[Path, typer.Option(help="The bundle to write.")],
    model: BackboneOptions,
    cut: CutOptions,
    run: RunFlags,
    table: TableFlags,
    answers: AnswerFlags,
    head: Annotated[str, typer.Option(help="A name from `topwork heads`.")] = DEFAULT,
    backbone: BackboneOption = None,
    store: Annotated[Path | None, typer.Option(help="Keep the features of SOURCE here.")] = None,
    views: Annotated[int, typer.Option(help="Train on so many augmented versions of each image, too.")] = 0,
    as_json: JsonOption = False,
) -> None:
    """Train a head, on a source or on the features of a store, and save a bundle."""
    from ...extract.store.description import is_store
    from ...extract.store.feature_store import FeatureStore

    data: Any = table.source(source)
    kind, options = answers.estimator()
    options |= {"head": head, **run.parameters()}
    if is_store(source):
        if backbone is not None or store is not None or model != BackboneOptions():
            raise InputError(
                f"{source} is a feature store, whose backbone is settled: --backbone, --weights, … and --store "
                "do not apply"
            )
        _refuse_columns(table, source)
        data = FeatureStore.open(source)
        chosen: dict[str, Any] = {"layer": cut.layers if cut.layer else None, "pool": cut.pools if cut.pool else None}
        chosen["normalize"] = cut.normalize or None
        estimator = kind.from_graph(data.graph, **{name: value for name, value in chosen.items() if value}, **options)
    else:
        estimator = kind(
            model.spec(backbone),
            cut.layers,
            cut.pools,
            store=store,
            normalize=cut.normalize,
            views=views,
            **options,
        )
    with progress_bar("extract"):
        estimator.fit(data)
    estimator.save(out)
    _report_fit(estimator, out, head, as_json)


def _report_fit(estimator: TransferEstimator, out: Path, head: str, as_json: bool) -> None:
    report, classes = estimator.fit_report_, getattr(estimator, "classes_", None)
    facts: dict[str, Any] = {
        "bundle": str(out),
        "head": head,
        "n": estimator.n_rows_,
        "classes": None if classes is None else classes.tolist(),
        "columns": [column.name for column in estimator.extractor_.columns],
        "failed": len(estimator.failures_),
        "report": None if report is None else {**asdict(report), "gap_is_large": report.gap_is_large},
    }
    if as_json:
        print_json(facts)
        return
    of = "" if classes is None else f" of {len(classes)} classes"
    typer.echo(f"{head} on {', '.join(facts['columns'])}: {facts['n']} items{of}")
    print_failures(estimator.failures_)
    if report is not None:
        typer.echo(report)
    typer.echo(f"saved {out}")


@grouped
def evaluate(
    bundle: BundleArgument,
    source: DataArgument,
    run: RunFlags,
    table: TableFlags,
    trust: TrustOption = None,
    as_json: JsonOption = False,
) -> None:
    """Measure the accuracy of a bundle on labelled items."""
    from ...extract.store.description import is_store
    from ...extract.store.feature_store import FeatureStore
    from ..estimators.evaluation import evaluate as evaluate_classifier

    classifier = _loaded(bundle, trust, run)
    data: Any = table.source(source)
    if is_store(source):
        _refuse_columns(table, source)
        data = FeatureStore.open(source)
    with progress_bar("evaluate"):
        scores = evaluate_classifier(classifier, data)
    if as_json:
        print_json(scores)
        return
    if "r2" in scores:
        r2 = "unknown" if scores["r2"] is None else f"{scores['r2']:.4f}"
        typer.echo(f"R2 {r2}, mean absolute error {scores['mean_absolute_error']:.4g} on {scores['n']} items")
        print_failures(classifier.failures_)
        return
    typer.echo(f"accuracy {scores['accuracy']:.4f} on {scores['n']} items")
    if scores["abstained"]:
        answered = scores["n"] - scores["abstained"]
        told = f"; {scores['accuracy_answered']:.4f} on the {answered} with an answer" if answered else ""
        typer.echo(f"no answer on {scores['abstained']} of them, which count as wrong{told}")
    print_failures(classifier.failures_)
    print_table(
        ["label", "items", "accuracy"],
        [[name, str(entry["n"]), f"{entry['accuracy']:.4f}"] for name, entry in scores["per_class"].items()],
    )


@grouped
def predict(
    bundle: BundleArgument,
    source: SourceArgument,
    out: Annotated[Path, typer.Option(help="A .csv or .jsonl file to write.")],
    run: RunFlags,
    table: TableFlags,
    trust: TrustOption = None,
    as_json: JsonOption = False,
) -> None:
    """Predict the labels of items."""
    from ..estimators.prediction_table import write_predictions

    classifier = _loaded(bundle, trust, run)
    with progress_bar("predict"):
        counts = write_predictions(classifier, table.source(source), out)
    if as_json:
        print_json(counts)
    else:
        unsure = f", {counts['abstained']} without an answer" if counts["abstained"] else ""
        typer.echo(f"{counts['items']} items: {counts['ok']} predicted, {counts['failed']} failed{unsure}; wrote {out}")


def export(
    bundle: BundleArgument,
    out: Annotated[Path, typer.Argument(help="The ONNX file to write.")],
    trust: TrustOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write backbone and head as one ONNX file, checked against the two run apart."""
    from ..bundle.bundle import load
    from ..fused.fuse import export_fused

    export_fused(load(bundle, trust or ()), out)
    if as_json:
        print_json({"model": str(out), "bytes": out.stat().st_size})
    else:
        typer.echo(f"wrote {out}, {out.stat().st_size / 1e6:.1f} MB; it agrees with backbone and head run apart")


def _refuse_columns(table: TableFlags, source: str) -> None:
    if table != TableFlags():
        raise InputError(f"{source} is a feature store: names of columns are of tables")


def _loaded(bundle: Path, trust: list[str] | None, run: RunFlags) -> Any:
    """Load a bundle and set how it runs."""
    from ..bundle.bundle import load

    classifier = load(bundle, trust or ())
    classifier.set_params(**run.parameters())
    classifier.extractor_.set_params(**run.parameters())
    return classifier
