"""Ctrl-C ends every command with a line and status 130, and nothing that it had started goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest

from tests.avc.own_encoders import ENCODERS, written
from tests.object_store import Proxy, Request
from tests.small_videos import render_folder

GOES_ON = "; the same command goes on where it was"


class Command:
    """`avc WORDS`, under way in a group of its own, which is interrupted as a terminal does it."""

    def __init__(self, *words: object, python: tuple[str, ...] = (), **environment: str) -> None:
        self._said: list[str] = []
        self._process = subprocess.Popen(
            [sys.executable, *python, "-m", "launch.cli", *map(str, words)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env=os.environ | environment,
        )

    def says(self, text: str) -> None:
        """Wait until it has said so on standard error."""
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self._said.append(line)
            if text in line:
                return
        raise AssertionError("".join(self._said))

    def comes_to(self, pattern: str, folder: Path) -> None:
        """Wait until there is a file of such a name."""
        while not [*folder.glob(pattern)]:
            assert self._process.poll() is None
            time.sleep(0.005)

    def interrupted(self) -> tuple[int, list[str]]:
        """Interrupt all of it: its status, and what it has said without what the import of modules says."""
        os.killpg(self._process.pid, signal.SIGINT)
        _, rest = self._process.communicate(timeout=120)
        deadline = time.monotonic() + 20  # what has closed its end of the pipe may still be about to end
        while left := self._left():
            assert time.monotonic() < deadline, left
        lines = [*self._said, *rest.splitlines(keepends=True)]
        return self._process.returncode, [line.rstrip("\n") for line in lines if not line.startswith("import time:")]

    def _left(self) -> list[str]:
        """The processes of its group that have not ended, by their command lines, which one that is ending lacks."""
        left = []
        for entry in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                state, _, group = (entry / "stat").read_text().rpartition(")")[2].split()[:3]
                if int(group) == self._process.pid and state not in "ZX":
                    left.append((entry / "cmdline").read_text())
        return [line for line in left if line]


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return render_folder(tmp_path_factory.mktemp("videos"), videos=24)


@pytest.mark.parametrize(
    ("words", "module"),
    [
        (["explore", "nowhere"], "typer.core"),  # behind which seconds of imports are left
        (["explore", "nowhere"], "pydantic.types"),
        (["audit", "sync", "nowhere"], "typer.core"),
        (["eval", "correspondence", "nowhere"], "torch.serialization"),
        (["explore", "nowhere"], "torch.serialization"),
        (["embed", "nowhere", "--run", "nowhere"], "torch.serialization"),
        (["train", "ave", "data.shards=nowhere"], "torch.serialization"),
    ],
)
def test_an_interrupt_while_modules_are_imported_is_a_line(words: list[str], module: str) -> None:
    command = Command(*words, python=("-X", "importtime"))
    command.says(f" {module}\n")
    status, said = command.interrupted()
    assert (status, said) == (130, [f"avc {words[0]}: stopped{GOES_ON if words[0] in ('embed', 'train') else ''}"])


def test_a_packing_that_is_interrupted_says_that_the_same_command_goes_on(videos: Path, tmp_path: Path) -> None:
    command = Command("pack", videos, "--out", tmp_path / "out", "--workers", 2)
    command.comes_to("out/*.tar*", tmp_path)
    assert command.interrupted() == (130, [f"avc pack: stopped{GOES_ON}"])


def test_features_that_are_being_computed_are_interrupted_at_once_and_kept(small_world: Path, tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(ENCODERS)
    towers = {"image": f"{tmp_path}/own.py:Eye", "audio": f"{tmp_path}/own.py:Ear"}
    command = Command(
        *("train", written(tmp_path, small_world, towers), f"run.dir={tmp_path / 'run'}"), XDG_CACHE_HOME=str(tmp_path)
    )
    command.says("features by Eye: ")
    status, said = command.interrupted()
    assert (status, said[1:]) == (130, [f"avc train: stopped{GOES_ON}"])


def test_an_interrupt_waits_for_no_store_that_does_not_answer(small_world: Path, tmp_path: Path, proxy: Proxy) -> None:
    asked = threading.Event()

    def silent(request: Request) -> str | None:
        if request.method != "PUT":
            return None
        asked.set()
        return "silent"

    proxy.fault = silent
    command = Command("copy", small_world, f"s3://shelf/{tmp_path.name}", AVC_STORE_PATIENCE="100000")
    assert asked.wait(120)
    assert command.interrupted() == (130, [f"avc copy: stopped{GOES_ON}"])


def test_an_interrupt_in_a_callback_that_would_be_dropped_ends_the_command() -> None:
    """As one of importlib's is, which holds a lock that nothing gives back then."""
    code = """if True:
        import signal, weakref
        from launch.user_errors import user_errors

        class Anything:
            pass

        with user_errors("avc pack", resumes=True):
            thing = Anything()
            gone = weakref.ref(thing, lambda _: signal.raise_signal(signal.SIGINT))
            del thing
            print("it goes on")"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", f"avc pack: stopped{GOES_ON}\n")
