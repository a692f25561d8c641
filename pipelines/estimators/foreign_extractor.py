"""What stands where an extractor stands when features are foreign: it knows their columns, and computes none."""

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
    """The unknown backbone of a store of foreign features; it can stand where a backbone is asked for.

    Parameters
    ----------
    identity : dict
        The store's.
    columns : tuple of Column
    """

    identity: dict[str, Any]
    columns: tuple[Column, ...]


class ForeignExtractor(Extractor):
    """Columns of a store of foreign features, chosen by ``layer``; whatever would compute features raises."""

    @property
    def identity(self) -> dict[str, Any]:
        """The identity of the store."""
        return self._backbone.identity

    @property
    def columns(self) -> tuple[Column, ...]:
        """The chosen columns, in the order of ``layer``."""
        known = {column.name: replace(column, normalize=bool(self.normalize)) for column in self._backbone.columns}
        names = (self.layer,) if isinstance(self.layer, str) else tuple(self.layer)
        for name in names:
            if name not in known:
                raise LayerError(f"the foreign features have no column {name!r}; expected of {', '.join(known)}")
        return tuple(known[name] for name in names)

    @property
    def _backbone(self) -> ForeignBackbone:
        assert isinstance(self.backbone, ForeignBackbone)
        return self.backbone

    def _export(self, samples: Samples) -> ExportedGraph:
        raise IdentityError(f"the head is of foreign features: {NO_BACKBONE}")
