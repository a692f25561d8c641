"""``topwork audit``: what is probably wrong with the items of a store or source."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ...errors import InputError
from .arguments import make_extraction, open_data, open_store
from .options import (
    BackboneOption,
    BackboneOptions,
    CutOptions,
    DataArgument,
    ExecutionOptions,
    JsonOption,
    TableOptions,
)
from .output import echo, print_json, print_result, print_table, require_success

if TYPE_CHECKING:
    from ...extract.sources.table import Table
    from ...extract.store.feature_store import FeatureStore
    from ..selection.findings import Finding, Findings

SHOWN_OF_KIND = 5


def audit(
    source: DataArgument,
    model: BackboneOptions,
    cut: CutOptions,
    execution: ExecutionOptions,
    table: TableOptions,
    backbone: BackboneOption = None,
    store: Annotated[str | None, typer.Option(help="Keep the features of SOURCE here.")] = None,
    group_column: Annotated[
        str | None, typer.Option(help="Labels of the store that name groups: copies in two groups are leakage.")
    ] = None,
    task: Annotated[str, typer.Option(help="Task: classification (labels) or regression (values).")] = "classification",
    near: Annotated[
        float, typer.Option(help="Near copies: largest distance, in relation to the usual one to a neighbour.")
    ] = 0.3,
    out: Annotated[Path | None, typer.Option(help="A .csv or .jsonl file for the findings, a row for each.")] = None,
    apply: Annotated[
        Path | None,
        typer.Option(
            help="Audit nothing: write the new labels and exclusions in a file of findings to the store, after you "
            "have read it and removed the rows that are wrong."
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Find label errors, duplicates, leakage, outliers and classes that are one; nothing is changed without --apply."""
    from ...extract.store.feature_store import FeatureStore
    from ..estimators.result_files import check_suffix, require_file_place
    from ..selection.audit import audit as audit_store

    if out is not None:
        check_suffix(out)
        require_file_place(out)
    data = open_data(source, table)
    if apply is not None:
        apply_file(apply, data if store is None else open_store(store), out, as_json=as_json)
        return
    if isinstance(data, FeatureStore):
        if backbone is not None or store is not None or model != BackboneOptions():
            raise InputError(
                f"{source} is a feature store and has a backbone: leave out --backbone, --weights, … and --store"
            )
        opened = data
    else:
        if store is None:
            raise InputError(
                f"{source} is a source, whose features have to be computed: name a store for them with --store"
            )
        opened = extract_into(store, data, backbone, model=model, cut=cut, execution=execution)
    groups = None if group_column is None else opened.get_labels(group_column)
    findings = audit_store(opened, columns=choose_columns(opened, cut), groups=groups, task=task, near=near)
    if out is not None:
        findings.write(out)
    if as_json:
        print_json(findings.to_json())
    else:
        print_findings(findings, out)


def extract_into(
    path: str,
    data: str | Table | FeatureStore,
    backbone: str | None,
    *,
    model: BackboneOptions,
    cut: CutOptions,
    execution: ExecutionOptions,
) -> FeatureStore:
    """Return a store with the features of a source; what it contains already is not computed again."""
    from ...extract.jobs.job import extract_features
    from ...extract.store.description import is_store
    from ...extract.store.feature_store import FeatureStore

    existing = open_store(path) if is_store(path) else None
    extraction = make_extraction(backbone, model, cut=cut, execution=execution, store=existing)
    if existing is not None:
        existing.admit(extraction)
    else:
        extraction.fit(data)
    target = existing or FeatureStore.open_or_create(path, extraction)
    ledger = extract_features(extraction.open(data), target, config=extraction.run_config)
    require_success(ledger.failed, ledger.items)
    return target


def choose_columns(store: FeatureStore, cut: CutOptions) -> list[str] | None:
    """Return the names of the columns of the layers and poolings that are asked for; None for all."""
    if not cut.layer and not cut.pool:
        return None
    layers = cut.layers if cut.layer else [column.layer for column in store.columns]
    pools = cut.pools if cut.pool else [column.pool for column in store.columns]
    names = [column.name for column in store.columns if column.layer in layers and column.pool in pools]
    if not names:
        known = ", ".join(f"{column.layer} ({column.pool})" for column in store.columns)
        wanted = cut.layer or cut.pool
        raise InputError(f"{store.path} has no features of {wanted} with such a pooling; it has {known}")
    return names


def apply_file(path: Path, store: Any, out: Path | None, *, as_json: bool) -> None:
    """Write what a file of findings suggests to a store, and print what was written."""
    from ...extract.store.feature_store import FeatureStore
    from ..selection.apply_findings import apply_findings

    if not isinstance(store, FeatureStore):
        raise InputError("--apply: expected a feature store to write labels to, as the argument or as --store")
    if out is not None:
        raise InputError("--apply audits nothing, so there is nothing to write with --out: leave one of them out")
    applied = apply_findings(store, path)
    facts = {"relabelled": applied.relabelled, "excluded": applied.excluded, "ignored": applied.ignored}
    text = f"{store.path}: {len(applied.relabelled)} items relabelled, {len(applied.excluded)} excluded"
    if applied.ignored:
        text += f"; {applied.ignored} findings suggest neither"
    print_result(facts, text, as_json=as_json)


def print_findings(findings: Findings, out: Path | None) -> None:
    """Print how many findings of each kind there are, and the most certain of each."""
    columns = ", ".join(findings.columns)
    echo(f"{findings.n_items} items, {findings.n_labelled} with a label, by the features {columns}")
    counts = findings.counts
    print_table(["kind", "findings"], [[kind, str(count)] for kind, count in counts.items()])
    for note in findings.notes:
        echo(note)
    for kind, count in counts.items():
        for finding in findings.of_kind(kind)[:SHOWN_OF_KIND]:
            echo(f"  {kind}: {describe_finding(finding)}")
        if count > SHOWN_OF_KIND:
            echo(f"  … and {count - SHOWN_OF_KIND} more")
    if out is not None:
        echo(f"wrote {out}: read it, remove the rows that are wrong, and run the command with --apply {out}")
    elif len(findings):
        echo("write all to a file with --out")


def describe_finding(finding: Finding) -> str:
    """Return a finding as a line of text."""
    related = f" (as {finding.related})" if finding.related else ""
    label = f" as {finding.label}" if finding.label is not None else ""
    return f"{finding.id}{related}: {finding.evidence}: {finding.suggestion}{label}"
