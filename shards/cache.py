"""Files of stores kept on this machine: whole, by their SHA-256, shared by all processes and runs.

::

    CACHE/
      lock           held while it is decided what stays
      needs-*        what a process reads, and will read at most; held for as long as that process lives
      done-*         when a process last did what is done once for all
      SHA256.part    being fetched by the process that holds it
      SHA256         all there, and held against its digest

A file gets a time of change that follows from its digest. One that has another has been written to: it is fetched anew.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import math
import os
import re
import stat
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, NamedTuple

import pydantic

from shards.atomic import PART, sync
from shards.file_slice import Descriptor
from shards.index import StoredFile
from shards.store import TIMES_READ, Store, user_cache

_READ_ONLY = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK  # through no link, and waiting at no pipe
JUST_SECONDS = 60.0  # ago: ranks of a machine start together


class Cache:
    """A folder for files of stores, of at most `limit_bytes`, where that is given. May be pickled.

    Without `folder` it is that of `shards.store.user_cache`.
    """

    def __init__(self, folder: Path | None = None, *, limit_bytes: int | None = None) -> None:
        self.folder = folder or user_cache()
        self._limit = math.inf if limit_bytes is None else limit_bytes
        self._needs: BinaryIO | None = None

    def __getstate__(self) -> dict[str, object]:
        return self.__dict__ | {"_needs": None}

    def need(self, files: Sequence[StoredFile], *, at_most: tuple[int, int] = (0, 0), of: str = "") -> None:
        """Say what this process reads from now on, and make room: what was unused for longest, and unneeded, goes.

        at_most: bytes of all that it will need at a time, where that is more, and of all that processes of one `of`
        will need together. Raises ValueError where the bound is less than what all living processes need.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with open(self.folder / "lock", "ab") as lock:
            _lock(lock, self.folder)
            if self._needs is not None:
                Path(self._needs.name).unlink(missing_ok=True)
                fcntl.flock(self._needs, fcntl.LOCK_UN)
            name = f"needs-{uuid.uuid4().hex}"
            needs_here = _Needs(of or name, *at_most, {file.sha256: file.bytes for file in files})
            needs = [*self._of_others(), needs_here]
            needed = _bytes_of(needs)
            if needed > self._limit:
                raise ValueError(
                    f"the cache {self.folder} may hold {self._limit / 1e9:,.2f} GB (data.cache_gb), and "
                    f"{needed / 1e9:,.2f} GB are needed: {_bytes_of([needs_here]) / 1e9:,.2f} GB by this process, the "
                    "others by processes that share it. Raise it, take more nodes with data.partitions, or read by "
                    "ranges, without data.cache"
                )
            self._needs = open(self.folder / name, "w+b")  # noqa: SIM115
            self._needs.write(json.dumps(needs_here).encode())
            self._needs.flush()
            _lock(self._needs, self.folder)
            self._clear({sha256 for each in needs for sha256 in each.files}, self._limit - needed)

    def once(self, what: str, work: Callable[[], object]) -> None:
        """Do `work`, if no process of this machine, which is waited for, has just done it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with open(self.folder / f"done-{hashlib.sha256(what.encode()).hexdigest()}", "ab") as done:
            _lock(done, self.folder)
            if not done.tell() or time.time() - os.fstat(done.fileno()).st_mtime > JUST_SECONDS:
                work()
                done.write(b".")

    def fetch(self, store: Store, file: StoredFile, *, wait: bool = True) -> None:
        """Have a file in the cache; without `wait` it is left to a process that is fetching it."""
        path = self.folder / file.sha256
        while not self._is_whole(path, file):
            with _held(path.with_name(path.name + PART), wait=wait) as part:
                if part is None:
                    return
                if not self._is_whole(path, file):
                    self._fill(store, file, path, part)

    def path(self, store: Store, file: StoredFile) -> Path:
        """Where a file is, fetched where it is not there."""
        self.fetch(store, file)
        return self.folder / file.sha256

    def is_as_placed(self, facts: os.stat_result, file: StoredFile) -> bool:
        """Whether a file has not been written to since it was placed."""
        return facts.st_size == file.bytes and facts.st_mtime_ns == _stamp(file.sha256)

    def _is_whole(self, path: Path, file: StoredFile) -> bool:
        try:
            return self.is_as_placed(os.stat(path, follow_symlinks=False), file)
        except FileNotFoundError:
            return False

    def _fill(self, store: Store, file: StoredFile, path: Path, part: BinaryIO) -> None:
        part.truncate(0)  # left by a kill
        try:
            store.fetch(file.name, part, size=file.bytes, sha256=file.sha256)
            part.flush()
            sync(part.fileno())
            os.utime(part.fileno(), ns=(time.time_ns(), _stamp(file.sha256)))
            os.replace(path.with_name(path.name + PART), path)
        except OSError as error:
            error.filename = error.filename or str(path)
            raise

    def _of_others(self) -> Iterator[_Needs]:
        """What living processes need; what the dead have left is cleared away."""
        for path in self.folder.glob("needs-*"):
            with suppress(OSError), open(os.open(path, _READ_ONLY), "rb") as needs:  # a link, another user's
                if not stat.S_ISREG(os.fstat(needs.fileno()).st_mode):
                    continue
                try:
                    _lock(needs, self.folder, wait=False)
                    path.unlink()
                except BlockingIOError:
                    yield _parse(path.name, needs.read())

    def _clear(self, needed: set[str], room: float) -> None:
        files = [path for path in self.folder.iterdir() if re.fullmatch(f"[0-9a-f]{{64}}({PART})?", path.name)]
        unneeded = []
        for path in files:
            with suppress(OSError):  # another user's
                facts = os.stat(path)
                if path.name.removesuffix(PART) not in needed:
                    unneeded.append((facts.st_atime_ns, facts.st_size, path))
                elif not path.name.endswith(PART):  # used now, as file systems may not tell
                    os.utime(path, ns=(time.time_ns(), facts.st_mtime_ns))
        for _, size, path in sorted(unneeded, reverse=True):
            room -= size
            if path.name.endswith(PART) or room < 0:
                if not path.name.endswith(PART):
                    _empty(path)  # a process may have it open, which would keep its place on the disk
                path.unlink(missing_ok=True)


class _Needs(NamedTuple):
    of: str
    alone: int  # bytes that it will need at most
    together: int  # that it and all others of the same `of` will
    files: dict[str, int]  # bytes by SHA-256


def _parse(name: str, content: bytes) -> _Needs:
    """What a process wrote that it needs; nothing where it is something else."""
    try:
        return pydantic.TypeAdapter(_Needs).validate_json(content)
    except ValueError:
        return _Needs(name, 0, 0, {})


def _bytes_of(needs: Sequence[_Needs]) -> int:
    """What all of them need at most: a file that several need once, and room that several of one `of` need once."""
    files: dict[str, int] = {}
    later = 0
    for of in {each.of for each in needs}:
        same = [each for each in needs if each.of == of]
        now = {sha256: size for each in same for sha256, size in each.files.items()}
        later += max(0, max(each.together if len(same) > 1 else each.alone for each in same) - sum(now.values()))
        files |= now
    return sum(files.values()) + later


class CachedFile:
    """A file of a cache for reading by position, as a `Descriptor`.

    Fetched where it is not there, and anew where it has been written to.
    """

    def __init__(self, cache: Cache, store: Store, file: StoredFile) -> None:
        self._cache, self._store, self._file = cache, store, file
        self._descriptor = self._opened()

    def read(self, offset: int, size: int) -> bytes:
        """`size` bytes from `offset`."""
        for _ in range(TIMES_READ):
            data = self._descriptor.read(offset, size)
            if self._cache.is_as_placed(self._descriptor.facts(), self._file):  # after reading, so before as well
                return data
            self._descriptor = self._opened()
        raise OSError(errno.EIO, "is being written to in the cache", str(self._cache.folder / self._file.sha256))

    def _opened(self) -> Descriptor:
        while True:
            with suppress(FileNotFoundError):  # cleared away since
                return Descriptor(self._cache.path(self._store, self._file))


@contextmanager
def _held(path: Path, *, wait: bool) -> Iterator[BinaryIO | None]:
    """The file at `path`, made where there is none, for this process alone; it is not there any more after that.

    None where another process has it, and `wait` is false.
    """
    while True:
        with open(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644), "r+b") as part:

            def is_there(part: BinaryIO = part) -> bool:
                with suppress(FileNotFoundError):
                    return os.path.samestat(os.stat(path), os.fstat(part.fileno()))
                return False

            try:
                _lock(part, path.parent, wait=wait)
            except BlockingIOError:
                yield None
                return
            if is_there():  # not placed or cleared away while this process waited
                try:
                    yield part
                finally:
                    if is_there():
                        path.unlink()
                return


def _empty(path: Path) -> None:
    """Cut a file to nothing where it has this name alone, and this user may."""
    flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    with suppress(OSError), open(os.open(path, flags), "r+b") as file:
        if os.fstat(file.fileno()).st_nlink == 1:
            file.truncate(0)


def _lock(file: BinaryIO, folder: Path, *, wait: bool = True) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:  # of a file system without locks
        error.filename = str(folder)
        raise


def _stamp(sha256: str) -> int:
    """Nanoseconds since 1970, in whole seconds of the years 2001 to 2010."""
    return (10**9 + int(sha256[:7], 16)) * 10**9
