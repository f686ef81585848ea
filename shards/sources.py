"""What the user gives to pack, as one sorted list: folders, files, lists of paths, tar files that hold videos."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import pydantic

from shards.tar import BadTar, read_members

# Members of a tar file are packed by these endings: beside its video a WebDataset record holds captions, labels, ...
VIDEO_SUFFIXES = frozenset(
    {".3g2", ".3gp", ".asf", ".avi", ".divx", ".dv", ".f4v", ".flv", ".m2ts", ".m2v", ".m4v", ".mkv", ".mov", ".mp4"}
    | {".mpe", ".mpeg", ".mpg", ".mts", ".mxf", ".ogm", ".ogv", ".qt", ".rm", ".rmvb", ".ts", ".vob", ".webm", ".wmv"}
)

Text = Annotated[str, pydantic.InstanceOf()]  # pydantic's own str refuses surrogates
Identity = tuple[int, int]  # of a folder: device and number
LONGEST_LINE = 65_536  # bytes of a list; Linux takes no path of more than 4,096


@dataclass(frozen=True, slots=True)  # slots: a large set has millions of inputs
class Source:
    """One input: a file, or a member of a tar file."""

    name: Text  # absolute path, or TAR::MEMBER; bytes that are not UTF-8 as surrogates, as the os module has them
    path: Text  # the file to open
    offset: int | None  # of the member's content in the tar file; None for a file of its own
    size: int  # bytes; -1 where it could not be asked for
    mtime_ns: int
    problem: Text = ""  # why it cannot be opened, where that is known already

    @property
    def basename(self) -> str:
        """The last part of the file's or member's name."""
        return self.name.rpartition("::")[2].rpartition("/")[2]


def list_sources(
    inputs: Sequence[str | os.PathLike[str]],
    *,
    without: Path | None = None,
    members: frozenset[str] = VIDEO_SUFFIXES,
) -> list[Source]:
    """Every input once, sorted by name, whatever order and overlap the inputs were given in.

    A folder gives all of its files and those of its sub-folders but for hidden ones (`.name`); a `.tar` file its
    members that end in one of `members`; a `.txt` file that is given itself (not one found in a folder) the paths in
    it, one a line, relative to that file. The folder `without` (the one being packed into) is left out. What cannot be
    read is in the list too, with its `problem`. Raises ValueError when an input that the user named does not exist.
    """
    found: dict[tuple[str, int | None], Source] = {}
    left_out = _identity(without) if without is not None else None
    for given in inputs:
        path = os.path.abspath(os.path.expanduser(given))
        if not os.path.lexists(path):
            raise ValueError(f"{os.fspath(given)} does not exist: give folders, video files, .txt lists or .tar files")
        if path.lower().endswith(".txt") and os.path.isfile(path):
            sources = _from_list(path, left_out, members)
        else:
            sources = _from_path(path, left_out, members)
        for source in sources:
            found.setdefault((source.name, source.offset), source)
    return sorted(found.values(), key=lambda source: (os.fsencode(source.name), source.offset or 0))


def read_lines(path: str | os.PathLike[str]) -> Iterator[bytes]:
    """The lines of a list of names, without line breaks and empty ones.

    Raises OSError where the file cannot be read, ValueError for a line that is longer than any name, before all of it
    is read.
    """
    with open(path, "rb") as file:
        for number, line in enumerate(iter(lambda: file.readline(LONGEST_LINE + 1), b""), start=1):
            if len(line) > LONGEST_LINE:
                raise ValueError(f"line {number} of {path} is longer than {LONGEST_LINE:,} bytes: it holds no names")
            if line.strip():
                yield line.rstrip(b"\r\n")


def _from_list(path: str, left_out: Identity | None, members: frozenset[str]) -> Iterator[Source]:
    for line in read_lines(path):
        full = os.path.abspath(os.path.join(os.path.dirname(path), os.path.expanduser(os.fsdecode(line))))
        yield from _from_path(full, left_out, members)


def _from_path(path: str, left_out: Identity | None, members: frozenset[str]) -> Iterator[Source]:
    # Not by recursion: folders may lie in each other a thousand deep.
    waiting: list[tuple[str, frozenset[Identity]]] = [(path, frozenset())]  # with the folders above
    while waiting:
        path, above = waiting.pop()
        try:
            facts = os.stat(path)
        except ValueError:
            yield _unreadable(path, "the path holds a NUL, which no path does")
            continue
        except OSError as error:
            yield _unreadable(path, error.strerror or str(error))
            continue
        if stat.S_ISDIR(facts.st_mode):
            folder = facts.st_dev, facts.st_ino
            if folder == left_out or folder in above:  # a link may lead back to a folder that it lies in
                continue
            try:
                names = os.listdir(path)
            except OSError as error:
                yield _unreadable(path, f"the folder cannot be listed: {error.strerror}")
                continue
            below = above | {folder}
            waiting += [(os.path.join(path, name), below) for name in names if not name.startswith(".")]
        elif not stat.S_ISREG(facts.st_mode):
            yield _unreadable(path, "not a regular file")
        elif path.lower().endswith(".tar"):
            yield from _from_tar(path, facts, members)
        else:
            yield Source(path, path, None, facts.st_size, facts.st_mtime_ns)


def _from_tar(path: str, facts: os.stat_result, members: frozenset[str]) -> Iterator[Source]:
    found = 0
    problem = ""
    try:
        for member in read_members(path):
            if os.path.splitext(member.name)[1].lower() in members and not member.folder:
                found += 1
                yield Source(
                    f"{path}::{member.name}",
                    path,
                    member.offset,
                    member.size,
                    facts.st_mtime_ns,
                    problem="" if member.plain else "a link or special member of the tar file",
                )
    except (BadTar, OSError) as error:
        problem = f"the tar file cannot be read to its end: {error}"
    if not found and not problem:
        problem = "the tar file holds no member whose ending is that of a file that is read here"
    if problem:
        yield Source(path, path, None, facts.st_size, facts.st_mtime_ns, problem=problem)


def _identity(path: Path) -> Identity | None:
    try:
        facts = os.stat(path)
    except OSError:
        return None
    return facts.st_dev, facts.st_ino


def _unreadable(path: str, problem: str) -> Source:
    return Source(path, path, None, size=-1, mtime_ns=0, problem=problem)
