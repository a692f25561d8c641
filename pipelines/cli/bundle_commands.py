"""Commands that make bundles and use them: ``fit``, ``refit``, ``evaluate``, ``predict``, ``export``."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ...errors import InputError
from ...heads.registry import DEFAULT
from ...url_secrets import hide_secrets
from .arguments import (
    choose_stored_cut,
    load_bundle,
    open_data,
    open_items,
    open_store,
    require_stored_cut,
)
from .options import (
    SOURCES_HELP,
    BackboneOption,
    BackboneOptions,
    BundleArgument,
    CutOptions,
    DataArgument,
    ExcelSafeOption,
    ExecutionOptions,
    FidelityOption,
    JsonOption,
    LabelSeparatorOption,
    OverwriteOption,
    SplitOption,
    StoreArgument,
    TableOptions,
    TaskOptions,
    TrainingColumns,
    TrustOption,
    parse_split,
)
from .output import (
    echo,
    echo_lines,
    print_failures,
    print_json,
    print_result,
    print_table,
    require_success,
)

if TYPE_CHECKING:
    from ...extract.sources.item import Source
    from ...extract.store.feature_store import FeatureStore
    from ..estimators.stored_items import StoredItems
    from ..estimators.transfer_estimator import TransferEstimator

MAX_PRINTED_PREDICTIONS = 50
MAX_UNFAMILIAR_SHARE = 0.2
"""From a larger share of unfamiliar items on there is a warning; about 0.05 is expected of ordinary items."""


def fit(
    source: DataArgument,
    out: Annotated[Path, typer.Option(help="The bundle to write.")],
    model: BackboneOptions,
    cut: CutOptions,
    execution: ExecutionOptions,
    table: TableOptions,
    task: TaskOptions,
    columns: TrainingColumns,
    head: Annotated[str, typer.Option(help="A name from `topwork heads`.")] = DEFAULT,
    backbone: BackboneOption = None,
    store: Annotated[str | None, typer.Option(help="Keep the features of SOURCE here.")] = None,
    split: SplitOption = None,
    views: Annotated[int, typer.Option(help="Augmented versions of each image to train on as well.")] = 0,
    fidelity: FidelityOption = "features",
    overwrite: OverwriteOption = False,
    as_json: JsonOption = False,
) -> None:
    """Train a head on a source or on the features of a store, and save a bundle."""
    from ...extract.store.feature_store import FeatureStore
    from ..bundle.bundle_files import require_bundle_place
    from ..estimators.item_features import count_pending

    require_bundle_place(out, overwrite=overwrite)
    data = open_data(source, table)
    estimator_class, parameters = task.to_estimator()
    parameters |= {"head": head, "fidelity": fidelity, **execution.to_parameters()}
    of_rows: dict[str, Any] = {}
    if isinstance(data, FeatureStore):
        if backbone is not None or store is not None or model != BackboneOptions():
            raise InputError(
                f"{source} is a feature store and has a backbone: leave out --backbone, --weights, … and --store"
            )
        require_chosen_columns(data, cut)
        of_rows = columns.read_from(data)
        estimator = estimator_class.from_graph(data.graph, **chosen_columns(cut), **parameters)
    else:
        data = columns.add_to(data)
        chosen = choose_backbone(model, backbone, cut, store)
        estimator = estimator_class(**chosen, store=store, views=views, **parameters)
    estimator.fit(data, split=parse_split(split), **of_rows)
    estimator.save(out, overwrite=overwrite)
    pending = count_pending(data) if isinstance(data, FeatureStore) else 0
    facts = {**summarize_fit(estimator, out, head), "pending": pending}
    if as_json:
        print_json(facts)
    else:
        print_fit(estimator, facts)


def choose_backbone(model: BackboneOptions, backbone: str | None, cut: CutOptions, store: str | None) -> dict[str, Any]:
    """Return backbone, layers and poolings: those that are asked for, and else those of an existing store."""
    from ...extract.store.description import is_store

    is_named = backbone is not None or model != BackboneOptions()
    if is_named or store is None or not is_store(store):
        named = model.to_spec(backbone)
        return {"backbone": named, "layer": cut.layers, "pool": cut.pools, "normalize": cut.normalize}
    opened = open_store(store)
    require_chosen_columns(opened, cut)
    own = choose_stored_cut(opened, cut)
    if cut.is_automatic:
        return {"backbone": opened.graph, **own}
    require_stored_cut(opened, own["layer"], normalize=cut.normalize)
    return {"backbone": opened.graph, **own}


def require_chosen_columns(store: FeatureStore, cut: CutOptions) -> None:
    """Raise an InputError if a store has several layers or poolings, and the options do not choose among them."""
    if cut.is_automatic:
        return
    layers = list(dict.fromkeys(column.layer for column in store.columns))
    if len(layers) > 1 and not cut.layer:
        raise InputError(
            f"{store.path} has several layers: {', '.join(layers)}. Choose one with --layer {layers[-1]}; "
            f"--layer {','.join(layers)} concatenates them."
        )
    chosen = cut.layers if cut.layer else layers
    for layer in chosen:
        pools = [column.pool for column in store.columns if column.layer == layer]
        if len(pools) > 1 and not cut.pool:
            raise InputError(
                f"{store.path} has several poolings of layer {layer}: {', '.join(pools)}. Choose one with "
                f"--pool {pools[0]}; --pool {','.join(pools)} concatenates them."
            )


def chosen_columns(cut: CutOptions) -> dict[str, Any]:
    """Return the parameters that choose among the columns of a store; without any, the only one is used."""
    parameters: dict[str, Any] = {}
    if cut.layer:
        parameters["layer"] = cut.layers
    if cut.pool:
        parameters["pool"] = cut.pools
    if cut.normalize:
        parameters["normalize"] = True
    return parameters


def summarize_fit(estimator: TransferEstimator, out: Path, head: str) -> dict[str, Any]:
    """Return the facts about a fitted estimator that are printed, for people and machines."""
    classes = getattr(estimator, "classes_", None)
    report = estimator.fit_report_
    return {
        "bundle": str(out),
        "head": head,
        "head_choice": getattr(estimator.head_, "reason_", None),
        "head_comparison": getattr(estimator.head_, "comparison_", None),
        "n": estimator.n_rows_,
        "classes": None if classes is None else classes.tolist(),
        "columns": [column.name for column in estimator.extractor_.columns],
        "search": summarize_search(estimator),
        "precisions": None if estimator.precisions_ is None else asdict(estimator.precisions_),
        "failed": len(estimator.failures_),
        "left_out": estimator.left_out_,
        "unlabelled": estimator.n_unlabelled_,
        "not_evaluated": estimator.not_evaluated_,
        "familiarity": summarize_familiarity(estimator),
        "report": None if report is None else {**asdict(report), "gap_is_large": report.gap_is_large},
    }


def summarize_search(estimator: TransferEstimator) -> dict[str, Any] | None:
    """Return which layer and pooling were chosen, among how many, and how good they are; None without a search."""
    search = estimator.search_
    if search is None:
        return None
    return {
        "layer": ",".join(search.chosen.layers),
        "pool": search.chosen.pool,
        "score": search.score,
        "interval": list(search.interval),
        "candidates": {name: found.score for name, found in search.scores.items()},
        "n": search.n_items,
    }


def summarize_familiarity(estimator: TransferEstimator) -> dict[str, Any] | None:
    """Return how many rows new features will be compared with, and the limit of their distance."""
    found = estimator.familiarity_
    return None if found is None else {"rows": len(found.rows), "neighbors": found.n_neighbors, "limit": found.limit}


def print_fit(estimator: TransferEstimator, facts: dict[str, Any]) -> None:
    """Print what a head was trained on, and how well it fits."""
    items = f"{facts['n']} items"
    if facts["classes"] is not None:
        items += f" of {len(facts['classes'])} classes"
    echo(f"{facts['head']} on {', '.join(facts['columns'])}: {items}")
    if estimator.search_ is not None:
        echo_lines(estimator.search_.explain(estimator.metric))
    if estimator.precisions_ is not None:
        echo_lines(estimator.precisions_)
    if facts["head_choice"]:
        echo(f"chosen: {facts['head_choice']}")
    if facts["unlabelled"]:
        echo(f"{facts['unlabelled']} items without a label are left out")
    print_failures(estimator.failures_)
    if facts["pending"]:
        echo(
            f"{facts['pending']} items of the store are pending and were left out: run `topwork extract` with their "
            "source, then fit again"
        )
    if facts["left_out"]:
        counts = ", ".join(f"{count} of the split {name}" for name, count in facts["left_out"].items())
        echo(f"not trained on: {counts}")
    if estimator.fit_report_ is not None:
        echo_lines(estimator.fit_report_)
    elif facts["not_evaluated"]:
        echo(f"not evaluated: {facts['not_evaluated']}")
    if facts["familiarity"] is None:
        echo("unfamiliar items will not be recognised: too few different items to train on")
    echo(f"saved {facts['bundle']}")


def refit(
    bundle: BundleArgument,
    store: StoreArgument,
    out: Annotated[Path, typer.Option(help="The bundle to write; with --overwrite it may be the same.")],
    labels: Annotated[
        Path | None, typer.Option(help="A table with a column id and one of labels; by default the store's labels.")
    ] = None,
    label_column: Annotated[
        str | None, typer.Option(help="Column of labels; by default label, or the only one.")
    ] = None,
    label_separator: LabelSeparatorOption = None,
    held_out: Annotated[
        float | None,
        typer.Option(
            help="Share of the items to hold out; by default the parent's, else the splits test and val, else 0.2."
        ),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed for the choice of held-out items.")] = None,
    anew: Annotated[bool, typer.Option("--anew", help="Cold start; the penalty is chosen again.")] = False,
    train_on_all: Annotated[
        bool, typer.Option("--train-on-all", help="Train on the held-out rows as well, once the score is known.")
    ] = False,
    trust: TrustOption = None,
    overwrite: OverwriteOption = False,
    as_json: JsonOption = False,
) -> None:
    """Retrain the head of a bundle on the features of a store, and compare it with its parent."""
    from ..bundle.bundle_files import require_bundle_place
    from ..estimators.refit import RefitWarning
    from ..estimators.refit import refit as refit_bundle

    require_bundle_place(out, overwrite=overwrite)
    with warnings.catch_warnings():
        # What these warnings say is part of the printed report.
        warnings.simplefilter("ignore", RefitWarning)
        child = refit_bundle(
            bundle,
            store,
            labels,
            label_column=label_column,
            label_separator=label_separator,
            held_out=held_out,
            seed=seed,
            warm=not anew,
            train_on_all=train_on_all,
            trusted=trust or (),
        )
    child.save(out, overwrite=overwrite)
    if as_json:
        print_json({"bundle": str(out), **child.lineage_})
    else:
        print_lineage(child.lineage_)
        echo(f"saved {out}")


def print_lineage(lineage: dict[str, Any]) -> None:
    """Print what has changed since the parent, and whether the head is better, and by how much."""
    start = "warm start from the parent" if lineage["warm"] else "cold start"
    echo(f"trained on {lineage['rows']} rows{describe_changes(lineage['changes'])}, {start}")
    if lineage["unlabelled"]:
        echo(f"{lineage['unlabelled']} rows without a label are left out")
    for change, names in lineage["classes"].items():
        if names:
            echo(f"{change} classes: {', '.join(map(str, names))}")
    if not lineage["metrics"]:
        echo("not evaluated: no rows are held out")
        return
    print_comparison(lineage["metrics"], lineage["held_out"])
    if lineage["trained_on_all"]:
        echo("then trained on all rows, the held-out ones too; the score is that of the head before")


def describe_changes(changes: dict[str, int] | None) -> str:
    """Return how many rows are new and gone since the parent, in brackets."""
    if changes is None:
        return ""
    counts = [f"{count} {name}" for name, count in changes.items() if count]
    return f" ({', '.join(counts)} since the parent)" if counts else ""


def print_comparison(metrics: dict[str, Any], held_out: dict[str, Any]) -> None:
    """Print whether a head is better than its parent on the held-out rows, and by how much."""
    rule = "by split" if held_out["by"] == "split" else f"by id, share {held_out['share']:g}, seed {held_out['seed']}"
    scores = f"{metrics['metric']} {metrics['held_out']:.4f}"
    if metrics["parent_may_have_learned_them"]:
        echo(f"{scores} on {held_out['n']} held-out rows ({rule})")
        before = "" if metrics["parent_before"] is None else f"; it had {metrics['parent_before']:.4f} on others"
        echo(f"the parent may have learned from these rows, so that its {metrics['parent']:.4f} says little{before}")
    else:
        difference = f"{metrics['difference']:+.4f} ± {metrics['standard_error']:.4f}"
        echo(f"{judge_difference(metrics)}: {difference}")
        echo(f"{scores}, the parent {metrics['parent']:.4f}")
        echo(f"on {held_out['n']} rows that neither has learned from ({rule})")
    echo(f"{metrics['metric']} in training {metrics['training']:.4f}")


def judge_difference(metrics: dict[str, Any]) -> str:
    """Return in words whether a head is better than its parent by more than chance: two standard errors."""
    if abs(metrics["difference"]) <= 2 * metrics["standard_error"] or metrics["difference"] == 0:
        return "as good as the parent, within the error"
    return "better than the parent" if metrics["difference"] > 0 else "WORSE than the parent"


def evaluate(
    bundle: BundleArgument,
    source: DataArgument,
    execution: ExecutionOptions,
    table: TableOptions,
    split: SplitOption = None,
    confusion: Annotated[
        Path | None, typer.Option(help="A .csv or .jsonl file for the confusion matrix: a row for each true label.")
    ] = None,
    mistakes: Annotated[
        Path | None, typer.Option(help="A .csv or .jsonl file for the wrong predictions: id, truth, prediction, …")
    ] = None,
    excel_safe: ExcelSafeOption = False,
    trust: TrustOption = None,
    as_json: JsonOption = False,
) -> None:
    """Measure how well a bundle predicts labelled items: on each held-out split apart, if there are some."""
    from ..estimators.evaluation import predict_labelled, summarize
    from ..estimators.result_files import check_suffix, require_file_place, write_rows

    for path in (confusion, mistakes):
        if path is not None:
            check_suffix(path)
            require_file_place(path)
    estimator = load_bundle(bundle, trust, execution)
    require_confusions(estimator, confusion)
    data = open_data(source, table)
    evaluations = predict_labelled(estimator, data, parse_split(split))
    scores = summarize(evaluations)
    if as_json:
        print_json(scores)
    else:
        for evaluation in evaluations:
            print_evaluation(evaluation.measure(), evaluation.failures)
    if confusion is not None:
        rows = [row for evaluation in evaluations for row in evaluation.list_confusions()]
        write_rows(confusion, rows, excel_safe=excel_safe)
    if mistakes is not None:
        rows = [row for evaluation in evaluations for row in evaluation.list_mistakes()]
        columns = () if rows else ("id", "truth", "prediction", "probability")
        write_rows(mistakes, rows, columns, excel_safe=excel_safe)


def require_confusions(estimator: Any, path: Path | None) -> None:
    """Raise an InputError if a confusion matrix is asked for that the estimator does not have."""
    has_classes = not getattr(estimator, "multilabel_", True)
    if path is not None and not has_classes:
        raise InputError(f"--confusion {path}: the bundle predicts no class for each item; leave the option out")


def print_evaluation(scores: dict[str, Any], failures: Sequence[tuple[str, str]]) -> None:
    """Print the measures of the items of a split, or of all, those of each label last."""
    if "split" in scores:
        echo(f"split {scores['split']}:")
    if "r2" in scores:
        print_regression_scores(scores)
    elif "mean_average_precision" in scores:
        print_label_set_scores(scores)
    else:
        print_classification_scores(scores)
    if scores["trained_on"]:
        echo(f"{scores['trained_on']} of them equal items that the head was trained on, and say little about new ones")
    if scores["unlabelled"]:
        echo(f"{scores['unlabelled']} items without a label are left out")
    print_failures(failures)
    if "per_class" in scores:
        print_averages(scores)
        print_classes(scores["per_class"])


def print_regression_scores(scores: dict[str, Any]) -> None:
    """Print the errors, and the coefficients that a single item does not have."""
    r2 = format_measure(scores["r2"])
    echo(f"R2 {r2}, mean absolute error {scores['mean_absolute_error']:.4g} on {scores['n']} items")
    echo(
        f"root mean squared error {scores['root_mean_squared_error']:.4g}, "
        f"rank correlation {format_measure(scores['rank_correlation'])}"
    )


def format_measure(value: float | None) -> str:
    """Return a measure for people."""
    return "unknown" if value is None else f"{value:.4f}"


def print_label_set_scores(scores: dict[str, Any]) -> None:
    """Print the measures of several labels for each item."""
    echo(f"all labels right {scores['accuracy']:.4f} on {scores['n']} items")
    precision = format_measure(scores["mean_average_precision"])
    echo(f"mean average precision {precision}, F1 {scores['f1_micro']:.4f} (micro)")


def print_classification_scores(scores: dict[str, Any]) -> None:
    """Print the accuracy, and on how many items the head abstained."""
    echo(f"accuracy {scores['accuracy']:.4f} on {scores['n']} items")
    top5 = format_measure(scores["top5_accuracy"])
    loss = format_measure(scores["log_loss"])
    echo(f"balanced accuracy {scores['balanced_accuracy']:.4f}, top-5 accuracy {top5}, log loss {loss}")
    if scores["unknown"]:
        echo(f"{scores['unknown']} of them have a label that the head has not learned, and count as wrong")
    if not scores["abstained"]:
        return
    text = f"abstained on {scores['abstained']} of them, which count as wrong"
    answered = scores["n"] - scores["abstained"]
    if answered:
        text += f"; accuracy {scores['accuracy_answered']:.4f} on the other {answered}"
    echo(text)


def print_averages(scores: dict[str, Any]) -> None:
    """Print precision, recall and F1, averaged over labels."""
    for name, how in (("macro", "mean over labels"), ("weighted", "weighted by items")):
        precision = scores[f"precision_{name}"]
        recall = scores[f"recall_{name}"]
        f1 = scores[f"f1_{name}"]
        echo(f"precision {precision:.4f}, recall {recall:.4f}, F1 {f1:.4f} ({how})")


def print_classes(per_class: dict[str, Any]) -> None:
    """Print a table of the items and the measures of each label."""
    rows = []
    for name, entry in per_class.items():
        measures = [f"{entry[measure]:.4f}" for measure in ("precision", "recall", "f1")]
        rows.append([name, str(entry["n"]), *measures])
    print_table(["label", "items", "precision", "recall", "F1"], rows)


def predict(
    bundle: BundleArgument,
    source: Annotated[str, typer.Argument(help=f"{SOURCES_HELP}; one image or text file; or a feature store.")],
    execution: ExecutionOptions,
    table: TableOptions,
    out: Annotated[
        Path | None,
        typer.Option(help="A .csv, .jsonl or .parquet file to write; by default the first predictions are printed."),
    ] = None,
    top_k: Annotated[
        int | None, typer.Option(help="Write the K likeliest classes, instead of the probabilities of all.")
    ] = None,
    refuse_unfamiliar: Annotated[
        bool,
        typer.Option(
            "--refuse-unfamiliar",
            help="Predict nothing for items that are unlike those of the training (column familiar).",
        ),
    ] = False,
    split: SplitOption = None,
    excel_safe: ExcelSafeOption = False,
    trust: TrustOption = None,
    as_json: JsonOption = False,
) -> None:
    """Predict the labels of the items of a source, or of the rows of a store; a killed run is resumed."""
    from ..estimators.result_files import PREDICTION_SUFFIXES, check_suffix, require_file_place, write_predictions

    if out is not None:
        check_suffix(out, PREDICTION_SUFFIXES)
        require_file_place(out)
    estimator = load_bundle(bundle, trust, execution)
    if refuse_unfamiliar:
        estimator.require_familiarity()
    data = open_items(source, table, estimator, parse_split(split))
    if out is None:
        print_predictions(estimator, data, top_k, refuse_unfamiliar=refuse_unfamiliar, as_json=as_json)
        return
    options: dict[str, Any] = {"table": table, "split": split, "top_k": top_k, "refuse_unfamiliar": refuse_unfamiliar}
    options |= {
        "excel_safe": excel_safe,
        "precision": execution.precision,
        "provider": execution.provider,
        "state": describe_state(source),
    }
    key = describe_run(bundle, source=hide_secrets(source), **options)
    counts = write_predictions(
        estimator,
        data,
        out,
        top_k=top_k,
        refuse_unfamiliar=refuse_unfamiliar,
        resume_key=key,
        excel_safe=excel_safe,
    )
    text = f"{describe_counts(counts, refuse_unfamiliar=refuse_unfamiliar)}; wrote {out}"
    print_result(counts, text, as_json=as_json)
    warn_of_unfamiliar_items(counts.get("unfamiliar", 0), counts["items"] - counts["failed"])
    require_success(counts["failed"], counts["items"])


def describe_counts(counts: dict[str, int], *, refuse_unfamiliar: bool) -> str:
    """Return the number of items by status in words; items are familiar or not only if the bundle knows."""
    predicted = f"{counts['ok']} predicted"
    others = ""
    if counts["abstained"]:
        others += f", {counts['abstained']} abstained"
    if refuse_unfamiliar:
        others += f", {counts['unfamiliar']} unfamiliar"
    elif "unfamiliar" in counts:
        predicted += f" ({counts['unfamiliar']} unfamiliar)"
    return f"{counts['items']} items: {predicted}, {counts['failed']} failed{others}"


def warn_of_unfamiliar_items(unfamiliar: int, items: int) -> None:
    """Print a warning on standard error if a large share of the items with features is unfamiliar."""
    if unfamiliar > MAX_UNFAMILIAR_SHARE * items:
        share = unfamiliar / items
        echo(
            f"warning: {unfamiliar} of {items} items ({share:.0%}) are unlike those that the head was trained on; "
            "about 5% are expected. What is predicted for them cannot be relied on: leave it out with "
            "--refuse-unfamiliar, or train on items like these.",
            err=True,
        )


def describe_run(bundle: Path, **options: Any) -> str:
    """Return the digest of what decides predictions, so that a run is only resumed by the same one."""
    from importlib import metadata

    from ...identity import digest
    from ..bundle.manifest import MANIFEST

    described = {name: str(value) for name, value in options.items()}
    version = metadata.version("topwork")
    return digest({"bundle": (bundle / MANIFEST).read_text("utf-8"), "version": version, **described})


def describe_state(source: str) -> str:
    """Return what changes with the content of a file or store; the files in a folder are compared one by one."""
    from ...extract.store.description import is_store

    if is_store(source):
        return open_store(source).log.entries()[-1].digest
    path = Path(source)
    if not path.is_file():
        return ""
    status = path.stat()
    return f"{status.st_size} {status.st_mtime_ns}"


def print_predictions(
    estimator: TransferEstimator,
    data: Source | StoredItems,
    top_k: int | None,
    *,
    refuse_unfamiliar: bool,
    as_json: bool,
) -> None:
    """Print the predictions of the first items as a table, with the probability of the label."""
    from ..estimators.prediction_rows import PredictionRows

    if top_k is None and has_probabilities(estimator):
        top_k = 1
    predictions = PredictionRows(estimator, data, top_k, refuse_unfamiliar=refuse_unfamiliar)
    rows: list[dict[str, Any]] = []
    for some_rows, _ in predictions.iterate():
        rows += some_rows
        if len(rows) >= MAX_PRINTED_PREDICTIONS:
            break
    shown = rows[:MAX_PRINTED_PREDICTIONS]
    if as_json:
        print_json({"predictions": shown})
    else:
        names = [name for name in predictions.columns if name not in ("status", "reason", "label_1")]
        cells = [[format_prediction(row, name) for name in names] for row in shown]
        print_table(names, cells)
    if len(rows) > len(shown) and not as_json:
        echo(f"the first {len(shown)} items; write all to a file with --out")
    is_familiar = [row["familiar"] for row in rows if "familiar" in row]
    warn_of_unfamiliar_items(is_familiar.count(False), len(is_familiar))
    require_success(sum(row["status"] == "failed" for row in shown), len(shown))


def has_probabilities(estimator: TransferEstimator) -> bool:
    """Return whether a head has one likeliest class."""
    is_multilabel = estimator.n_outputs() is not None
    return hasattr(estimator, "classes_") and hasattr(estimator.head_, "predict_proba") and not is_multilabel


def format_prediction(row: dict[str, Any], name: str) -> str:
    """Return a cell of the printed table; failed items show their reason."""
    value = row.get(name)
    if value is None and name in ("label", "value"):
        return f"{row['status']}: {row['reason']}" if row["reason"] else str(row["status"])
    if isinstance(value, float):
        return f"{value:.4g}"
    return "" if value is None else str(value)


def export(
    bundle: BundleArgument,
    out: Annotated[Path, typer.Argument(help="The ONNX file to write.")],
    table: TableOptions,
    input_form: Annotated[
        str | None,
        typer.Option(
            "--input",
            help="Form of the input. Images: model-size (default), or any-size, resized in the graph; texts: tokens.",
        ),
    ] = None,
    items: Annotated[
        str | None, typer.Option(help="A source with some items of which the file is compared as well.")
    ] = None,
    trust: TrustOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write backbone and head as one ONNX file, and compare it with the two run separately."""
    from ..estimators.result_files import require_file_place

    require_file_place(out)
    source = table.to_source(items) if items else None
    written = load_bundle(bundle, trust).to_onnx(out, input=input_form, items=source)
    size = out.stat().st_size
    outputs = list(written.outputs)
    facts = {"model": str(out), "bytes": size, "input": written.input, "outputs": outputs, "items": written.n_items}
    text = f"wrote {out}, {size / 1e6:.1f} MB; its output matches backbone and head run separately"
    print_result(facts, text, as_json=as_json)
