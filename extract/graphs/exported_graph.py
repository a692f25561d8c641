"""An exported graph on disk, described by its own metadata; read without torch and without onnx."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...atomic import write_file
from ...errors import InputError
from ...identity import digest
from ...models.input_kinds import input_spec_from_json
from ...models.input_spec import InputSpec
from ..runtime.providers import parse_family
from ..runtime.session import Session, open_session
from .canaries import check_canaries
from .certificate import Certificate
from .cut import Column, CutRequest
from .onnx_metadata import read_entries
from .pooling import AUTO

if TYPE_CHECKING:
    from .fidelity import Fidelity

METADATA_KEY = "topwork"
GRAPH_FORMAT = 1
GRAPH_FILE = "graph.onnx"
INPUTS_FOLDER = "inputs"
"""Beside a graph: tokeniser files and the like."""


@dataclass(frozen=True)
class GraphMetadata:
    """What a graph says of itself.

    Parameters
    ----------
    backbone : dict
        ``Backbone.identity()``: architecture, arguments, digest of weights, input specification.
    columns : tuple of Column
        One for each output, in order.
    float32_until : str
        Of a graph in bf16 the value before which the provider computes in float32; "" if all is in bf16.
    """

    backbone: dict[str, Any]
    columns: tuple[Column, ...]
    float32_until: str = ""

    @property
    def identity(self) -> dict[str, Any]:
        """The input identity of features that this graph computes: weights, architecture and arguments, input."""
        return self.backbone

    @property
    def fingerprint(self) -> str:
        """Digest of the input identity."""
        return digest(self.identity)

    @property
    def precision(self) -> str:
        """In which the graph computes; one for all columns."""
        return self.columns[0].precision

    @property
    def request(self) -> CutRequest:
        """What yields all the columns: their layers, each once, as they were pooled when the graph was exported."""
        layers = tuple(dict.fromkeys(column.layer for column in self.columns))
        return CutRequest(layers, (AUTO,), self.columns[0].normalize)

    def to_text(self) -> str:
        """Return the text that is kept in the ONNX file."""
        return json.dumps(
            {
                "format": GRAPH_FORMAT,
                "fingerprint": self.fingerprint,
                "backbone": self.backbone,
                "columns": [column.to_json() for column in self.columns],
                "float32_until": self.float32_until,
            },
            sort_keys=True,
        )

    @classmethod
    def from_text(cls, text: str) -> GraphMetadata:
        """Read what :meth:`to_text` wrote."""
        fields = json.loads(text)
        if fields["format"] != GRAPH_FORMAT:
            raise InputError(
                f"this graph has format {fields['format']}, expected {GRAPH_FORMAT}: another version wrote it"
            )
        columns = tuple(Column(**column) for column in fields["columns"])
        return cls(fields["backbone"], columns, fields.get("float32_until", ""))


@dataclass(frozen=True)
class ExportedGraph:
    """An ONNX file made by topwork; see :func:`topwork.extract.graphs.export.export`.

    Parameters
    ----------
    path : Path
    inputs : Path, optional
        Where the files of its input specification lie; by default in ``inputs/`` beside it.
    fidelity : tuple of Fidelity
        What was found on the items at hand; an exported graph is shared by those who have others.
    """

    path: Path
    inputs: Path | None = None
    fidelity: tuple[Fidelity, ...] = ()

    @cached_property
    def metadata(self) -> GraphMetadata:
        """What the graph says of itself, read from the file once."""
        return read_metadata(self.path)

    @cached_property
    def input_spec(self) -> InputSpec:
        """What the graph's items are, and how they are prepared."""
        return input_spec_from_json(self.metadata.backbone["input"], self.inputs or self.path.parent / INPUTS_FOLDER)

    def open(self, provider: str = "auto", runs: int = 1) -> Session:
        """Load the graph in its own precision; see :func:`topwork.extract.runtime.session.open_session`.

        Raises
        ------
        DriftError
            If it has canaries, and does not compute their features.
        """
        precision, until = parse_family(self.metadata.precision), self.metadata.float32_until
        session = open_session(self.path, provider, None, precision, runs, until)
        if self.canaries_path.is_file():
            check_canaries(self, session)
        return session

    @property
    def canaries_path(self) -> Path:
        """Where its canaries lie, if it has some: beside the graph."""
        return self.path.with_suffix(".canaries.npz")

    @property
    def certificate_path(self) -> Path:
        """Where the certificate lies: beside the graph."""
        return self.path.with_suffix(".json")

    @cached_property
    def certificate(self) -> Certificate:
        """The evidence that was gathered when the graph was exported, and on the items at hand."""
        found = Certificate.from_json(json.loads(self.certificate_path.read_text(encoding="utf-8")))
        return replace(found, fidelity=self.fidelity or found.fidelity)

    def write_certificate(self, certificate: Certificate) -> None:
        """Write the certificate beside the graph."""
        write_file(self.certificate_path, json.dumps(certificate.to_json(), indent=1).encode())
        self.__dict__.pop("certificate", None)

    def __deepcopy__(self, memo: dict[int, Any]) -> ExportedGraph:
        """Share the file between copies of an estimator."""
        return self


def write_inputs(spec: InputSpec, folder: Path) -> list[Path]:
    """Write the files of an input specification into a folder, which is made if there are any.

    Returns
    -------
    list of Path
        The files.
    """
    written = []
    for name, content in spec.files().items():
        folder.mkdir(exist_ok=True)
        write_file(folder / name, content)
        written.append(folder / name)
    return written


def write_metadata(model: Any, metadata: GraphMetadata) -> None:
    """Enter into an ``onnx.ModelProto`` what it says of itself, in place of what it said before."""
    others = [entry for entry in model.metadata_props if entry.key != METADATA_KEY]
    del model.metadata_props[:]
    model.metadata_props.extend(others)
    entry = model.metadata_props.add()
    entry.key, entry.value = METADATA_KEY, metadata.to_text()


def read_metadata(path: Path) -> GraphMetadata:
    """Return what a graph says of itself.

    Raises
    ------
    InputError
        If topwork did not make it.
    """
    entries = read_entries(path)
    if METADATA_KEY not in entries:
        raise InputError("this ONNX file was not exported by topwork: its metadata has no entry 'topwork'")
    return GraphMetadata.from_text(entries[METADATA_KEY])
