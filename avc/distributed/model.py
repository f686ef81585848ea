"""A network that several ranks train: batch norm over all of them, DDP, and the compiler around both."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from functools import partial
from typing import Any, Literal, cast

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributed.nn.functional import all_reduce
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from avc.distributed.world import World


def convert_sync_batchnorm(model: nn.Module, world: World) -> nn.Module:
    """Replace each batch norm by one that normalizes over the micro-batches of all ranks."""
    if world.world_size == 1:
        return model
    if world.device.type == "cuda":
        return nn.SyncBatchNorm.convert_sync_batchnorm(model)  # type: ignore[no-any-return, no-untyped-call]
    for name, child in model.named_children():
        if isinstance(child, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d):
            setattr(model, name, _SyncBatchNormOnCPU(child))
        else:
            convert_sync_batchnorm(child, world)
    return model


def wrap(model: nn.Module, world: World, *, compiled: bool | Literal["auto"]) -> nn.Module:
    """DDP around it where there are other ranks, and compiled where the settings say so."""
    network: nn.Module = model
    if world.world_size > 1:
        # Its successor of torch 2.13 is not there in the lowest version that this runs on.
        warnings.filterwarnings("ignore", message="`broadcast_buffers` is deprecated")
        with world.waiting():
            network = DistributedDataParallel(
                model,
                device_ids=[world.device] if world.device.type == "cuda" else None,
                broadcast_buffers=False,  # running statistics do not enter a training step; rank 0's count
                gradient_as_bucket_view=True,
            )
    if compiled == "auto":
        compiled = world.device.type == "cuda"
    return compile_network(network) if compiled else network


def compile_network(network: nn.Module, *, graphs: bool = False) -> nn.Module:
    """The network under torch.compile, told to move fewer bytes; as CUDA graphs too, if asked for.

    What is between a convolution and the next, batch norm, pool and ReLU, each kernel computes for itself from the
    convolution's output, which is kept anyway, and of 2×2 numbers from which one the pool took. Inductor would put it
    into memory, the gradients as float32. A max pool of another kind keeps its own backward: torch 2.12 to 2.14 would
    make zeros and atomic additions of it.
    """
    from torch._inductor.decomposition import decompositions  # seconds of importing, for this alone

    aten = torch.ops.aten
    forward, backward = aten.max_pool2d_with_indices.default, aten.max_pool2d_with_indices_backward.default
    if decompositions.get(backward) is not _pool_by_two_backward:
        decompositions[forward] = partial(_pool_by_two, otherwise=decompositions[forward])
        decompositions[backward] = _pool_by_two_backward
    for parent in network.modules():
        before: nn.Module | None = None
        for name, child in parent.named_children():
            # Its gradient's mask is of its output, a threshold's of its input. After a pool the output is the smaller.
            if isinstance(child, nn.ReLU) and not isinstance(before, nn.MaxPool2d | nn.MaxPool3d):
                setattr(parent, name, nn.Threshold(0.0, 0.0))
            before = child
    # The spectrogram's transform is the one operation on complex numbers, and no compiler's.
    warnings.filterwarnings("ignore", message="Torchinductor does not support code generation for complex operators")
    more: dict[str, Any] = {
        "realize_reads_threshold": 12,
        "realize_acc_reads_threshold": 16,
        "realize_opcount_threshold": 100,
    }
    return cast("nn.Module", torch.compile(network, options={**more, "triton.cudagraphs": graphs}))


def _is_by_two(
    kernel: Sequence[int],
    stride: Sequence[int] = (),
    padding: Sequence[int] = (0, 0),
    dilation: Sequence[int] = (1, 1),
    ceil_mode: bool = False,
) -> bool:
    return [*kernel, *stride, *padding, *dilation, ceil_mode] == [2, 2, 2, 2, 0, 0, 1, 1, False]


def _pool_by_two(x: Tensor, *settings: Any, otherwise: Any) -> Any:
    """Of a max pool of 2×2 its output, and int8 which of the four numbers it is, 0 to 3, in place of the indices."""
    if not _is_by_two(*settings):
        return otherwise(x, *settings)
    height, width = x.shape[-2] // 2 * 2, x.shape[-1] // 2 * 2
    best = x[..., 0:height:2, 0:width:2]
    which = torch.zeros_like(best, dtype=torch.int64)  # to int8 at last, and so kept: what becomes 4 times smaller is
    for number, (row, column) in enumerate(((0, 1), (1, 0), (1, 1)), 1):
        other = x[..., row:height:2, column:width:2]
        taken = (other > best) | other.isnan()
        best, which = torch.where(taken, other, best), torch.where(taken, number, which)
    return best, which.to(torch.int8)


def _pool_by_two_backward(gradient: Tensor, x: Tensor, *rest: Any) -> Any:
    *settings, which = rest
    if not _is_by_two(*settings):
        return NotImplemented
    numbers = torch.arange(4, dtype=torch.int8, device=x.device).view(2, 1, 2)
    pooled = [tensor[..., :, None, :, None] for tensor in (gradient, which)]
    spread = torch.where(pooled[1] == numbers, pooled[0], 0).flatten(-4, -3).flatten(-2)
    return F.pad(spread, (0, x.shape[-1] % 2, 0, x.shape[-2] % 2))


def share_statistics(model: nn.Module, world: World) -> None:
    """Give every rank the running statistics of rank 0, which are the ones that are saved."""
    if world.world_size > 1:
        with world.waiting():
            for buffer in model.buffers():
                dist.broadcast(buffer, src=0)


class _SyncBatchNormOnCPU(_BatchNorm):
    """torch's SyncBatchNorm refuses the CPU; this one is for gloo ranks. Same parameters, same running statistics."""

    def __init__(self, plain: nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d) -> None:
        super().__init__(plain.num_features, eps=plain.eps, momentum=plain.momentum)
        self.load_state_dict(plain.state_dict())

    def _check_input_dim(self, x: Tensor) -> None:
        assert x.dim() in (3, 4, 5), x.shape

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        assert self.momentum is not None
        wide = x.float()
        per_rank = x.numel() / x.shape[1]
        all_but_channels = (0, *range(2, x.dim()))
        one_each = (-1, *[1] * (x.dim() - 2))
        total = _sum(wide.new_tensor(per_rank))
        mean = _sum(wide.sum(dim=all_but_channels)) / total
        centered = wide - mean.view(one_each)
        variance = _sum(centered.square().sum(dim=all_but_channels)) / total
        with torch.no_grad():
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * total / (total - 1).clamp(min=1), self.momentum)  # of one value: 0
        scale = self.weight * (variance + self.eps).rsqrt()
        normalized: Tensor = centered * scale.view(one_each) + self.bias.view(one_each)
        return normalized.to(x.dtype)


def _sum(x: Tensor) -> Tensor:
    return all_reduce(x)  # type: ignore[no-any-return, no-untyped-call]
