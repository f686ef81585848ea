"""Memory that several processes share."""

from __future__ import annotations

import math
import mmap
import os
from collections.abc import Callable, Sequence
from multiprocessing import reduction
from typing import Any

import torch
from torch import Tensor


class SharedMemory:
    """Memory without a name: it is gone with the last process that has it, however that one ends.

    It can be handed to a process that is being started. Both ends ask for the same tensors in the same order and have
    them in common.
    """

    def __init__(self, descriptor: int | None = None) -> None:
        self._descriptor = os.memfd_create("batches") if descriptor is None else descriptor
        self._end = 0

    def empty(self, shape: Sequence[int], *, dtype: torch.dtype) -> Tensor:
        """The next tensor, of at least one element; as `torch.empty`, and zero before anybody has written to it."""
        size = math.prod(shape) * dtype.itemsize
        start, self._end = self._end, self._end + -(-size // mmap.PAGESIZE) * mmap.PAGESIZE
        if os.fstat(self._descriptor).st_size < self._end:
            os.ftruncate(self._descriptor, self._end)
        return torch.frombuffer(mmap.mmap(self._descriptor, size, offset=start), dtype=dtype).view(*shape)

    def close(self) -> None:
        """Ask for no more tensors, and hand it to no more processes; what there is stays."""
        os.close(self._descriptor)

    def __reduce__(self) -> tuple[Callable[[Any], SharedMemory], tuple[Any]]:
        return _received, (reduction.DupFd(self._descriptor),)


def _received(duplicate: Any) -> SharedMemory:
    return SharedMemory(duplicate.detach())
