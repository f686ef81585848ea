"""The device of a rank, and how exact its arithmetic is."""

from __future__ import annotations

import os
from typing import cast

import torch
from torch import nn

from avc.settings import TrainingSettings


def take_device(settings: TrainingSettings, *, local_rank: int) -> torch.device:
    """The device of the node's rank number `local_rank`, made the current one.

    Where one GPU alone is visible, it is each rank's own: SLURM binds it so (--gpus-per-task, --gpu-bind). Raises
    ValueError where CUDA is asked for and absent, or there are fewer GPUs than ranks.
    """
    if settings.device == "cuda" and not torch.cuda.is_available():
        raise ValueError("training.device: cuda, but torch sees no CUDA device here; use auto or cpu")
    if settings.device == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    count = torch.cuda.device_count()
    if local_rank >= count > 1:
        raise ValueError(f"local rank {local_rank} has no GPU: there are {count} on this node")
    set_numerics(settings)
    device = torch.device("cuda", local_rank % count)
    torch.cuda.set_device(device)
    return device


def set_numerics(settings: TrainingSettings) -> None:
    """Let CUDA choose kernels by their speed and round to TF32, or with `training.deterministic` do neither.

    Before the first use of CUDA: cuBLAS reads CUBLAS_WORKSPACE_CONFIG once.
    """
    exact = settings.deterministic
    torch.backends.cudnn.benchmark = not exact
    torch.backends.cudnn.deterministic = exact
    torch.backends.cudnn.allow_tf32 = not exact
    torch.set_float32_matmul_precision("highest" if exact else "high")
    # A warning names an operation that has no deterministic kernel; it is for the reader to judge whether it matters.
    torch.use_deterministic_algorithms(exact, warn_only=True)
    # Nothing here reads memory that it has not written.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    if exact:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


def compile_network(network: nn.Module, *, mode: str | None = None) -> nn.Module:
    """The network under torch.compile, in a mode of its.

    Max pool's backward keeps its own kernel: torch 2.12 to 2.14 would make zeros in fp32 and atomic additions of it,
    which moves more bytes than the pool itself.
    """
    from torch._inductor.decomposition import decompositions  # seconds of importing, for this alone

    decompositions.pop(torch.ops.aten.max_pool2d_with_indices_backward.default, None)
    return cast("nn.Module", torch.compile(network, mode=mode))
