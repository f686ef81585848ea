"""Error handler of the commands: one paragraph, and an exit status."""

from __future__ import annotations

import atexit
import errno
import io
import os
import signal
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

THE_USERS = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.EACCES, errno.EPERM, errno.EROFS)
THE_MACHINES = (
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.ESTALE),
    *(errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN, errno.ECHILD, errno.ETIMEDOUT),
)
THE_FILE_SYSTEMS = (  # that it lacks something, or takes no such name
    *(errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK, errno.ENODEV, errno.EXDEV, errno.EINVAL),
    *(errno.ENAMETOOLONG, errno.EILSEQ),
)


@contextmanager
def user_errors(command: str, *, resumes: bool = False) -> Iterator[None]:
    """End the process with status 2 for the user's mistake, 1 for a full disk, a killed process or a damaged record.

    Interrupted, it ends with 130 and a line that says so; resumes: whether the command goes on when it is given again.
    Whatever else is raised is ours, and goes on as it is. Names that cannot be printed, as they are not UTF-8 or have
    letters that the terminal lacks, are printed as escapes. What a file system lacks is a line without its place in
    the code.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # as standard error has it
    ordinary, unraisable = warnings.formatwarning, sys.unraisablehook
    warnings.formatwarning = _formatting(command, ordinary)

    def stop() -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # who interrupts once more does not wait for what follows
        print(f"{command}: stopped{'; the same command goes on where it was' if resumes else ''}", file=sys.stderr)
        sys.stdout.flush()
        atexit._run_exitfuncs()  # processes end with it
        os._exit(130)  # without threads, which may be at work, or waiting for a store, for minutes

    def dropped(what: Any) -> None:
        if what.exc_type is KeyboardInterrupt:  # it came in a callback, such as importlib's, which would go on
            stop()
        unraisable(what)

    sys.unraisablehook = dropped
    try:
        yield
    except (KeyboardInterrupt, SystemExit) as end:
        if isinstance(end, SystemExit) and not (end.code == 130 and type(end.__context__).__name__ == "Exit"):
            raise  # of another meaning than typer's, which makes an exit of an interrupt
        stop()
    except Exception as error:
        status = _status(error)
        if status is None:
            raise
        from launch.progress import printable

        print(f"{command}: {printable(_paragraph(error))}", file=sys.stderr)
        sys.exit(status)
    finally:
        warnings.formatwarning, sys.unraisablehook = ordinary, unraisable


def _formatting(command: str, ordinary: Callable[..., str]) -> Callable[..., str]:
    def formatted(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> str:
        ours = category.__module__ in ("shards.atomic", "shards.store")
        return f"{command}: {message}\n" if ours else ordinary(message, category, *place, **more)

    return formatted


def _status(error: Exception) -> int | None:
    if isinstance(error, OSError):
        return 2 if error.errno in THE_USERS or _lacks(error) else 1 if error.errno in THE_MACHINES else None
    if isinstance(error, ValueError):
        return 2
    reading = sys.modules.get("shards.read")  # not imported for this: --help answers at once
    return 1 if reading is not None and isinstance(error, reading.BadRecord) else None


def _lacks(error: OSError) -> bool:
    """Whether a file system has refused what it does not have, or a name."""
    return error.errno in THE_FILE_SYSTEMS and error.filename is not None


def _paragraph(error: Exception) -> str:
    if isinstance(error, OSError):
        words = f"{error.filename}: {error.strerror}" if error.filename else str(error.strerror or error)
        way_out = ". Its file system lacks what is needed here: put it on another, such as a local disk"
        return f"{words}{way_out}" if _lacks(error) else words
    pydantic = sys.modules.get("pydantic")
    if pydantic is not None and isinstance(error, pydantic.ValidationError):
        return "; ".join(f"{'.'.join(map(str, e['loc']))} is {e['input']!r}: {e['msg']}" for e in error.errors())
    return " ".join(str(error).split("\n"))
