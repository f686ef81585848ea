"""Lists the members of untrusted tar files with their offsets and sizes.

Python's tarfile trusts headers: a negative size sends it into an endless loop, a long extended header takes minutes, a
chain of them raises RecursionError. Here it parses single headers, blocks of 512 bytes. Every step goes forward and
stays inside the file, and only the name of a member is kept. Formats: v7, ustar, pax and GNU.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from dataclasses import dataclass

from shards.file_slice import Readable

BLOCK = tarfile.BLOCKSIZE
MAX_EXTENSION_BYTES = 2**20  # of an extended header: names, times, attributes
MAX_NAME_BYTES = 4096  # Linux's limit for paths
EXTENSIONS = (
    *(tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.XGLTYPE),  # pax
    *(tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK),
)


class BadTar(Exception):
    """The tar file is damaged; the message says how and where."""


@dataclass(frozen=True, slots=True)
class Member:
    """A member of `size` bytes at `offset`; plain where these are its complete content, not a link or a sparse file."""

    name: str  # bytes that are not UTF-8 as surrogates
    offset: int
    size: int
    plain: bool
    folder: bool


def read_members(file: Readable, *, end: int) -> Iterator[Member]:
    """The members of a tar file of `end` bytes, in order, up to its end or its first zero block.

    Linear in the size of the file; at most MAX_EXTENSION_BYTES are in memory. Raises BadTar where a header is invalid
    or a member extends beyond the end of the file, OSError where it cannot be read.
    """
    position, extended = 0, False
    global_fields: dict[bytes, bytes] = {}
    fields: dict[bytes, bytes] = {}
    while position < end and any(block := file.read(position, min(BLOCK, end - position))):
        header = _header(block, position)
        start = position
        position += BLOCK
        extended = header.type in EXTENSIONS
        if extended:
            if not 0 <= header.size <= min(MAX_EXTENSION_BYTES, end - position):
                raise BadTar(f"an extended header at byte {start} claims {header.size} bytes")
            content = file.read(position, header.size)
            position += _padded_size(header.size)
            if header.type == tarfile.GNUTYPE_LONGNAME:
                fields[b"path"] = content.partition(b"\0")[0]
            elif header.type != tarfile.GNUTYPE_LONGLINK:
                (global_fields if header.type == tarfile.XGLTYPE else fields).update(_parse_pax(content, start))
            continue
        merged, fields = global_fields | fields, {}
        name = _name(header, merged, start)
        continues = header.type == tarfile.GNUTYPE_SPARSE and block[482]
        while continues:  # blocks of the map of a sparse file
            block = file.read(position, BLOCK)
            position += BLOCK
            if len(block) < BLOCK:
                raise BadTar(f"the file ends in the map of {name}")
            continues = block[504]
        size = _size(header, merged, start)
        if position + size > end:
            raise BadTar(f"{name} is to have {size:,} bytes from byte {position:,} on, and the file has {end:,}")
        plain = header.type in (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE) and b"sparse" not in merged
        yield Member(name, position, size, plain, header.isdir())
        position += _padded_size(size)
    if not position:
        raise BadTar("it is empty")
    if extended:
        raise BadTar(f"no member follows the extended header before byte {position}")


def _header(block: bytes, position: int) -> tarfile.TarInfo:
    try:
        return tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except tarfile.HeaderError as error:
        raise BadTar(f"{error} at byte {position}") from None


def _name(header: tarfile.TarInfo, fields: dict[bytes, bytes], start: int) -> str:
    name = fields.get(b"GNU.sparse.name", fields.get(b"path"))
    if name is None:
        return header.name
    if len(name) > MAX_NAME_BYTES:
        raise BadTar(f"the name of the member at byte {start} has {len(name):,} bytes")
    return name.decode("utf-8", "surrogateescape")


def _size(header: tarfile.TarInfo, fields: dict[bytes, bytes], start: int) -> int:
    if not header.isreg() and header.type in tarfile.SUPPORTED_TYPES:
        return 0  # links, folders and devices have no content, even where a size is given
    text = fields.get(b"size")
    if text is None and header.size >= 0:
        return header.size
    if text is None or not text.isdigit() or len(text) > 20:
        raise BadTar(f"the size of the member at byte {start} is {header.size if text is None else text[:40]!r}")
    return int(text)


def _parse_pax(content: bytes, start: int) -> Iterator[tuple[bytes, bytes]]:
    """The fields path, size and sparse of a pax header, whose records are LENGTH KEYWORD=VALUE and a newline."""
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


def _padded_size(size: int) -> int:
    return -(-size // BLOCK) * BLOCK
