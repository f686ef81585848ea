"""How a process becomes a rank: the device that it takes, how exact its arithmetic is, and how it meets the others."""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager
from datetime import timedelta
from functools import partial

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous

from avc.distributed.heartbeat import Heartbeat, PeerLost
from avc.distributed.world import World
from avc.memory import keep_freed_memory
from avc.settings import TrainingSettings

START_SECONDS = 600  # that ranks may come one after the other


@contextmanager
def join(settings: TrainingSettings, *, stop: Callable[[], bool] | None = None) -> Iterator[World]:
    """The world that RANK, LOCAL_RANK and WORLD_SIZE describe (torchrun sets them), or a world of one.

    nccl on CUDA, gloo on CPU. stop: whether this process has been asked to stop, and waits no longer for the others
    to come. Raises ValueError as `take_device` does, PeerLost where ranks do not come.
    """
    rank, world_size = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    device = take_device(settings, local_rank=local_rank)
    if world_size == 1:
        yield World(rank, world_size, device, stop=stop)
        return
    limit = settings.process_group_timeout_seconds
    first_limit = max(limit, settings.first_step_timeout_seconds)
    start = partial(
        Heartbeat,
        rank=rank,
        world_size=world_size,
        limit_seconds=(float(first_limit), float(limit)),
        silence_seconds=settings.heartbeat_timeout_seconds,
        stop=stop,
    )
    store, heartbeat = _meet(rank, world_size, start=start, stop=stop)
    try:
        with heartbeat.waiting():
            dist.init_process_group(
                "nccl" if device.type == "cuda" else "gloo",
                store=store,
                rank=rank,
                world_size=world_size,
                timeout=timedelta(seconds=first_limit + 10),  # the heartbeat comes first, and knows whom to name
                device_id=device if device.type == "cuda" else None,
            )
        yield World(rank, world_size, device, heartbeat, stop)
    except BaseException as error:
        heartbeat.close(error)
        raise  # and leave the process group as it is: taking it down may wait for a rank that is gone
    heartbeat.close(None)
    dist.destroy_process_group()


def take_device(settings: TrainingSettings, *, local_rank: int) -> torch.device:
    """The device of the node's rank number `local_rank`, made the current one.

    Where one GPU alone is visible, it is each rank's own: SLURM binds it so (--gpus-per-task, --gpu-bind). Raises
    ValueError where CUDA is asked for and absent, or there are fewer GPUs than ranks.
    """
    if settings.device == "cuda" and not torch.cuda.is_available():
        raise ValueError("training.device: cuda, but torch sees no CUDA device here; use auto or cpu")
    if settings.device == "cpu" or not torch.cuda.is_available():
        keep_freed_memory()
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


def refuse_wrong_numbers(model: nn.Module, settings: TrainingSettings, *, cudnn: int | None) -> None:
    """Raise ValueError where 3-D convolutions in bf16 would be wrong, and the network has them.

    So it is with cuDNN 9.8 to 9.10, no more with 9.13 (pytorch/pytorch#163539); torch 2.9 and later leave it out there.
    cudnn: `torch.backends.cudnn.version()`, or None on a CPU.
    """
    if cudnn is None or not 90800 <= cudnn < 91300 or torch.__version__ >= "2.9" or settings.precision != "bf16":
        return
    if any(isinstance(module, nn.Conv3d) for module in model.modules()):
        raise ValueError(
            f"training.precision is bf16, in which cuDNN {cudnn // 10000}.{cudnn // 100 % 100} under torch "
            f"{torch.__version__} computes 3-D convolutions wrongly: install torch 2.10 or newer, or take fp32"
        )


def bf16_speedup() -> float:
    """How many times as fast as in fp32 this CPU computes a trunk's convolution in bf16.

    Measured, in less than 0.1 s: below 1 where the processor has no instructions for it (AVX512-BF16, AMX).
    """
    x = torch.ones(8, 32, 32, 32).contiguous(memory_format=torch.channels_last)
    weight = torch.ones(32, 32, 3, 3).contiguous(memory_format=torch.channels_last)
    seconds = dict.fromkeys((torch.float32, torch.bfloat16), math.inf)
    for _ in range(5):  # the first is a warm-up
        for dtype in seconds:
            arguments = x.to(dtype), weight.to(dtype)
            start = time.perf_counter()
            F.conv2d(*arguments, padding=1)
            seconds[dtype] = min(seconds[dtype], time.perf_counter() - start)
    return seconds[torch.float32] / seconds[torch.bfloat16]


def _meet(
    rank: int, world_size: int, *, start: Callable[[Store], Heartbeat], stop: Callable[[], bool] | None
) -> tuple[Store, Heartbeat]:
    """The store that the ranks have in common, and the heartbeat that is started on it."""
    met: Future[tuple[Store, Heartbeat]] = Future()

    def meet() -> None:
        try:
            store, _, _ = next(rendezvous("env://", rank, world_size, timeout=timedelta(seconds=START_SECONDS)))
            met.set_result((store, start(PrefixStore("heartbeat", store))))
        except Exception as error:
            met.set_exception(error)

    # In a thread: torch's client takes 2.6 times as long as it may where nobody listens, and for ever where who listens
    # does not answer.
    threading.Thread(target=meet, daemon=True).start()
    deadline = time.monotonic() + START_SECONDS
    while not wait([met], timeout=0.2).done:
        if time.monotonic() > deadline:
            raise PeerLost(f"the {world_size} ranks do not meet within {START_SECONDS:g} s")
        if stop is not None and stop():
            raise PeerLost(f"asked to stop before the {world_size} ranks had met")
    try:
        return met.result()
    except RuntimeError as error:
        raise PeerLost(f"the {world_size} ranks do not meet: {' '.join(str(error).split())}") from error
