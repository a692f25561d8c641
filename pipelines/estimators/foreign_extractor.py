"""The extractor of a store of foreign features: it knows their columns, and cannot compute any."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from ...errors import IdentityError, LayerError
from ...extract.extractor.extractor import Extractor
from ...extract.graphs.cut import Column
from ...extract.graphs.export import Samples
from ...extract.graphs.exported_graph import ExportedGraph
from ...extract.store.content import NO_BACKBONE


@dataclass(frozen=True)
class ForeignBackbone:
    """The unknown backbone of a store of foreign features, to be passed where a backbone is expected.

    It has the input identity and all columns of the store.
    """

    identity: dict[str, Any]
    columns: tuple[Column, ...]


class ForeignExtractor(Extractor):
    """Columns of a store of foreign features, selected by ``layer``; computing features raises an IdentityError."""

    @property
    def identity(self) -> dict[str, Any]:
        """The input identity of the store."""
        return self._backbone.identity

    @property
    def columns(self) -> tuple[Column, ...]:
        """The selected columns, in the order of ``layer``."""
        known = {column.name: column for column in self._backbone.columns}
        names = (self.layer,) if isinstance(self.layer, str) else tuple(self.layer)
        selected = []
        for name in names:
            if name not in known:
                raise LayerError(f"the foreign features have no column {name!r}; expected of {', '.join(known)}")
            selected.append(replace(known[name], normalize=bool(self.normalize)))
        return tuple(selected)

    @property
    def _backbone(self) -> ForeignBackbone:
        assert isinstance(self.backbone, ForeignBackbone)
        return self.backbone

    def _export(self, samples: Samples) -> ExportedGraph:
        raise IdentityError(f"the head is of foreign features: {NO_BACKBONE}")
