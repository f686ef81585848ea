"""The compiler around a network, told to move fewer bytes of memory."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from functools import partial
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._inductor.decomposition import decompositions


def compile_network(network: nn.Module, *, graphs: bool = False) -> nn.Module:
    """The network under torch.compile, told to move fewer bytes; as CUDA graphs too, if asked for.

    What is between a convolution and the next, batch norm, pool and ReLU, each kernel computes for itself from the
    convolution's output, which is kept anyway, and of 2×2 numbers from which one the pool took. Inductor would put it
    into memory, the gradients as float32. A max pool of another kind keeps its own backward: torch 2.12 to 2.14 would
    make zeros and atomic additions of it.
    """
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
    return [*kernel, *(stride or kernel), *padding, *dilation, ceil_mode] == [2, 2, 2, 2, 0, 0, 1, 1, False]


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
