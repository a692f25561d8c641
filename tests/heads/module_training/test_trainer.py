"""Training of a module: the steps are PyTorch's own, and training goes on from any epoch as if never interrupted."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from topwork.errors import InputError
from topwork.heads.module_training.layer_groups import group_parameters, name_group
from topwork.heads.module_training.options import ModuleTrainingOptions
from topwork.heads.module_training.rows import shuffle_rows
from topwork.heads.module_training.trainer import ModuleTrainer
from torch import Tensor, nn

Array = NDArray[Any]
PLAIN = ModuleTrainingOptions(
    epochs=5, batch_size=8, layer_decay=1.0, weight_decay=0.0, warmup=0.0, cosine=False, max_gradient=0.0, device="cpu"
)


class Rows:
    """Rows in memory, as the trainer reads them."""

    def __init__(self, X: Array, target: Array, rows_of_block: int = 1) -> None:
        self.X, self.target, self.rows_of_block = X, target, rows_of_block
        self.weight = np.ones(len(X), np.float32)

    def __len__(self) -> int:
        return len(self.X)

    def read(self, rows: Array) -> Sequence[Array]:
        return [self.X[rows]]


class Network(nn.Module):
    def __init__(self, drop: float = 0.0) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([nn.Linear(6, 6), nn.Linear(6, 6)])
        self.dropout, self.head = nn.Dropout(drop), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = torch.relu(block(x.float())) + x
        return self.head(self.dropout(x))


@pytest.fixture
def rows() -> Rows:
    generator = np.random.default_rng(0)
    target = generator.integers(0, 3, 80)
    X = generator.normal(size=(80, 6)).astype(np.float32)
    X[:, :3] += 2 * np.eye(3, dtype=np.float32)[target]
    return Rows(X, target)


def make_network(drop: float = 0.0) -> Network:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Network(drop)


def assert_equal_weights(one: nn.Module, other: nn.Module) -> None:
    for name, value in one.state_dict().items():
        assert torch.equal(value, other.state_dict()[name]), name


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_losses_are_those_of_a_plain_loop(rows: Rows, optimizer: Any) -> None:
    trained = make_network()
    options = replace(PLAIN, optimizer=optimizer, learning_rate=0.02)
    losses = [record.loss for record in ModuleTrainer(trained, rows, None, options).run()]

    network = make_network()
    plain = (
        torch.optim.SGD(network.parameters(), lr=0.02, momentum=0.9)
        if optimizer == "sgd"
        else torch.optim.AdamW(network.parameters(), lr=0.02, weight_decay=0.0)
    )
    expected = []
    for epoch in range(5):
        order = shuffle_rows(len(rows), 1, np.random.default_rng([0, epoch]))
        total = 0.0
        for index in np.array_split(order, 10):
            loss = nn.functional.cross_entropy(
                network(torch.from_numpy(rows.X[index])), torch.from_numpy(rows.target[index])
            )
            plain.zero_grad()
            loss.backward()
            plain.step()
            total += float(loss.detach()) * len(index)
        expected.append(total / len(rows))
    np.testing.assert_allclose(losses, expected, rtol=1e-6)
    assert expected[-1] < expected[0] / 2


@pytest.mark.parametrize("stop", [1, 2, 3])
def test_interrupted_training_ends_as_uninterrupted(rows: Rows, stop: int) -> None:
    options = replace(PLAIN, mixup=0.2, warmup=0.2, cosine=True, label_smoothing=0.1, max_gradient=1.0)
    validation = Rows(rows.X[:20], rows.target[:20])
    whole = ModuleTrainer(make_network(0.5), rows, validation, options)
    records = list(whole.run())

    first = ModuleTrainer(make_network(0.5), rows, validation, options)
    running = first.run()
    for _ in range(stop):
        next(running)
    state = first.save_state()
    second = ModuleTrainer(make_network(0.5), rows, validation, options)
    second.restore_state(state)
    resumed = list(second.run())

    assert [*state.records, *resumed] == records
    assert_equal_weights(second.module, whole.module)
    whole.keep_best()
    second.keep_best()
    assert_equal_weights(second.module, whole.module)


def test_last_epoch_within_a_standard_error_is_kept_and_patience_ends(rows: Rows) -> None:
    scores = iter([0.3, 0.5, 0.7, 0.68, 0.5, 0.4, 0.5, 0.9])

    class Scripted(ModuleTrainer):
        def validate(self, validation: Any) -> tuple[float, float, float]:
            return 1.0, next(scores), 0.05

    trainer = Scripted(make_network(), rows, rows, replace(PLAIN, epochs=60, patience=3))
    weights = []
    for _ in trainer.run():
        weights.append({name: value.clone() for name, value in trainer.module.state_dict().items()})
    assert len(weights) == 6
    assert trainer.choose_epoch() == 3
    assert trainer.find_best().epoch == 2
    trainer.keep_best()
    for name, value in trainer.module.state_dict().items():
        assert torch.equal(value, weights[2][name]), name


def test_scores_are_accuracies_of_classes_and_losses_of_values(rows: Rows) -> None:
    network = make_network().eval()
    trainer = ModuleTrainer(network, rows, None, PLAIN)
    rows.weight[:20] = 3
    with torch.no_grad():
        predicted = network(torch.from_numpy(rows.X)).argmax(1).numpy()
    expected = np.average(predicted == rows.target, weights=rows.weight)
    assert trainer.validate(rows)[1] == pytest.approx(expected)
    rows.weight[:] = 2
    accuracy = np.mean(predicted == rows.target)
    assert trainer.validate(rows)[2] == pytest.approx(np.sqrt(accuracy * (1 - accuracy) / len(rows)))
    values = Rows(rows.X, np.zeros((len(rows), 3), np.float32))
    loss, score, _ = ModuleTrainer(network, values, None, replace(PLAIN, loss="values")).validate(values)
    assert score == -loss < 0


def test_weights_before_training_are_kept_if_none_are_better(rows: Rows) -> None:
    trained = make_network()
    list(ModuleTrainer(trained, rows, None, PLAIN).run())
    start = {name: value.clone() for name, value in trained.state_dict().items()}
    spoiled = Rows(rows.X, (rows.target + 1) % 3)
    trainer = ModuleTrainer(trained, spoiled, rows, replace(PLAIN, epochs=20, learning_rate=0.1, patience=2))
    records = list(trainer.run())
    assert len(records) == 2
    assert trainer.choose_epoch() == 0
    assert trainer.find_best().validation_score < trainer.start.validation_score
    trainer.keep_best()
    for name, value in trained.state_dict().items():
        assert torch.equal(value, start[name]), name


def test_global_generators_are_not_moved(rows: Rows) -> None:
    torch.manual_seed(5)
    np.random.seed(5)
    before = torch.random.get_rng_state(), np.random.get_state()[1].tolist()
    list(ModuleTrainer(make_network(0.5), rows, None, replace(PLAIN, mixup=0.5)).run())
    assert torch.equal(torch.random.get_rng_state(), before[0])
    assert np.random.get_state()[1].tolist() == before[1]


def test_weights_of_rows_count(rows: Rows) -> None:
    rows.weight[:40] = 0
    rows.weight[40:] = 2
    half = Rows(rows.X[40:], rows.target[40:])
    assert ModuleTrainer(make_network(), rows, None, PLAIN).validate(rows) == pytest.approx(
        ModuleTrainer(make_network(), half, None, PLAIN).validate(half)
    )


def test_rows_without_weight_teach_nothing(rows: Rows) -> None:
    other = Rows(rows.X.copy(), rows.target)
    for given in (rows, other):
        given.weight[::2], given.weight[1::2] = 0, 2
    other.X[::2] = 100
    trained = [ModuleTrainer(make_network(), given, None, PLAIN) for given in (rows, other)]
    for trainer in trained:
        list(trainer.run())
    assert_equal_weights(trained[0].module, trained[1].module)


def test_smoothed_labels_raise_the_loss_of_sure_outputs(rows: Rows) -> None:
    sure, target = torch.tensor([[20.0, 0.0, 0.0]]), torch.tensor([0])
    smoothed = ModuleTrainer(make_network(), rows, None, replace(PLAIN, label_smoothing=0.3))
    assert float(smoothed.compute_losses(sure, target)) == pytest.approx(0.2 * 20, rel=1e-6)


def test_long_gradients_are_shortened(rows: Rows) -> None:
    options = replace(PLAIN, optimizer="sgd", learning_rate=1.0, max_gradient=0.25, batch_size=80, epochs=1)
    trained, start = make_network(), make_network()
    list(ModuleTrainer(trained, rows, None, options).run())
    steps = [(one - other).detach() for one, other in zip(trained.parameters(), start.parameters(), strict=True)]
    assert float(torch.cat([step.flatten() for step in steps]).norm()) == pytest.approx(0.25, rel=1e-4)


def test_masks_of_mixed_texts_cover_both() -> None:
    class Texts(Rows):
        def read(self, rows: Array) -> Sequence[Array]:
            return [self.X[rows], masks[rows]]

    class MaskKeeper(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head, self.seen = nn.Linear(4, 2), []

        def forward(self, value: Tensor, mask: Tensor) -> Tensor:
            self.seen.append(mask.numpy().copy())
            return self.head(value)

    masks = np.triu(np.ones((4, 4), np.int64)).T  # texts of 1 to 4 tokens
    texts, keeper = Texts(np.ones((4, 4), np.float32), np.array([0, 1, 0, 1])), MaskKeeper()
    list(ModuleTrainer(keeper, texts, None, replace(PLAIN, mixup=1.0, epochs=1, batch_size=4)).run())
    (mixed,) = keeper.seen
    own = np.array(sorted(mixed.sum(axis=1)))
    assert (own >= [1, 2, 3, 4]).all()
    assert own[0] > 1  # the shortest text was mixed with a longer one


@pytest.mark.parametrize("loss", ["values", "labels"])
def test_losses_of_values_and_labels_fall(rows: Rows, loss: Any) -> None:
    rows.target = np.eye(3, dtype=np.float32)[rows.target]
    records = list(ModuleTrainer(make_network(), rows, None, replace(PLAIN, loss=loss)).run())
    assert records[-1].loss < records[0].loss


def test_own_loss_is_used(rows: Rows) -> None:
    def absolute(outputs: Tensor, target: Tensor) -> Tensor:
        return (outputs[:, 0] - target).abs()

    records = list(ModuleTrainer(make_network(), rows, None, replace(PLAIN, loss=absolute)).run())
    assert records[-1].loss < records[0].loss


def test_infinite_loss_is_an_error(rows: Rows) -> None:
    rows.X[3] = np.inf
    with pytest.raises(InputError, match="the loss became nan in epoch 1; expected finite numbers"):
        list(ModuleTrainer(make_network(), rows, None, PLAIN).run())


def test_module_without_parameters_is_an_error(rows: Rows) -> None:
    with pytest.raises(InputError, match="no parameter to train"):
        ModuleTrainer(make_network().requires_grad_(False), rows, None, PLAIN)


def test_learning_rates_fall_towards_the_input() -> None:
    groups = group_parameters(make_network(), replace(PLAIN, learning_rate=1.0, layer_decay=0.5, weight_decay=0.1))
    rates = [(group["lr"], group["weight_decay"]) for group in groups]
    assert rates == [(0.25, 0.1), (0.25, 0.0), (0.5, 0.1), (0.5, 0.0), (1.0, 0.1), (1.0, 0.0)]
    assert name_group("features.6.0.block.2.bias") == "features.6"


def test_learning_rate_warms_up_and_falls(rows: Rows) -> None:
    trainer = ModuleTrainer(make_network(), rows, None, replace(PLAIN, warmup=0.2, cosine=True))
    shares = [trainer.compute_schedule(step) for step in range(50)]
    assert shares[0] == pytest.approx(0.1)
    assert shares[10] == pytest.approx(1.0)
    assert shares[30] == pytest.approx((1 + math.cos(math.pi / 2)) / 2)
    assert shares == sorted(shares[:11]) + sorted(shares[11:], reverse=True)


def test_blocks_are_shuffled_and_stay_together() -> None:
    rows = shuffle_rows(10_000, 16, np.random.default_rng(0))
    assert sorted(rows) == list(range(10_000))
    window = rows[: 16 * 32]
    assert len({row // 16 for row in window}) == 32
    assert (np.diff(window) == 1).mean() < 0.05
