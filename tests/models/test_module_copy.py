"""A private copy computes what the caller's module does, whatever it is wrapped in, and leaves theirs as it was."""

from __future__ import annotations

import copy
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from topwork.errors import InputError
from topwork.models import module_copy
from topwork.models.backbone import TorchBackbone
from topwork.models.loading import load_backbone
from topwork.models.module_copy import private_copy, set_evaluation_mode
from topwork.models.tensor_spec import TensorSpec
from topwork.models.torchvision_operators import ensure_torchvision_operators
from torch import Tensor, nn

SPEC = TensorSpec((3, 8, 8))
IMAGES = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU()).eval()


def with_compiled_child() -> nn.Module:
    module = network()
    module[0] = torch.compile(module[0])  # type: ignore[index, operator]
    return module


def with_parallel_child() -> nn.Module:
    module = network()
    module[0] = nn.DataParallel(module[0])  # type: ignore[index, operator]
    return module


def compiled_in_place() -> nn.Module:
    module = network()
    module.compile()
    return module


def averaged_by_timm() -> nn.Module:
    ensure_torchvision_operators()
    from timm.utils import ModelEmaV3

    return ModelEmaV3(network())


@pytest.mark.parametrize(
    "wrap",
    [
        network,
        lambda: torch.compile(network()),
        lambda: nn.DataParallel(network()),
        lambda: torch.compile(nn.DataParallel(network())),
        lambda: torch.optim.swa_utils.AveragedModel(network()),
        averaged_by_timm,
        with_compiled_child,
        with_parallel_child,
        compiled_in_place,
    ],
    ids=["none", "compile", "parallel", "both", "averaged", "ema", "compiled child", "parallel child", "in place"],
)
def test_wrappers_are_removed(wrap: Any) -> None:
    copied = private_copy(wrap()).eval()
    assert list(copied.state_dict()) == list(network().state_dict())
    assert load_backbone(wrap(), input_spec=SPEC).name == "torch.nn.modules.container.Sequential"
    torch.testing.assert_close(copied(IMAGES), network()(IMAGES))


def test_the_callers_module_stays_as_it_was() -> None:
    module = nn.Conv2d(3, 4, 3).double().train()
    backbone = load_backbone(torch.compile(module), input_spec=SPEC)
    with torch.no_grad():
        module.weight.zero_()
    assert isinstance(backbone, TorchBackbone)
    assert not any((tensor == 0).all() for tensor in backbone.module.parameters())
    assert (module.training, module.weight.dtype, module.weight.requires_grad) == (True, torch.float64, True)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_floating_point_becomes_float32(dtype: torch.dtype) -> None:
    copied = private_copy(network().to(dtype))
    assert {tensor.dtype for tensor in copied.parameters()} == {torch.float32}
    assert copied(IMAGES).dtype == torch.float32


def normed() -> nn.Module:
    """The old normalisation keeps a weight that an operation has computed."""
    module = network()
    nn.utils.weight_norm(module[0])  # type: ignore[index, arg-type]
    module(IMAGES)
    return module


class Remembers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.seen: dict[str, Any] = {}

    def forward(self, x: Tensor) -> Tensor:
        self.seen["last"] = [self.conv(x)]
        result: Tensor = self.seen["last"][0].relu()
        return result


def remembering() -> nn.Module:
    torch.manual_seed(0)
    module = Remembers()
    module(IMAGES)
    return module


@pytest.mark.parametrize(
    "make", [normed, remembering, lambda: nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 4, 3))]
)
def test_computed_tensors_are_copied(make: Any) -> None:
    module = make()
    torch.testing.assert_close(private_copy(module)(IMAGES), module(IMAGES))


def meta() -> nn.Module:
    with torch.device("meta"):
        return nn.Conv2d(3, 4, 3)


def with_lock() -> nn.Module:
    module = network()
    module.lock = threading.Lock()  # type: ignore[assignment]
    return module


@pytest.mark.parametrize(
    ("module", "cause"),
    [
        (nn.Sequential(nn.LazyConv2d(4, 3)), "0.weight.*lazy"),
        (meta(), "weight.*meta"),
        (torch.jit.script(network()), "TorchScript"),
        (torch.jit.trace(network(), IMAGES), "TorchScript"),
        (nn.Sequential(network(), torch.jit.script(nn.ReLU())), "TorchScript"),
        (nn.DataParallel(torch.jit.script(network())), "TorchScript"),
        (with_lock(), "lock"),
        (nn.ReLU, "type"),
        (torch.relu, "builtin_function"),
        (None, "NoneType"),
    ],
    ids=["lazy", "meta", "script", "trace", "script child", "wrapped script", "lock", "class", "function", "none"],
)
def test_what_cannot_be_copied_is_refused(module: Any, cause: str) -> None:
    with pytest.raises(InputError, match=cause):
        load_backbone(module, input_spec=SPEC)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_quantised_modules_are_refused_by_name() -> None:
    module = nn.Sequential(nn.Flatten(), nn.Linear(192, 4))
    quantised = torch.ao.quantization.quantize_dynamic(module, {nn.Linear}, torch.qint8)
    with pytest.raises(InputError, match=r"quantized.*Linear"):
        load_backbone(quantised, input_spec=SPEC)


class Silent(nn.Module):
    """Returns nothing from ``train()``, and keeps its dropout in training mode, as no module should."""

    def __init__(self) -> None:
        super().__init__()
        self.dropout = nn.Dropout(0.5)

    def train(self, mode: bool = True) -> None:  # type: ignore[override]
        self.training = mode


def test_evaluation_mode_does_not_depend_on_train() -> None:
    module = Silent()
    set_evaluation_mode(module)
    assert not any(part.training for part in module.modules())


def test_train_without_a_mode_is_refused() -> None:
    class Fixed(nn.Module):
        def train(self) -> None:  # type: ignore[override]
            pass

    with pytest.raises(InputError, match=r"Fixed.eval\(\)"):
        load_backbone(Fixed(), input_spec=SPEC)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_large_modules_are_copied_to_disk(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(module_copy, "LARGE_MODULE_BYTES", 1000)
    monkeypatch.setattr(module_copy, "MIN_MAPPED_BYTES", 500)
    monkeypatch.setenv("TOPWORK_CACHE", str(tmp_path))
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(30, 30), nn.Linear(30, 30), nn.BatchNorm1d(30)).to(dtype).eval()
    module[1].weight = module[0].weight  # tied, in a view that is not contiguous
    module[1].weight.data = module[1].weight.data.T
    mine = private_copy(module)
    inputs = torch.rand(2, 30)
    expected = copy.deepcopy(module).float()(inputs)
    found = mine(inputs)
    torch.testing.assert_close(found, expected)  # a view that is not contiguous is summed in another order
    assert torch.equal(mine[0].weight, module[0].weight.float())  # type: ignore[index, operator]
    assert mine[0].weight is mine[1].weight  # type: ignore[index]
    with torch.no_grad():
        module[0].weight.zero_()
    assert torch.equal(mine(inputs), found)
    assert list(tmp_path.iterdir()) == []
