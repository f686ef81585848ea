"""Muon: orthogonal steps for matrices, Adam's for all else, none where the loss is not finite."""

import pytest
import torch
from torch import nn

from avc.config import load_config
from avc.training.optimizer import Muon, build_optimizer, orthogonal
from tests.avc.launching import train_in_two, write_config


@pytest.mark.parametrize("shape", [(16, 9), (16, 144), (128, 1152), (256, 128)])
def test_a_matrix_is_brought_near_to_the_orthogonal_one_of_its_own_directions(shape) -> None:
    torch.manual_seed(0)
    # Its singular values are a tenth of each other at most: those near to 0 would stay there.
    left, _, right = torch.linalg.svd(torch.randn(shape), full_matrices=False)
    spread = torch.linspace(1, 0.1, len(right))
    turned = orthogonal(left * spread @ right)
    values = torch.linalg.svdvals(turned)
    assert values.min() > 0.65 and values.max() < 1.25
    along = (left.T @ turned @ right.T).diagonal()
    assert along.min() > 0.65
    assert torch.allclose(left * along @ right, turned, atol=1e-3)


@pytest.fixture
def network() -> nn.Module:
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Flatten(), nn.Linear(8 * 4 * 4, 16), nn.Linear(16, 2)
    return nn.Sequential(*layers)


def losses(network: nn.Module, optimizer: torch.optim.Optimizer, *, steps: int) -> list[float]:
    torch.manual_seed(1)
    x, label = torch.randn(32, 3, 6, 6), torch.randint(2, (32,))
    found = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(network(x), label)
        loss.backward()
        optimizer.step()
        found.append(loss.item())
    return found


def test_what_is_no_matrix_takes_adams_steps(network) -> None:
    other = nn.Sequential(*network)
    other.load_state_dict(network.state_dict())
    rest = [network[0].bias, network[1].weight, network[1].bias, network[3].bias, network[4].weight, network[4].bias]
    before = [p.detach().clone() for p in rest]
    muon = Muon(network.parameters(), lr=1e-2, weight_decay=1e-5)
    assert [len(group["params"]) for group in muon.param_groups] == [2, 6]
    losses(network, muon, steps=1)
    by_muon = [p.detach().clone() for p in rest]
    for p, value in zip(rest, before, strict=True):
        p.data.copy_(value)
    adam = torch.optim.Adam(rest, lr=1e-2, weight_decay=1e-5, fused=True)  # with the gradients that are still there
    adam.step()
    assert all(torch.equal(p, value) for p, value in zip(rest, by_muon, strict=True))
    assert not any(torch.equal(p, value) for p, value in zip(rest, before, strict=True))


def test_a_step_of_a_matrix_is_of_the_size_of_adams(network) -> None:
    weight = network[3].weight
    before = weight.detach().clone()
    weight.grad = torch.randn_like(weight)
    Muon([weight, network[4].bias], lr=1e-2, weight_decay=0).step()
    assert (weight - before).square().mean().sqrt().item() == pytest.approx(0.2 * 1e-2, rel=0.3)


def test_it_brings_the_loss_down(network) -> None:
    found = losses(network, Muon(network.parameters(), lr=1e-2, weight_decay=1e-5), steps=60)
    assert found[-1] < 0.1 < 0.4 < found[0]


def test_a_step_whose_loss_is_not_finite_changes_nothing(network) -> None:
    optimizer = Muon(network.parameters(), lr=1e-2, weight_decay=1e-5)
    losses(network, optimizer, steps=2)
    weights = [p.detach().clone() for p in network.parameters()]
    states = [{name: x.clone() for name, x in optimizer.state[p].items()} for p in network.parameters()]
    for p in network.parameters():
        p.grad = torch.full_like(p, torch.nan)
    optimizer.found_inf = torch.ones(())
    optimizer.step()
    assert all(torch.equal(p, before) for p, before in zip(network.parameters(), weights, strict=True))
    for p, before in zip(network.parameters(), states, strict=True):
        assert before and all(torch.equal(optimizer.state[p][name], x) for name, x in before.items())


def test_a_stopped_training_by_muon_ends_with_the_bits_of_the_uninterrupted_one(small_world, tmp_path) -> None:
    config = write_config(tmp_path, small_world, optim={"optimizer": "muon"})
    settings = load_config(config, []).optim
    assert isinstance(build_optimizer(nn.Linear(8, 8), settings), Muon)
    train_in_two(config, tmp_path, stop_at=3)
