"""Processes that read batches ahead, into memory that the training process shares with them.

    training process ── rows, slot ──► a worker        reads the rows into the slot
                     ◄── what they are ──              or what went wrong

A pipe for each worker and memory without a name is all that there is between them: no lock, no semaphore, nothing that
has to be cleaned up. So whichever of them is killed, the others read the end of a pipe and leave.
"""

from __future__ import annotations

import atexit
import errno
import math
import mmap
import multiprocessing
import os
import signal
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from itertools import chain
from multiprocessing import reduction, resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from typing import Any

import torch
from torch import Tensor

from avc.data.interfaces import AnyBatch, B, Buffers, Reader, copied
from shards.processes import follow_parent

EXIT_SECONDS = 5.0  # that a killed worker's exit status may take to arrive


class WorkerLost(ChildProcessError):
    """A process that reads batches has ended by itself; its text says how."""

    def __init__(self, how: str) -> None:
        super().__init__(
            errno.ECHILD,
            f"a process that reads the data ended with {how} (out of memory, or killed from outside?). Run the same "
            "command again; a training goes on from its newest checkpoint",
        )

    def __str__(self) -> str:
        return str(self.strerror)


def prefetched(
    reader: Reader[B], row_ranges: Iterator[tuple[int, int]], num_workers: int, *, rows: int, slots: int, pin: bool
) -> Iterator[B]:
    """The batches of these ranges of rows, of up to `rows` each; as many as `slots` are read ahead.

    Raises as `avc.data.loader.Loader.batches` does.
    """
    if (first := next(row_ranges, None)) is None:
        return
    device = torch.device("cuda", torch.cuda.current_device()) if pin else None
    with _started(reader, num_workers, rows=rows, slots=slots) as (workers, buffers), ThreadPoolExecutor(1) as thread:
        # A thread copies the next batch out of its slot while the network is at work on this one.
        batches = _batches(workers, buffers, chain([first], row_ranges), slots, device)
        coming = thread.submit(next, batches, None)
        while (collected := coming.result()) is not None:
            coming = thread.submit(next, batches, None)
            yield collected


class _Worker:
    """The training process's end of a worker."""

    def __init__(self, start: Callable[[Connection], ForkServerProcess]) -> None:
        self._pipe, its_end = multiprocessing.Pipe()
        self.process = start(its_end)
        try:
            self.process.start()
        except (EOFError, OSError) as error:  # the server that workers are forked from is gone
            raise WorkerLost(f"its start ({error or 'the server of processes is gone'})") from None
        finally:
            its_end.close()  # the worker has its own, and the pipe ends where the worker does

    def ask(self, row_range: tuple[int, int], slot: int) -> None:
        """Let it read rows into a slot. Raises WorkerLost."""
        try:
            self._pipe.send((*row_range, slot))
        except OSError:
            raise self._lost() from None

    def answer(self) -> Any:
        """The rows that it was asked for first, read. Raises what reading them raised, or WorkerLost."""
        try:
            rows, error = self._pipe.recv()
        except (EOFError, OSError):
            raise self._lost() from None
        if error is not None:
            raise error
        return rows

    def close(self) -> None:
        """Let it leave when it has read what it is reading."""
        self._pipe.close()

    def _lost(self) -> WorkerLost:
        self.process.join(EXIT_SECONDS)
        status = self.process.exitcode
        if status is None:
            return WorkerLost("nothing but the end of its pipe")
        return WorkerLost(f"signal {-status}" if status < 0 else f"exit status {status}")


@contextmanager
def _started(reader: Reader[AnyBatch], count: int, *, rows: int, slots: int) -> Iterator[tuple[list[_Worker], Any]]:
    """Workers, and the buffers for batches of up to `rows` rows that they fill."""
    # Slots that stay where they are. Memory of its own for every batch costs a page fault for each 4 KB of it, which on
    # a virtual machine took half as long as decoding.
    memory = SharedMemory()
    buffers = reader.buffers(slots=slots, rows=rows, empty=memory.empty)
    # Not fork: the training process has threads (torch's, NCCL's, W&B's) whose locks a fork would copy. Workers are
    # forked from a server that has imported what they need and nothing else.
    context = multiprocessing.get_context("forkserver")
    os.environ["AVC_PARENT"] = str(os.getpid())
    context.set_forkserver_preload(["avc.data.end_with_parent", __name__, type(reader).__module__])
    workers: list[_Worker] = []

    def start(pipe: Connection) -> ForkServerProcess:
        return context.Process(target=_serve, args=(pipe, reader, memory, slots, rows), daemon=True)

    def close() -> None:
        for worker in workers:
            worker.close()

    # Where an error ends the program, Python waits for its processes before it lets go of this generator.
    atexit.register(close)
    try:
        with _no_signals():
            for _ in range(count):
                workers.append(_Worker(start))
        memory.close()
        yield workers, buffers
    finally:
        close()
        for worker in workers:
            worker.process.join()
        atexit.unregister(close)


@contextmanager
def _no_signals() -> Iterator[None]:
    """What is started here never sees a signal that asks for a stop: the training process decides what follows.

    Who signals a training, a terminal or torchrun, signals all that it has started.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    resource_tracker.ensure_running()  # as starting a process would, and lets through what was blocked before
    signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM, signal.SIGUSR2))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _batches(
    workers: list[_Worker],
    buffers: Buffers[B],
    row_ranges: Iterator[tuple[int, int]],
    slots: int,
    pin_for: torch.device | None,
) -> Iterator[B]:
    """The batches in order, each in memory of its own, so that its slot is free again."""
    if pin_for is not None:
        torch.cuda.set_device(pin_for)  # a thread begins on the first GPU, and pinning would take memory there
    free = deque((workers[slot % len(workers)], slot) for slot in range(slots))
    asked: deque[tuple[_Worker, int]] = deque()
    while True:
        while free and (row_range := next(row_ranges, None)) is not None:
            worker, slot = free.popleft()
            worker.ask(row_range, slot)
            asked.append((worker, slot))
        if not asked:
            return
        worker, slot = asked.popleft()
        batch = buffers.batch(slot, worker.answer())
        batch = copied(batch, Tensor.clone if pin_for is None else Tensor.pin_memory)
        free.append((worker, slot))
        yield batch


def _serve(pipe: Connection, reader: Reader[AnyBatch], memory: SharedMemory, slots: int, rows: int) -> None:
    """Read what is asked for, until nobody can ask any more."""
    follow_parent()
    torch.set_num_threads(1)  # there are as many workers as cores
    buffers = reader.buffers(slots=slots, rows=rows, empty=memory.empty)
    memory.close()
    with suppress(EOFError, ConnectionError):
        while True:
            start, stop, slot = pipe.recv()
            pipe.send(_read(reader, buffers, start, stop, slot))


def _read(
    reader: Reader[AnyBatch], buffers: Buffers[AnyBatch], start: int, stop: int, slot: int
) -> tuple[Any, Exception | None]:
    try:
        rows = reader.sampler.rows(start, stop)
        reader.read_into(buffers, slot, rows)
    except Exception as error:
        error.add_note(f"in a worker:\n{traceback.format_exc()}")
        return None, error
    return rows, None


class SharedMemory:
    """Memory without a name: it is gone with the last process that has it, however that one ends.

    It can be handed to a process that is being started. Both ends ask for the same tensors in the same order and have
    them in common.
    """

    def __init__(self, descriptor: int | None = None) -> None:
        self._descriptor = os.memfd_create("batches") if descriptor is None else descriptor
        self._end = 0

    def empty(self, shape: Sequence[int], *, dtype: torch.dtype) -> Tensor:
        """The next tensor, as `torch.empty` makes it, and zero before anybody has written to it."""
        size = math.prod(shape) * dtype.itemsize
        if not size:
            return torch.empty(shape, dtype=dtype)
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
