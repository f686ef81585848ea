"""Prefetches batches in worker processes, through memory shared with the training process.

    training process ── rows, slot ──► worker          reads the rows into the slot
                     ◄── rows or error ──

Processes share only a pipe for each worker and anonymous memory: no lock, no semaphore, nothing to clean up. Whichever
process is killed, the others read the end of a pipe and exit.
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
from shards.processes import GUARD, follow_parent

EXIT_SECONDS = 5.0  # to wait for a killed worker's exit status


class WorkerLost(ChildProcessError):
    """A worker has died; the message says how."""

    def __init__(self, how: str) -> None:
        super().__init__(
            errno.ECHILD,
            f"a process that reads the data ended with {how}. Run the same command again; a training resumes from its "
            "newest checkpoint",
        )

    def __str__(self) -> str:
        return str(self.strerror)


def prefetch(
    reader: Reader[B], row_ranges: Iterator[tuple[int, int]], num_workers: int, *, rows: int, slots: int, pin: bool
) -> Iterator[B]:
    """The batches of these ranges of up to `rows` rows; `slots` of them are read ahead.

    Raises as `avc.data.loader.Loader.batches` does.
    """
    if (first_range := next(row_ranges, None)) is None:
        return
    device = torch.device("cuda", torch.cuda.current_device()) if pin else None
    with _start(reader, num_workers, rows=rows, slots=slots) as (workers, buffers), ThreadPoolExecutor(1) as thread:
        # A thread copies the next batch out of its slot while the network works on this one.
        batches = _batches(workers, buffers, chain([first_range], row_ranges), slots, device)
        future = thread.submit(next, batches, None)
        while (batch := future.result()) is not None:
            future = thread.submit(next, batches, None)
            yield batch


class _Worker:
    """The training process's end of a worker."""

    def __init__(self, start: Callable[[Connection], ForkServerProcess]) -> None:
        self._pipe, worker_end = multiprocessing.Pipe()
        self.process = start(worker_end)
        try:
            self.process.start()
        except (EOFError, OSError) as error:  # the fork server has died
            raise WorkerLost(f"its start ({error or 'the server of processes is gone'})") from None
        finally:
            worker_end.close()  # so that the pipe ends with the worker

    def request(self, row_range: tuple[int, int], slot: int) -> None:
        """Request rows in a slot. Raises WorkerLost."""
        try:
            self._pipe.send((*row_range, slot))
        except OSError:
            raise self._lost() from None

    def result(self) -> Any:
        """Wait for the oldest requested rows. Raises the reader's error, or WorkerLost."""
        try:
            rows, error = self._pipe.recv()
        except (EOFError, OSError):
            raise self._lost() from None
        if error is not None:
            raise error
        return rows

    def close(self) -> None:
        """Let the worker exit after its current rows."""
        self._pipe.close()

    def _lost(self) -> WorkerLost:
        self.process.join(EXIT_SECONDS)
        status = self.process.exitcode
        if status is None or status < 0:
            how = "nothing but the end of its pipe" if status is None else f"signal {-status}"
            return WorkerLost(f"{how} (out of memory, or killed from outside?)")
        return WorkerLost(f"exit status {status} (is there a guard? {GUARD})")


@contextmanager
def _start(reader: Reader[AnyBatch], count: int, *, rows: int, slots: int) -> Iterator[tuple[list[_Worker], Any]]:
    """Start workers; also returns the buffers that they fill, for batches of up to `rows` rows."""
    # Slots are reused. New memory costs a page fault for each 4 KB, on a virtual machine half the time of decoding.
    memory = SharedMemory()
    buffers = reader.buffers(slots=slots, rows=rows, empty=memory.empty)
    # Not fork: it would copy the locks of the training process's threads (torch's, NCCL's, W&B's). The fork server has
    # imported only what workers need.
    context = multiprocessing.get_context("forkserver")
    os.environ["AVC_PARENT"] = str(os.getpid())
    context.set_forkserver_preload(["avc.data.end_with_parent", __name__, type(reader).__module__])
    workers: list[_Worker] = []

    def start(pipe: Connection) -> ForkServerProcess:
        return context.Process(target=_serve, args=(pipe, reader, memory, slots, rows), daemon=True)

    def close() -> None:
        for worker in workers:
            worker.close()

    # When an error ends the program, Python waits for its processes before it closes this generator.
    atexit.register(close)
    try:
        with _block_signals():
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
def _block_signals() -> Iterator[None]:
    """Block stop signals in processes that are started here: the training process handles them.

    A terminal or torchrun sends signals to all processes of a training.
    """
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    resource_tracker.ensure_running()  # starting a process would do this, and unblock signals
    signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM, signal.SIGUSR2))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _batches(
    workers: list[_Worker],
    buffers: Buffers[B],
    row_ranges: Iterator[tuple[int, int]],
    slots: int,
    pin_for: torch.device | None,
) -> Iterator[B]:
    """The batches in order, each copied out of its slot."""
    if pin_for is not None:
        torch.cuda.set_device(pin_for)  # threads start on the first GPU, where pinning would allocate memory
    free = deque((workers[slot % len(workers)], slot) for slot in range(slots))
    pending: deque[tuple[_Worker, int]] = deque()
    while True:
        while free and (row_range := next(row_ranges, None)) is not None:
            worker, slot = free.popleft()
            worker.request(row_range, slot)
            pending.append((worker, slot))
        if not pending:
            return
        worker, slot = pending.popleft()
        batch = buffers.batch(slot, worker.result())
        batch = copied(batch, Tensor.clone if pin_for is None else Tensor.pin_memory)
        free.append((worker, slot))
        yield batch


def _serve(pipe: Connection, reader: Reader[AnyBatch], memory: SharedMemory, slots: int, rows: int) -> None:
    """Serve requests until the pipe ends."""
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
    """Anonymous shared memory, freed with the last process that uses it.

    It can be passed to a process that is being started. Processes share the tensors that they allocate in the same
    order.
    """

    def __init__(self, descriptor: int | None = None) -> None:
        self._descriptor = os.memfd_create("batches") if descriptor is None else descriptor
        self._end = 0

    def empty(self, shape: Sequence[int], *, dtype: torch.dtype) -> Tensor:
        """Allocate the next tensor, like `torch.empty`; its initial values are 0."""
        size = math.prod(shape) * dtype.itemsize
        if not size:
            return torch.empty(shape, dtype=dtype)
        start, self._end = self._end, self._end + -(-size // mmap.PAGESIZE) * mmap.PAGESIZE
        if os.fstat(self._descriptor).st_size < self._end:
            os.ftruncate(self._descriptor, self._end)
        return torch.frombuffer(mmap.mmap(self._descriptor, size, offset=start), dtype=dtype).view(*shape)

    def close(self) -> None:
        """Close the descriptor: no further tensors or processes. Allocated tensors stay valid."""
        os.close(self._descriptor)

    def __reduce__(self) -> tuple[Callable[[Any], SharedMemory], tuple[Any]]:
        return _from_descriptor, (reduction.DupFd(self._descriptor),)


def _from_descriptor(duplicate: Any) -> SharedMemory:
    return SharedMemory(duplicate.detach())
