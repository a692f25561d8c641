"""The examples for clusters: scripts of shells and manifests name what there is; Spark and Dask run 2,000 images."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from topwork import FeatureStore, FrameFunction, TransferClassifier, extract_features

from ..pipelines.cli.running import topwork_command

CLUSTER = Path(__file__).resolve().parents[2] / "examples" / "cluster"


@pytest.mark.parametrize("name", ["slurm_array.sh", "indexed_job.yaml"])
def test_commands_have_the_options_that_they_name(name: str) -> None:
    text = (CLUSTER / name).read_text(encoding="utf-8")
    (command,) = re.findall(r"topwork extract .*--shard", text)
    known = topwork_command("extract", "--help").stdout
    assert all(option in known for option in re.findall(r"--\w+", command))


def test_the_array_script_computes_its_shard(hymenoptera: Path, tmp_path: Path) -> None:
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("no bash")
    environment = {**os.environ, "SLURM_ARRAY_TASK_ID": "7", "SLURM_ARRAY_TASK_COUNT": "1"}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    command = [bash, str(CLUSTER / "slurm_array.sh"), str(hymenoptera / "val"), str(tmp_path / "features")]
    subprocess.run(command, check=True, env=environment, capture_output=True)
    merge = FeatureStore.open(tmp_path / "features").merge()
    assert (merge.added, merge.merged, len(merge.missing)) == (3, ["7/64"], 63)


@pytest.fixture(scope="module")
def images(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of 2,000 CIFAR images, one of which is broken."""
    import tarfile

    folder = tmp_path_factory.mktemp("cifar")
    with tarfile.open(data / "cifar10-test.tar.gz") as archive:
        members = [member for member in archive if member.isfile() and int(Path(member.name).stem) < 200]
        archive.extractall(folder, members=members, filter="data")
    paths = sorted((folder / "test").rglob("*.jpg"))
    assert len(paths) == 2000
    paths[7].write_bytes(b"no image")
    return folder / "test"


@pytest.fixture(scope="module")
def bundle(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    paths = sorted(images.rglob("*.jpg"))[::10]
    classifier = TransferClassifier(layer="layer2", head="lda", precision="fp32", on_error="record", cv=0)
    path = tmp_path_factory.mktemp("bundle") / "bundle"
    classifier.fit(paths, [path.parent.name for path in paths]).save(path)
    return path


def run_example(name: str, *arguments: object, folder: Path) -> str:
    environment = {**os.environ, "PYSPARK_PYTHON": sys.executable}
    command = [sys.executable, str(CLUSTER / name), *map(str, arguments)]
    done = subprocess.run(command, check=False, env=environment, capture_output=True, text=True, cwd=folder)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_spark_predicts_every_image(images: Path, bundle: Path, tmp_path: Path) -> None:
    pytest.importorskip("pyspark")
    import pandas
    from pyarrow import parquet

    printed = run_example("spark_predict.py", bundle, images, "out", folder=tmp_path)
    rows = parquet.read_table(tmp_path / "out").to_pandas().sort_values("path")
    frame = pandas.DataFrame({"path": sorted(str(path.resolve()) for path in images.rglob("*.jpg"))})
    expected = FrameFunction(bundle)(frame)
    assert rows["path"].tolist() == expected["path"].tolist()
    assert [label if isinstance(label, str) else None for label in rows["label"]] == expected["label"].tolist()
    assert rows["status"].tolist() == expected["status"].tolist()
    assert expected["status"].tolist().count("failed") == 1
    assert "failed" in printed


def test_dask_computes_the_features_of_every_image(images: Path, tmp_path: Path) -> None:
    pytest.importorskip("dask.dataframe")
    import numpy as np
    from pyarrow import parquet

    paths = sorted(map(str, images.rglob("*.jpg")))
    (tmp_path / "images.csv").write_text("\n".join(["path", *paths]))
    topwork_command("extract", images, "--store", tmp_path / "features", "--precision", "fp32", "--provider", "cpu")
    run_example("dask_features.py", "features", "images.csv", "out", folder=tmp_path)
    rows = parquet.read_table(tmp_path / "out").to_pandas()
    store = FeatureStore.open(tmp_path / "features")
    assert rows["path"].tolist() == paths
    ok = rows[rows["status"] == "ok"]
    assert len(ok) == len(store.ids) == 1999
    ids = [Path(path).relative_to(images).as_posix() for path in ok["path"]]
    np.testing.assert_allclose(np.stack(ok["last"]), store.take(ids, "last"), rtol=1e-4, atol=1e-4)
    assert extract_features(images, store, on_error="record").computed == 0
