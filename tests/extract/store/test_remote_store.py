"""Stores in object storage, on a real S3 server whose answers fail, come late, and are cut short."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from topwork.errors import StoreDamagedError, StoreError, StoreLockedError
from topwork.extract.engine import batching
from topwork.extract.engine.ledger import Ledger
from topwork.extract.extractor.extractor import Extractor
from topwork.extract.graphs.cache_check import verify_cache
from topwork.extract.graphs.cache_contents import list_entries
from topwork.extract.jobs.job import extract_features
from topwork.extract.store import remote_copy
from topwork.extract.store.feature_store import FeatureStore
from topwork.pipelines.estimators.transfer_classifier import TransferClassifier
from topwork.progress import Progress

from ...s3_server import Faults, Proxy, start_s3_server
from ...small_photos import state_by_id, write_photos

pytest.importorskip("moto")
pytest.importorskip("s3fs")

N_IMAGES = 60
BATCH_SIZE = 8
SECRET = "AKIATOPSECRET"
WRITER = f"""
import sys
from topwork.extract.engine import batching
from topwork.pipelines.cli.main import main
batching.ITEMS_PER_WINDOW = {BATCH_SIZE}
main()
"""
"""The command line, with parts of one batch."""


@pytest.fixture(scope="module")
def proxy() -> Iterator[Proxy]:
    """Start the server, and let this process and those that it starts find it."""
    with start_s3_server() as proxy, pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", SECRET)
        patch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{proxy.server_port}")
        patch.setattr(batching, "ITEMS_PER_WINDOW", BATCH_SIZE)
        patch.setattr("botocore.retryhandler.delay_exponential", lambda **_: 0.01)  # else retries wait for minutes
        import s3fs

        s3fs.S3FileSystem.clear_instance_cache()
        s3fs.S3FileSystem().makedirs("bucket", exist_ok=True)  # the server of a former set-up may have kept it
        yield proxy
        s3fs.S3FileSystem.clear_instance_cache()


@pytest.fixture(autouse=True)
def no_faults(proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    yield
    proxy.faults = Faults()


@pytest.fixture
def url(proxy: Proxy, request: pytest.FixtureRequest) -> str:
    """Return the URL of a place of the test's own."""
    return f"s3://bucket/{request.node.name.replace('[', '-').rstrip(']')}"


def make_extractor() -> Extractor:
    return Extractor("topwork:tiny", layer=["layer2", "last"], precision="fp32", provider="cpu")


@pytest.fixture(scope="module")
def tiny() -> Extractor:
    return make_extractor()


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of images; every 17th is broken, and every 23rd a copy of the first."""
    return write_photos(tmp_path_factory.mktemp("photos"), N_IMAGES)


def extract(photos: Any, store: str | FeatureStore, **options: Any) -> Ledger:
    options = {"on_error": "record", "provider": "cpu", "batch_size": BATCH_SIZE, **options}
    return extract_features(photos, store, **options)


@pytest.fixture(scope="module")
def local(photos: Path, tiny: Extractor, tmp_path_factory: pytest.TempPathFactory, proxy: Proxy) -> FeatureStore:
    """Return the store that the same job makes on a disk."""
    store = FeatureStore.create(tmp_path_factory.mktemp("local") / "features", tiny)
    extract(photos, store)
    return store


def forget_copies() -> None:
    """Go on like another machine, that has no local copy."""
    for copy in remote_copy._copies.values():
        copy.forget()
    remote_copy._copies.clear()


def test_a_server_that_knows_no_conditions_is_said_to_be_one(
    photos: Path, tiny: Extractor, local: FeatureStore, url: str, proxy: Proxy
) -> None:
    FeatureStore.create(url, tiny)
    proxy.faults = Faults(unconditional=True)
    with pytest.warns(UserWarning, match=r"If-None-Match.*one process") as caught:
        extract(photos, url)
    assert len(caught) == 1
    extract(photos, url)  # without a second warning
    assert state_by_id(FeatureStore.open(url)) == state_by_id(local)


def test_a_store_at_a_url_is_like_one_on_disk(photos: Path, tiny: Extractor, local: FeatureStore, url: str) -> None:
    FeatureStore.create(url, tiny)
    ledger = extract(photos, url)
    assert (ledger.items, ledger.computed) == (N_IMAGES, N_IMAGES)
    store = FeatureStore.open(url)
    assert store.place == url
    assert store.ids == local.ids
    assert state_by_id(store) == state_by_id(local)
    assert store.verify() == []
    forget_copies()
    assert state_by_id(url) == state_by_id(local)
    assert extract(photos, url).computed == 0
    with pytest.raises(StoreError, match="is a feature store already"):
        FeatureStore.create(url, tiny)
    with pytest.raises(StoreError, match="is not a feature store"):
        FeatureStore.open(f"{url}-other")


@pytest.mark.parametrize("kind", ["refused", "lost", "cut", "late"])
def test_what_fails_once_is_repeated(
    kind: str, photos: Path, tiny: Extractor, local: FeatureStore, url: str, proxy: Proxy
) -> None:
    proxy.faults = Faults(**{kind: 5})
    store = FeatureStore.create(url, tiny)
    extract(photos, store)
    forget_copies()
    store = FeatureStore.open(url)
    assert state_by_id(store) == state_by_id(local)
    assert store.verify() == []
    assert proxy.faults.done[kind] > 2


def test_an_interrupted_job_is_resumed_on_another_machine(
    photos: Path, tiny: Extractor, local: FeatureStore, url: str
) -> None:
    def stop(progress: Progress) -> None:
        if progress.computed > 30:
            raise KeyboardInterrupt

    FeatureStore.create(url, tiny)
    with pytest.raises(KeyboardInterrupt):
        extract(photos, url, progress=stop)
    forget_copies()
    assert extract(photos, url).computed == N_IMAGES - 24
    assert state_by_id(url) == state_by_id(local)


def test_shards_are_merged(photos: Path, tiny: Extractor, local: FeatureStore, url: str, proxy: Proxy) -> None:
    FeatureStore.create(url, tiny)
    proxy.faults = Faults(refused=11, lost=13, cut=17)
    for shard in ("2/3", "0/3", "2/3"):
        extract(photos, url, shard=shard)
        forget_copies()
    merge = FeatureStore.open(url).merge()
    assert (merge.merged, merge.missing, merge.added) == (["0/3", "2/3"], ["1/3"], 40)
    extract(photos, url, shard="1/3")
    forget_copies()
    merge = FeatureStore.open(url).merge()
    assert (merge.merged, merge.missing, merge.added) == (["0/3", "1/3", "2/3"], [], 20)
    assert state_by_id(url) == state_by_id(local)
    assert not any("shards" in name for name in remote_copy.open_copy(url).list_names(""))


def test_two_writers_at_once_lose_and_mix_nothing(
    photos: Path, tiny: Extractor, local: FeatureStore, url: str, tmp_path: Path
) -> None:
    FeatureStore.create(url, tiny)
    patterns = [["label0", "label1"], ["label2", "label1"]]

    def start(number: int) -> subprocess.Popen[str]:
        table = tmp_path / f"{number}.csv"
        paths = [path for name in patterns[number] for path in sorted((photos / name).iterdir())]
        lines = [f"{path},{path.relative_to(photos).as_posix()},{path.parent.name}" for path in paths]
        table.write_text("\n".join(["path,id,label", *lines]))
        options = ["--provider", "cpu", "--batch-size", str(BATCH_SIZE)]
        environment = {**os.environ, "TOPWORK_CACHE": str(tmp_path / f"cache {number}")}
        command = [sys.executable, "-c", WRITER, "extract", str(table), "--store", url, *options]
        return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)

    for _ in range(20):
        both = [start(0), start(1)]
        errors = [process.communicate()[1] for process in both]
        if not any(process.returncode for process in both):
            break
        assert all(
            "written log entry" in error for error, process in zip(errors, both, strict=True) if process.returncode
        ), errors
        assert not any(SECRET in error for error in errors)
    forget_copies()
    store = FeatureStore.open(url)
    assert store.verify() == []
    assert store.index.counts() == local.index.counts()
    assert sorted(store.failures()) == sorted(local.failures())
    assert set(store.ids) == set(local.ids)
    for column in store.columns:  # the items are in another order, and so other ones are duplicates
        np.testing.assert_array_equal(store.take(local.ids, column), local.matrix(column.name))
    assert dict(zip(store.ids, store.labels, strict=True)) == dict(zip(local.ids, local.labels, strict=True))


def test_of_two_writers_of_one_entry_the_second_is_told(
    photos: Path, tiny: Extractor, local: FeatureStore, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = FeatureStore.create(url, tiny)
    copy = remote_copy.open_copy(url)
    with pytest.raises(FileExistsError):
        copy.create("log/0000000001.json", b"of another machine")
    create = remote_copy.RemoteCopy.create

    def come_second(copy: remote_copy.RemoteCopy, name: str, content: bytes) -> None:
        if name.startswith("log/"):
            raise FileExistsError(name)
        create(copy, name, content)

    with monkeypatch.context() as patch:
        patch.setattr(remote_copy.RemoteCopy, "create", come_second)
        with pytest.raises(StoreLockedError, match="written log entry"):
            extract(photos, store)
    extract(photos, url)
    assert state_by_id(url) == state_by_id(local)


def test_damage_is_found_and_repaired(photos: Path, tiny: Extractor, local: FeatureStore, url: str) -> None:
    import s3fs

    FeatureStore.create(url, tiny)
    extract(photos, url)
    path = f"{url.removeprefix('s3://')}/parts/p000002/c0001.npy"
    content = bytearray(s3fs.S3FileSystem().cat_file(path))
    content[-1] ^= 1
    s3fs.S3FileSystem().pipe_file(path, bytes(content))
    forget_copies()
    store = FeatureStore.open(url)
    assert store.verify() == ["parts/p000002/c0001.npy"]
    with pytest.raises(StoreDamagedError, match=r"s3://.*p000002/c0001.npy does not match"):
        np.asarray(store.matrix("layer2"))
    assert len(store.repair().pending) > 0
    extract(photos, url)
    forget_copies()
    store = FeatureStore.open(url)
    assert store.verify() == []
    assert state_by_id(store) == state_by_id(local)


def test_the_local_copy_stays_within_its_limit(
    photos: Path, tiny: Extractor, local: FeatureStore, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    FeatureStore.create(url, tiny)
    extract(photos, url)
    forget_copies()
    limit = 8_000
    monkeypatch.setenv(remote_copy.LIMIT_VARIABLE, str(limit / 1e9))
    store = FeatureStore.open(url)
    np.testing.assert_array_equal(np.asarray(store.matrix("last")), local.matrix("last"))
    held = sum(path.stat().st_size for path in store.path.glob("parts/*/*.npy"))
    assert 0 < held <= limit < np.asarray(store.matrix("last")).nbytes


def test_the_cache_lists_local_copies_and_checks_what_is_its_own(photos: Path, tiny: Extractor, url: str) -> None:
    before = verify_cache()
    store = FeatureStore.create(url, tiny)
    extract(photos, store)
    assert store.path in [entry.path for entry in list_entries() if entry.kind == "stores"]
    assert verify_cache() == before


def test_what_is_written_stays_within_the_limit_as_well(
    photos: Path, tiny: Extractor, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(remote_copy.LIMIT_VARIABLE, str(8_000 / 1e9))
    store = FeatureStore.create(url, tiny)
    extract(photos, store)
    assert 0 < sum(path.stat().st_size for path in store.path.glob("parts/*/*.npy")) <= 8_000


def test_a_matrix_can_be_read_in_another_process(photos: Path, tiny: Extractor, local: FeatureStore, url: str) -> None:
    FeatureStore.create(url, tiny)
    extract(photos, url)
    content = pickle.dumps(FeatureStore.open(url).matrix("last"))
    forget_copies()
    np.testing.assert_array_equal(np.asarray(pickle.loads(content)), local.matrix("last"))


def test_damage_in_the_local_copy_is_mended(photos: Path, tiny: Extractor, local: FeatureStore, url: str) -> None:
    store = FeatureStore.create(url, tiny)
    extract(photos, store)
    file = next(store.path.glob("parts/*/c0002.npy"))
    file.write_bytes(bytes(file.stat().st_size))
    store = FeatureStore.open(url)
    assert store.verify() == []
    np.testing.assert_array_equal(np.asarray(store.matrix("last")), local.matrix("last"))


def test_a_creation_that_was_interrupted_is_begun_again(
    tiny: Extractor, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(remote_copy.RemoteCopy, "send", interrupt)
        with pytest.raises(KeyboardInterrupt):
            FeatureStore.create(url, tiny)
    monkeypatch.setattr(remote_copy, "CREATION_SECONDS", 0.0)
    assert FeatureStore.create(url, tiny).ids == []
    assert FeatureStore.open(url).verify() == []


def interrupt(copy: remote_copy.RemoteCopy, name: str, folder: Path | None = None) -> None:
    """Send some files, and be interrupted before the last one."""
    if name == "store.json":
        raise KeyboardInterrupt
    copy.create(name, ((folder or copy.folder) / name).read_bytes())


def test_several_jobs_that_create_a_store_at_once_share_it(tiny: Extractor, url: str) -> None:
    def make(_: int) -> str:
        return FeatureStore.open_or_create(url, make_extractor()).place

    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(make, range(4))) == {url}


def test_other_files_are_left_alone(tiny: Extractor, url: str) -> None:
    copy = remote_copy.open_copy(url)
    copy.create("parts/of my thesis.txt", b"precious")
    copy.create("log", b"mine")
    with pytest.raises(StoreError, match="is not empty, and no feature store"):
        FeatureStore.create(url, tiny)
    with pytest.raises(StoreError, match="is not empty, and no feature store"):
        FeatureStore.open_or_create(url, tiny)
    assert copy.read("parts/of my thesis.txt") == b"precious"
    assert copy.list_names("") == ["log", "parts"]


def test_a_creator_that_comes_late_removes_nothing(
    photos: Path, tiny: Extractor, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    list_names = remote_copy.RemoteCopy.list_names

    def be_overtaken(copy: remote_copy.RemoteCopy, folder: str) -> list[str]:
        found = list_names(copy, folder)
        monkeypatch.setattr(remote_copy.RemoteCopy, "list_names", list_names)
        extract(photos, FeatureStore.create(url, make_extractor()))
        return found

    monkeypatch.setattr(remote_copy.RemoteCopy, "list_names", be_overtaken)
    with pytest.raises(FileExistsError):
        FeatureStore.create(url, tiny)
    store = FeatureStore.open(url)
    assert len(store.ids) > 50
    assert store.verify() == []
    assert remote_copy.CREATION_FILE not in remote_copy.open_copy(url).list_names("")


def test_a_shard_whose_removal_was_interrupted_is_begun_again(
    photos: Path, tiny: Extractor, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    FeatureStore.create(url, tiny)
    extract(photos, url, shard="0/1")
    remove = remote_copy.RemoteCopy.remove

    def be_killed(copy: remote_copy.RemoteCopy, name: str) -> None:
        if name.startswith("shards/0000"):
            raise KeyboardInterrupt
        remove(copy, name)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(remote_copy.RemoteCopy, "remove", be_killed)
        with pytest.raises(KeyboardInterrupt):
            FeatureStore.open(url).merge()
    store = FeatureStore.open(url)
    assert len(store.ids) > 50
    assert extract(photos, url, shard="0/1").computed == 0
    assert store.merge().merged == ["0/1"]
    assert extract(photos, url).computed == 0


def test_a_refusal_is_not_taken_for_an_absent_store(url: str, proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOPWORK_RETRIES", "0")
    proxy.faults = Faults(refused=1)
    with pytest.raises(StoreError, match="Check the connection") as caught:
        FeatureStore.open(url)
    assert SECRET not in str(caught.value)


def test_labels_and_heads(photos: Path, tiny: Extractor, url: str) -> None:
    FeatureStore.create(url, tiny)
    extract(photos, url)
    store = FeatureStore.open(url)
    assert store.set_labels({store.ids[0]: "other"}) == 1
    assert FeatureStore.open(url).labels[0] == "other"
    classifier = TransferClassifier("topwork:tiny", layer=["layer2", "last"], head="lda", cv=0).fit(store)
    assert classifier.predict(store).shape == (len(store.ids),)


def test_another_store_at_the_same_url_is_noticed(photos: Path, tiny: Extractor, url: str) -> None:
    store = FeatureStore.create(url, tiny)
    extract(photos, store)
    remote_copy.find_copy(store.path).remove("")  # type: ignore[union-attr]
    kept = dict(remote_copy._copies)
    remote_copy._copies.clear()  # another process makes another store
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TOPWORK_CACHE", str(store.path.parents[1] / "other"))
        FeatureStore.create(url, tiny)
    remote_copy._copies.clear()
    remote_copy._copies.update(kept)
    for copy in kept.values():
        copy._is_compared = False
    assert FeatureStore.open(url).ids == []
