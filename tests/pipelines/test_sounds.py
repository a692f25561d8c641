"""Sounds through all that topwork does: stores, windows, heads, predictions, bundles, audits, reports."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import soundfile
import topwork
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from topwork.errors import ExportError, InputError, LayerError
from topwork.extract import open_source
from topwork.extract.preprocess.by_kind import preprocessor_for
from topwork.models import onnx_chain
from topwork.models.backbone import OnnxBackbone
from topwork.models.tensor_spec import TensorSpec
from topwork.pipelines.estimators.item_labels import read_weights_and_groups
from topwork.pipelines.report.reporting import write_report
from topwork.pipelines.selection.audited_rows import list_groups as list_audited_groups
from topwork.pipelines.selection.raw_inputs import describe_inputs
from torch import Tensor, nn

from ..hostile_server import HostileServer, give
from ..sounds import PITCHES, chirp, encode, write_sounds
from ..test_without_torch import run_blocked
from .cli.running import topwork_command, topwork_json

RATE = 8_000


class Filters(nn.Module):
    """Energies of 16 bands, then a layer with fixed random weights: a network of samples ``(batch, samples)``."""

    kernel: Tensor

    def __init__(self) -> None:
        super().__init__()
        pitches = torch.logspace(2, 3.4, 16)[:, None]
        angles = 2 * torch.pi * pitches * torch.arange(200) / RATE
        window = torch.hann_window(200)
        self.register_buffer("kernel", torch.cat([angles.cos() * window, angles.sin() * window]).unsqueeze(1))
        self.bands = nn.Identity()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.mixed = nn.Sequential(nn.Conv1d(16, 24, 3), nn.ReLU(), nn.Conv1d(24, 24, 3), nn.ReLU())

    def forward(self, samples: Tensor) -> Tensor:
        real, imaginary = nn.functional.conv1d(samples.unsqueeze(1), self.kernel, stride=80).chunk(2, 1)
        return self.mixed(self.bands((real.square() + imaginary.square() + 1e-3).log())).mean(2)  # type: ignore[no-any-return]


def load_filters(**fields: Any) -> topwork.Backbone:
    spec = topwork.AudioSpec(**{"rate": RATE, "window": 0.5, **fields})
    return topwork.load_backbone(Filters(), input_spec=spec)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sounds(tmp_path_factory.mktemp("sounds") / "sounds", 8, seconds=1.2)


def extract(folder: Any, store: Path, **fields: Any) -> topwork.FeatureStore:
    extractor = topwork.Extractor(load_filters(**fields), layer="last", precision="fp32")
    created = topwork.FeatureStore.create(store, extractor)
    topwork.extract_features(folder, created, on_error="record")
    return created


def test_mean_of_windows_is_the_mean_of_their_rows(folder: Path, tmp_path: Path) -> None:
    windows = extract(folder, tmp_path / "windows", long="windows", hop=0.25)
    means = extract(folder, tmp_path / "means", long="mean", hop=0.25)
    assert len(means.ids) == 24
    sounds = np.array([item_id.partition("#")[0] for item_id in windows.ids])
    rows = windows.matrix(windows.columns[0])
    for item_id, mean in zip(means.ids, means.matrix(means.columns[0]), strict=True):
        np.testing.assert_allclose(np.asarray(rows)[sounds == item_id].mean(axis=0), mean, rtol=1e-5, atol=1e-6)


def test_a_window_is_what_its_part_is_alone(folder: Path, tmp_path: Path) -> None:
    store = extract(folder, tmp_path / "store", long="windows")
    path = folder / "low" / "0.wav"
    samples, _ = soundfile.read(path, dtype="float32")
    extractor = topwork.Extractor(load_filters(), layer="last", precision="fp32")
    alone = extractor.fit_transform([(samples[4_000:8_000], RATE)])
    np.testing.assert_allclose(store.take(["low/0.wav#t=0.5"], store.columns[0]), alone, rtol=1e-5, atol=1e-6)


@dataclass
class AudioSamples:
    """What a decoder of torchcodec returns."""

    data: Tensor
    sample_rate: int


@dataclass
class AudioDecoder:
    """A sound as the columns of ``datasets`` yield it, with the interface of torchcodec's."""

    samples: NDArray[np.int16]

    def get_all_samples(self) -> AudioSamples:
        return AudioSamples(torch.from_numpy(self.samples[None]) / 32_768, RATE)


@pytest.mark.parametrize("form", ["zip", "table", "npz", "arrays", "records", "decoders"])
def test_every_form_of_sounds_has_the_same_features(form: str, folder: Path, tmp_path: Path) -> None:
    files = sorted(folder.rglob("*.wav"))
    decoded = [soundfile.read(file, dtype="int16")[0] for file in files]
    source: Any
    if form == "zip":
        source = tmp_path / "sounds.zip"
        with zipfile.ZipFile(source, "w") as archive:
            for file in files:
                archive.write(file, file.relative_to(folder))
    elif form == "table":
        source = tmp_path / "sounds.csv"
        source.write_text("path\n" + "".join(f"{file}\n" for file in files))
    elif form == "npz":
        source = tmp_path / "sounds.npz"
        np.savez(source, X=np.stack(decoded), rate=RATE)
    elif form == "arrays":
        source = [(samples, RATE) for samples in decoded]
    elif form == "decoders":
        source = [AudioDecoder(samples) for samples in decoded]
    else:
        source = [{"array": samples / np.float32(32_768), "sampling_rate": RATE} for samples in decoded]
    extractor = topwork.Extractor(load_filters(), layer="last", precision="fp32").fit(files)
    np.testing.assert_allclose(extractor.transform(source), extractor.transform(files), rtol=1e-5, atol=1e-6)


def test_windows_are_the_same_from_an_archive_by_url_and_in_shards(
    folder: Path, tmp_path: Path, hostile_server: HostileServer
) -> None:
    names = [path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*.wav"))]
    extractor = topwork.Extractor(load_filters(long="windows", hop=0.25), layer="last", precision="fp32")
    stores = {
        name: topwork.FeatureStore.create(tmp_path / name, extractor) for name in ("files", "tar", "url", "shards")
    }
    topwork.extract_features(folder, stores["files"])
    with tarfile.open(tmp_path / "sounds.tar", "w") as archive:
        archive.add(folder, "")
    topwork.extract_features(tmp_path / "sounds.tar", stores["tar"])
    hostile_server.answers.update({f"/{name}": give((folder / name).read_bytes()) for name in names})
    topwork.extract_features([f"{hostile_server.url}/{name}" for name in names], stores["url"], ids=names)
    for number in range(3):
        topwork.extract_features(folder, stores["shards"], shard=f"{number}/3")
    stores["shards"].merge()
    assert topwork.extract_features(folder, stores["shards"]).computed == 0
    ids = stores["files"].ids
    assert len(ids) > 3 * len(names)
    for store in stores.values():
        assert sorted(store.ids) == sorted(ids)
        np.testing.assert_allclose(store.take(ids, "last"), stores["files"].take(ids, "last"), rtol=1e-5, atol=1e-6)


def test_columns_of_datasets_hold_sounds(folder: Path, tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet

    files = sorted(folder.rglob("*.wav"))[:4]
    rows = [{"audio": {"bytes": file.read_bytes(), "path": file.name}, "label": file.parent.name} for file in files]
    pa.parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "sounds.parquet")
    source = open_source(tmp_path / "sounds.parquet", kind="audio")
    assert [item.label for item in source] == [file.parent.name for file in files]
    assert [item.read() for item in source] == [file.read_bytes() for file in files]


def test_one_file_that_is_no_sound_fails_alone(folder: Path, tmp_path: Path) -> None:
    files = [str(path) for path in sorted(folder.rglob("*.wav"))[:3]]
    (tmp_path / "broken.wav").write_bytes(b"RIFF of nothing")
    cut = (folder / "low" / "0.wav").read_bytes()
    (tmp_path / "cut.wav").write_bytes(cut[: len(cut) // 2])
    for long in ("truncate", "windows", "mean"):
        source = [*files, str(tmp_path / "broken.wav"), str(tmp_path / "cut.wav")]
        store = extract(source, tmp_path / long, long=long)
        reasons = dict(store.failures())
        assert len(reasons) == 2
        assert any("truncated" in reason for reason in reasons.values())


def test_folds_never_divide_a_sound(folder: Path, tmp_path: Path) -> None:
    backbone = load_filters(long="windows", hop=0.1)
    probe = topwork.LayerProbe(backbone).fit(str(folder))
    assert len(set(probe.groups_.tolist())) == 24
    store = extract(folder, tmp_path / "store", long="windows", hop=0.1)
    from topwork.pipelines.estimators.item_labels import list_groups

    groups = list_groups(store)
    assert groups is not None
    assert len(groups) == store.n_rows
    assert set(groups) == {item_id.partition("#")[0] for item_id in store.ids}


def test_refit_holds_out_whole_sounds(folder: Path, tmp_path: Path) -> None:
    store = extract(folder, tmp_path / "store", long="windows", hop=0.1)
    classifier = topwork.TransferClassifier(load_filters(long="windows", hop=0.1), layer="last").fit(store)
    from topwork.pipelines.estimators.holdout_rule import HoldOutRule
    from topwork.pipelines.estimators.labelled_rows import select_labelled_rows

    labelled = select_labelled_rows(store)
    is_held_out = HoldOutRule().select(labelled.held_out_with, labelled.splits)
    sounds = np.array([item_id.partition("#")[0] for item_id in labelled.ids])
    assert 0 < is_held_out.sum() < len(sounds)
    assert not set(sounds[is_held_out]) & set(sounds[~is_held_out])
    child = topwork.refit(classifier, store)
    assert child.lineage_["held_out"]["n"] == is_held_out.sum()


def test_labels_and_weights_of_sounds_are_those_of_their_windows(folder: Path) -> None:
    files = sorted(folder.rglob("*.wav"))
    labels = [file.parent.name for file in files]
    classifier = topwork.TransferClassifier(load_filters(long="windows"), layer="last", cv=3)
    classifier.fit([str(file) for file in files], labels, sample_weight=[1.0] * len(files), groups=labels)
    assert classifier.n_rows_ == 3 * len(files)
    assert classifier.predict([str(files[0])]).tolist() == [labels[0]] * 3
    assert classifier.score([str(file) for file in files], labels, sample_weight=[1.0] * len(files)) > 0.9


def test_labels_are_set_by_the_ids_of_sounds(folder: Path, tmp_path: Path) -> None:
    store = extract(folder, tmp_path / "store", long="windows")
    assert store.set_labels({"low/0.wav": "other", "low/1.wav#t=0.5": "one"}) == 4
    labels = dict(zip(store.ids, store.labels, strict=True))
    assert {labels[f"low/0.wav#t={start}"] for start in ("0.0", "0.5", "1.0")} == {"other"}
    assert [labels[f"low/1.wav#t={start}"] for start in ("0.0", "0.5", "1.0")] == ["low", "one", "low"]
    with pytest.raises(InputError, match="not in"):
        store.set_labels({"low/99.wav": "other"})


def test_views_are_louder_shifted_and_noisy(folder: Path, tmp_path: Path) -> None:
    extractor = topwork.Extractor(load_filters(), layer="last", precision="fp32")
    store = topwork.FeatureStore.create(tmp_path / "store", extractor)
    topwork.extract_features(folder, store, views=2)
    assert store.n_rows == 24 * 3
    rows = np.asarray(store.take(["low/0.wav", "low/0.wav@1", "low/0.wav@2"], store.columns[0]))
    assert np.abs(np.diff(rows, axis=0)).max() > 1e-3
    classifier = topwork.TransferClassifier(load_filters(), layer="last", cv=3).fit(store)
    assert classifier.fit_report_.held_out > 0.9


def test_views_of_long_sounds_are_averaged_over_all_their_windows(folder: Path, tmp_path: Path) -> None:
    rows = {}
    for long in ("mean", "windows", "truncate"):
        extractor = topwork.Extractor(load_filters(long=long), layer="last", precision="fp32")
        store = topwork.FeatureStore.create(tmp_path / long, extractor)
        topwork.extract_features(folder / "low", store, views=1)
        rows[long] = dict(zip(store.ids, np.asarray(store.matrix(store.columns[0])), strict=True))
    windows = [rows["windows"][f"0.wav#t={start}@1"] for start in ("0.0", "0.5", "1.0")]
    np.testing.assert_allclose(rows["mean"]["0.wav@1"], np.mean(windows, axis=0), rtol=1e-5, atol=1e-6)
    assert np.abs(rows["mean"]["0.wav@1"] - rows["truncate"]["0.wav@1"]).max() > 1e-3


def test_windows_of_a_sound_that_cannot_be_read_for_a_moment_are_not_pruned(folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(folder / "low", copy)
    store = extract(copy, tmp_path / "store", long="windows")
    before = store.ids
    content = (copy / "0.wav").read_bytes()
    (copy / "0.wav").write_bytes(b"")
    ledger = topwork.extract_features(copy, store, on_error="record", prune=True)
    assert (ledger.pruned, ledger.failed) == (0, 1)
    assert store.ids == before
    (copy / "0.wav").write_bytes(content)
    (copy / "1.wav").unlink()
    assert topwork.extract_features(copy, store, prune=True).pruned == 3 + 1  # the windows, and what failed
    assert store.ids == [item_id for item_id in before if not item_id.startswith("1.wav")]


def test_a_sound_without_a_group_is_its_own(folder: Path, tmp_path: Path) -> None:
    store = extract(folder, tmp_path / "store", long="windows")
    source = topwork.Extractor(load_filters(long="windows"), layer="last").fit(str(folder)).open(str(folder))
    for items, given in ((source, [None] * 24), (source, [None] * 72), (store, [None] * 72)):
        _, groups = read_weights_and_groups(items, None, given)
        assert groups is not None
        assert len(set(groups.tolist())) == 24
    rows = np.arange(store.n_rows)
    named = dict(zip(store.ids, list_audited_groups(store, {"low/0.wav": "one"}, rows), strict=True))
    assert named["low/0.wav#t=0.5"] == "one"
    assert named["low/1.wav#t=0.5"] == "low/1.wav"


def test_exports_name_the_sound_of_a_window(folder: Path, tmp_path: Path) -> None:
    import pyarrow.parquet

    store = extract(folder, tmp_path / "store", long="windows")
    store.export(tmp_path / "rows.parquet")
    table = pyarrow.parquet.read_table(tmp_path / "rows.parquet")
    assert table["group"].to_pylist() == [item_id.partition("#")[0] for item_id in store.ids]


def test_bundle_predicts_times_and_evaluates(folder: Path, tmp_path: Path) -> None:
    bundle, recording, found = tmp_path / "bundle", tmp_path / "recording.wav", tmp_path / "found.csv"
    classifier = topwork.TransferClassifier(load_filters(long="windows"), layer="last").fit(str(folder))
    classifier.save(bundle)
    parts = [chirp(1.0, RATE, pitch=PITCHES[label], rise=50.0) for label in ("high", "low")]
    soundfile.write(recording, np.concatenate(parts), RATE)
    topwork_command("predict", bundle, recording, "--out", found)
    with found.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [(row["start"], row["end"], row["label"]) for row in rows] == [
        ("0.0", "0.5", "high"),
        ("0.5", "1.0", "high"),
        ("1.0", "1.5", "low"),
        ("1.5", "2.0", "low"),
    ]
    assert topwork_json("evaluate", bundle, folder)["accuracy"] > 0.9
    assert "audio of 0.5 s at 8,000 Hz" in topwork_command("show", bundle).stdout


def test_bundle_predicts_without_torch(folder: Path, tmp_path: Path) -> None:
    topwork.TransferClassifier(load_filters(), layer="last").fit(str(folder)).save(tmp_path / "bundle")
    files = [str(folder / "low" / "0.wav"), str(folder / "high" / "1.wav")]
    output = run_blocked(f"print(*topwork.load({str(tmp_path / 'bundle')!r}).predict({files!r}))")
    assert output.split() == ["low", "high"]


def test_fused_file_takes_samples(folder: Path, tmp_path: Path) -> None:
    files = [str(path) for path in sorted(folder.rglob("*.wav"))]
    classifier = topwork.TransferClassifier(load_filters(), layer="last").fit(str(folder))
    classifier.to_onnx(tmp_path / "fused.onnx", items=files)
    session = onnxruntime.InferenceSession(tmp_path / "fused.onnx", providers=["CPUExecutionProvider"])
    samples = np.stack([soundfile.read(file, dtype="float32")[0][:4_000] for file in files])
    labels, *_ = session.run(None, {session.get_inputs()[0].name: samples})
    assert labels.tolist() == classifier.predict(files).tolist()
    preprocessing = json.loads(session.get_modelmeta().custom_metadata_map["topwork.preprocessing"])
    assert (preprocessing["input"], preprocessing["rate"], preprocessing["window"]) == ("samples", RATE, 0.5)


def test_fused_file_cannot_average_windows(folder: Path, tmp_path: Path) -> None:
    classifier = topwork.TransferClassifier(load_filters(long="mean"), layer="last").fit(str(folder))
    with pytest.raises(ExportError, match="one graph takes one window"):
        classifier.to_onnx(tmp_path / "fused.onnx")


def test_audit_and_report(folder: Path, tmp_path: Path) -> None:
    store = extract(folder, tmp_path / "store", long="windows")
    store.set_labels({"low/3.wav": "high"})
    wrong = {finding.id.partition("#")[0] for finding in topwork.audit(store) if finding.kind == "label"}
    assert wrong == {"low/3.wav"}
    bundle = tmp_path / "bundle"
    topwork.TransferClassifier(load_filters(long="windows"), layer="last").fit(str(folder)).save(bundle)
    write_report(bundle, tmp_path / "report.html", str(folder))
    assert "data:image/jpeg;base64" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_layer_is_found(folder: Path) -> None:
    classifier = topwork.TransferClassifier(load_filters(), layer="auto").fit(str(folder))
    assert classifier.search_ is not None
    assert classifier.score(str(folder)) > 0.9


def test_inputs_without_a_network_tell_pitches_apart(folder: Path) -> None:
    spec = load_filters().input_spec
    rows = describe_inputs(open_source(folder, kind="audio"), spec, 0)
    assert rows.shape == (24, 128)
    labels = [item.label for item in open_source(folder, kind="audio")]
    nearest = [labels[np.argsort(np.linalg.norm(rows - row, axis=1))[1]] for row in rows]
    assert np.mean([found == label for found, label in zip(nearest, labels, strict=True)]) > 0.9


def test_layers_above_a_cut_are_trained(folder: Path) -> None:
    fixed = {"precision": "fp32", "provider": "cpu", "random_state": 0, "device": "cpu", "train_on_all": False}
    parameters: dict[str, Any] = {"from_layer": "mixed.0", "epochs": 4, "learning_rate": 1e-3, **fixed}
    classifier = topwork.FineTunedClassifier(load_filters(long="windows"), **parameters).fit(str(folder))
    assert classifier.score(str(folder)) > 0.9
    with pytest.raises(LayerError, match=r"no layer above 'mixed\.3'"):
        topwork.FineTunedClassifier(load_filters(), **{**parameters, "from_layer": "mixed.3"}).fit(str(folder))
    with pytest.raises(InputError, match="averaged maps"):
        topwork.FineTunedClassifier(load_filters(long="mean"), **parameters).fit(str(folder))


# ONNX files.


def make_file(path: Path, nodes: list[Any], weights: dict[str, NDArray[Any]], shapes: tuple[Any, Any]) -> Path:
    """Write a graph from ``x`` to ``y``."""
    given, returned = shapes
    graph = helper.make_graph(
        nodes,
        path.stem,
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, given)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, returned)],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(model, path)
    return path


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Write a spectrogram, which is clipped 20 dB below the loudest band of its batch, and an embedding."""
    folder = tmp_path_factory.mktemp("chain")
    kernel = Filters().kernel.numpy()[:16]
    generator = np.random.default_rng(0)
    first = make_file(
        folder / "mel.onnx",
        [
            helper.make_node("Unsqueeze", ["x", "axes"], ["channel"]),
            helper.make_node("Conv", ["channel", "kernel"], ["bands"], strides=[80]),
            helper.make_node("Abs", ["bands"], ["sizes"]),
            helper.make_node("ReduceMax", ["sizes"], ["loudest"], keepdims=0),
            helper.make_node("Mul", ["loudest", "share"], ["floor"]),
            helper.make_node("Max", ["sizes", "floor"], ["y"]),
        ],
        {"axes": np.array([1]), "kernel": kernel, "share": np.float32(0.1)},
        (["batch", "samples"], ["batch", 16, "frames"]),
    )
    second = make_file(
        folder / "embedding.onnx",
        [
            helper.make_node("Flatten", ["x"], ["flat"]),
            helper.make_node("Gemm", ["flat", "weights"], ["hidden"]),
            helper.make_node("Relu", ["hidden"], ["y"]),
        ],
        {"weights": (generator.standard_normal((16 * 48, 12)) / 100).astype(np.float32)},
        (["batch", 1, 48, 16], ["batch", 12]),
    )
    return first, second


def load_chain(chain: tuple[Path, Path], **fields: Any) -> OnnxBackbone:
    first, second = chain
    arguments = {"rate": RATE, "window": 0.5, "scale": "int16", **fields}
    loaded = topwork.load_backbone(f"onnx:{first}+{second}", model_args={"scale": 0.5, "offset": 1.0}, **arguments)
    assert isinstance(loaded, OnnxBackbone)
    return loaded


def test_a_chain_computes_what_its_files_do(chain: tuple[Path, Path], folder: Path) -> None:
    files = sorted(folder.rglob("*.wav"))
    backbone = load_chain(chain)
    found = topwork.Extractor(backbone, layer="y", precision="fp32")
    sessions = [onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]) for path in chain]
    names = [layer.name for layer in topwork.layers(backbone)]
    layer = next(name for name in names if name.endswith("embedding/y"))
    found = topwork.Extractor(backbone, layer=layer, precision="fp32").fit_transform(files)
    for row, file in zip(found, files, strict=True):
        samples = soundfile.read(file, dtype="int16")[0][:4_000].astype(np.float32)[None]
        (bands,) = sessions[0].run(None, {"x": samples})
        (expected,) = sessions[1].run(None, {"x": (0.5 * bands + 1.0).reshape(1, 1, 48, 16)})
        np.testing.assert_allclose(row, expected[0], rtol=2e-4, atol=2e-4 * np.abs(expected).max())


def test_files_that_do_not_fit_cannot_be_joined(chain: tuple[Path, Path], tmp_path: Path) -> None:
    first, second = chain
    with pytest.raises(InputError, match="free sizes"):
        topwork.load_backbone(f"onnx:{second}+{first}", rate=RATE, window=0.5)
    with pytest.raises(InputError, match="scale and offset"):
        topwork.load_backbone(f"onnx:{first}+{second}", model_args={"gain": 2}, rate=RATE, window=0.5)
    with pytest.raises(InputError, match="does not exist"):
        topwork.load_backbone(f"onnx:{first}+{tmp_path / 'none.onnx'}", rate=RATE, window=0.5)


def test_files_with_weights_elsewhere_cannot_be_joined(chain: tuple[Path, Path], tmp_path: Path) -> None:
    outside = tmp_path / "outside.onnx"
    onnx.save(onnx.load(chain[1]), outside, save_as_external_data=True, location="outside.data", size_threshold=0)
    with pytest.raises(InputError, match="one file with its weights"):
        topwork.load_backbone(f"onnx:{chain[0]}+{outside}", rate=RATE, window=0.5)


def test_a_chain_is_identified_by_its_files_and_arguments(chain: tuple[Path, Path], tmp_path: Path) -> None:
    assert load_chain(chain).identity() == load_chain(chain).identity()
    first, second = chain
    other = topwork.load_backbone(f"onnx:{first}+{second}", rate=RATE, window=0.5, scale="int16")
    assert other.identity() != load_chain(chain).identity()
    model = onnx.load(second)
    weights = next(tensor for tensor in model.graph.initializer if tensor.name == "weights")
    weights.CopyFrom(numpy_helper.from_array(-numpy_helper.to_array(weights), "weights"))
    onnx.save(model, tmp_path / second.name)
    assert load_chain((first, tmp_path / second.name)).identity() != load_chain(chain).identity()


def test_a_joined_file_that_was_damaged_is_joined_again(chain: tuple[Path, Path]) -> None:
    path = load_chain(chain).path
    content = path.read_bytes()
    path.write_bytes(content[:-100] + bytes(100))
    load_chain(chain)
    assert path.read_bytes() == content


def test_a_chain_is_the_same_whatever_version_of_onnx_joins_it(
    chain: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def merge_otherwise(*arguments: Any) -> Any:
        merged = merge(*arguments)
        merged.producer_name = "another version"
        return merged

    merge = onnx_chain.merge
    before = load_chain(chain)
    monkeypatch.setenv("TOPWORK_CACHE", str(tmp_path))
    monkeypatch.setattr(onnx_chain, "merge", merge_otherwise)
    after = load_chain(chain)
    assert after.path.read_bytes() != before.path.read_bytes()
    assert after.identity() == before.identity()


def test_an_onnx_file_of_samples_needs_a_rate(chain: tuple[Path, Path]) -> None:
    with pytest.raises(InputError, match="--rate, --window"):
        topwork.load_backbone(f"onnx:{chain[0]}")
    with pytest.raises(InputError, match="--window"):
        topwork.load_backbone(f"onnx:{chain[0]}", rate=RATE)
    assert isinstance(topwork.load_backbone(f"onnx:{chain[1]}").input_spec, TensorSpec)
    with pytest.raises(InputError, match="rate does not apply"):
        topwork.load_backbone(f"onnx:{chain[1]}", rate=RATE)


def test_an_onnx_file_may_have_an_axis_for_its_channel(tmp_path: Path) -> None:
    kernel = Filters().kernel.numpy()[:4]
    nodes = [
        helper.make_node("Conv", ["x", "kernel"], ["bands"], strides=[80]),
        helper.make_node("ReduceMean", ["bands"], ["y"], axes=[2], keepdims=0),
    ]
    path = make_file(tmp_path / "net.onnx", nodes, {"kernel": kernel}, (["batch", 1, 4_000], ["batch", 4]))
    backbone = topwork.load_backbone(f"onnx:{path}", rate=RATE)
    assert backbone.input_spec.item_shape == (4_000,)
    features = topwork.Extractor(backbone, layer="y", precision="fp32").fit_transform([(chirp(0.5, RATE), RATE)])
    assert features.shape == (1, 4)


# Jobs.


def test_a_job_in_windows_that_is_killed_goes_on(tmp_path: Path) -> None:
    folder = tmp_path / "long"
    folder.mkdir()
    for number in range(2):
        (folder / f"{number}.wav").write_bytes(encode(chirp(150.0, 44_100, 2, rise=1.0 + number), 44_100))
    command = [sys.executable, "-c", KILLED, str(folder)]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    subprocess.run([*command, str(whole)], check=True)
    process = subprocess.Popen([*command, str(killed)])
    while process.poll() is None and len(list((killed / "parts").glob("*")) if killed.exists() else []) < 2:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    subprocess.run([*command, str(killed)], check=True)
    first, second = topwork.FeatureStore.open(whole), topwork.FeatureStore.open(killed)
    assert first.ids == second.ids
    assert len(first.ids) == 2 * 300
    column = first.columns[0]
    np.testing.assert_array_equal(np.asarray(first.matrix(column)), np.asarray(second.matrix(column)))


KILLED = """
import sys
import torch, topwork
from topwork.extract.engine import batching
torch.manual_seed(0)
network = torch.nn.Sequential(torch.nn.Linear(4_000, 32), torch.nn.ReLU())
spec = topwork.AudioSpec(rate=8_000, window=0.5, long="windows")
extractor = topwork.Extractor(topwork.load_backbone(network, input_spec=spec), precision="fp32")
store = topwork.FeatureStore.open_or_create(sys.argv[2], extractor)
batching.ITEMS_PER_WINDOW = 64
topwork.extract_features(sys.argv[1], store, batch_size=16)
"""


def test_two_channels_reach_a_network_that_takes_two() -> None:
    network = nn.Sequential(nn.Conv1d(2, 4, 200, stride=80), nn.Flatten())
    spec = topwork.AudioSpec(rate=RATE, window=0.5, channels=2)
    extractor = topwork.Extractor(topwork.load_backbone(network, input_spec=spec), precision="fp32")
    stereo, mono = chirp(0.5, RATE, 2), chirp(0.5, RATE)
    features = extractor.fit_transform([(stereo, RATE), (np.repeat(mono, 2, axis=1), RATE), (mono, RATE)])
    np.testing.assert_array_equal(features[1], features[2])
    with torch.no_grad():
        expected = network(torch.from_numpy(stereo.T.copy())[None])[0].numpy()
    np.testing.assert_allclose(features[0], expected, rtol=1e-4, atol=1e-5)
    assert preprocessor_for(spec).prepare((stereo, RATE)).array.shape == (2, 4_000)
