"""``write_report``: from a bundle and labelled items to one HTML file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ...atomic import write_file
from ...errors import InputError
from ...extract.store.description import is_store
from ...extract.store.feature_store import FeatureStore
from ..estimators.load import load
from ..estimators.result_files import require_file_place
from .facts import ReportFacts, collect_facts, describe_bundle_alone
from .page import render_page

SUFFIXES = (".html", ".htm")


def write_report(
    bundle: str | Path,
    out: str | Path,
    data: Any = None,
    *,
    items: Any = None,
    split: str | Sequence[str] | None = None,
    audit: bool = True,
    curves: bool = True,
    trusted: Sequence[str] = (),
    parameters: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Write one HTML file about a bundle, and about how it predicts labelled items.

    The page needs nothing but the file: no request leaves it, and it may be sent by mail. What a report of a bundle
    alone cannot tell is said on the page.

    Parameters
    ----------
    bundle : path
        A folder that :meth:`TransferClassifier.save` wrote.
    out : path
        The file, which is replaced; its name ends in ``.html``.
    data : source, FeatureStore or path, optional
        Labelled items to predict: all held-out splits, each apart, or all items if there are none.
    items : source, optional
        Where the items of a store come from, for thumbnails of images and the beginnings of texts; those of a source
        are shown without it.
    split : str or sequence of str, optional
        Splits to evaluate.
    audit : bool
        Whether a store is searched for suspected label errors and duplicates.
    curves : bool
        Whether the score by the number of labels and by the layer is computed from a store.
    trusted : sequence of str
        Types that the head may hold, see :func:`topwork.load`.
    parameters : mapping, optional
        Parameters of the estimator that say how it runs: ``provider``, ``batch_size``, ``on_error`` and others.

    Returns
    -------
    dict
        ``out`` and its ``bytes``; ``items``, the number of predicted items; ``failed``; ``thumbnails`` and
        ``snippets``, their numbers; and ``missing``, sentences on what the page does not tell.

    Raises
    ------
    InputError
        If no item has a label that the head can predict, or a path is of another kind.
    BundleError
        If the bundle is damaged and items are to be predicted.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> import topwork
    >>> from topwork.pipelines.report import write_report
    >>> folder = Path(tempfile.mkdtemp())
    >>> images = np.random.default_rng(0).integers(0, 256, (12, 40, 40, 3), dtype=np.uint8)
    >>> images[6:] //= 4
    >>> classifier = topwork.TransferClassifier("topwork:tiny", head="centroid", cv=0)
    >>> classifier.fit(images, ["light"] * 6 + ["dark"] * 6).save(folder / "bundle")
    >>> written = write_report(folder / "bundle", folder / "report.html")
    >>> written["items"], written["bytes"] < 100_000
    (0, True)
    """
    bundle = Path(bundle)
    out = Path(out)
    if out.suffix.lower() not in SUFFIXES:
        raise InputError(f"{out}: a report is a page; expected a name that ends in .html")
    require_file_place(out)
    if data is None:
        if items is not None or split is not None:
            raise InputError(
                "items= and split= say more about data=, which is missing: give a source or a feature store"
            )
        facts = describe_bundle_alone(bundle)
    else:
        if isinstance(data, (str, Path)) and is_store(data):
            data = FeatureStore.open(data)
        estimator = load(bundle, trusted)
        if parameters:
            estimator.set_params(**parameters)
            estimator.extractor_.set_params(**parameters)
        facts = collect_facts(bundle, estimator, data, items=items, split=split, with_audit=audit, with_curves=curves)
    content = render_page(facts).encode("utf-8")
    out.parent.mkdir(parents=True, exist_ok=True)
    write_file(out, content)
    return summarize_report(facts, out, len(content))


def summarize_report(facts: ReportFacts, out: Path, n_bytes: int) -> dict[str, Any]:
    """Return what was written."""
    return {
        "out": str(out),
        "bytes": n_bytes,
        "items": sum(len(found.evaluation.answers) for found in facts.evaluations),
        "failed": len(facts.failures),
        "thumbnails": len(facts.previews.thumbnails),
        "snippets": len(facts.previews.snippets),
        "missing": facts.missing,
    }
