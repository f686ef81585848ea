"""Ranks leave with torchrun's agent and wait no longer for each other than they may; no other training leaves so."""

import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from avc.distributed import join as distributed
from avc.distributed.heartbeat import PeerLost
from avc.settings import TrainingSettings

LONG_SECONDS = 60


@contextmanager
def port_where(answer: str) -> Iterator[int]:
    """A port where nobody listens (refused), or where who listens says nothing (silent)."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        if answer == "silent":
            listener.listen()
        yield listener.getsockname()[1]


def rank_environment(monkeypatch: pytest.MonkeyPatch, port: int, **more: str) -> None:
    places = {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    for name, value in (places | more).items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize("answer", ["refused", "silent"])
def test_ranks_that_do_not_meet_give_up_in_the_time_that_they_have(monkeypatch, answer) -> None:
    monkeypatch.setattr(distributed, "START_SECONDS", 2)
    with port_where(answer) as port:
        rank_environment(monkeypatch, port)
        began = time.monotonic()
        with pytest.raises(PeerLost, match="the 2 ranks do not meet"), distributed.join(TrainingSettings(device="cpu")):
            pass
        assert 1 < time.monotonic() - began < 4


def test_a_rank_that_is_asked_to_stop_waits_no_longer_for_the_others(monkeypatch) -> None:
    with port_where("silent") as port:
        rank_environment(monkeypatch, port)
        began = time.monotonic()
        with (
            pytest.raises(PeerLost, match="asked to stop before the 2 ranks had met"),
            distributed.join(TrainingSettings(device="cpu"), stop=lambda: True),
        ):
            pass
        assert time.monotonic() - began < 5


def test_a_rank_whose_agent_was_gone_before_it_could_look_does_not_begin(monkeypatch) -> None:
    with port_where("refused") as port:
        rank_environment(monkeypatch, port, TORCHELASTIC_RUN_ID="1", TORCHELASTIC_USE_AGENT_STORE="True")
        began = time.monotonic()
        rank = subprocess.run([sys.executable, "-m", "launch.train", "x"], capture_output=True, text=True, check=False)
        assert time.monotonic() - began < 10
        assert rank.returncode == 1
        where = f"the store of the ranks at 127.0.0.1:{port}"
        assert rank.stderr == f"rank 1: torchrun's agent, which keeps {where}, is gone\n"


def test_what_a_shell_has_started_outlives_it_and_what_an_agent_has_started_does_not(tmp_path) -> None:
    program = (
        "import os, sys; from avc.distributed.agent import follow_agent; follow_agent(); "
        "open(f'{sys.argv[1]}-', 'w').write(str(os.getpid())); os.rename(f'{sys.argv[1]}-', sys.argv[1]); "
        "sys.stdin.read(); open(sys.argv[1], 'w').write('whole')"
    )
    both = 'exec 3<&0; "$0" -c "$1" by-shell <&3 & TORCHELASTIC_RUN_ID=1 "$0" -c "$1" by-agent <&3 & wait'
    shell = subprocess.Popen(
        ["sh", "-c", both, sys.executable, program],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
    )
    assert shell.stdin is not None and shell.stderr is not None
    deadline = time.monotonic() + LONG_SECONDS
    while not all((tmp_path / name).exists() for name in ("by-shell", "by-agent")):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    by_agent = (tmp_path / "by-agent").read_text()
    with os.fdopen(os.pidfd_open(int(by_agent))) as process:
        shell.send_signal(signal.SIGKILL)
        assert b"torchrun's agent is gone" in shell.stderr.readline()
        assert select.select([process], [], [], LONG_SECONDS)[0]  # it has ended before the other may
    shell.stdin.close()
    assert shell.stderr.read() == b""  # both have ended
    assert (tmp_path / "by-shell").read_text() == "whole"
    assert (tmp_path / "by-agent").read_text() == by_agent
