"""cuDNN's operators on the null device: results of the shape and the layout that the real ones have."""

from __future__ import annotations

from collections import Counter
from typing import Any

import torch
from torch import Tensor
from torch._prims_common import suggest_memory_format

LIBRARY: Any = torch.library.Library("aten", "IMPL")  # type: ignore[no-untyped-call]
copied: Counter[str] = Counter()  # operands of convolutions that cuDNN's wrapper would bring to another layout


def _layout(way: str, x: Tensor, weight: Tensor, **others: Tensor) -> torch.memory_format:
    """As `cudnn_conv_suggest_memory_format`: channels last where the input or the weight is."""
    formats = [suggest_memory_format(tensor) for tensor in (x, weight)]
    layout = next((one for one in formats if one != torch.contiguous_format), torch.contiguous_format)
    for name, tensor in {"input": x, "weight": weight, **others}.items():
        if not tensor.is_contiguous(memory_format=layout):
            copied[f"{way}: {name} {tuple(tensor.shape)} of strides {tensor.stride()}"] += 1
    return layout


def _convolution(x: Tensor, weight: Tensor, padding: Any, stride: Any, dilation: Any, *_: Any) -> Tensor:
    sizes = zip(x.shape[2:], weight.shape[2:], padding, stride, dilation, strict=True)
    places = [(size + 2 * pad - step * (side - 1) - 1) // by + 1 for size, side, pad, by, step in sizes]
    layout = _layout("forward", x, weight)
    return torch.empty((len(x), len(weight), *places), dtype=x.dtype, device=x.device, memory_format=layout)


def _convolution_backward(gradient: Tensor, x: Tensor, weight: Tensor, *rest: Any) -> tuple[Tensor | None, ...]:
    layout = _layout("backward", x, weight, gradient=gradient)
    of_x, of_weight, of_bias = rest[-1]
    return (
        torch.empty_like(x, memory_format=layout) if of_x else None,
        torch.empty_like(weight, memory_format=layout) if of_weight else None,
        gradient.new_empty(len(weight)) if of_bias else None,
    )


def _batch_norm(x: Tensor, weight: Tensor, *_: Any) -> tuple[Tensor, ...]:
    return torch.empty_like(x), torch.empty_like(weight), torch.empty_like(weight), x.new_empty(0, dtype=torch.uint8)


def _batch_norm_backward(x: Tensor, gradient: Tensor, weight: Tensor, *_: Any) -> tuple[Tensor, ...]:
    return torch.empty_like(x), torch.empty_like(weight), torch.empty_like(weight)


for _name, _operator in {
    "cudnn_convolution": _convolution,
    "convolution_backward": _convolution_backward,
    "cudnn_batch_norm": _batch_norm,
    "cudnn_batch_norm_backward": _batch_norm_backward,
}.items():
    LIBRARY.impl(_name, _operator, "CUDA", allow_override=True)
