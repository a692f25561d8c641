"""Stores and bundles of earlier versions open, predict the same, and can be refitted."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import topwork

HERE = Path(__file__).parent
FORMER = ("sqlite_index", "arrow_index")
"""By the index of their stores: of commits 17a2bcb and ae1ec4f."""
BUNDLES = sorted(path.relative_to(HERE).as_posix() for path in HERE.glob("*/bundle_*"))
REGRESSORS = sorted(path.relative_to(HERE).as_posix() for path in HERE.glob("*/values_*"))


@pytest.fixture
def copied(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    shutil.copytree(HERE / request.param, tmp_path / "copy")
    return tmp_path / "copy"


@pytest.mark.parametrize("copied", FORMER, indirect=True)
def test_former_store_opens_verifies_and_takes_more_items(copied: Path) -> None:
    expected = np.load(copied / "expected.npz")
    store = topwork.FeatureStore.open(copied / "store")
    assert store.ids == expected["ids"].tolist()
    assert list(store.labels) == expected["labels"].tolist()
    for column in ("stem", "layer1"):
        np.testing.assert_array_equal(store.matrix(column), expected[f"matrix:{column}"])
    assert store.verify() == []

    (copied / "items" / "circle" / "00.png").rename(copied / "items" / "square" / "more.png")
    ledger = topwork.extract_features(copied / "items", store)
    assert (ledger.computed, ledger.ok + ledger.duplicate, ledger.absent) == (1, 24, 1)
    store.refresh()
    assert store.ids == [*expected["ids"].tolist(), "square/more.png"]
    assert store.verify() == []


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> dict[str, topwork.FeatureStore]:
    """Return an opened copy of each former store; they are not to be changed."""
    folder = tmp_path_factory.mktemp("stores")
    for name in FORMER:
        shutil.copytree(HERE / name / "store", folder / name)
    return {name: topwork.FeatureStore.open(folder / name) for name in FORMER}


@pytest.mark.parametrize("bundle", BUNDLES)
def test_former_classifier_predicts_the_same(bundle: str) -> None:
    expected = np.load(HERE / bundle.split("/")[0] / "expected.npz")
    head = bundle.rpartition("_")[2]
    classifier = topwork.load(HERE / bundle)
    items = list(expected["items"])
    assert classifier.predict(items).tolist() == expected[f"predict:{head}"].tolist()
    np.testing.assert_allclose(classifier.predict_proba(items), expected[f"proba:{head}"], atol=1e-4)


@pytest.mark.parametrize("bundle", REGRESSORS)
def test_former_regressor_predicts_the_same(bundle: str) -> None:
    expected = np.load(HERE / bundle.split("/")[0] / "expected.npz")
    head = bundle.rpartition("_")[2]
    values = topwork.load(HERE / bundle).predict(list(expected["items"]))
    np.testing.assert_allclose(values, expected[f"values:{head}"], rtol=1e-4)


@pytest.mark.parametrize("bundle", BUNDLES)
def test_former_bundle_is_refitted_and_saved_without_paths_of_modules(
    bundle: str, stores: dict[str, topwork.FeatureStore], tmp_path: Path
) -> None:
    former = HERE / bundle.split("/")[0]
    child = topwork.refit(HERE / bundle, stores[former.name])
    child.save(tmp_path / "child")

    again = topwork.load(tmp_path / "child")
    items = list(np.load(former / "expected.npz")["items"])
    assert again.predict(items).tolist() == child.predict(items).tolist()
    written = b"".join(path.read_bytes() for path in (tmp_path / "child").glob("head.*"))
    assert b"topwork.heads" not in written
