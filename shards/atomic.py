"""Writes files atomically, also across a machine's crash; locks files; refuses links and special files."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import warnings
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import IO, BinaryIO

PART = ".part"  # suffix of incomplete files
_FILE_TYPES = {
    stat.S_IFREG: "a file",
    stat.S_IFDIR: "a folder",
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
}
# Errors of file systems that lack a feature: locks on Lustre, NFS and FUSE, others on SMB and shared folders.
LACKING = (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK, errno.EINVAL)
_NAMELESS_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, *LACKING)  # errors without a file name


class Unprotected(UserWarning):
    """The file system lacks a feature that protects files."""


@contextlib.contextmanager
def written_aside(path: Path) -> Iterator[BinaryIO]:
    """A file to write to, which replaces `path` when it is complete on the disk.

    A link of either name is replaced, not followed. Raises ValueError where `path` exists and is no file; OSError, for
    a full disk and for lacking features with the file's name.
    """
    refuse_special(path)
    part = path.with_name(path.name + PART)
    part.unlink(missing_ok=True)  # left by a kill
    try:
        with open(part, "xb") as file:  # x: a new file, through no link
            yield file
            file.flush()
            sync(file.fileno())
        os.replace(part, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno in _NAMELESS_ERRORS and error.filename is None:
            error.filename = str(path)
        raise
    sync_folder(path.parent)


def write_whole(path: Path, content: bytes) -> None:
    """Write a file by `written_aside`."""
    with written_aside(path) as file:
        file.write(content)


def sync_folder(folder: Path) -> None:
    """Flush the names in `folder` to the disk."""
    number = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        sync(number)
    finally:
        os.close(number)


def sync(number: int) -> None:
    """Flush an open file or folder to the disk; warns where the file system lacks fsync."""
    try:
        os.fsync(number)
    except OSError as error:
        if error.errno not in LACKING:
            raise
        warnings.warn(
            f"this file system does not say when something is on its disk (fsync: {error.strerror}): after a kill all "
            "is well, after a power failure the newest files may be missing",
            Unprotected,
            stacklevel=1,
        )


def lock(file: IO[bytes], *, taken: str) -> None:
    """Lock `file`, which is open for writing, until it is closed; warns where there are no locks.

    Raises ValueError with the message `taken` where another process has locked it.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise ValueError(taken) from None
    except OSError as error:
        if error.errno not in LACKING:
            raise
        warnings.warn(
            f"this file system has no locks (flock: {error.strerror}): nothing keeps a second process from writing to "
            "the same folder at the same time, so see to it that there is one",
            Unprotected,
            stacklevel=1,
        )


def refuse_links(paths: Iterable[Path]) -> None:
    """Raise ValueError where one of the paths, or anything below them, is neither a folder nor a regular file.

    For folders that this program writes to and clears without making links: a foreign one would lead it elsewhere.
    """
    for path in paths:
        children = (Path(folder_, name) for folder_, folders, files in os.walk(path) for name in [*folders, *files])
        for item in chain([path], children):
            with contextlib.suppress(FileNotFoundError):  # deleted by another process
                if file_type(item) not in ("a file", "a folder"):
                    raise ValueError(
                        f"{item} is {file_type(item)}, and only files and folders belong there: remove it, or take "
                        "another folder"
                    )


def refuse_special(path: Path) -> None:
    """Raise ValueError where `path` exists and is no file: reading or writing a named pipe would block.

    A link to a file is accepted, except in /dev: the standard output may be a file.
    """
    if path.exists() and (not path.is_file() or path.parent == Path("/dev")):
        raise ValueError(f"{path} is {file_type(path)}, and a file belongs there: give another name")


def file_type(path: Path) -> str:
    """Type of `path`: a file, a folder, a symbolic link, a named pipe, a socket or a device."""
    return _FILE_TYPES.get(stat.S_IFMT(os.lstat(path).st_mode), "a device")
