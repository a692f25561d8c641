"""Weights files: every ending and wrapper, mismatches that are listed, and code that is never run."""

from __future__ import annotations

import argparse
import collections
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from topwork.errors import WeightsError
from topwork.models.weights import digest_of_state, load_weights
from torch import nn


def network(seed: int, width: int = 4) -> nn.Sequential:
    torch.manual_seed(seed)
    module = nn.Sequential(nn.Conv2d(3, width, 3), nn.BatchNorm2d(width), nn.Flatten(), nn.LazyLinear(2))
    module(torch.randn(4, 3, 6, 6))  # fills the statistics of BatchNorm with something that is not the default
    return module


def save(state: dict[str, Any], path: Path) -> Path:
    save_file(state, path) if path.suffix == ".safetensors" else torch.save(state, path)
    return path


@pytest.mark.parametrize("suffix", [".safetensors", ".pth", ".th", ".pt", ".bin"])
@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.module."])
def test_every_ending_and_prefix_loads_the_same_tensors(suffix: str, prefix: str, tmp_path: Path) -> None:
    source, target = network(0), network(1)
    assert digest_of_state(source) != digest_of_state(target)
    load_weights(target, save({prefix + n: t for n, t in source.state_dict().items()}, tmp_path / f"file{suffix}"))
    assert digest_of_state(source) == digest_of_state(target)


@pytest.mark.parametrize("wrapper", ["state_dict", "model_state_dict", "model", "model_ema"])
def test_tensors_under_a_wrapper_are_found(wrapper: str, tmp_path: Path) -> None:
    source, target = network(0), network(1)
    state = {"module." + n: t for n, t in source.state_dict().items()}
    checkpoint = {"epoch": 3, "best_prec1": 91.7, wrapper: collections.OrderedDict(state)}
    load_weights(target, save(checkpoint, tmp_path / "file.pth"))
    assert digest_of_state(source) == digest_of_state(target)


def test_published_checkpoint_is_read_through_its_wrapper_and_prefix(data: Path) -> None:
    from topwork.models.weights import read_tensors, strip_prefixes, unwrap

    state = strip_prefixes(unwrap(read_tensors(data / "backbones" / "resnet20-cifar10.th")))
    assert state["conv1.weight"].shape == (16, 3, 3, 3)
    assert state["linear.weight"].shape == (10, 64)
    assert sum(t.numel() for n, t in state.items() if "running" not in n) == 269_722  # He et al. 2015, table 6: 0.27 M


def test_missing_unexpected_and_reshaped_names_are_listed(tmp_path: Path) -> None:
    module = network(0)
    state = module.state_dict()
    state["extra.weight"] = torch.zeros(1)
    state["0.weight"] = torch.zeros(4, 3, 5, 5)
    del state["3.bias"]
    before = digest_of_state(module)
    with pytest.raises(WeightsError) as caught:
        load_weights(module, save(state, tmp_path / "file.safetensors"))
    message = str(caught.value)
    assert "missing: 3.bias;" in message
    assert "unexpected: extra.weight;" in message
    assert "of another shape: 0.weight (4, 3, 5, 5), expected (4, 3, 3, 3)" in message
    assert "num_classes=0" in message
    assert digest_of_state(module) == before


def test_long_lists_of_names_are_cut_with_their_number(tmp_path: Path) -> None:
    state = {**network(0).state_dict(), **{f"more.{i:02}": torch.zeros(1) for i in range(20)}}
    with pytest.raises(WeightsError, match=r"more\.11 and 8 more"):
        load_weights(network(0), save(state, tmp_path / "file.pth"))


def test_counter_of_batches_may_be_absent(tmp_path: Path) -> None:
    source, target = network(0), network(1)
    state = {n: t for n, t in source.state_dict().items() if not n.endswith("num_batches_tracked")}
    load_weights(target, save(state, tmp_path / "file.pth"))
    assert digest_of_state(source) == digest_of_state(target)


class Payload:
    """An object that makes a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("legacy", [False, True])
def test_malicious_pickle_is_refused_without_running_it(legacy: bool, tmp_path: Path) -> None:
    ran, file = tmp_path / "ran", tmp_path / "file.pth"
    state = {"state_dict": network(0).state_dict(), "more": Payload(ran)}
    torch.save(state, file, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(WeightsError, match=r"(?s)mkdir.*\.safetensors") as caught:
        load_weights(network(0), file)
    assert "`weights_only` set to `False`" not in str(caught.value)  # no advice to run it after all
    assert not ran.exists()
    torch.load(file, weights_only=False)
    assert ran.is_dir()  # the payload is live: refusing it is what kept it from running


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_damaged_file_is_an_error_that_names_it(suffix: str, tmp_path: Path) -> None:
    file = save(network(0).state_dict(), tmp_path / f"file{suffix}")
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(WeightsError, match=f"file{suffix}"):
        load_weights(network(0), file)


@pytest.mark.parametrize(("name", "message"), [("absent.pth", "does not exist"), ("file.h5", "unknown ending")])
def test_file_that_cannot_be_weights_is_refused(name: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "file.h5").touch()
    with pytest.raises(WeightsError, match=f"{message}.*.safetensors, .pth"):
        load_weights(network(0), tmp_path / name)


def test_checkpoint_without_a_dictionary_is_refused(tmp_path: Path) -> None:
    torch.save([torch.zeros(1)], tmp_path / "file.pt")
    with pytest.raises(WeightsError, match="list"):
        load_weights(network(0), tmp_path / "file.pt")


def scaled(state: dict[str, Any]) -> dict[str, Any]:
    return {name: tensor * 2 if tensor.is_floating_point() else tensor for name, tensor in state.items()}


@pytest.mark.parametrize("averaged", ["state_dict_ema", "model_ema", "ema", "teacher"])
def test_averaged_weights_are_taken_with_a_warning_and_the_key_names_others(averaged: str, tmp_path: Path) -> None:
    plain, target = network(0), network(1)
    state = plain.state_dict()
    file = save(
        {"model": state, averaged: scaled(state), "args": argparse.Namespace(lr=0.1)}, tmp_path / "best.pth.tar"
    )
    with pytest.warns(UserWarning, match=f"{averaged}.*'model'.*weights_key"):
        load_weights(target, file)
    torch.testing.assert_close(target.state_dict()["0.weight"], state["0.weight"] * 2, rtol=0, atol=0)
    load_weights(target, file, key="model")
    assert digest_of_state(target) == digest_of_state(plain)
    with pytest.raises(WeightsError, match=f"'student'.*model, {averaged}"):
        load_weights(target, file, key="student")


def test_settings_under_the_key_of_averages_are_no_weights(tmp_path: Path) -> None:
    source, target = network(0), network(1)
    load_weights(target, save({"ema": {"decay": 0.99}, "state_dict": source.state_dict()}, tmp_path / "file.pt"))
    assert digest_of_state(source) == digest_of_state(target)


def test_weights_under_unknown_keys_are_asked_for(tmp_path: Path) -> None:
    state = network(0).state_dict()
    file = save({"generator": state, "discriminator": state}, tmp_path / "gan.pt")
    with pytest.raises(WeightsError, match=r"generator, discriminator.*weights_key"):
        load_weights(network(1), file)


@pytest.mark.parametrize("prefix", ["model.", "backbone.", "encoder.", "model._orig_mod.", "module.model.backbone."])
@pytest.mark.parametrize("suffix", [".ckpt", ".safetensors"])
def test_prefixes_of_training_frameworks_are_removed(prefix: str, suffix: str, tmp_path: Path) -> None:
    source, target = network(0), network(1)
    state = {prefix + name: tensor for name, tensor in source.state_dict().items()}
    content = state if suffix == ".safetensors" else {"hyper_parameters": {"lr": 0.1}, "state_dict": state}
    load_weights(target, save(content, tmp_path / f"last{suffix}"))
    assert digest_of_state(source) == digest_of_state(target)


def test_what_was_trained_beside_the_network_is_left_out_with_a_warning(tmp_path: Path) -> None:
    source, target = network(0), network(1)
    state = {f"backbone.{name}": tensor for name, tensor in source.state_dict().items()}
    state["head.weight"] = torch.zeros(3)
    with pytest.warns(UserWarning, match="1 tensors"):
        load_weights(target, save(state, tmp_path / "dino.pth"))
    assert digest_of_state(source) == digest_of_state(target)


def test_names_that_begin_like_a_prefix_are_kept(tmp_path: Path) -> None:
    source = nn.ModuleDict({"encoder": network(0), "model": network(1)})
    target = nn.ModuleDict({"encoder": network(2), "model": network(3)})
    load_weights(target, save(source.state_dict(), tmp_path / "file.pt"))
    assert digest_of_state(source) == digest_of_state(target)


@pytest.mark.parametrize("change", ["absent", "no bias", "shape"])
def test_classifier_that_does_not_fit_becomes_zeros_with_a_warning(change: str, tmp_path: Path) -> None:
    source, target = network(0), network(1)
    state = source.state_dict()
    if change == "shape":
        state["3.weight"] = torch.ones(7, 64)
        state["3.bias"] = torch.ones(7)
    else:
        del state["3.bias"]
    if change == "absent":
        del state["3.weight"]
    file = save(state, tmp_path / "file.pt")
    with pytest.warns(UserWarning, match="classifier '3'"):
        assert not load_weights(target, file, classifier="3")
    assert torch.equal(target.state_dict()["0.weight"], source.state_dict()["0.weight"])
    assert not target.state_dict()["3.weight"].any()
    with pytest.raises(WeightsError, match=r"3\.bias"):
        load_weights(target, file)


@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.int64, torch.float8_e4m3fn])
@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_quantised_values_are_refused_by_their_type(dtype: torch.dtype, suffix: str, tmp_path: Path) -> None:
    state = network(0).state_dict()
    state["0.weight"] = state["0.weight"].to(dtype)
    with pytest.raises(WeightsError, match=f"0.weight {str(dtype).removeprefix('torch.')}"):
        load_weights(network(1), save(state, tmp_path / f"file{suffix}"))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_floats_of_other_precisions_load(dtype: torch.dtype, tmp_path: Path) -> None:
    source, target = network(0).to(dtype), network(1)
    load_weights(target, save(source.state_dict(), tmp_path / "file.safetensors"))
    torch.testing.assert_close(target.state_dict()["0.weight"], source.state_dict()["0.weight"].float())


def test_digest_of_state_sees_values_statistics_and_shapes_but_no_counter() -> None:
    base = digest_of_state(network(0))
    for name in ("0.weight", "1.running_var", "3.bias"):
        changed = network(0)
        changed.state_dict()[name].view(-1)[0] += 1e-6
        assert digest_of_state(changed) != base, name
    counted = network(0)
    counted.state_dict()["1.num_batches_tracked"] += 1
    assert digest_of_state(counted) == base
    assert digest_of_state(nn.Linear(2, 3, bias=False)) != digest_of_state(nn.Linear(3, 2, bias=False))


@pytest.mark.parametrize("prefix", ["net.", "encoder.body.", "detector.backbone.body."])
def test_any_single_prefix_is_removed(prefix: str, tmp_path: Path) -> None:
    source, target = network(0), network(1)
    state = {prefix + name: tensor for name, tensor in source.state_dict().items()}
    load_weights(target, save(state, tmp_path / "file.pt"))
    assert digest_of_state(source) == digest_of_state(target)


def test_one_of_several_networks_is_asked_for(tmp_path: Path) -> None:
    query, key, target = network(0), network(1), network(2)
    state = {f"encoder_q.{name}": tensor for name, tensor in query.state_dict().items()}
    state |= {f"encoder_k.{name}": tensor for name, tensor in key.state_dict().items()}
    file = save({"state_dict": state}, tmp_path / "moco.pt")
    with pytest.raises(WeightsError, match=r"encoder_k\., encoder_q\..*weights_key"):
        load_weights(target, file)
    load_weights(target, file, key="encoder_q")
    assert digest_of_state(query) == digest_of_state(target)


def test_usual_prefix_is_taken_before_others(tmp_path: Path) -> None:
    source, target = network(0), network(1)
    state = {f"model.{name}": tensor for name, tensor in source.state_dict().items()}
    state |= {f"ema_model.{name}": tensor for name, tensor in network(2).state_dict().items()}
    with pytest.warns(UserWarning, match="tensors are not the model's"):
        load_weights(target, save(state, tmp_path / "file.pt"))
    assert digest_of_state(source) == digest_of_state(target)


def test_numbers_of_numpy_may_stand_beside_weights(tmp_path: Path) -> None:
    source, target = network(0), network(1)
    content = {
        "state_dict": source.state_dict(),
        "best": np.float64(0.9),
        "epoch": np.int64(3),
        "dtype": np.dtype("f4"),
    }
    load_weights(target, save(content, tmp_path / "last.ckpt"))
    assert digest_of_state(source) == digest_of_state(target)


def test_refused_class_is_named_without_advice_to_trust_it(tmp_path: Path) -> None:
    torch.save(network(0), tmp_path / "whole.pth")
    with pytest.raises(WeightsError) as caught:
        load_weights(network(1), tmp_path / "whole.pth")
    assert "torch.nn.modules" in str(caught.value)
    assert "safe_globals" not in str(caught.value)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_empty_file_is_refused_with_its_cause(suffix: str, tmp_path: Path) -> None:
    file = tmp_path / f"file{suffix}"
    file.touch()
    with pytest.raises(WeightsError, match=r"cannot be read as weights: \w+"):
        load_weights(network(0), file)
