"""Processes that work for another one: whatever ends them, the work goes on, and nothing of them stays."""

import gc
import os
import signal
import threading
import time
import warnings
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import shards.processes
from shards.processes import Ended, NeverBegan, Processes


def misbehave(what: str) -> tuple[str, int]:
    """Does as it is told, in a process; its id."""
    if what == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    if what == "exit":
        os._exit(3)
    if what == "mistake":
        raise ValueError("no such thing")
    while what == "hang":
        time.sleep(0.1)
    return what, os.getpid()


def count_up(most: int, send: Callable[[int], None]) -> int:
    """Sends what is less than `most`, and crashes at 13."""
    for number in range(most):
        if number == 13:
            os.kill(os.getpid(), signal.SIGSEGV)
        send(number)
    return most


def warn(what: str) -> None:
    warnings.warn(what, UserWarning, stacklevel=1)


def end(_place: int) -> None:
    os._exit(7)


def gone(process: int) -> bool:
    return not Path(f"/proc/{process}").exists()


def test_a_warning_is_its_words_alone(capfd: pytest.CaptureFixture[str]) -> None:
    with Processes(warn, count=1) as processes:
        processes.submit("the store does not answer").result()
    assert capfd.readouterr().err == "the store does not answer\n"


def test_one_that_crashes_or_takes_too_long_is_replaced_and_the_work_of_others_is_done() -> None:
    words = ["a", "crash", "b", "hang", "c", "exit", "mistake", "d"]
    with Processes(misbehave, count=2, time_limit_seconds=3) as processes:
        futures = {word: processes.submit(word) for word in words}
        found = {word: futures[word].result() for word in "abcd"}
        with pytest.raises(Ended, match=f"^its process ended with signal {int(signal.SIGSEGV)}$"):
            futures["crash"].result()
        with pytest.raises(Ended, match=r"^its process ended with exit status 3$"):
            futures["exit"].result()
        with pytest.raises(TimeoutError):
            futures["hang"].result()
        with pytest.raises(ValueError, match=r"^no such thing$"):
            futures["mistake"].result()
    assert [word for word, _ in found.values()] == list("abcd")
    assert all(gone(process) for _, process in found.values())


def test_closing_does_not_wait_for_a_process_that_is_being_started_and_it_ends_once_it_has(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    starting, may_start, started = threading.Event(), threading.Event(), []

    class Slow(shards.processes._Process):
        def __init__(self, *arguments: Any) -> None:
            starting.set()
            assert may_start.wait(100)
            super().__init__(*arguments)
            started.append(self)

    monkeypatch.setattr(shards.processes, "_Process", Slow)
    monkeypatch.setattr(shards.processes, "JOIN_SECONDS", 0.1)
    processes = Processes(misbehave, count=1)
    future = processes.submit("a")
    assert starting.wait(100)
    processes.close()
    may_start.set()
    with pytest.raises(NeverBegan):
        future.result(100)
    assert started[0]._process.exitcode == -signal.SIGKILL


def test_what_is_sent_in_pieces_comes_in_order_up_to_a_crash_and_is_waited_for() -> None:
    pieces: dict[int, list[int]] = {3: [], 12: [], 20: []}
    taken = threading.Event()

    def wait(_number: int) -> None:
        assert taken.wait(60)
        raise EOFError  # nobody takes it any more

    with Processes(count_up, count=2, time_limit_seconds=60) as processes:
        futures = {most: processes.submit(most, pieces[most].append) for most in pieces}
        assert [futures[most].result() for most in (3, 12)] == [3, 12]
        with pytest.raises(Ended):
            futures[20].result()
        refused = processes.submit(12, wait)
        taken.set()
        with pytest.raises(EOFError):
            refused.result()
        assert processes.submit(3, pieces[3].append).result() == 3
    assert pieces == {3: [0, 1, 2, 0, 1, 2], 12: [*range(12)], 20: [*range(13)]}


def test_one_that_is_killed_while_it_has_nothing_to_do_costs_nothing() -> None:
    with Processes(misbehave, count=1) as processes:
        _, first = processes.submit("a").result()
        os.kill(first, signal.SIGKILL)
        _, second = processes.submit("b").result()
    assert first != second


def test_those_that_end_before_they_take_up_any_work_are_an_error_and_not_the_works() -> None:
    never = pytest.raises(NeverBegan, match=r"ended with exit status 7 before it took up any work")
    with Processes(misbehave, count=1, begin=end) as processes, never:
        processes.submit("a").result()


def test_closed_they_are_gone_at_once_whatever_they_are_at() -> None:
    processes = Processes(misbehave, count=2)
    ids = {processes.submit(word).result()[1] for word in ("a", "b", "c", "d")}
    left = [processes.submit("hang") for _ in range(5)]
    began = time.monotonic()
    processes.close()
    assert time.monotonic() - began < 5
    assert all(map(gone, ids))
    assert all(future.exception() for future in left if future.done())


def test_when_all_that_was_asked_is_done_nothing_keeps_the_processes_in_memory() -> None:
    processes = Processes(len, count=2)
    assert processes.submit("four").result() == 4
    processes.finish()
    for thread in processes._threads:
        thread.join()
    gone = weakref.ref(processes)
    del processes, thread
    gc.collect()
    assert gone() is None
