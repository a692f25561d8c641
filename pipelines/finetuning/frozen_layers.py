"""Features of frozen layers, from maps: what trained layers are compared with, and which layer the head may sit on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING

import numpy as np

from ...errors import InputError, LayerError, ParityError
from ...extract.graphs.candidate_layers import choose_candidate_layers, choose_candidate_poolings
from ...extract.graphs.cut import CutRequest, choose
from ...extract.graphs.cutting import cutter_for
from ...extract.graphs.export import make_columns
from ...extract.graphs.layer import INPUT
from ...heads.feature_comparison import choose_features
from ...heads.folds import draw_sample
from ...heads.registry import CLASSIFICATION
from ...heads.targets import encode_labels
from ...progress import report_step
from ..estimators.candidate_features import MAX_ITEMS, find_named_layers, is_automatic
from ..estimators.cut_search import Candidate, CutSearch, Features, list_candidates, search_cut
from .network import compute_frozen

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ...models.backbone import TorchBackbone
    from .stored_maps import StoredMaps
    from .tuning import Task


class FrozenLayers:
    """The layers from the lowest cut upwards, of which features are computed from the maps of the cuts.

    Parameters
    ----------
    backbone : TorchBackbone
    maps : mapping of str to StoredMaps
        Of each cut, in order of execution.
    pool : str
        How the layers are pooled; "auto" compares several poolings.
    train_batch_norm : bool
        As the layers are traced for training; it changes nothing here.
    device : str
        Where they are computed.
    """

    def __init__(
        self,
        backbone: TorchBackbone,
        maps: Mapping[str, StoredMaps],
        *,
        pool: str,
        train_batch_norm: bool,
        device: str,
    ) -> None:
        self.backbone = backbone
        self.maps = maps
        self.train_batch_norm = train_batch_norm
        self.device = device
        cutter = cutter_for(backbone)
        listed = cutter.layers()
        self.costs = {INPUT: 0.0, **{layer.name: layer.flops for layer in listed}}
        """Share of the model's computation that each layer needs."""
        self.lowest = next(iter(maps))
        self.ends = [
            layer.name for layer in choose_candidate_layers(listed) if self.lies_below(self.lowest, layer.name)
        ]
        if not self.ends:
            raise LayerError(f"no layer above {self.lowest!r} can be trained; expected from_layer= further below")
        names = [*self.ends, *(cut for cut in maps if cut not in (INPUT, *self.ends))]
        layers = find_named_layers(listed, names)
        pools = choose_candidate_poolings(layers) if is_automatic(pool) else (pool,)
        self.has_own_first = is_automatic(pool)
        self.cut = choose(cutter, CutRequest(tuple(layer.name for layer in layers), pools))

    def lies_below(self, layer: str, other: str) -> bool:
        """Return whether a layer needs less of the model's computation than another."""
        return self.costs[layer] < self.costs[other]

    def search(self, task: Task) -> CutSearch | None:
        """Compare the features of the layers by rows that training, or its end, depends on; None for too few rows."""
        known = task.division.known
        known = known[task.is_original[known]]
        rows = known[draw_sample(task.y[known], MAX_ITEMS)]
        report_step(f"comparing frozen layers on {len(rows)} rows")
        matrices = self.compute(self.cut.names, rows)
        reached = [chosen for name, chosen in zip(self.cut.names, self.cut.chosen, strict=True) if name in matrices]
        columns = make_columns(
            replace(self.cut, chosen=tuple(reached)), [matrix.shape[1] for matrix in matrices.values()]
        )
        candidates = list_candidates(columns, self.costs, has_own_first=self.has_own_first)
        targets = task.y[rows]
        if task.name == CLASSIFICATION:
            targets = encode_labels(targets)[1]
        groups = None if task.groups is None else task.groups[rows]
        try:
            return search_cut(Features(matrices, targets, groups, candidates), task.name)
        except InputError:  # nothing can be held out
            return None

    def choose_end(self, search: CutSearch) -> Candidate:
        """Return the layer above the lowest cut, and its pooling, to put the head on.

        It is the deepest one whose frozen features are as good as the best: late layers are removed where they cost
        accuracy.
        """
        single = {name: found for name, found in search.candidates.items() if len(found.layers) == 1}
        ends = {name: found for name, found in single.items() if found.layers[0] in self.ends}
        scores = {name: search.scores[name] for name in ends}
        return ends[choose_features(scores, lambda name: (-ends[name].depth, ends[name].width)).chosen]

    def compute_candidate(self, candidate: Candidate) -> NDArray[np.float32]:
        """Return the features of a candidate ``(n_rows, n_features)``, of all rows."""
        matrices = self.compute(candidate.columns, np.arange(len(self.maps[self.lowest])))
        return np.concatenate([matrices[name] for name in candidate.columns], axis=1)

    def compute(self, names: Sequence[str], rows: NDArray[np.intp]) -> dict[str, NDArray[np.float32]]:
        """Return the features of some rows, by the names of their columns.

        Columns of a layer that cannot be computed from the value of a cut alone are left out.
        """
        matrices: dict[str, NDArray[np.float32]] = {}
        wanted = [
            (name, *chosen) for name, chosen in zip(self.cut.names, self.cut.chosen, strict=True) if name in names
        ]
        for layer, group in groupby(wanted, key=itemgetter(1)):
            columns = [(name, pool) for name, _, pool in group]
            cut = self.find_cut(layer.name)
            try:
                features = compute_frozen(
                    self.backbone,
                    cut,
                    layer,
                    [pool for _, pool in columns],
                    self.maps[cut][rows],
                    train_batch_norm=self.train_batch_norm,
                    device=self.device,
                )
            except (LayerError, ParityError):
                continue
            matrices.update({name: matrix for (name, _), matrix in zip(columns, features, strict=True)})
        return matrices

    def find_cut(self, layer: str) -> str:
        """Return the uppermost cut that a layer is computed from, which may be the layer itself."""
        if layer in self.maps:
            return layer
        return [cut for cut in self.maps if self.lies_below(cut, layer)][-1]
