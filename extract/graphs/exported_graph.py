"""An exported graph on disk, described by its own metadata; read without torch and without onnx."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...atomic import link_or_copy, write_file
from ...errors import MALFORMED, InputError
from ...hardware import available_cores, processor
from ...identity import digest
from ...models.input_kinds import input_spec_from_json
from ...models.input_spec import InputSpec
from ...progress import report_step
from ...user_cache import TUNING, is_sealed, prepare_folder, recall, remember, seal, user_cache_folder
from ..runtime.providers import Provider, find_providers, find_runtime_versions, parse_family
from ..runtime.session import Graph, Session, SessionOptions, open_on_first
from .canaries import Canaries, compute_session_canaries, describe_session, write_canaries
from .certificate import Certificate
from .graph_metadata import GraphMetadata, read_entries, read_metadata
from .measurement import read_measurements, write_measurements
from .model_file import check_weights, find_weights
from .provider_check import ProviderCheck, wrong_features_error

if TYPE_CHECKING:
    from .fidelity import Fidelity

GRAPH_FILE = "graph.onnx"
INPUTS_FOLDER = "inputs"
"""Folder beside a graph with tokeniser files and the like."""


@dataclass(frozen=True)
class ExportedGraph:
    """An ONNX file made by topwork; see :func:`topwork.extract.graphs.export.export`.

    Parameters
    ----------
    path : Path
    inputs : Path, optional
        Folder with the files of its input specification; by default ``inputs/`` beside it.
    fidelity : tuple of Fidelity
        What was found on the items at hand, which are not in the certificate that callers with other items share.
    """

    path: Path
    inputs: Path | None = None
    fidelity: tuple[Fidelity, ...] = ()

    @cached_property
    def metadata(self) -> GraphMetadata:
        """The description in the file, read once."""
        return read_metadata(self.path)

    @cached_property
    def input_spec(self) -> InputSpec:
        """What the graph's items are, and how they are prepared."""
        return input_spec_from_json(self.metadata.backbone["input"], self.inputs_folder)

    @property
    def inputs_folder(self) -> Path:
        """Folder with the files of the input specification."""
        return self.inputs or self.path.parent / INPUTS_FOLDER

    def open(self, provider: str = "auto", runs: int = 1) -> Session:
        """Load the graph in its own precision, on a provider that computes what the model does.

        Parameters
        ----------
        provider : str
            As for :func:`topwork.extract.runtime.session.open_session`; ``"auto"`` takes the fastest, where that was
            measured on this machine, or else the first, of those that are right.
        runs : int
            Number of batches that will be computed at a time.

        Raises
        ------
        ProviderError
            If the provider is not available, or computes other features than the model.
        DriftError
            If it no longer computes the features that it did.
        WeightsError
            If its weights are in a file beside it that is missing or was changed.
        """
        report_step("loading the graph")
        check_weights(self.path, read_entries(self.path))
        family = parse_family(self.metadata.precision)
        providers = self._sort_by_speed(find_providers(provider, family))
        check = self._provider_check
        right = [candidate for candidate in providers if check.find_refusal(candidate.name) is None]
        if not right:
            refusal = check.find_refusal(providers[0].name)
            assert refusal is not None
            raise wrong_features_error(refusal)
        options = SessionOptions(
            precision=family, threads=available_cores(), runs=runs, float32_until=self.metadata.float32_until
        )
        return open_on_first(self._loadable, right, options, check.check)

    def read_speeds(self) -> dict[str, float]:
        """Return the speeds of providers, in any unit, that were measured on this machine; none if none were."""
        speeds: dict[str, float] = recall(self._speeds_path) or {}
        return speeds

    def remember_speeds(self, speeds: Mapping[str, float]) -> None:
        """Remember the speeds of providers on this machine, for those who open the graph on ``"auto"``."""
        if self.read_speeds() != speeds:
            remember(self._speeds_path, dict(speeds))

    @property
    def _speeds_path(self) -> Path:
        conditions = [self.metadata.to_text(), find_runtime_versions(), processor(), available_cores()]
        return user_cache_folder() / TUNING / f"{digest(conditions)[:32]}.json"

    def _sort_by_speed(self, providers: list[Provider]) -> list[Provider]:
        """Return providers in descending order of their measured speeds, and behind them those without one."""
        speeds = self.read_speeds() if len(providers) > 1 else {}
        return sorted(providers, key=lambda provider: -speeds.get(provider.name, 0.0))

    @property
    def _loadable(self) -> Graph:
        """What a session loads, now and again in forked processes."""
        return self.path

    def check_batch_size(self, session: Session, batch_size: int) -> None:
        """Compare a session with the model in batches of a size, unless it was before; see :meth:`open`."""
        self._provider_check.check_batch_size(session, batch_size)

    def find_largest_batch(self, session: Session) -> int | None:
        """Return the size of the largest batch that fits into the memory; None if no size was found not to fit."""
        return self._provider_check.find_largest_batch(session)

    @property
    def _provider_check(self) -> ProviderCheck:
        original = ExportedGraph(self.path.with_name(GRAPH_FILE), self.inputs)
        has_original = original.path != self.path and original.path.is_file()
        return ProviderCheck(
            path=self.path,
            metadata=self.metadata,
            input_spec=self.input_spec,
            canaries=self.canaries,
            certificate=self._written_certificate,
            open_float32=original.open if has_original else None,
        )

    @property
    def canaries(self) -> Canaries | None:
        """Its canaries, or those that it adopted; None for a graph of an earlier version that has none."""
        own = Canaries(self.canaries_path) if self.canaries_path.is_file() else None
        is_complete = own is not None and own.has_reference
        if is_complete:
            return own
        adopted = self._adopted_canaries_path
        if adopted.is_file() and is_sealed(adopted.with_suffix(".json"), [adopted], adopted.stem):
            return Canaries(adopted)
        return own

    @property
    def _adopted_canaries_path(self) -> Path:
        key = digest([self.metadata.to_text(), self._written_certificate.to_json()])
        return user_cache_folder() / "canaries" / f"{key[:32]}.npz"

    def adopt_canaries(self, other: ExportedGraph) -> None:
        """Take the canaries of another graph of the same columns, if this one is of an earlier version without them.

        What was computed with this graph must be right: its former canaries are compared with the other graph.

        Parameters
        ----------
        other : ExportedGraph
            In the same precision; its canaries hold the features of the model.

        Raises
        ------
        DriftError
            If this graph was run by a provider that computes other features than the model.
        """
        own = self.canaries
        names = [column.name for column in self.metadata.columns]
        is_complete = own is not None and own.has_reference
        if is_complete or other.canaries is None or not set(names) <= set(other.canaries.reference):
            return
        if own is not None:
            other.check_former_canaries(own)
        adopted = self._adopted_canaries_path
        prepare_folder(adopted.parent)
        other.canaries.select(names, adopted)
        seal(adopted.with_suffix(".json"), [adopted], adopted.stem)

    def check_former_canaries(self, canaries: Canaries) -> None:
        """Raise a DriftError if this graph computes other features than a session of another graph did before."""
        self._provider_check.check_former(self.open(), canaries)

    @property
    def canaries_path(self) -> Path:
        """Path of the canaries, beside the graph."""
        return self.path.with_suffix(".canaries.npz")

    @property
    def weights_path(self) -> Path | None:
        """Path of its weights, beside the graph; None if they are in it, as those of less than 1.5 GiB are."""
        return find_weights(self.path, read_entries(self.path))

    def copy_files(self, path: Path, *, link: bool = False) -> ExportedGraph:
        """Copy the graph to another path, and its weights beside it; return the copy, which has no certificate yet.

        With `link`, files are linked, where that is possible.
        """
        copy: Callable[[Path, Path], Any] = link_or_copy if link else shutil.copyfile
        if self.weights_path is not None:
            copy(self.weights_path, path.with_name(self.weights_path.name))
        copy(self.path, path)
        return ExportedGraph(path)

    @property
    def certificate_path(self) -> Path:
        """Path of the certificate, beside the graph."""
        return self.path.with_suffix(".json")

    @property
    def certificate(self) -> Certificate:
        """The evidence from the export, from the providers that were measured, and from the items at hand."""
        written = self._written_certificate
        measurements = tuple(self._provider_check.measurements)
        return replace(written, fidelity=self.fidelity or written.fidelity, measurements=measurements)

    @property
    def _written_certificate(self) -> Certificate:
        with explain_damage(self.certificate_path):
            written = Certificate.from_json(json.loads(self.certificate_path.read_text(encoding="utf-8")))
        if not self.measurements_path.is_file():
            return written
        with explain_damage(self.measurements_path):
            measured = read_measurements(self.measurements_path)
        return replace(written, measurements=(*written.measurements, *measured))

    def write_certificate(self, certificate: Certificate) -> None:
        """Write the certificate beside the graph."""
        write_file(self.certificate_path, json.dumps(certificate.to_json(), indent=1).encode())

    def list_files(self) -> list[Path]:
        """Return the graph and the files that belong to it, without those of its input."""
        files = [self.path, self.certificate_path, self.canaries_path, self.measurements_path]
        if self.weights_path is not None:
            files.append(self.weights_path)
        return [path for path in files if path.is_file()]

    def write_session_canaries(self, session: Session) -> None:
        """Write canaries that a session computes, for a graph of an earlier version whose model is not at hand."""
        names = [column.name for column in self.metadata.columns]
        items, features = compute_session_canaries(session, self.input_spec, names)
        write_canaries(self.canaries_path, items, reference={}, former=features, origin=describe_session(session))

    @property
    def measurements_path(self) -> Path:
        """Path of measurements that were made after the certificate, beside the graph."""
        return self.path.with_suffix(".measured.json")

    def write_measurements(self) -> None:
        """Write what is known of providers beside the graph, for other users and machines."""
        write_measurements(self.measurements_path, self._provider_check.measurements)

    def __deepcopy__(self, memo: dict[int, Any]) -> ExportedGraph:
        """Share the file between copies of an estimator."""
        return self


@contextmanager
def explain_damage(path: Path) -> Iterator[None]:
    """Raise an InputError for a file whose content is not what is written into it."""
    try:
        yield
    except MALFORMED as error:
        raise InputError(f"{path} is damaged: {error!r}. Restore it from a copy, or export the graph anew.") from error


def write_inputs(spec: InputSpec, folder: Path) -> list[Path]:
    """Write an input specification's files into a folder, made if there are any; return their paths."""
    written = []
    for name, content in spec.files().items():
        folder.mkdir(exist_ok=True)
        write_file(folder / name, content)
        written.append(folder / name)
    return written
