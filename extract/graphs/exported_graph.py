"""An exported graph on disk, described by its own metadata; read without torch and without onnx."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...atomic import write_file
from ...models.input_kinds import input_spec_from_json
from ...models.input_spec import InputSpec
from ..runtime.providers import parse_family
from ..runtime.session import Session, open_session
from .canaries import Canaries
from .certificate import Certificate
from .graph_metadata import GraphMetadata, read_metadata

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
        folder = self.inputs or self.path.parent / INPUTS_FOLDER
        return input_spec_from_json(self.metadata.backbone["input"], folder)

    def open(self, provider: str = "auto", runs: int = 1) -> Session:
        """Load the graph in its own precision; see :func:`topwork.extract.runtime.session.open_session`.

        Raises
        ------
        DriftError
            If it has canaries, and no longer computes their features.
        """
        session = open_session(
            self.path,
            provider,
            precision=parse_family(self.metadata.precision),
            runs=runs,
            float32_until=self.metadata.float32_until,
        )
        if self.canaries_path.is_file():
            self.canaries.check(session)
        return session

    @cached_property
    def canaries(self) -> Canaries:
        """Its canaries, which not every graph has."""
        return Canaries(self.canaries_path, self.input_spec, self.metadata)

    @property
    def canaries_path(self) -> Path:
        """Path of the canaries, beside the graph."""
        return self.path.with_suffix(".canaries.npz")

    @property
    def certificate_path(self) -> Path:
        """Path of the certificate, beside the graph."""
        return self.path.with_suffix(".json")

    @cached_property
    def certificate(self) -> Certificate:
        """The evidence from the export, and from the items at hand."""
        text = self.certificate_path.read_text(encoding="utf-8")
        certificate = Certificate.from_json(json.loads(text))
        return replace(certificate, fidelity=self.fidelity or certificate.fidelity)

    def write_certificate(self, certificate: Certificate) -> None:
        """Write the certificate beside the graph."""
        write_file(self.certificate_path, json.dumps(certificate.to_json(), indent=1).encode())
        self.__dict__.pop("certificate", None)

    def __deepcopy__(self, memo: dict[int, Any]) -> ExportedGraph:
        """Share the file between copies of an estimator."""
        return self


def write_inputs(spec: InputSpec, folder: Path) -> list[Path]:
    """Write an input specification's files into a folder, made if there are any; return their paths."""
    written = []
    for name, content in spec.files().items():
        folder.mkdir(exist_ok=True)
        write_file(folder / name, content)
        written.append(folder / name)
    return written
