"""Batch norm over gloo ranks at the edge of what it can normalize."""

import pytest
import torch
import torch.distributed as dist
from torch import nn

from avc.distributed.model import convert_sync_batchnorm
from avc.distributed.world import World


@pytest.fixture
def group():
    """A process group of this process alone, which is asked as if there were others."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield World(rank=0, world_size=2, device=torch.device("cpu"))
    dist.destroy_process_group()


@pytest.mark.parametrize("values", [1, 6])
def test_running_variances_are_torchs_and_finite_where_there_is_one_value_alone(group, values) -> None:
    plain = nn.BatchNorm2d(2)
    ours = convert_sync_batchnorm(nn.Sequential(nn.BatchNorm2d(2)), group)[0].train()
    x = torch.randn(values, 2, 1, 1, generator=torch.Generator().manual_seed(0))
    normalized = ours(x)
    if values == 1:  # which torch refuses
        assert torch.equal(normalized, torch.zeros_like(x))
        torch.testing.assert_close(ours.running_var, torch.full((2,), 0.9))
    else:
        torch.testing.assert_close(normalized, plain(x))
        torch.testing.assert_close(ours.running_var, plain.running_var)
