"""A first try of an exported program, in a process of its own with bounded memory and processor time.

What the checks of `avc.teachers.exported` have missed, an operator that crashes or a size that no machine has, ends
that process and not the one that asked.
"""

from __future__ import annotations

import io
import multiprocessing
import os
import resource
import signal
from collections.abc import Mapping, Sequence
from functools import lru_cache
from multiprocessing.connection import Connection
from pathlib import Path

import torch
from torch import nn

from avc.teachers.exported import ProgramError, noise, open_program
from shards.parent import follow_parent

SECONDS = 5.0  # of processor time, and as many again for each 100 MB of the file
SPARE_BYTES = 640_000_000  # beside what torch itself has taken
COPIES = 6  # of the file: its bytes, the checked copy, torch's own, the weights
PATIENCE_SECONDS = 600.0  # of the clock, for a slow file system
_ANSWER_BYTES = 10_000


def try_programs(files: Mapping[Path, str]) -> None:
    """Open .pt2 files on the CPU and run each once on noise, in another process.

    files: with the SHA-256 of each; what was found of the same bytes before is not looked for again.
    Raises ValueError where that finds no program, or crashes, or takes more memory or time than networks of the file's
    size do.
    """
    for path in files:
        if not path.is_file():
            raise ProgramError(f"there is no file {path}")
    refusal = _refusal(tuple(files.items())) if files else ""
    if refusal:
        raise ProgramError(refusal)


@lru_cache(maxsize=16)
def _refusal(files: tuple[tuple[Path, str], ...]) -> str:
    paths = [path for path, _ in files]
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_try, args=(paths, theirs), daemon=True)
    process.start()
    theirs.close()
    try:
        for path in paths:
            if not ours.poll(PATIENCE_SECONDS):
                return f"{path} is refused: tried on two images, it does not end"
            # Bytes, not objects: what a broken process sends is not unpickled.
            if answer := ours.recv_bytes(_ANSWER_BYTES).decode():
                return answer if answer.startswith(str(path)) else f"{path} is refused: {answer}"
    except (EOFError, OSError):
        process.join()
        return f"{path} is refused: {_ended(process.exitcode or 0)}"
    finally:
        process.kill()
        process.join()
        ours.close()
    return ""


def _ended(exit_status: int) -> str:
    if -exit_status in (signal.SIGXCPU, signal.SIGKILL):
        return "tried on two images, it takes more time or memory than a network of its size does"
    how = signal.Signals(-exit_status).name if exit_status < 0 else f"exit status {exit_status}"
    return f"tried on two images, it crashes ({how}). It may be harmful"


def _try(paths: Sequence[Path], connection: Connection) -> None:
    follow_parent()
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 2)  # of what a crash writes, the exit status is enough
    torch.set_num_threads(1)
    _warm_up()
    for path in paths:
        _bound(path.stat().st_size)
        try:
            program = open_program(path, torch.device("cpu"))
            with torch.inference_mode():
                program(noise(program))
        except Exception as error:  # whatever a file that others made leads to
            answer = str(error) if isinstance(error, ProgramError) else f"{type(error).__name__}: {error}"
        else:
            answer = ""
        connection.send_bytes(" ".join(answer.split()).encode(errors="backslashreplace")[: _ANSWER_BYTES // 2])


def _warm_up() -> None:
    """Have torch import what loading a program takes, which is seconds of work and not the file's to pay for."""
    stream = io.BytesIO()
    torch.export.save(torch.export.export(nn.Identity(), (torch.zeros(1),)), stream)
    stream.seek(0)
    torch.export.load(stream).module()


def _bound(file_bytes: int) -> None:
    used = resource.getrusage(resource.RUSAGE_SELF)
    with open("/proc/self/statm", encoding="ascii") as file:
        data_pages = int(file.read().split()[5])
    _limit(resource.RLIMIT_CPU, round(used.ru_utime + used.ru_stime + SECONDS * (1 + file_bytes / 100e6)) + 1)
    _limit(resource.RLIMIT_DATA, data_pages * os.sysconf("SC_PAGE_SIZE") + SPARE_BYTES + COPIES * file_bytes)
    _limit(resource.RLIMIT_CORE, 0)


def _limit(which: int, most: int) -> None:
    """Set a limit, or leave the one that the process has been given where that is lower."""
    _, given = resource.getrlimit(which)
    resource.setrlimit(which, (most if given == resource.RLIM_INFINITY else min(most, given), given))
