"""Runs work in processes behind pipes; a process that crashes or times out is replaced.

They share no locks and nothing with a name, so a kill leaves nothing behind. They exit with the process that started
them. Starting them runs the main script again, which must be guarded.
"""

from __future__ import annotations

import atexit
import multiprocessing
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from multiprocessing import current_process, parent_process
from multiprocessing.connection import Connection
from queue import SimpleQueue
from typing import Any, Generic, Self, TypeVar

T = TypeVar("T")
JOIN_SECONDS = 5.0  # for which `close` waits for a thread: one that starts a process may be held up by an interrupt
PieceCallback = Callable[[Any], None]

GUARD = 'a script calls this under `if __name__ == "__main__":`, as each process that it starts runs the script again'


def refuse_unguarded() -> None:
    """Exit a worker process that is being started and runs the main script without a guard."""
    if getattr(current_process(), "_inheriting", False):  # the standard library's check before it starts a process
        sys.exit(f"a process ends as it starts: {GUARD}")


def follow_parent() -> None:
    """Exit with the parent process, also when that is killed, and not before."""
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)  # a scheduler's warning, sent to all processes, is for the parent
    parent = parent_process()
    assert parent is not None

    def follow() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


class Threads(ThreadPoolExecutor):
    """Threads of a block: where an error ends it, they leave undone what they have not begun.

    An interrupt does not wait for what they have begun either.
    """

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.shutdown(wait=kind is not KeyboardInterrupt, cancel_futures=True)


class Ended(RuntimeError):
    """A process has ended at its work. how: by which signal, or with which status."""

    def __init__(self, how: str) -> None:
        super().__init__(f"its process ended with {how}")
        self.how = how


class NeverBegan(RuntimeError):
    """A process ended before its first work, as any other would."""


class Processes(Generic[T]):
    """Up to `count` processes, each of which calls `work`, a picklable function, on one argument at a time.

    begin: called first in each process with its slot, 0 to count - 1, which a replacement takes over.
    time_limit_seconds: for each result or piece. A context manager that ends the processes.
    """

    def __init__(
        self,
        work: Callable[..., T],
        *,
        count: int,
        time_limit_seconds: float | None = None,
        begin: Callable[[int], None] | None = None,
    ) -> None:
        self._work, self._begin, self._time_limit_seconds = work, begin, time_limit_seconds
        self._requests: SimpleQueue[tuple[Any, PieceCallback | None, Future[T]] | None] = SimpleQueue()
        self._alive: list[_Process] = []
        self._lock, self._closed, self._running_threads = threading.Lock(), False, count
        atexit.register(self.close)  # for programs that end by an error
        self._threads = [threading.Thread(target=self._follow, args=(slot,), daemon=True) for slot in range(count)]
        for thread in self._threads:
            thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def submit(self, argument: Any, on_piece: PieceCallback | None = None) -> Future[T]:
        """Queue work on an argument. The future may raise the work's error, TimeoutError, Ended or NeverBegan.

        on_piece: called in a thread with each piece that the work passes to its second argument, a function; the
        process waits for a reader of its pipe.
        """
        future: Future[T] = Future()
        self._requests.put((argument, on_piece, future))
        return future

    def finish(self) -> None:
        """Let the processes exit after all queued work."""
        for _ in self._threads:
            self._requests.put(None)

    def close(self) -> None:
        """End all processes immediately; running and queued work is abandoned."""
        atexit.unregister(self.close)
        with self._lock:
            self._closed = True
            for process in self._alive:
                process.kill()
        for _ in self._threads:
            self._requests.put(None)
        for thread in self._threads:
            thread.join(JOIN_SECONDS)

    def _follow(self, slot: int) -> None:
        """Keep a process at work."""
        # Which processes inherit: a terminal interrupts them too, before they have come to `_serve`.
        signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))
        process: _Process | None = None
        while (request := self._requests.get()) is not None and not self._closed:
            argument, on_piece, future = request
            message = argument, on_piece is not None
            try:
                if process is not None and not process.send(message):  # it was killed while idle
                    self._remove(process)
                    process = None
                if process is None:
                    process = self._start(slot)
                    if not process.send(message):
                        raise NeverBegan(f"a process ended with {process.end()} before it took up any work")
                future.set_result(process.result(self._time_limit_seconds, on_piece))
            except Exception as error:
                if process is not None and not process.idle:
                    self._remove(process)
                    process = None
                future.set_exception(error)
        if process is not None:
            self._remove(process)
        with self._lock:
            self._running_threads -= 1
            if not self._running_threads:  # nothing is left to close, and nobody else keeps this object
                atexit.unregister(self.close)

    def _start(self, slot: int) -> _Process:
        if self._closed:
            raise NeverBegan("it is closed")
        process = _Process(self._work, self._begin, slot)  # not under the lock, for which an interrupted `close` waits
        with self._lock:
            self._alive.append(process)
            if self._closed:  # meanwhile
                process.kill()
        return process

    def _remove(self, process: _Process) -> None:
        process.end()
        with self._lock:
            self._alive.remove(process)


class _Process:
    """A process and the parent's end of its pipe. idle: whether it has replied to all requests."""

    def __init__(self, work: Callable[..., Any], begin: Callable[[int], None] | None, slot: int) -> None:
        # Spawned, not forked: a fork would copy the locks of the caller's threads in any state.
        context = multiprocessing.get_context("spawn")
        self._pipe, child_end = context.Pipe()
        self._process = context.Process(target=_serve, args=(child_end, work, begin, slot), daemon=True)
        try:
            self._process.start()
        except OSError as error:
            raise NeverBegan(f"a process does not start: {error}") from error
        finally:
            child_end.close()  # so that the pipe ends with the process
        self.idle = True

    def send(self, message: tuple[Any, bool]) -> bool:
        """Send an argument, and whether pieces are wanted; False where the process ended before it received them."""
        self.idle = False
        with suppress(EOFError, OSError):
            self._pipe.send(message)
            self._pipe.recv()
            return True
        return False

    def result(self, time_limit_seconds: float | None, on_piece: PieceCallback | None) -> Any:
        """Wait for the result. Raises the error of the work or of `on_piece`, TimeoutError or Ended."""
        reply: tuple[Any, ...] = ()
        while len(reply) < 2:
            if not self._pipe.poll(time_limit_seconds):
                self.kill()
                raise TimeoutError
            try:
                reply = self._pipe.recv()
            except (EOFError, OSError):
                raise Ended(self.end()) from None
            if on_piece is not None and len(reply) == 1:
                on_piece(reply[0])
        result, error = reply
        self.idle = True
        if error is not None:
            raise error
        return result

    def kill(self) -> None:
        """Kill the process without waiting for its end."""
        self._process.kill()

    def end(self) -> str:
        """Kill the process, if it runs, and describe how it ended."""
        self._pipe.close()
        self._process.join(0.5)  # a crash may take a moment
        self._process.kill()
        self._process.join()
        status = self._process.exitcode or 0
        return f"signal {-status}" if status < 0 else f"exit status {status}"


def _serve(pipe: Connection, work: Callable[..., Any], begin: Callable[[int], None] | None, slot: int) -> None:
    """Serve requests until the pipe ends."""
    for number in (signal.SIGINT, signal.SIGTERM):  # they end the parent, and with it this process
        signal.signal(number, signal.SIG_IGN)
    follow_parent()
    warnings.formatwarning = _plain
    if begin is not None:
        begin(slot)
    with suppress(EOFError, ConnectionError):
        while True:
            argument, in_pieces = pipe.recv()
            pipe.send(None)
            send = (lambda piece: pipe.send((piece,)),) if in_pieces else ()
            pipe.send(_call(work, argument, *send))


def _plain(message: Warning | str, *_place: Any, **_more: Any) -> str:
    """A warning as the commands print one: without a place in the code."""
    return f"{message}\n"


def _call(work: Callable[..., Any], *arguments: Any) -> tuple[Any, Exception | None]:
    try:
        return work(*arguments), None
    except Exception as error:
        return None, error
