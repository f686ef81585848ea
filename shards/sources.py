"""What the user gives to pack, as one sorted list: folders, files, URLs, lists, tar files that hold videos."""

from __future__ import annotations

import fnmatch
import hashlib
import itertools
import os
import re
import stat
import tempfile
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Annotated

import pydantic

from shards.file_slice import Descriptor, Readable
from shards.format import CLIPS, MANIFEST, MIXED_FROM, PackSettings
from shards.processes import Threads
from shards.store import SCHEMES, Object, Store, Url, as_url
from shards.tar import BadTar, read_members
from shards.text import lines_of, unquoted

# Members of a tar file are packed by these endings: beside its video a WebDataset record holds captions, labels, ...
VIDEO_SUFFIXES = frozenset(
    {".3g2", ".3gp", ".asf", ".avi", ".divx", ".dv", ".f4v", ".flv", ".m2ts", ".m2v", ".m4v", ".mkv", ".mov", ".mp4"}
    | {".mpe", ".mpeg", ".mpg", ".mts", ".mxf", ".ogm", ".ogv", ".qt", ".rm", ".rmvb", ".ts", ".vob", ".webm", ".wmv"}
)

# What a browser, a downloader or an editor leaves beside the file that it was to become.
UNFINISHED = re.compile(
    r"(\.(part|crdownload|ytdl|tmp|temp|partial|download|opdownload|filepart|aria2|!ut|!qb|bc!)|\.part-frag\d+|~)\Z"
    r"|\.(part|temp)\.[a-z0-9]+\Z",  # yt-dlp and this project name a film that they are at work on `x.temp.mp4`
    re.IGNORECASE,
)

INTERRUPTED = "its name is that of an interrupted download or of a copy: rename it, or give the file itself, to use it"

# Folders that are no inputs, by what they hold.
OURS = {
    (MANIFEST, CLIPS): "is of packed videos, which `avc train`, `avc eval`, `avc explore` and `avc audit set` take",
    ("attempts", "config.yaml"): "is of a run, which `avc eval` and `avc explore` take, and `avc embed` after --run",
}
Text = Annotated[str, pydantic.InstanceOf()]  # pydantic's own str refuses surrogates
Identity = tuple[int, int]  # of a folder: device and number
LONGEST_LINE = 65_536  # bytes of a list; Linux takes no path of more than 4,096
LARGEST_LIST = 2**30  # bytes of one at a URL
AT_ONCE = 64  # URLs of a list that a store is asked for


@dataclass(frozen=True, slots=True)  # slots: a large set has millions of inputs
class Source:
    """One input: a file, or a member of a tar file."""

    name: Text  # absolute path or URL, or TAR::MEMBER; bytes that are not UTF-8 as surrogates, as os has them
    path: Text  # the file to open, or its URL
    offset: int | None  # of the member's content in the tar file; None for a file of its own
    size: int  # bytes; -1 where it could not be asked for
    mtime_ns: int
    problem: Text = ""  # why it cannot be opened, where that is known already

    @property
    def basename(self) -> str:
        """The last part of the file's or member's name."""
        return self.inside.rpartition("/")[2]

    @property
    def inside(self) -> str:
        """The member's name in its tar file, or the file's own; either may hold `::`."""
        return self.name if self.offset is None else self.name.removeprefix(f"{self.path}::")


def list_sources(
    inputs: Sequence[str | os.PathLike[str]],
    *,
    without: Path | None = None,
    members: frozenset[str] = VIDEO_SUFFIXES,
) -> list[Source]:
    """Every input once, sorted by name, whatever order and overlap the inputs were given in.

    A folder gives all of its files and those of its sub-folders but for hidden ones (`.name`), with a `problem` where
    their names are those of interrupted downloads; a `.tar` file its members that end in one of `members`; a `.txt`
    file that is given itself (not one found in a folder) the paths in it, one a line, relative to that file. A URL is
    that of an object, of all below it, or a pattern (`s3://raw/2026/*.mp4`), and may stand in a list. The folder
    `without` (the one being packed into) is left out. What cannot be read is in the list too, with its `problem`.
    Raises ValueError when an input that the user named does not exist, and for a list in UTF-16; OSError where a store
    does not answer.
    """
    unique: dict[tuple[str, int | None], Source] = {}
    left_out = _identity(without) if without is not None else None
    stored = _StoredNames()
    for input_ in inputs:
        url = as_url(input_)
        path = str(url) if url else stored.find(os.fspath(input_), beside=os.getcwd())
        if not url and not os.path.lexists(path):
            raise ValueError(
                f"{os.fspath(input_)} does not exist: give folders, video files, .txt lists, .tar files, or URLs, "
                f"which begin with {', '.join(f'{scheme}//' for scheme in SCHEMES)}"
            )
        if path.lower().endswith(".txt") and (url or os.path.isfile(path)):
            sources = _from_list(path, stored, left_out, members)
        elif url:
            sources = _from_url(url, members)
        else:
            _refuse_ours(input_, {name for name in itertools.chain(*OURS) if os.path.exists(os.path.join(path, name))})
            sources = _from_path(path, left_out, members)
        for source in sources:
            unique.setdefault((source.name, source.offset), source)
    return sorted(unique.values(), key=lambda source: (os.fsencode(source.name), source.offset or 0))


def _refuse_ours(given: str | os.PathLike[str], names: Set[str]) -> None:
    for signs, what in OURS.items():
        if names >= {*signs}:
            raise ValueError(f"{os.fspath(given)} {what}: here give files to look at or listen to")


def in_packing_order(sources: Iterable[Source], settings: PackSettings) -> list[Source]:
    """Sources that are sorted by name, as packing takes them: by the hash of size and base name, ties by name.

    So the order means nothing, and each shard is a sample of the set: in order of name, a folder for each class gives
    shards of one class, and whoever streams shards meets one class at a time, which cannot be repaired without packing
    again. Folders have no part in it, so moved inputs keep their order. A packing that was begun in order of name stays
    in it.
    """
    return sorted(sources, key=_hash) if settings.version >= MIXED_FROM else list(sources)


def _hash(source: Source) -> bytes:
    # NFC: some systems store accents in another form than the one that they were given.
    text = f"{source.size}/{unicodedata.normalize('NFC', source.basename)}"
    return hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=8).digest()


def read_lines(path: str | os.PathLike[str]) -> Iterator[str]:
    """The lines of a list of names, without line breaks and empty ones; bytes that are not UTF-8 as surrogates.

    Raises ValueError where the file cannot be read, for UTF-16 and for a line that is longer than any name, before all
    of it is read.
    """
    lines = lines_of(path, errors="surrogateescape", longest=LONGEST_LINE)
    return (line.rstrip("\r\n") for line in lines if line.strip())


def _from_list(path: str, stored: _StoredNames, left_out: Identity | None, members: frozenset[str]) -> Iterator[Source]:
    beside, listed = os.path.dirname(path), as_url(path)
    stores = lru_cache(Store)  # one client for all of a folder

    def sources_of(line: str) -> Iterable[Source]:
        name = line.strip()
        url = as_url(f"{beside}/{name}" if listed and not name.startswith(SCHEMES) else name)
        if not url:
            return _from_path(stored.find(line, beside=beside), left_out, members)
        try:
            return list(_from_url(url, members, stores))
        except TimeoutError:
            raise  # the store is gone, for the lines that follow too
        except (ValueError, OSError) as error:
            return [_unreadable(str(url), getattr(error, "strerror", "") or str(error))]

    with tempfile.NamedTemporaryFile() as copy, Threads(AT_ONCE) as threads:
        if listed:
            copy.write(Store(listed.parent).whole(listed.name, most=LARGEST_LIST))
            copy.flush()
            path = copy.name
        lines = read_lines(path)
        while some := list(itertools.islice(lines, 16 * AT_ONCE)):
            of_store = listed or any(line.lstrip().startswith(SCHEMES) for line in some)
            yield from itertools.chain.from_iterable((threads.map if of_store else map)(sources_of, some))


def _from_url(url: Url, members: frozenset[str], stores: Callable[[Url], Store] = Store) -> Iterator[Source]:
    """An object, all that lie below a URL but for hidden ones, or what a pattern names as in a shell."""
    objects = {}
    if len(url.parts) > 2:
        with suppress(FileNotFoundError):
            objects[url] = stores(url.parent).facts(url.name)
    for each, (size, mtime_ns) in (objects or _below(url, stores)).items():
        if each.suffix.lower() == ".tar":
            yield from _from_tar(str(each), Object(stores(each.parent), each.name), size, mtime_ns, members)
        else:
            unfinished = UNFINISHED.search(each.name) and url in each.parents
            yield Source(str(each), str(each), None, size, mtime_ns, problem=INTERRUPTED if unfinished else "")


def _below(url: Url, stores: Callable[[Url], Store]) -> dict[Url, tuple[int, int]]:
    fixed = next((number for number, part in enumerate(url.parts) if set(part) & set("*?[")), len(url.parts))
    base, pattern = Url(*url.parts[:fixed]), url.parts[fixed:]
    objects = {}
    listed = stores(base).listed() or {}
    _refuse_ours(url, listed.keys())
    folders = {name[:end] for name in listed for end in range(len(name)) if name[end] == "/"} | {""}
    for name, facts in listed.items():
        parts = name.split("/")
        named = len(parts) == len(pattern) and all(map(fnmatch.fnmatchcase, parts, pattern))
        if not facts[0] and name in folders:  # an empty object that some tools make of a folder
            continue
        if (named or not pattern) and not any(part.startswith(".") for part in parts):
            objects[base / name] = facts
    if not objects:
        raise ValueError(f"{url} does not exist: there is no such object, and none below it. Over http none is listed")
    return objects


class _StoredNames:
    """Paths as others write them, found on the disk: with blanks or quotes around, backslashes, or accents in NFC."""

    def __init__(self) -> None:
        self._folders: dict[str, dict[str, str]] = {}  # names by their NFC

    def find(self, path: str, *, beside: str) -> str:
        """The absolute path of what is there by this name, or would be; relative paths are in the folder `beside`."""
        for written in dict.fromkeys((path, path.strip(), unquoted(path), unquoted(path).replace("\\", "/"))):
            candidate = os.path.abspath(os.path.join(beside, os.path.expanduser(written)))
            if os.path.lexists(candidate):
                return candidate
        return candidate if candidate.isascii() else self._in_nfc(candidate)

    def _in_nfc(self, path: str) -> str:
        parent = "/"
        for part in path.split("/")[1:]:
            if not os.path.lexists(os.path.join(parent, part)):
                if parent not in self._folders:
                    self._folders[parent] = {}
                    with suppress(OSError):
                        names = os.listdir(parent)
                        self._folders[parent] = {unicodedata.normalize("NFC", name): name for name in names}
                part = self._folders[parent].get(unicodedata.normalize("NFC", part), part)
            parent = os.path.join(parent, part)
        return parent


def _from_path(path: str, left_out: Identity | None, members: frozenset[str]) -> Iterator[Source]:
    # Not by recursion: folders may lie in each other a thousand deep.
    # With the folders above, and whether its name is that of an interrupted download.
    waiting: list[tuple[str, frozenset[Identity], bool]] = [(path, frozenset(), False)]
    while waiting:
        path, above, unfinished = waiting.pop()
        try:
            facts = os.stat(path)
        except ValueError:
            yield _unreadable(path, "the path holds a NUL, which no path does")
            continue
        except OSError as error:
            yield _unreadable(path, error.strerror or str(error))
            continue
        if unfinished and (stat.S_ISREG(facts.st_mode) or path.lower().endswith(".download")):  # Safari's is a folder
            yield _unreadable(path, INTERRUPTED)
        elif stat.S_ISDIR(facts.st_mode):
            folder = facts.st_dev, facts.st_ino
            if folder == left_out or folder in above:  # a link may lead back to a folder that it lies in
                continue
            try:
                names = os.listdir(path)
            except OSError as error:
                yield _unreadable(path, f"the folder cannot be listed: {error.strerror}")
                continue
            shown = {name for name in names if not name.startswith(".")}
            below = above | {folder}
            for name in shown:
                unfinished = bool(UNFINISHED.search(name)) or f"{name}.aria2" in shown
                waiting.append((os.path.join(path, name), below, unfinished))
        elif not stat.S_ISREG(facts.st_mode):
            yield _unreadable(path, "not a regular file")
        elif path.lower().endswith(".tar"):
            try:
                file = Descriptor(path)
            except OSError as error:
                yield _unreadable(path, f"the tar file cannot be opened: {error.strerror}")
                continue
            yield from _from_tar(path, file, facts.st_size, facts.st_mtime_ns, members)
        else:
            yield Source(path, path, None, facts.st_size, facts.st_mtime_ns)


def _from_tar(path: str, file: Readable, size: int, mtime_ns: int, members: frozenset[str]) -> Iterator[Source]:
    count = 0
    problem = ""
    try:
        for member in read_members(file, end=size):
            if os.path.splitext(member.name)[1].lower() in members and not member.folder:
                count += 1
                yield Source(
                    f"{path}::{member.name}",
                    path,
                    member.offset,
                    member.size,
                    mtime_ns,
                    problem="" if member.plain else "a link or special member of the tar file",
                )
    except (BadTar, OSError) as error:
        problem = f"the tar file cannot be read to its end: {error}"
    if not count and not problem:
        problem = "the tar file holds no member whose ending is that of a file that is read here"
    if problem:
        yield Source(path, path, None, size, mtime_ns, problem=problem)


def _identity(path: Path) -> Identity | None:
    try:
        facts = os.stat(path)
    except OSError:
        return None
    return facts.st_dev, facts.st_ino


def _unreadable(path: str, problem: str) -> Source:
    return Source(path, path, None, size=-1, mtime_ns=0, problem=problem)
