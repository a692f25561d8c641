"""How well a classifier does on labelled items."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import InputError
from ..extract.store.feature_store import FeatureStore
from .features import is_no_view

if TYPE_CHECKING:
    from .transfer import TransferClassifier


def evaluate(classifier: TransferClassifier, data: Any) -> dict[str, Any]:
    """Compare predictions with the labels of a source or store.

    Parameters
    ----------
    classifier : TransferClassifier
        Fitted.
    data : str, path, Table or FeatureStore
        With labels.

    Returns
    -------
    dict
        ``accuracy``; ``n``, the number of items with a label that were predicted; ``failed``; ``unlabelled``; and
        ``per_class``: for each label its number of items and the share predicted right.
    """
    if not isinstance(data, FeatureStore):
        data = classifier.extractor_.open(data)
    predicted = classifier.predict(data).tolist()
    if isinstance(data, FeatureStore):
        rows = np.flatnonzero(is_no_view(data))
        predicted, labels = ([of[row] for row in rows] for of in (predicted, data.labels))
    else:
        own = [item.label for item in data]
        labels = [own[position] for position in classifier.extractor_.kept_]
    pairs = [(str(label), str(guess)) for label, guess in zip(labels, predicted, strict=True) if label is not None]
    if not pairs:
        raise InputError(
            "no item has a label; expected a folder whose sub-folders name the labels, or a store made from one "
            f"({len(predicted)} items were predicted, {len(classifier.failures_)} failed)"
        )
    known = {str(name) for name in classifier.classes_.tolist()}
    if not known & {label for label, _ in pairs}:
        raise InputError(
            f"none of the labels ({_few(label for label, _ in pairs)}) is one that the head knows ({_few(known)})"
        )
    right = [label == guess for label, guess in pairs]
    names = np.array([label for label, _ in pairs])
    per_class = {
        name: {"n": int((names == name).sum()), "accuracy": float(np.mean(np.array(right)[names == name]))}
        for name in sorted(set(names.tolist()))
    }
    return {
        "accuracy": float(np.mean(right)),
        "n": len(pairs),
        "failed": len(classifier.failures_),
        "unlabelled": len(labels) - len(pairs),
        "per_class": per_class,
    }


def _few(names: Iterable[str]) -> str:
    distinct = sorted(set(names))
    return ", ".join(distinct[:5]) + (", …" if len(distinct) > 5 else "")
