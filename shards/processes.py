"""Processes that work for this one, each at the end of a pipe: where one crashes or takes too long, another comes.

There is no lock between them, nor anything else that has a name: whichever of them is killed, nothing stays behind.
"""

from __future__ import annotations

import atexit
import multiprocessing
import signal
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from multiprocessing.connection import Connection
from queue import SimpleQueue
from typing import Any, Generic, TypeVar

from shards.parent import follow_parent

A = TypeVar("A")
T = TypeVar("T")


class Ended(RuntimeError):
    """A process has ended at its work. how: by which signal, or with which status."""

    def __init__(self, how: str) -> None:
        super().__init__(f"its process ended with {how}")
        self.how = how


class NeverBegan(RuntimeError):
    """A process has ended before it took up any work, as another would; says how."""


class Processes(Generic[A, T]):
    """Up to `count` processes, each of which does `work`, a function that can be pickled, on one argument at a time.

    begin: what each does first; it is told the number of its place, 0 to count - 1, which a successor takes over.
    A context manager, at whose end they are gone.
    """

    def __init__(
        self,
        work: Callable[[A], T],
        *,
        count: int,
        time_limit_seconds: float | None = None,
        begin: Callable[[int], None] | None = None,
    ) -> None:
        self._work, self._begin, self._time_limit_seconds = work, begin, time_limit_seconds
        self._asked: SimpleQueue[tuple[A, Future[T]] | None] = SimpleQueue()
        self._alive: list[_Process] = []
        self._lock, self._closed = threading.Lock(), False
        atexit.register(self.close)  # where an error ends the program, nobody else may
        self._threads = [threading.Thread(target=self._follow, args=(place,), daemon=True) for place in range(count)]
        for thread in self._threads:
            thread.start()

    def __enter__(self) -> Processes[A, T]:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def submit(self, argument: A) -> Future[T]:
        """Ask for the work on an argument. Its result may raise what the work raises, TimeoutError, Ended, NeverBegan.

        Those that are asked for first are begun first.
        """
        future: Future[T] = Future()
        self._asked.put((argument, future))
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
        process: _Process | None = None
        while (asked := self._asked.get()) is not None and not self._closed:
            argument, future = asked
            try:
                if process is not None and not process.takes(argument):  # it has been killed since
                    self._gone(process)
                    process = None
                if process is None:
                    process = self._start(place)
                    if not process.takes(argument):
                        raise NeverBegan(f"a process ended with {process.end()} before it took up any work")
                future.set_result(process.result(self._time_limit_seconds))
            except Exception as error:
                if process is not None and not process.at_rest:
                    self._gone(process)
                    process = None
                future.set_exception(error)
        if process is not None:
            self._gone(process)

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

    def __init__(self, work: Callable[[Any], Any], begin: Callable[[int], None] | None, place: int) -> None:
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

    def takes(self, argument: Any) -> bool:
        """Hand over an argument; false where the process has ended before it came."""
        self.at_rest = False
        with suppress(EOFError, OSError):
            self._pipe.send(argument)
            self._pipe.recv()
            return True
        return False

    def result(self, time_limit_seconds: float | None) -> Any:
        """Of the work. Raises what the work raises, TimeoutError, Ended."""
        if not self._pipe.poll(time_limit_seconds):
            self.kill()
            raise TimeoutError
        try:
            result, error = self._pipe.recv()
        except (EOFError, OSError):
            raise Ended(self.end()) from None
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


def _serve(pipe: Connection, work: Callable[[Any], Any], begin: Callable[[int], None] | None, place: int) -> None:
    """Do what is asked for, until nobody can ask any more."""
    for number in (signal.SIGINT, signal.SIGTERM):  # whoever ends all of a program ends the one that this one follows
        signal.signal(number, signal.SIG_IGN)
    follow_parent()
    if begin is not None:
        begin(place)
    with suppress(EOFError, ConnectionError):
        while True:
            argument = pipe.recv()
            pipe.send(None)
            pipe.send(_answer(work, argument))


def _answer(work: Callable[[Any], Any], argument: Any) -> tuple[Any, Exception | None]:
    try:
        return work(argument), None
    except Exception as error:
        return None, error
