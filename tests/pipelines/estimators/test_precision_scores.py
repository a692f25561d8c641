"""Precisions, compared by the score of a head on held-out items."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from topwork import Extractor, FeatureStore, TransferClassifier, TransferRegressor
from topwork.errors import InputError, StoppedError
from topwork.extract.extractor.extractor import ItemFeatures
from topwork.extract.graphs.fidelity import Fidelity
from topwork.extract.sources.sequence import SequenceSource
from topwork.heads.registry import CLASSIFICATION
from topwork.pipelines.estimators.precision_scores import LabelledSample, choose_by_score, score_precisions

N_ITEMS = 200
LABELS = np.arange(N_ITEMS) % 4


def judge(precision: str, speed: float, error: float = 0.5, provider: str = "cpu") -> Fidelity:
    return Fidelity(precision, provider, items=64, usual=error, worst=error, speed=speed)


@dataclass
class Computing:
    """Stands for an extractor whose precisions are given: their features, and what was measured of them."""

    features: dict[str, NDArray[np.float32]]
    judged: tuple[Fidelity, ...]
    precision: str = "auto"
    provider: str = "auto"
    failing: dict[str, int] = field(default_factory=dict)
    settled: list[tuple[Any, ...]] = field(default_factory=list)
    policy: str = "record"
    session = SimpleNamespace(provider="openvino")

    @property
    def graph(self) -> Any:
        return SimpleNamespace(certificate=SimpleNamespace(fidelity=self.judged))

    def settle_on(self, *precision: Any) -> None:
        self.settled.append(precision)

    def compute(self, items: Any) -> ItemFeatures:
        precision = self.settled[-1][0]
        if self.policy == "raise" and precision in self.failing:
            raise StoppedError("not finite")
        kept = np.arange(len(items) - self.failing.get(precision, 0))
        return ItemFeatures(self.features[precision][kept], kept, [])


@pytest.fixture
def sample() -> LabelledSample:
    return LabelledSample(SequenceSource(["text"] * N_ITEMS), LABELS, None, CLASSIFICATION)


@pytest.fixture
def exact() -> NDArray[np.float32]:
    """Return features from which a head learns nearly all."""
    generator = np.random.default_rng(0)
    centres = generator.standard_normal((4, 16)) * 2
    return (centres[LABELS] + generator.standard_normal((N_ITEMS, 16))).astype(np.float32)


def spoil(features: NDArray[np.float32], noise: float) -> NDArray[np.float32]:
    return features + noise * np.random.default_rng(1).standard_normal(features.shape).astype(np.float32)


def test_fastest_precision_is_chosen_with_which_a_head_is_as_good(
    sample: LabelledSample, exact: NDArray[np.float32]
) -> None:
    features = {"fp32": exact, "bf16": spoil(exact, 0.01), "int8:a": spoil(exact, 20.0)}
    judged = (judge("bf16", 1.5), judge("int8:a", 3.0))
    computing = Computing(features, judged)
    found = choose_by_score(computing, sample)
    assert found.chosen == "bf16"
    assert [fidelity.precision for fidelity in found.compared] == ["fp32", "bf16", "int8:a"]
    fp32, bf16, int8 = found.compared
    assert (fp32.difference, fp32.uncertainty, fp32.speed, fp32.items) == (0.0, 0.0, 1.0, N_ITEMS)
    assert bf16.difference is not None
    assert int8.difference is not None
    assert abs(bf16.difference) < 0.02
    assert int8.difference < -0.2
    assert computing.settled[-1] == ("bf16", found.compared)  # the scores get into the certificate
    assert str(found).splitlines()[-1] == "precision: bf16"
    assert "held-out score" in str(bf16)


def test_precision_that_was_named_and_is_worse_is_refused(sample: LabelledSample, exact: NDArray[np.float32]) -> None:
    computing = Computing({"fp32": exact, "int8:a": spoil(exact, 20.0)}, (judge("int8:a", 3.0),), precision="int8")
    with pytest.raises(InputError, match=r"'int8' lowers the score .*int8:a on cpu.*fidelity='features'"):
        choose_by_score(computing, sample)


def test_precision_that_was_named_is_taken_if_it_is_as_good_however_slow(
    sample: LabelledSample, exact: NDArray[np.float32]
) -> None:
    features = {"fp32": exact, "fp16": exact}
    named = score_precisions(Computing(features, (judge("fp16", 0.5),), precision="fp16"), sample)
    assert named.chosen == "fp16"
    free = score_precisions(Computing(features, (judge("fp16", 0.5),)), sample)
    assert free.chosen == "fp32"
    assert {fidelity.precision: fidelity.score is None for fidelity in free.compared} == {"fp16": True, "fp32": False}


def test_without_any_other_precision_float32_alone_is_scored(
    sample: LabelledSample, exact: NDArray[np.float32]
) -> None:
    found = choose_by_score(Computing({"fp32": exact}, ()), sample)
    assert found.chosen == "fp32"
    assert [fidelity.provider for fidelity in found.compared] == ["openvino"]


def test_of_the_providers_of_a_precision_one_is_scored_that_is_close_enough(
    sample: LabelledSample, exact: NDArray[np.float32]
) -> None:
    judged = (judge("bf16", 2.0, provider="wrong"), judge("bf16", 1.4, error=0.01, provider="right"))
    found = score_precisions(Computing({"fp32": exact, "bf16": exact}, judged), sample)
    assert [fidelity.provider for fidelity in found.compared if fidelity.precision == "bf16"] == ["right"]


def test_of_a_family_the_fastest_is_scored_and_the_fastest_that_is_close_enough(
    sample: LabelledSample, exact: NDArray[np.float32]
) -> None:
    judged = (judge("bf16", 3.0), judge("bf16:a", 2.5), judge("bf16:b", 2.0, 0.01), judge("bf16:c", 1.5, 0.01))
    features = dict.fromkeys(["fp32", *(fidelity.precision for fidelity in judged)], exact)
    found = score_precisions(Computing(features, judged), sample)
    assert [fidelity.precision for fidelity in found.compared] == ["fp32", "bf16:b", "bf16"]


@pytest.mark.parametrize("policy", ["record", "raise"])
def test_precision_that_fails_for_items_is_not_taken(
    policy: str, sample: LabelledSample, exact: NDArray[np.float32]
) -> None:
    features = {"fp32": exact, "fp16": exact}
    computing = Computing(features, (judge("fp16", 2.0),), failing={"fp16": 3}, policy=policy)  # overflows
    found = score_precisions(computing, sample)
    assert found.chosen == "fp32"
    assert found.compared[-1].score is None


def test_precision_given_up_on_a_part_of_the_items_has_no_paired_difference() -> None:
    labels = np.arange(3000) % 4
    generator = np.random.default_rng(0)
    exact = (generator.standard_normal((4, 16))[labels] + 0.5 * generator.standard_normal((3000, 16))).astype("f4")
    sample = LabelledSample(SequenceSource(["text"] * 3000), labels, None, CLASSIFICATION)
    computing = Computing({"fp32": exact, "int8:a": spoil(exact, 30.0)}, (judge("int8:a", 3.0),))
    found = score_precisions(computing, sample)
    assert found.chosen == "fp32"
    assert found.compared[-1].uncertainty is None
    assert "±" not in str(found.compared[-1])


# On real graphs: photographs of four colours, which int8 tells apart.


@pytest.fixture(scope="module")
def coloured() -> tuple[list[NDArray[np.uint8]], NDArray[np.intp]]:
    generator = np.random.default_rng(0)
    colours = np.array([[220, 40, 40], [40, 220, 40], [40, 40, 220], [200, 200, 60]])
    noisy = [colours[label] + generator.integers(-30, 30, (40, 40, 3)) for label in LABELS[:64]]
    return [image.clip(0, 255).astype(np.uint8) for image in noisy], LABELS[:64]


def test_classifier_takes_a_named_precision_by_its_score(
    coloured: tuple[list[NDArray[np.uint8]], NDArray[np.intp]], graph_cache: Path
) -> None:
    images, labels = coloured
    model = TransferClassifier(precision="int8", fidelity="score", cv=0).fit(images, labels)
    assert model.extractor_.precision_.startswith("int8:")
    assert model.precisions_ is not None
    assert {fidelity.precision for fidelity in model.precisions_.compared} == {"fp32", model.extractor_.precision_}
    assert model.extractor_.graph.certificate.fidelity == model.precisions_.compared
    assert (model.predict(images) == labels).all()


def test_regressor_takes_a_precision_by_its_score(graph_cache: Path) -> None:
    levels = np.arange(64) * 3
    images = [np.full((40, 40, 3), level, np.uint8) for level in levels]
    model = TransferRegressor(precision="int8", fidelity="score", cv=0)
    try:
        model.fit(images, levels)
    except InputError as error:
        assert "lowers the score" in str(error)  # noqa: PT017
    else:
        assert model.extractor_.precision_.startswith("int8:")


def test_features_of_a_store_or_a_graph_keep_their_precision(
    coloured: tuple[list[NDArray[np.uint8]], NDArray[np.intp]], graph_cache: Path, tmp_path: Path
) -> None:
    images, labels = coloured
    TransferClassifier(store=tmp_path / "store", cv=0).fit(images, labels)
    store = FeatureStore.open(tmp_path / "store")
    graph = Extractor().fit(images).graph
    for fixed, items in (
        (TransferClassifier(store=tmp_path / "store", fidelity="score", cv=0), images),
        (TransferClassifier.from_store(store, fidelity="score", cv=0), store),
        (TransferClassifier.from_graph(graph, fidelity="score", cv=0), images),
    ):
        with pytest.warns(UserWarning, match="has no effect"):
            assert fixed.fit(items, labels).precisions_ is None


def test_precision_of_a_new_store_may_be_chosen_by_the_score(
    coloured: tuple[list[NDArray[np.uint8]], NDArray[np.intp]], graph_cache: Path, tmp_path: Path
) -> None:
    images, labels = coloured
    made = TransferClassifier(store=tmp_path / "store", fidelity="score", precision="int8", cv=0).fit(images, labels)
    assert made.precisions_ is not None
    assert {column.precision for column in FeatureStore.open(tmp_path / "store").columns} == {made.precisions_.chosen}
