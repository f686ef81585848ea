"""Processes that work for this one, each at the end of a pipe: where one crashes or takes too long, another comes.

There is no lock between them, nor anything else that has a name: whichever of them is killed, nothing stays behind.
They end with the one that started them, and begin by a script that must be guarded.
"""

from __future__ import annotations

import atexit
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from multiprocessing import current_process, parent_process
from multiprocessing.connection import Connection
from queue import SimpleQueue
from typing import Any, Generic, Self, TypeVar

T = TypeVar("T")
Each = Callable[[Any], None]

GUARD = 'a script calls this under `if __name__ == "__main__":`, as each process that it starts runs the script again'


def refuse_unguarded() -> None:
    """End a process that is only being started, and runs the script of the one that starts it for that."""
    if getattr(current_process(), "_inheriting", False):  # as the standard library asks before it starts another
        sys.exit(f"a process ends as it starts: {GUARD}")


def follow_parent() -> None:
    """Let this process end with the one that started it, also when that one is killed, and not before."""
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)  # a scheduler's warning reaches every process, and is for that one
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
    """A process has ended before it took up any work, as another would; says how."""


class Processes(Generic[T]):
    """Up to `count` processes, each of which does `work`, a function that can be pickled, on one argument at a time.

    begin: what each does first; it is told the number of its place, 0 to count - 1, which a successor takes over.
    time_limit_seconds: that one may be silent. A context manager, at whose end they are gone.
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
        self._asked: SimpleQueue[tuple[Any, Each | None, Future[T]] | None] = SimpleQueue()
        self._alive: list[_Process] = []
        self._lock, self._closed, self._following = threading.Lock(), False, count
        atexit.register(self.close)  # where an error ends the program, nobody else may
        self._threads = [threading.Thread(target=self._follow, args=(place,), daemon=True) for place in range(count)]
        for thread in self._threads:
            thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def submit(self, argument: Any, each: Each | None = None) -> Future[T]:
        """Ask for the work on an argument. Its result may raise what the work raises, TimeoutError, Ended, NeverBegan.

        Those that are asked for first are begun first. each: is given, in a thread, what the work gives the function
        that it then gets as a second argument; the process waits until it is taken.
        """
        future: Future[T] = Future()
        self._asked.put((argument, each, future))
        return future

    def finish(self) -> None:
        """Nothing more will be asked: they end by themselves when they have done what was."""
        for _ in self._threads:
            self._asked.put(None)

    def close(self) -> None:
        """End all of them now; what they are at, or have not begun, is not done."""
        atexit.unregister(self.close)
        with self._lock:
            self._closed = True
            for process in self._alive:
                process.kill()
        for _ in self._threads:
            self._asked.put(None)
        for thread in self._threads:
            thread.join()

    def _follow(self, place: int) -> None:
        """Keep a process at work."""
        # Which processes inherit: a terminal interrupts them too, before they have come to `_serve`.
        signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))
        process: _Process | None = None
        while (asked := self._asked.get()) is not None and not self._closed:
            argument, each, future = asked
            given = argument, each is not None
            try:
                if process is not None and not process.takes(given):  # it has been killed since
                    self._gone(process)
                    process = None
                if process is None:
                    process = self._start(place)
                    if not process.takes(given):
                        raise NeverBegan(f"a process ended with {process.end()} before it took up any work")
                future.set_result(process.result(self._time_limit_seconds, each))
            except Exception as error:
                if process is not None and not process.at_rest:
                    self._gone(process)
                    process = None
                future.set_exception(error)
        if process is not None:
            self._gone(process)
        with self._lock:
            self._following -= 1
            if not self._following:  # nothing is left to close, and nobody else keeps this object
                atexit.unregister(self.close)

    def _start(self, place: int) -> _Process:
        with self._lock:  # which `close` takes: it sees each process, or none is started after it
            if self._closed:
                raise NeverBegan("it is closed")
            self._alive.append(process := _Process(self._work, self._begin, place))
        return process

    def _gone(self, process: _Process) -> None:
        process.end()
        with self._lock:
            self._alive.remove(process)


class _Process:
    """A process, and this end of its pipe. at_rest: whether it has given an answer to all that it was asked."""

    def __init__(self, work: Callable[..., Any], begin: Callable[[int], None] | None, place: int) -> None:
        # Spawned, not forked: the caller may have threads, and a fork would copy their locks as they happen to be.
        context = multiprocessing.get_context("spawn")
        self._pipe, its_end = context.Pipe()
        self._process = context.Process(target=_serve, args=(its_end, work, begin, place), daemon=True)
        try:
            self._process.start()
        except OSError as error:
            raise NeverBegan(f"a process does not start: {error}") from error
        finally:
            its_end.close()  # the process has its own, and the pipe ends where the process does
        self.at_rest = True

    def takes(self, given: tuple[Any, bool]) -> bool:
        """Hand over an argument, and whether there are pieces; false where the process has ended before it came."""
        self.at_rest = False
        with suppress(EOFError, OSError):
            self._pipe.send(given)
            self._pipe.recv()
            return True
        return False

    def result(self, time_limit_seconds: float | None, each: Each | None) -> Any:
        """Of the work. Raises what the work raises, what `each` raises, TimeoutError, Ended."""
        answer: tuple[Any, ...] = ()
        while len(answer) < 2:
            if not self._pipe.poll(time_limit_seconds):
                self.kill()
                raise TimeoutError
            try:
                answer = self._pipe.recv()
            except (EOFError, OSError):
                raise Ended(self.end()) from None
            if each is not None and len(answer) == 1:
                each(answer[0])
        result, error = answer
        self.at_rest = True
        if error is not None:
            raise error
        return result

    def kill(self) -> None:
        """End it, without waiting until it is gone."""
        self._process.kill()

    def end(self) -> str:
        """End it, if it has not ended, and say how it did."""
        self._pipe.close()
        self._process.join(0.5)  # one that crashes may take a moment
        self._process.kill()
        self._process.join()
        status = self._process.exitcode or 0
        return f"signal {-status}" if status < 0 else f"exit status {status}"


def _serve(pipe: Connection, work: Callable[..., Any], begin: Callable[[int], None] | None, place: int) -> None:
    """Do what is asked for, until nobody can ask any more."""
    for number in (signal.SIGINT, signal.SIGTERM):  # whoever ends all of a program ends the one that this one follows
        signal.signal(number, signal.SIG_IGN)
    follow_parent()
    if begin is not None:
        begin(place)
    with suppress(EOFError, ConnectionError):
        while True:
            argument, in_pieces = pipe.recv()
            pipe.send(None)
            send = (lambda piece: pipe.send((piece,)),) if in_pieces else ()
            pipe.send(_answer(work, argument, *send))


def _answer(work: Callable[..., Any], *arguments: Any) -> tuple[Any, Exception | None]:
    try:
        return work(*arguments), None
    except Exception as error:
        return None, error
