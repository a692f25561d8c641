"""Precisions are judged on items, chosen, remembered, and part of what a column is."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import topwork
from PIL import Image
from topwork.errors import IdentityError, InputError, ProviderError
from topwork.extract.engine.run_config import RunConfig
from topwork.extract.engine.sampling import draw_items
from topwork.extract.extractor.extractor import Extractor
from topwork.extract.graphs import fidelity
from topwork.extract.graphs.exported_graph import ExportedGraph
from topwork.extract.graphs.fidelity import Fidelity, relative_errors
from topwork.extract.precision import trial
from topwork.extract.precision.choice import MIN_ITEMS_TO_SEARCH, choose_precision, count_trial_items, find_candidates
from topwork.extract.precision.lowered import Lowering, locate_lowered_graph
from topwork.extract.precision.trial import Trial
from topwork.extract.preprocess.preprocessor import Prepared
from topwork.extract.runtime.providers import PROVIDERS, explain_absence, find_rivals
from topwork.extract.store.feature_store import FeatureStore
from topwork.models.input_spec import InputSpec
from topwork.pipelines.cli.main import app
from typer.testing import CliRunner

PROVIDER_OF = {"bf16": "openvino", "int8": "cpu"}
IMAGES = np.random.default_rng(0).integers(0, 256, (40, 32, 32, 3), dtype=np.uint8)


def tiny(**options: object) -> Extractor:
    return Extractor("topwork:tiny", **options)  # type: ignore[arg-type]


def features(precision: str) -> np.ndarray:
    return tiny(precision=precision).fit_transform(IMAGES)


def test_errors_are_of_each_item_and_its_worst_column() -> None:
    expected = [(np.array([3.0, 4.0]), np.array([1.0])), (np.zeros(2), np.array([1.0]))]
    found = [(np.array([3.0, 4.5]), np.array([1.2])), (np.zeros(2), np.array([np.nan]))]
    assert relative_errors(found, expected) == [pytest.approx(0.2), np.inf]
    assert relative_errors(expected, expected) == [0, 0]


@pytest.mark.parametrize(
    ("usual", "worst", "passes"), [(0.019, 0.049, True), (0.021, 0.03, False), (0.01, 0.051, False)]
)
def test_gate_looks_at_the_usual_and_the_worst_item(usual: float, worst: float, passes: bool) -> None:
    assert Fidelity("bf16", "openvino", 256, usual, worst, 2.0).passes is passes


def test_float16_computes_nearly_the_same_and_says_so() -> None:
    extractor = tiny(precision="fp16", provider="cpu").fit(IMAGES)
    found = extractor.transform(IMAGES)
    expected = features("fp32")
    assert 0 < np.linalg.norm(found - expected) / np.linalg.norm(expected) < 5e-3
    assert found.dtype == np.float32
    assert {column.precision for column in extractor.columns} == {"fp16"}
    (judged,) = extractor.graph.certificate.fidelity
    assert (judged.precision, judged.provider, judged.items) == ("fp16", "cpu", 40)
    assert 0 < judged.usual <= judged.worst < 5e-3


@pytest.mark.needs("bf16")
def test_bfloat16_computes_nearly_the_same_and_says_so() -> None:
    extractor = tiny(precision="bf16").fit(IMAGES)
    found, expected = extractor.transform(IMAGES), features("fp32")
    assert 1e-4 < np.linalg.norm(found - expected) / np.linalg.norm(expected) < 2e-2
    assert extractor.session.precision == extractor.precision_ == "bf16"
    assert extractor.graph.certificate.precision == "bf16"


@pytest.mark.parametrize("precision", ["bf16", "int8"])
def test_named_precision_that_this_machine_lacks_is_an_error(precision: str, disable: Callable[..., None]) -> None:
    disable(precision)
    with pytest.raises(ProviderError) as error:
        tiny(precision=precision).fit_transform(IMAGES)
    assert precision in str(error.value)
    assert error.value.exit_code == 3
    with pytest.raises(ProviderError, match=f"{precision}|openvino"):
        tiny(precision=precision, provider=PROVIDER_OF[precision]).fit_transform(IMAGES)


def test_auto_stays_in_float32_where_nothing_computes_lower_precisions(disable: Callable[..., None]) -> None:
    disable("int8", "bf16", "openvino")
    assert find_candidates("auto") == []
    extractor = tiny().fit(IMAGES)
    assert extractor.precision_ == "fp32"
    assert extractor.graph.certificate.fidelity == ()
    assert extractor.session.provider == "cpu"
    np.testing.assert_allclose(extractor.transform(IMAGES[:3]), features("fp32")[:3], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("judged", "expected"),
    [
        (Fidelity("bf16", "openvino", 40, 1e-3, 2e-3, 2.0), "bf16"),
        (Fidelity("bf16", "openvino", 40, 3e-2, 4e-2, 2.0), "fp32"),
        (Fidelity("bf16", "openvino", 40, 1e-3, 2e-3, 1.05), "fp32"),
    ],
)
def test_auto_takes_what_passes_and_gains(judged: Fidelity, expected: str, graph_copy: ExportedGraph) -> None:
    class Judged(Trial):
        def judge(self, family: str) -> Iterator[Fidelity]:
            yield from [judged] if family == "bf16" else []

    Lowering("bf16").write(graph_copy)
    chosen = choose_precision(graph_copy, RunConfig(), draw, candidates=["bf16"], trial_type=Judged)
    assert chosen.metadata.precision == expected
    assert chosen.certificate.fidelity == (judged,)


def test_auto_runs_on_the_provider_that_was_the_fastest(graph_copy: ExportedGraph) -> None:
    shutil.copy(tiny(precision="fp32").graph.canaries_path, graph_copy.canaries_path)
    names = [provider.name for provider in find_rivals("auto", "fp32")]
    if len(names) < 2:
        pytest.skip("there is one provider")
    for fastest in names:
        speeds = {name: 1.0 if name == fastest else 0.5 for name in names}
        judged = [Fidelity("fp32", name, 40, 0.0, 0.0, speed) for name, speed in speeds.items()]

        class Judged(Trial):
            def judge(self, family: str, judged: list[Fidelity] = judged) -> Iterator[Fidelity]:
                yield from judged if family == "fp32" else []

            def digest(self, fastest: str = fastest) -> str:
                return fastest

        chosen = choose_precision(graph_copy, RunConfig(), draw, candidates=["bf16"], trial_type=Judged)
        assert chosen.certificate.fidelity == tuple(judged)
        assert chosen.open().provider == fastest
        assert chosen.open("cpu").provider == "cpu"
    choose_precision(graph_copy, RunConfig(provider="cpu"), draw, candidates=["fp16"])
    assert graph_copy.read_speeds() == speeds  # of a provider that was named nothing is learned about the others


def test_a_provider_that_is_not_close_enough_is_not_preferred(graph_copy: ExportedGraph) -> None:
    class Judged(Trial):
        def judge(self, family: str) -> Iterator[Fidelity]:
            if family == "fp16":
                yield Fidelity("fp16", "openvino", 40, 0.03, 0.04, 3.0)
                yield Fidelity("fp16", "cpu", 40, 0.001, 0.002, 2.0)

    Lowering("fp16").write(graph_copy)
    chosen = choose_precision(graph_copy, RunConfig(), draw, candidates=["fp16"], trial_type=Judged)
    assert (chosen.metadata.precision, chosen.read_speeds()) == ("fp16", {"cpu": 2.0})


@pytest.mark.parametrize(("n_items", "expected"), [(40, "fp16"), (MIN_ITEMS_TO_SEARCH, "int8:blocks")])
def test_blocks_are_tried_beside_what_would_do_in_long_jobs(
    n_items: int, expected: str, graph_copy: ExportedGraph
) -> None:
    class Judged(Trial):
        def judge(self, family: str) -> Iterator[Fidelity]:
            if family == "fp16":
                yield Fidelity("fp16", "cpu", 40, 0.001, 0.002, 2.0)

        def judge_products(self) -> Iterator[Fidelity]:
            yield Fidelity("int8:blocks", "cpu", 40, 0.01, 0.02, 3.0)

    lowered = Lowering("fp16").write(graph_copy)
    shutil.copy(lowered.path, locate_lowered_graph(graph_copy, "int8:blocks").path)
    chosen = choose_precision(
        graph_copy, RunConfig(), draw, candidates=["fp16", "int8"], n_items=n_items, trial_type=Judged
    )
    assert chosen.path == locate_lowered_graph(graph_copy, expected).path


@pytest.mark.parametrize(
    ("n_items", "expected"),
    [(None, (256, 128)), (100_000, (256, 128)), (2048, (256, 128)), (800, (100, 100)), (244, (32, 32)), (5, (32, 32))],
)
def test_fewer_items_judge_short_jobs(n_items: int | None, expected: tuple[int, int]) -> None:
    assert count_trial_items(n_items) == expected


class Unused(Trial):
    """A trial that must not take place."""

    def judge(self, family: str) -> Iterator[Fidelity]:
        pytest.fail("judged")


@pytest.fixture
def graph_copy(tmp_path: Path) -> ExportedGraph:
    """Return a copy of a graph, for which nothing is remembered yet."""
    graph = tiny(precision="fp32").graph
    for path in (graph.path, graph.certificate_path):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    return ExportedGraph(tmp_path / graph.path.name)


def draw(specs: Sequence[InputSpec], most: int) -> list[tuple[Prepared, ...]]:
    return draw_items(IMAGES, specs, most)


def test_precision_that_the_provider_does_not_load_is_no_candidate_of_auto(graph_copy: ExportedGraph) -> None:
    class Refused(Trial):
        def judge(self, family: str) -> Iterator[Fidelity]:
            raise ProviderError("no implementation")

    chosen = choose_precision(graph_copy, RunConfig(), draw, candidates=["bf16"], trial_type=Refused)
    assert chosen.path == graph_copy.path
    with pytest.raises(ProviderError):
        choose_precision(graph_copy, RunConfig(precision="bf16"), draw, trial_type=Refused)


def test_same_items_are_judged_once(graph_copy: ExportedGraph) -> None:
    config = RunConfig(provider="cpu", precision="fp16")
    first = choose_precision(graph_copy, config, draw)
    assert choose_precision(graph_copy, config, draw, trial_type=Unused).path == first.path


def test_no_items_are_drawn_where_there_is_no_choice(graph_copy: ExportedGraph) -> None:
    def refuse(specs: Sequence[InputSpec], count: int) -> list[tuple[Prepared, ...]]:
        pytest.fail("items were drawn")

    assert choose_precision(graph_copy, RunConfig(precision="fp32"), refuse) is graph_copy
    assert choose_precision(graph_copy, RunConfig(), refuse, candidates=[]) is graph_copy


def test_without_items_auto_is_float32() -> None:
    assert tiny().fit(None).precision_ == "fp32"
    assert {column.precision for column in tiny().columns} == {"fp32"}


@pytest.fixture(scope="module")
def photos(hymenoptera: Path) -> list[str]:
    return [str(photo) for photo in sorted((hymenoptera / "val").rglob("*.jpg"))[:32]]


@pytest.fixture(scope="module")
def mobilenet(mobilenet_options: dict[str, Any]) -> ExportedGraph:
    """Return the graph of a real model that rounding hurts."""
    return Extractor(topwork.load_backbone("timm:mobilenetv2_035", **mobilenet_options)).graph


@pytest.mark.needs("bf16")
def test_real_model_that_rounding_would_spoil_stays_in_float32(mobilenet: ExportedGraph, photos: list[str]) -> None:
    chosen = choose_precision(mobilenet, RunConfig(), partial(draw_items, photos), candidates=["bf16"])
    assert chosen.certificate.fidelity[0].precision == "bf16"
    assert chosen.certificate.fidelity[0].usual > 2e-2
    assert chosen.metadata.precision == "fp32"


def test_real_model_keeps_operations_in_float32_where_rounding_hurts_most(
    mobilenet: ExportedGraph, photos: list[str]
) -> None:
    """Emulated float16 is not fast on processors, so any speed is accepted."""
    draw_photos = partial(draw_items, photos)
    chosen = choose_precision(mobilenet, RunConfig(provider="cpu"), draw_photos, candidates=["fp16"], min_speedup=0)
    whole, mixed = chosen.certificate.fidelity
    assert whole.usual > 2e-2 > mixed.usual
    assert 0 < mixed.kept < 52 / 2 + 4
    assert chosen.metadata.precision == mixed.precision
    assert mixed.precision.startswith("fp16:")


def test_judging_few_items_would_take_longer_than_it_saves(graph_copy: ExportedGraph) -> None:
    few = partial(draw_items, IMAGES[:31])
    chosen = choose_precision(graph_copy, RunConfig(), few, candidates=["fp16"], trial_type=Unused)
    assert chosen.metadata.precision == "fp32"


def test_others_stand_in_for_items_that_cannot_be_used(photos: list[str], tmp_path: Path) -> None:
    for number in range(20):
        (tmp_path / f"{number}.jpg").write_bytes(b"no image")
    given = [*photos, *(tmp_path / f"{number}.jpg" for number in range(5))]
    specs = [topwork.load_backbone("topwork:tiny", decode=mode).input_spec for mode in ("fast", "exact")]
    found = draw_items(given, specs, len(photos))
    assert len(found) == len(photos)
    assert {len(ways) for ways in found} == {2}
    assert len({ways[1].array.tobytes() for ways in found}) == len(photos)


@pytest.fixture(scope="module")
def fast_graph() -> ExportedGraph:
    """Return a graph whose images are decoded fast."""
    return Extractor(topwork.load_backbone("topwork:tiny", decode="fast")).graph


def test_broken_images_do_not_stop_the_judging_of_fast_decoding(
    fast_graph: ExportedGraph, photos: list[str], tmp_path: Path
) -> None:
    for number in range(20):
        (tmp_path / f"{number}.jpg").write_bytes(b"no image")
    given = [*photos, *(str(tmp_path / f"{number}.jpg") for number in range(20))]
    config = RunConfig(provider="cpu", on_error="record")
    chosen = choose_precision(fast_graph, config, partial(draw_items, given), candidates=["fp16"])
    judged = chosen.certificate.fidelity
    assert [fidelity.precision for fidelity in judged] == ["fp16", "fp32"]
    assert {fidelity.items for fidelity in judged} == {len(photos)}


def test_fidelity_is_that_of_the_given_items(tmp_path: Path) -> None:
    """Extractors share the exported graph, and each has items of its own."""
    first, second = (tiny(precision="fp16", provider="cpu").fit(images) for images in (IMAGES[:9], IMAGES[:20]))
    assert [e.graph.certificate.fidelity[0].items for e in (first, second)] == [9, 20]
    stored = FeatureStore.create(tmp_path / "s", first)
    assert [fidelity.items for fidelity in stored.graph.certificate.fidelity] == [9]
    assert tiny(precision="fp16", provider="cpu").fit(None).graph.certificate.fidelity == ()


def test_fast_decoding_is_judged_on_few_items(fast_graph: ExportedGraph, photos: list[str]) -> None:
    few = partial(draw_items, photos[:5])
    chosen = choose_precision(fast_graph, RunConfig(provider="cpu"), few, candidates=["int8", "fp16"])
    (judged,) = chosen.certificate.fidelity
    assert (judged.precision, judged.items, chosen.metadata.precision) == ("fp32", 5, "fp32")
    assert judged.usual > 0


def test_trial_says_why_a_provider_does_not_take_part(graph_copy: ExportedGraph) -> None:
    absent = next(provider.name for provider in PROVIDERS.values() if explain_absence(provider))

    class Hopeful(Trial):
        def _find_rivals(self, family: str) -> list[str]:
            return [absent, "cpu"]

    items = [ways[0] for ways in draw([graph_copy.input_spec], 40)]
    trial = Hopeful(
        graph=graph_copy, provider="auto", items=items, originals=items, calibrating=items, is_automatic=True
    )
    assert [fidelity.provider for fidelity in trial.judge("fp32")] == ["cpu"]
    (failure,) = trial.failures
    assert failure.startswith(f"fp32 on {absent}: provider '{absent}' is not available")
    assert trial.float32_rate > 0


def test_items_that_are_decoded_exactly_are_computed_once(
    graph_copy: ExportedGraph, monkeypatch: pytest.MonkeyPatch
) -> None:
    items = [ways[0] for ways in draw([graph_copy.input_spec], 40)]
    once = Trial(graph_copy, "cpu", items, items, items, is_automatic=True)
    assert once.float32_rate > 0
    monkeypatch.setattr(trial, "infer", lambda *_: pytest.fail("computed again"))
    (judged,) = once.judge("fp32")
    assert (judged.usual, judged.worst) == (0.0, 0.0)


@pytest.mark.parametrize("precision", ["half", "", "FP32"])
def test_unknown_precision_is_refused_with_the_known_ones(precision: str) -> None:
    with pytest.raises(InputError, match="auto, fp32, bf16, fp16, int8"):
        tiny(precision=precision).fit(IMAGES)


def test_store_keeps_its_precision(tmp_path: Path) -> None:
    made = FeatureStore.create(tmp_path / "s", tiny(precision="fp16", provider="cpu").fit(IMAGES))
    assert {column.precision for column in made.columns} == {"fp16"}
    topwork.extract_features(IMAGES[:5], made)
    again = FeatureStore.open_or_create(tmp_path / "s", automatic := tiny())
    topwork.extract_features(IMAGES[5:9], again)
    assert len(again.ids) == 9
    assert automatic.precision_ == "fp16"
    expected = tiny(precision="fp16", provider="cpu").fit_transform(IMAGES[:5])
    np.testing.assert_allclose(again.matrix("last")[:5], expected, rtol=1e-3, atol=1e-3)
    with pytest.raises(IdentityError, match=r'precision is "fp32", expected "fp16"'):
        FeatureStore.open_or_create(tmp_path / "s", tiny(precision="fp32"))


def test_classifier_predicts_as_its_store_was_computed(tmp_path: Path) -> None:
    FeatureStore.create(tmp_path / "s", tiny(precision="fp16", provider="cpu").fit(IMAGES))
    classifier = topwork.TransferClassifier("topwork:tiny", head="centroid", store=tmp_path / "s")
    classifier.fit(IMAGES[:10], [0, 1] * 5)
    assert {column.precision for column in classifier.extractor_.columns} == {"fp16"}
    classifier.save(tmp_path / "bundle")
    loaded = topwork.load(tmp_path / "bundle")
    assert {column.precision for column in loaded.extractor_.columns} == {"fp16"}
    np.testing.assert_array_equal(loaded.predict(IMAGES), classifier.predict(IMAGES))


def test_graph_that_is_given_keeps_its_precision() -> None:
    graph = tiny(precision="fp32").graph
    assert Extractor.from_graph(graph).fit(IMAGES).graph is graph
    with pytest.raises(InputError, match="fp32, not in bf16"):
        Extractor.from_graph(graph, precision="bf16").fit(IMAGES)


def test_fast_decoding_is_compared_with_exact_decoding(tmp_path: Path) -> None:
    large = np.random.default_rng(1).integers(0, 256, (6, 20, 26, 3), dtype=np.uint8)
    paths = [tmp_path / f"{number}.jpg" for number in range(len(large))]
    for path, pixels in zip(paths, large, strict=True):
        Image.fromarray(pixels).resize((416, 320)).save(path, quality=95)
    extractor = Extractor(topwork.load_backbone("topwork:tiny", decode="fast"), precision="fp32", provider="cpu")
    found = extractor.fit_transform(paths)
    expected = tiny(precision="fp32", provider="cpu").fit_transform(paths)
    (judged,) = extractor.graph.certificate.fidelity
    errors = np.linalg.norm(found - expected, axis=1) / np.linalg.norm(expected, axis=1)
    assert (judged.precision, judged.items) == ("fp32", 6)
    assert judged.worst == pytest.approx(errors.max(), rel=1e-3)
    assert 0 < judged.worst < 0.2


@pytest.mark.needs("int8")
def test_int8_that_fails_as_a_whole_keeps_float32_where_it_hurts(
    graph_copy: ExportedGraph, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bound is set between the error of the whole and that of a half."""
    named = choose_precision(graph_copy, RunConfig(provider="cpu", precision="int8"), draw)
    (whole,) = named.certificate.fidelity
    for module in (trial, fidelity):
        monkeypatch.setattr(module, "MAX_P99_ERROR", 0.8 * whole.usual)
    chosen = choose_precision(graph_copy, RunConfig(provider="cpu"), draw, candidates=["int8"], min_speedup=0)
    first, mixed = chosen.certificate.fidelity
    assert (first.precision, first.kept, first.passes) == (whole.precision, 0, False)
    assert mixed.passes
    assert mixed.kept > 0
    assert chosen.metadata.precision == mixed.precision != whole.precision


@pytest.mark.needs("int8")
def test_int8_of_a_store_is_used_by_every_extractor(tmp_path: Path) -> None:
    extractor = tiny(precision="int8", provider="cpu").fit(IMAGES)
    assert extractor.precision_.startswith("int8:")
    topwork.extract_features(IMAGES[:9], FeatureStore.create(tmp_path / "s", extractor), provider="cpu")
    for user in (tiny(provider="cpu"), tiny(precision="int8", provider="cpu")):
        store = FeatureStore.open_or_create(tmp_path / "s", user)
        assert user.precision_ == extractor.precision_
        np.testing.assert_allclose(user.transform(IMAGES[:9]), store.matrix("last"), rtol=1e-4, atol=1e-4)
    other = tiny(precision="int8", provider="cpu").fit(IMAGES[:33])
    assert other.precision_ != extractor.precision_
    with pytest.raises(IdentityError, match="precision is"):
        FeatureStore.open_or_create(tmp_path / "s", tiny(precision="fp32"))


@pytest.mark.needs("int8")
def test_named_int8_resumes_with_its_store(tmp_path: Path) -> None:
    paths = [tmp_path / "photos" / f"{number}.png" for number in range(40)]
    paths[0].parent.mkdir()
    for path, pixels in zip(paths, IMAGES, strict=True):
        Image.fromarray(pixels).save(path)
    classifier = topwork.TransferClassifier(
        "topwork:tiny", head="centroid", store=tmp_path / "s", precision="int8", provider="cpu"
    )
    first, again = (classifier.fit(paths, [0, 1] * 20).extractor_.precision_ for _ in range(2))
    assert first == again
    store, photos = str(tmp_path / "s"), str(tmp_path / "photos")
    for extra in ([], ["--plan"]):
        command = ["extract", photos, "--store", store, "--precision", "int8", "--provider", "cpu", "--json", *extra]
        result = CliRunner().invoke(app, command)
        assert result.exit_code == 0, result.output


@pytest.mark.needs("int8")
def test_store_of_another_backbone_does_not_lend_its_int8(tmp_path: Path) -> None:
    extractor = tiny(precision="int8", provider="cpu").fit(IMAGES)
    FeatureStore.create(tmp_path / "s", extractor)
    stranger = Extractor(topwork.load_backbone("topwork:tiny", weights="random"), provider="cpu")
    with pytest.raises(IdentityError, match="weights"):
        FeatureStore.open_or_create(tmp_path / "s", stranger)


def test_int8_without_items_says_what_it_needs() -> None:
    with pytest.raises(InputError, match="int8"):
        tiny(precision="int8").transform(IMAGES)
