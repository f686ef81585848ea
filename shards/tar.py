"""Where the members of a tar file lie, for tar files that nobody vouches for.

Python's tarfile believes what headers say: a negative size leads it back to the same header for ever, a long extended
header takes it minutes, a chain of them ends in a RecursionError. Here it reads single headers, each a block of 512
bytes, and what leads from one to the next has bounds: every step goes forward, inside of the file, and what is kept of
a member is its name. Understood are the formats v7, ustar, pax and GNU's.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from dataclasses import dataclass

from shards.file_slice import Readable

BLOCK = tarfile.BLOCKSIZE
LARGEST_EXTENSION = 2**20  # bytes of what precedes a member's header: names, times, attributes
LONGEST_NAME = 4096  # bytes; Linux takes no longer path
EXTENSIONS = (
    *(tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.XGLTYPE),  # pax
    *(tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK),
)


class BadTar(Exception):
    """The tar file cannot be followed any further: why, and where."""


@dataclass(frozen=True, slots=True)
class Member:
    """A member of `size` bytes at `offset`. plain: they are all of its content; links and sparse files are not."""

    name: str  # bytes that are not UTF-8 as surrogates
    offset: int
    size: int
    plain: bool
    folder: bool


def read_members(file: Readable, *, end: int) -> Iterator[Member]:
    """The members of a tar file of `end` bytes, in its order, up to its end or its first empty block.

    Time grows with the size of the file, and what is held at once is at most LARGEST_EXTENSION. Raises BadTar where
    what follows cannot be made out or lies beyond the end of the file, OSError where it cannot be read.
    """
    position, extended = 0, False
    for_all: dict[bytes, bytes] = {}
    for_next: dict[bytes, bytes] = {}
    while position < end and any(block := file.read(position, min(BLOCK, end - position))):
        header = _header(block, position)
        start = position
        position += BLOCK
        extended = header.type in EXTENSIONS
        if extended:
            if not 0 <= header.size <= min(LARGEST_EXTENSION, end - position):
                raise BadTar(f"an extended header at byte {start} claims {header.size} bytes")
            content = file.read(position, header.size)
            position += _padded(header.size)
            if header.type == tarfile.GNUTYPE_LONGNAME:
                for_next[b"path"] = content.partition(b"\0")[0]
            elif header.type != tarfile.GNUTYPE_LONGLINK:
                (for_all if header.type == tarfile.XGLTYPE else for_next).update(_kept(content, start))
            continue
        facts, for_next = for_all | for_next, {}
        name = _name(header, facts, start)
        more = header.type == tarfile.GNUTYPE_SPARSE and block[482]
        while more:  # blocks of the map of a sparse file
            block = file.read(position, BLOCK)
            position += BLOCK
            if len(block) < BLOCK:
                raise BadTar(f"the file ends in the map of {name}")
            more = block[504]
        size = _size(header, facts, start)
        if position + size > end:
            raise BadTar(f"{name} is to have {size:,} bytes from byte {position:,} on, and the file has {end:,}")
        plain = header.type in (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE) and b"sparse" not in facts
        yield Member(name, position, size, plain, header.isdir())
        position += _padded(size)
    if not position:
        raise BadTar("it is empty")
    if extended:
        raise BadTar(f"no member follows the extended header before byte {position}")


def _header(block: bytes, position: int) -> tarfile.TarInfo:
    try:
        return tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except tarfile.HeaderError as error:
        raise BadTar(f"{error} at byte {position}") from None


def _name(header: tarfile.TarInfo, facts: dict[bytes, bytes], start: int) -> str:
    name = facts.get(b"GNU.sparse.name", facts.get(b"path"))
    if name is None:
        return header.name
    if len(name) > LONGEST_NAME:
        raise BadTar(f"the name of the member at byte {start} has {len(name):,} bytes")
    return name.decode("utf-8", "surrogateescape")


def _size(header: tarfile.TarInfo, facts: dict[bytes, bytes], start: int) -> int:
    if not header.isreg() and header.type in tarfile.SUPPORTED_TYPES:
        return 0  # links, folders and devices have no content, whatever they say
    text = facts.get(b"size")
    if text is None and header.size >= 0:
        return header.size
    if text is None or not text.isdigit() or len(text) > 20:
        raise BadTar(f"the size of the member at byte {start} is {header.size if text is None else text[:40]!r}")
    return int(text)


def _kept(content: bytes, start: int) -> Iterator[tuple[bytes, bytes]]:
    """What matters here of a pax header, whose records are LENGTH KEYWORD=VALUE and a line break."""
    content = content.rstrip(b"\0")
    position = 0
    while position < len(content):
        digits = content[position : position + 20].partition(b" ")[0]
        start_of_keyword = position + len(digits) + 1
        end = position + int(digits) if digits.isdigit() else 0
        keyword, sign, value = content[start_of_keyword : end - 1].partition(b"=")
        if not start_of_keyword < end <= len(content) or content[end - 1 : end] != b"\n" or not sign:
            raise BadTar(f"the extended header at byte {start} is damaged")
        if keyword in (b"path", b"size", b"GNU.sparse.name"):
            yield keyword, value
        if keyword.startswith(b"GNU.sparse."):
            yield b"sparse", b""
        position = end


def _padded(size: int) -> int:
    return -(-size // BLOCK) * BLOCK
