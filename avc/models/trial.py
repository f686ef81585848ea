"""A first try of an exported program, in a process of its own with bounded memory and processor time.

What the checks of `avc.models.exported` have missed, an operator that crashes or a size that no machine has, ends that
process and not the one that asked.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
from multiprocessing.connection import Connection
from pathlib import Path

import torch

from avc.models.exported import ProgramError, noise, open_program
from shards.workers import follow_parent

SECONDS = 5.0  # of processor time, and as many again for each 100 MB of the file
SPARE_BYTES = 640_000_000  # beside what importing torch has taken
COPIES = 6  # of the file: its bytes, the checked copy, torch's own, the weights
PATIENCE_SECONDS = 600.0  # of the clock, for a slow file system
_ANSWER_BYTES = 10_000


def try_program(path: Path) -> None:
    """Open a .pt2 file on the CPU and run it once on noise, in another process.

    Raises ValueError where that finds no program, or crashes, or takes more memory or time than networks of the file's
    size do.
    """
    if not path.is_file():
        raise ProgramError(f"there is no file {path}")
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_try, args=(path, theirs), daemon=True)
    process.start()
    theirs.close()
    try:
        # Bytes, not objects: what a broken process sends is not unpickled.
        answer = ours.recv_bytes(_ANSWER_BYTES).decode() if ours.poll(PATIENCE_SECONDS) else "it did not end"
    except (EOFError, OSError):
        process.join()
        answer = _ended(process.exitcode or 0)
    finally:
        process.kill()
        process.join()
        ours.close()
    if answer:
        raise ProgramError(answer if answer.startswith(str(path)) else f"{path} is refused: {answer}")


def _ended(exit_status: int) -> str:
    if -exit_status in (signal.SIGXCPU, signal.SIGKILL):
        return "tried on two pictures, it takes more time or memory than a network of its size does"
    how = signal.Signals(-exit_status).name if exit_status < 0 else f"exit status {exit_status}"
    return f"tried on two pictures, it crashes ({how}). It may be harmful"


def _try(path: Path, connection: Connection) -> None:
    follow_parent()
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 2)  # of what a crash writes, the exit status is enough
    torch.set_num_threads(1)
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


def _bound(file_bytes: int) -> None:
    used = resource.getrusage(resource.RUSAGE_SELF)
    seconds = round(used.ru_utime + used.ru_stime + SECONDS * (1 + file_bytes / 100e6)) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
    with open("/proc/self/statm", encoding="ascii") as file:
        data_pages = int(file.read().split()[5])
    held = data_pages * os.sysconf("SC_PAGE_SIZE") + SPARE_BYTES + COPIES * file_bytes
    resource.setrlimit(resource.RLIMIT_DATA, (held, held))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
