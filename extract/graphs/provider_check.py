"""Whether a session computes what the model does: checked wherever a graph is opened, on what will compute.

The certificate of an export proves the graph on ONNX Runtime's own processor code. Another provider is another program,
with faults of its own, so every provider is compared with the model before its features are used.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import DriftError, ProviderError
from ..runtime.providers import parse_family
from .canaries import compute_each, measure_errors
from .measurement import (
    MAX_ERROR_FP32,
    MAX_ERROR_GROWTH_LOWER,
    MAX_ERROR_UNMEASURED_LOWER,
    MAX_MEASURED_BATCH_SIZE,
    MEASURED_BATCH_SIZES,
    REMEMBERED_BATCH_SIZE,
    Measurement,
    MeasurementCache,
    graph_key,
    measure,
)

if TYPE_CHECKING:
    from ...models.input_spec import InputSpec
    from ..runtime.session import Session
    from .canaries import Canaries
    from .certificate import Certificate
    from .graph_metadata import GraphMetadata


@dataclass(frozen=True)
class ProviderCheck:
    """The check of the sessions of one graph.

    Parameters
    ----------
    path : Path
        The graph.
    metadata : GraphMetadata
    input_spec : InputSpec
    canaries : Canaries or None
        None for a graph of an earlier version that has none.
    certificate : Certificate
        Its measurements count, those of other machines too.
    open_float32 : callable or None
        Opens the same graph in float32 on a provider, and checks it; None where there is none.
    """

    path: Path
    metadata: GraphMetadata
    input_spec: InputSpec
    canaries: Canaries | None
    certificate: Certificate
    open_float32: Callable[[str], Session] | None = None

    @property
    def precision(self) -> str:
        """Precision of the graph."""
        return self.metadata.precision

    @property
    def is_float32(self) -> bool:
        """Whether the graph computes in float32."""
        return parse_family(self.precision) == "fp32"

    @cached_property
    def cache(self) -> MeasurementCache | None:
        """What this user measured before; None where nothing can be measured."""
        if self.canaries is None or not self.canaries.has_reference:
            return None
        return MeasurementCache(graph_key(self.metadata.to_text(), self.canaries.path))

    @cached_property
    def measurements(self) -> list[Measurement]:
        """All measurements of the graph: those in its certificate, and those that this user made."""
        known = list(self.certificate.measurements)
        for measurement in [] if self.cache is None else self.cache.read():
            if measurement not in known:
                known.append(measurement)
        return known

    @property
    def providers_right_in_float32(self) -> set[str]:
        """The providers that were found to compute the model in float32."""
        passing = {m.provider for m in self.measurements if m.precision == "fp32" and m.passes}
        return passing | {self.certificate.provider}

    def find_refusal(self, provider: str) -> Measurement | None:
        """Return the measurement on this machine by which a provider is not used; None if there is none."""
        for measurement in self.measurements:
            if measurement.provider == provider and not measurement.passes and measurement.is_from_here:
                return measurement
        return None

    def check(self, session: Session) -> None:
        """Raise an error if a session computes other features than the model, or than before.

        The first session under some conditions (provider, precision, processor, versions) is measured in batches of
        several sizes, which is remembered; later ones compute one small batch.

        Raises
        ------
        ProviderError
            If the provider computes other features than the model, or that cannot be told.
        DriftError
            If it was measured before, and no longer computes the same.
        """
        if self.canaries is None or self.cache is None:
            self._check_without_reference(session)
            return
        known = self._find_known(session)
        if known is not None:
            self._require_passing(self._measure(session, [REMEMBERED_BATCH_SIZE], self._find_limit_again(known)))
            return
        found = self._measure(session, MEASURED_BATCH_SIZES, self._find_limit(session.provider))
        self.cache.write(found)
        self._require_passing(found)

    def check_batch_size(self, session: Session, batch_size: int) -> None:
        """Compare a session with the model in batches of a size, unless that was done before.

        Raises
        ------
        ProviderError, DriftError
        """
        known = self._find_known(session)
        size = min(batch_size, MAX_MEASURED_BATCH_SIZE)
        if self.cache is None or known is None or size in known.batch_sizes:
            return
        found = self._measure(session, [size], self._find_limit_again(known))
        both = replace(
            max(found, known, key=lambda measurement: measurement.relative_l2),
            batch_sizes=tuple(sorted({*known.batch_sizes, size})),
        )
        self.cache.write(both)
        self._require_passing(found)

    def find_largest_batch(self, session: Session) -> int | None:
        """Return the size of the largest batch that fits into the memory; None if no size was found not to fit."""
        known = self._find_known(session)
        if known is None or max(known.batch_sizes) >= max(MEASURED_BATCH_SIZES):
            return None
        return max(known.batch_sizes)

    def _find_known(self, session: Session) -> Measurement | None:
        """Return the measurement under these conditions that passed, of most batch sizes; None if there is none."""
        known = [
            measurement
            for measurement in self._find_passed(session.provider)
            if measurement.is_from_here and measurement.runtime == session.runtime_name
        ]
        return max(known, key=lambda measurement: len(measurement.batch_sizes), default=None)

    def _find_passed(self, provider: str | None = None) -> list[Measurement]:
        """Return the measurements in the graph's precision that passed, of one provider or of all."""
        return [
            measurement
            for measurement in self.measurements
            if measurement.precision == self.precision
            and measurement.passes
            and provider in (None, measurement.provider)
        ]

    def _measure(self, session: Session, batch_sizes: Sequence[int], limit: float) -> Measurement:
        assert self.canaries is not None
        return measure(
            session,
            canaries=self.canaries,
            metadata=self.metadata,
            input_spec=self.input_spec,
            batch_sizes=batch_sizes,
            limit=limit,
        )

    def _require_passing(self, found: Measurement) -> None:
        """Raise an error if a measurement does not pass."""
        if found.passes:
            return
        earlier = self._find_passed(found.provider)
        if earlier:
            raise self._drift_error(earlier[0], found)
        raise wrong_features_error(found)

    def _find_limit(self, provider: str) -> float:
        """Return the largest error that is accepted of a provider in the graph's precision."""
        if self.is_float32:
            return max(MAX_ERROR_FP32, self.certificate.tolerance)
        if provider not in self.providers_right_in_float32:
            if self.open_float32 is None:
                return MAX_ERROR_UNMEASURED_LOWER
            self.open_float32(provider)
        passed = self._find_passed()
        if not passed:
            return float("inf")  # what the precision costs is judged on the user's items
        return min(measurement.relative_l2 for measurement in passed) + MAX_ERROR_GROWTH_LOWER

    def _find_limit_again(self, known: Measurement) -> float:
        """Return the largest error that is accepted where a session was measured before."""
        return known.limit if self.is_float32 else known.relative_l2 + MAX_ERROR_GROWTH_LOWER

    def _check_without_reference(self, session: Session) -> None:
        """Check a session of a graph of an earlier version, whose canaries are what another session computed."""
        known = self.providers_right_in_float32
        if session.provider not in known:
            raise ProviderError(
                f"provider {session.provider!r} was never compared with the model of {self.path}, which an earlier "
                f"version exported; expected one that was: {', '.join(sorted(known))}. Use it (--provider), or compute "
                "with the backbone itself (--backbone), which compares."
            )
        if self.canaries is not None:
            self.check_former(session, self.canaries)

    def check_former(self, session: Session, canaries: Canaries) -> None:
        """Raise a DriftError if a session computes other features than those that another session computed before."""
        names = [column.name for column in self.metadata.columns]
        items = canaries.items
        features = compute_each(session, items, self.input_spec)
        limit = MAX_ERROR_FP32 if self.is_float32 else MAX_ERROR_GROWTH_LOWER
        for name, error in measure_errors(features, names, canaries.former, np.arange(len(items))).items():
            if not error <= limit:
                raise DriftError(
                    f"{self.path} computes other features than before: synthetic items differ by {error:.2g} "
                    f"(relative L2) in column {name!r}; expected at most {limit:.0e}. They were computed with "
                    f"{format_conditions(canaries.origin)}. Use that, or compute the features in another store."
                )

    def _drift_error(self, before: Measurement, now: Measurement) -> DriftError:
        conditions = {"processor": before.processor, **before.versions}
        return DriftError(
            f"the graph of {self.path} no longer computes the features of its model: {now}. It was at "
            f"{before.relative_l2:.2g} with {format_conditions(conditions)}. Use what it ran with, or compute the "
            "features in another store."
        )


def wrong_features_error(measurement: Measurement) -> ProviderError:
    """Return the error for a provider that computes other features than the model."""
    return ProviderError(
        f"provider {measurement.provider!r} computes other features than the model: {measurement}. "
        "Use another provider (provider='cpu', --provider cpu), or 'auto', which takes one that is right."
    )


def format_conditions(conditions: dict[str, Any]) -> str:
    """Return names and values in one line."""
    return ", ".join(f"{name} {value}" for name, value in conditions.items())
