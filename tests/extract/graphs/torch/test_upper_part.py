"""The upper part equals what lies above the cut: values, gradients, and what acts in training alone."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import topwork
import torch
from topwork.errors import ExportError, LayerError
from topwork.extract.graphs.torch.upper_part import UpperPart
from topwork.models import OnnxBackbone
from torch import Tensor, nn

SPEC = topwork.ImageSpec(size=(8, 8), resize=8)


class StochasticDepth(nn.Module):
    """Leaves out whole items in training, as those of timm and torchvision do."""

    def __init__(self, drop: float) -> None:
        super().__init__()
        self.drop = drop

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.drop == 0:
            return x
        kept = x.new_empty((x.shape[0], 1, 1, 1)).bernoulli_(1 - self.drop)
        return x * kept.div_(1 - self.drop)


class Block(nn.Module):
    """A residual block, whose branch is dropped at random in training."""

    def __init__(self, drop: float) -> None:
        super().__init__()
        self.conv, self.norm, self.act = nn.Conv2d(6, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(inplace=True)
        self.depth = StochasticDepth(drop)

    def forward(self, x: Tensor) -> Tensor:
        return self.act(x + self.depth(self.norm(self.conv(x))))


class Network(nn.Module):
    def __init__(self, drop: float = 0.0) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(inplace=True))
        self.below, self.above, self.top = Block(drop), Block(drop), Block(drop)
        self.dropout, self.fc = nn.Dropout(drop), nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.top(self.above(self.below(self.stem(x))))
        return self.fc(self.dropout(x.flatten(2).mean(2)))


@pytest.fixture
def images() -> Tensor:
    return torch.rand(5, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def make_network(drop: float = 0.0) -> Network:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = Network(drop)
        for norm in (part for part in network.modules() if isinstance(part, nn.BatchNorm2d)):
            nn.init.uniform_(norm.weight, 0.5, 1.5)
            norm.running_mean.uniform_(-0.2, 0.2)
            norm.running_var.uniform_(0.5, 2.0)
    return network.eval()


def cut_network(
    network: nn.Module, layer: str = "below", to: str = "last", train_batch_norm: bool = False
) -> UpperPart:
    backbone = topwork.load_backbone(network, input_spec=SPEC)
    return topwork.upper_part(backbone, layer, to, train_batch_norm=train_batch_norm)


def run_below(network: Network, images: Tensor) -> Tensor:
    with torch.no_grad():
        return network.below(network.stem(images))


def run_above(network: Network, value: Tensor) -> Tensor:
    return network.dropout(network.top(network.above(value)).flatten(2).mean(2))


def test_parameters_keep_their_names_and_values() -> None:
    network = make_network()
    upper = cut_network(network)
    named = dict(upper.named_parameters())
    assert list(named) == [name for name, _ in network.named_parameters() if name.startswith(("above", "top"))]
    original = dict(network.named_parameters())
    assert all(torch.equal(value, original[name]) and value is not original[name] for name, value in named.items())
    assert all(value.requires_grad for value in named.values())
    assert (upper.layer.name, upper.to_layer.name, upper.training) == ("below", "last", False)


@pytest.mark.parametrize(("training", "train_batch_norm"), [(False, False), (True, False), (True, True)])
def test_values_and_gradients_are_those_of_the_network(images: Tensor, training: bool, train_batch_norm: bool) -> None:
    network = make_network()
    upper = cut_network(network, train_batch_norm=train_batch_norm).train(training)
    value = run_below(network, images)
    network.train(training and train_batch_norm)
    expected, computed = run_above(network, value), upper(value)
    torch.testing.assert_close(computed, expected, rtol=1e-5, atol=1e-6)

    expected.square().sum().backward()
    computed.square().sum().backward()
    gradients = dict(network.named_parameters())
    for name, parameter in upper.named_parameters():
        torch.testing.assert_close(parameter.grad, gradients[name].grad, rtol=1e-4, atol=1e-6)
    statistics = dict(network.named_buffers())
    for name, buffer in upper.named_buffers():
        torch.testing.assert_close(buffer, statistics[name], rtol=1e-5, atol=1e-6)


class FlatNetwork(nn.Module):
    """Takes all values of a map as one vector, which is a view only of the usual layout in memory."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.above = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 6, 3, padding=1)
        self.fc = nn.Linear(6 * 64, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.above(self.stem(x)).flatten(1))


@pytest.mark.parametrize("training", [False, True])
def test_any_layout_in_memory_may_be_given(images: Tensor, training: bool) -> None:
    network = FlatNetwork().eval()
    upper = cut_network(network, "stem").train(training)
    value = network.stem(images).detach()
    other = upper(value.to(memory_format=torch.channels_last))
    torch.testing.assert_close(other, upper(value), rtol=1e-5, atol=1e-6)


def test_dropout_and_stochastic_depth_act_in_training_only(images: Tensor) -> None:
    upper = cut_network(make_network(drop=0.5))
    value = run_below(make_network(), images)
    assert torch.equal(upper(value), upper(value))
    upper.train()
    computed = [upper(value) for _ in range(8)]
    assert all((one == 0).any() for one in computed)  # dropout
    kept = cut_network(make_network(drop=0.5), to="top").train()  # nothing but stochastic depth
    assert len({tuple(kept(value).flatten().tolist()) for _ in range(8)}) > 1


def test_what_lies_above_the_last_layer_is_dropped(images: Tensor) -> None:
    network = make_network()
    upper = cut_network(network, to="above")
    assert {name.partition(".")[0] for name in upper.state_dict()} == {"above"}
    value = run_below(network, images)
    torch.testing.assert_close(upper(value), network.above(value))
    assert upper.to_layer.shape == (6, 8, 8)


def test_cut_at_the_input_is_the_whole_network(images: Tensor) -> None:
    network = make_network()
    upper = cut_network(network, "input")
    assert upper.layer.shape == (3, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(upper(images), run_above(network, run_below(network, images)))
    assert len(list(upper.parameters())) == len(list(network.parameters())) - 2  # without the classifier


def test_half_precision_maps_are_taken(images: Tensor) -> None:
    network = make_network()
    value = run_below(network, images)
    computed = cut_network(network)(value.half())
    assert computed.dtype == torch.float32
    torch.testing.assert_close(computed, run_above(network, value), rtol=1e-2, atol=1e-3)


def test_copies_train_apart(images: Tensor) -> None:
    network = make_network()
    upper = cut_network(network)
    trained = copy.deepcopy(upper).train()
    optimizer = torch.optim.SGD(trained.parameters(), lr=0.1)
    value = run_below(network, images)
    before = upper(value)
    trained(value).sum().backward()
    optimizer.step()
    assert torch.equal(upper(value), before)
    assert not torch.equal(trained.eval()(value), before)
    upper.load_state_dict(trained.state_dict())
    assert torch.equal(upper(value), trained(value))


def test_cuts_of_one_backbone_leave_it_and_each_other_as_they_are(images: Tensor) -> None:
    network = make_network()
    before = copy.deepcopy(network.state_dict())
    backbone = topwork.load_backbone(network, input_spec=SPEC)
    trained = topwork.upper_part(backbone, "above", train_batch_norm=True).train()
    optimizer = torch.optim.SGD(trained.parameters(), lr=0.1)
    trained(network.above(run_below(network, images)).detach()).sum().backward()
    optimizer.step()
    assert not torch.equal(trained.state_dict()["top.norm.running_mean"], before["top.norm.running_mean"])
    upper = topwork.upper_part(backbone, "below", train_batch_norm=True)
    for name, value in {**network.state_dict(), **upper.state_dict()}.items():
        assert torch.equal(value, before[name])
    assert not network.training


@pytest.mark.parametrize("layer", ["above.conv", "above.norm"])
def test_cut_that_several_tensors_cross_is_refused_by_name(layer: str) -> None:
    with pytest.raises(LayerError, match=f"'{layer}' is no cut to train above.* is computed from below as well"):
        cut_network(make_network(), layer)


@pytest.mark.parametrize("to", ["below", "stem"])
def test_last_layer_must_lie_above_the_cut(to: str) -> None:
    with pytest.raises(LayerError, match=f"'{to}' does not lie above 'above'"):
        cut_network(make_network(), "above", to)


class Tied(nn.Module):
    """A layer that runs below and above the cut."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.between, self.top = nn.Conv2d(3, 3, 1), nn.Tanh(), nn.Conv2d(3, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.top(self.conv(self.between(self.conv(x)))).mean((2, 3))


def test_parameters_that_the_lower_part_shares_are_not_trained() -> None:
    upper = cut_network(Tied(), "between", "top")
    assert upper.shared == ("conv.bias", "conv.weight")
    trained = {name for name, parameter in upper.named_parameters() if parameter.requires_grad}
    assert trained == {"top.weight", "top.bias"}


def test_padding_of_texts_is_masked(text_folder: Path) -> None:
    from transformers import BertModel

    backbone = topwork.load_backbone(f"hf:{text_folder}")
    upper = topwork.upper_part(backbone, "encoder.layer.0")
    assert upper.takes_mask
    model = BertModel.from_pretrained(text_folder).eval()
    tokens = torch.tensor([[2, 5, 9, 7, 3], [2, 8, 3, 0, 0]])
    mask = (tokens != 0).long()
    with torch.no_grad():
        states = model(tokens, mask, output_hidden_states=True).hidden_states
        computed = upper(states[1], mask)
    kept = mask.bool()
    torch.testing.assert_close(computed[kept], states[2][kept], rtol=1e-4, atol=1e-5)
    upper.train()
    assert not torch.equal(upper(states[1], mask), upper(states[1], mask))  # dropout


def test_onnx_file_is_refused_by_name(tmp_path: Path) -> None:
    backbone = OnnxBackbone(name="onnx:model.onnx", input_spec=SPEC, path=tmp_path / "model.onnx")
    with pytest.raises(ExportError, match=r"onnx:model\.onnx is an ONNX file, whose layers cannot be trained"):
        topwork.upper_part(backbone, "last")
