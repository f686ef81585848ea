"""Files that are either wholly there or not there at all, whenever the machine stops, and in no other folder."""

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

PART = ".part"  # a file carries this suffix until it is complete
_KINDS = {
    stat.S_IFREG: "a file",
    stat.S_IFDIR: "a folder",
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
}
# What file systems answer to what they do not have: Lustre, NFS and FUSE to locks, SMB and shared folders to the rest.
LACKING = (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK, errno.EINVAL)
_WITHOUT_NAME = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, *LACKING)  # errors that do not say of what file


class Unprotected(UserWarning):
    """The file system lacks what would protect the files that are written there."""


@contextlib.contextmanager
def written_aside(path: Path) -> Iterator[BinaryIO]:
    """A file to write to, that takes the place of `path` when all of it is on the disk.

    A link of either name is replaced, and what it points to stays as it is. Raises ValueError where `path` is there
    and is no file; OSError, for a full disk and for what the file system lacks with the file's name.
    """
    refuse_special(path)
    aside = path.with_name(path.name + PART)
    aside.unlink(missing_ok=True)  # left by a kill
    try:
        with open(aside, "xb") as file:  # x: a new file, through no link
            yield file
            file.flush()
            sync(file.fileno())
        os.replace(aside, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            aside.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno in _WITHOUT_NAME and error.filename is None:
            error.filename = str(path)
        raise
    sync_folder(path.parent)


def write_whole(path: Path, content: bytes) -> None:
    """Write a file by `written_aside`."""
    with written_aside(path) as file:
        file.write(content)


def sync_folder(folder: Path) -> None:
    """Return when the names in `folder` are on the disk."""
    number = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        sync(number)
    finally:
        os.close(number)


def sync(number: int) -> None:
    """Return when what an open file or folder holds is on the disk; warns where the file system cannot tell."""
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
    """Keep others out of `file`, which is open for writing, until it is closed; warns where there are no locks.

    Raises ValueError with the words `taken` where another process has it.
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

    For folders that this program writes to and clears, and in which it makes no links: one that somebody has put there
    would lead it elsewhere.
    """
    for path in paths:
        below = (Path(place, name) for place, folders, files in os.walk(path) for name in [*folders, *files])
        for found in chain([path], below):
            with contextlib.suppress(FileNotFoundError):  # another process clears up
                if kind_of(found) not in ("a file", "a folder"):
                    raise ValueError(
                        f"{found} is {kind_of(found)}, and only files and folders belong there: remove it, or take "
                        "another folder"
                    )


def refuse_special(path: Path) -> None:
    """Raise ValueError where `path` is there and no file: a named pipe, say, at which reading and writing would wait.

    A link to a file counts as one, but for those in /dev: the standard output may be a file.
    """
    if path.exists() and (not path.is_file() or path.parent == Path("/dev")):
        raise ValueError(f"{path} is {kind_of(path)}, and a file belongs there: give another name")


def kind_of(path: Path) -> str:
    """What bears the name `path`, in words: a file, a folder, a symbolic link, a named pipe, a socket or a device."""
    return _KINDS.get(stat.S_IFMT(os.lstat(path).st_mode), "a device")
