"""Where files that were joined by their bytes begin: each brings its own head, and is read as a file of its own.

Program streams have no heads, and to look for those of transport streams all of them must be read: parts.py tells their
parts by their stamps, and looks then.
"""

from __future__ import annotations

import heapq
import os
from collections.abc import Iterator
from itertools import islice
from typing import BinaryIO

from shards.format import Reason
from shards.media.clip import Rejected

MP4_BOXES = (b"ftyp", b"styp", b"moov", b"moof", b"mdat", b"sidx", b"wide", b"free", b"skip")
EBML, SEGMENT = b"\x1aE\xdf\xa3", b"\x18S\x80g"
FLV = b"FLV\x01"
FLAC = b"fLaC\0\0\0\x22"  # with the length of the block that is always first
OGG_BEGINS = b"OggS\0\x02"  # a page that begins a stream
RIFF_FORMS = (b"AVI ", b"WAVE")

CHUNK = 1 << 20  # bytes
MOST_HEADS = 4096
LONGEST_HEAD = 1 << 24  # bytes, of fragments


def heads_in(content: BinaryIO) -> list[int]:
    """The offsets in bytes at which joined files begin, 0 first; the position of `content` is left where it was.

    Raises Rejected for more than MOST_HEADS.
    """
    place = content.tell()
    try:
        head = _at(content, 0, 12)
        if head[4:8] in MP4_BOXES:
            later = _boxes(content)
        elif head.startswith(EBML):
            later = _segments(content)
        elif head.startswith(b"OggS"):
            later = _links(content)
        elif head.startswith(b"RIFF") and head[8:] in RIFF_FORMS:
            later = _riffs(content)
        elif head.startswith(FLV):
            later = _flvs(content)
        elif head.startswith(FLAC):
            later = _found(content, FLAC)
        elif head.startswith(b"ID3") or _is_mp3(head):
            later = _mp3s(content)
        else:
            later = iter(())
        heads = [0, *islice((offset for offset in later if offset), MOST_HEADS)]
        if len(heads) > MOST_HEADS:
            raise Rejected(Reason.TOO_LARGE, f"it was joined from more than {MOST_HEADS:,} files")
        return heads
    finally:
        content.seek(place)


def _at(content: BinaryIO, offset: int, size: int) -> bytes:
    content.seek(offset)
    return content.read(size)


def _found(content: BinaryIO, pattern: bytes, start: int = 0) -> Iterator[int]:
    """The offsets of a pattern."""
    kept = b""
    while chunk := _at(content, start + len(kept), CHUNK):
        kept += chunk
        at = -1
        while (at := kept.find(pattern, at + 1)) >= 0:
            yield start + at
        start += max(0, len(kept) - len(pattern) + 1)
        kept = kept[max(0, len(kept) - len(pattern) + 1) :]


def _flvs(content: BinaryIO) -> Iterator[int]:
    """By all of the head but for the flags in it: its own length, and that no tag came before."""
    return (offset for offset in _found(content, FLV) if _at(content, offset + 5, 8) == b"\0\0\0\x09\0\0\0\0")


def _mp3s(content: BinaryIO) -> Iterator[int]:
    """mp3's frames, but for the first, that say how long what follows is: decoders stop after so much."""
    tag = _at(content, 0, 10)
    first = 10 + sum((tag[6 + n] & 127) << 7 * (3 - n) for n in range(4)) if tag.startswith(b"ID3") else 0
    for offset in heapq.merge(*(_found(content, name) for name in (b"Xing", b"Info"))):
        for before in (36, 21, 13):  # of MPEG 1 and 2, several channels or one
            if offset - before > first and _is_mp3(_at(content, offset - before, 4)):
                yield offset - before
                break


def _is_mp3(head: bytes) -> bool:
    """Whether a frame of layer 3 begins here."""
    return len(head) >= 4 and head[0] == 255 and head[1] & 0xE6 == 0xE2 and head[2] >> 4 not in (0, 15)


def _boxes(content: BinaryIO) -> Iterator[int]:
    """The mp4 boxes at the top that say of which type what follows is, and fragments with which time starts over."""
    latest: dict[bytes, int] = {}
    for offset, name, size in _top_boxes(content):
        if name == b"ftyp":
            latest = {}
            yield offset
        elif name == b"moof" and size <= CHUNK:
            times = _times(_at(content, offset + 8, size - 8))
            if any(time < latest.get(track, 0) for track, time in times.items()):
                latest = {}
                yield offset
            latest |= times


def _top_boxes(content: BinaryIO, offset: int = 0) -> Iterator[tuple[int, bytes, int]]:
    """Offset, name and size of each, up to one that lasts to the end, or is none."""
    length = content.seek(0, os.SEEK_END)
    while offset + 8 <= length:
        head = _at(content, offset, 16)
        size, name = int.from_bytes(head[:4]), head[4:8]
        if size == 1:
            size = int.from_bytes(head[8:16])
        if size < 8:
            yield offset, name, length - offset
            return
        yield offset, name, size
        offset += size


def _times(fragment: bytes) -> dict[bytes, int]:
    """When each track goes on in a fragment, in its own units, by its number."""
    times = {}
    for name, track in _inner_boxes(fragment):
        inner = dict(_inner_boxes(track)) if name == b"traf" else {}
        if b"tfhd" in inner and b"tfdt" in inner:
            time = inner[b"tfdt"]
            times[inner[b"tfhd"][4:8]] = int.from_bytes(time[4:12] if time[:1] == b"\1" else time[4:8])
    return times


def _inner_boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = 0
    while (size := int.from_bytes(data[at : at + 4])) >= 8:
        yield data[at + 4 : at + 8], data[at + 8 : at + size]
        at += size


def head_of(content: BinaryIO, heads: list[int]) -> bytes:
    """What has to stand before the last of these sections: of fragments without a head of their own the one before."""
    if _at(content, heads[-1] + 4, 4) != b"moof":
        return b""
    begin = next((head for head in reversed(heads) if _at(content, head + 4, 4) != b"moof"), 0)
    end = next((offset for offset, name, _ in _top_boxes(content, begin) if name == b"moof"), begin)
    return _at(content, begin, min(end - begin, LONGEST_HEAD))


def _segments(content: BinaryIO) -> Iterator[int]:
    """The heads of Matroska's files: after each segment whose length is known, and looked for after any other."""
    offset, length = 0, content.seek(0, os.SEEK_END)
    while offset < length:
        if not _is_ebml(content, offset):
            later = (at for at in _found(content, EBML, offset + 1) if _is_ebml(content, at))
            offset = next(later, length)
            continue
        yield offset
        header_size, header_length = _number(_at(content, offset + 4, 8))
        segment = offset + 4 + header_length + header_size
        size, size_length = _number(_at(content, segment + 4, 8))
        known = _at(content, segment, 4) == SEGMENT and size != (1 << 7 * size_length) - 1
        offset = segment + 4 + size_length + size if known else offset + 1


def _is_ebml(content: BinaryIO, offset: int) -> bool:
    head = _at(content, offset, 64)
    return head.startswith(EBML) and (b"matroska" in head or b"webm" in head)


def _number(data: bytes) -> tuple[int, int]:
    """Matroska's number of variable length at the beginning of `data`, and its length in bytes."""
    length = 9 - data[0].bit_length() if data and data[0] else 8
    return int.from_bytes(data[:length]) & ((1 << 7 * length) - 1), length


def _links(content: BinaryIO) -> Iterator[int]:
    """The links of a chained Ogg file. Pages that begin streams come together, before all others of their link."""
    end = -1
    for offset in _found(content, OGG_BEGINS):
        lacing = _at(content, offset + 27, _at(content, offset + 26, 1)[0])
        if offset != end:
            yield offset
        end = offset + 27 + len(lacing) + sum(lacing)


def _riffs(content: BinaryIO) -> Iterator[int]:
    """avi and wav. Large avi files go on in chunks of another form."""
    offset = 0
    while (head := _at(content, offset, 12))[:4] == b"RIFF" and len(head) == 12:
        if head[8:] in RIFF_FORMS:
            yield offset
        size = int.from_bytes(head[4:8], "little")
        offset += 8 + size + size % 2


def programs_in(content: BinaryIO) -> list[int]:
    """The offsets in bytes at which a transport stream's tables name other streams than before, 0 first."""
    heads, streams = [0], dict[int, int]()
    for offset, now in _tables(content):
        if any(streams.get(pid, kind) != kind for pid, kind in now.items()) or (streams and not streams.keys() & now):
            heads.append(offset)
        streams = now
    return heads


def begins_with(content: BinaryIO, pid: int) -> bool:
    """Whether the first table of a transport stream names the stream of that number, or there is no table."""
    return pid in next((streams for _, streams in _tables(content)), [pid])


def _tables(content: BinaryIO) -> Iterator[tuple[int, dict[int, int]]]:
    """The offset in bytes of each table of programs, and the first program's streams: type by number."""
    step, sync = (188, 0) if _at(content, 0, 1) == b"\x47" else (192, 4)
    for offset in _found(content, b"\x47\x40\x00"):  # a packet with which the table of programs begins
        if offset % step != sync:
            continue
        programs = _table(_at(content, offset, 188), entry=8)
        numbers = [programs[n + 2 : n + 4] for n in range(0, len(programs) - 3, 4) if any(programs[n : n + 2])]
        if not numbers:
            continue
        at_packet = bytes((0x47, numbers[0][0] & 31 | 64, numbers[0][1]))
        near = _at(content, offset, 64 * step)
        found = next((n for n in range(0, len(near), step) if near.startswith(at_packet, n)), None)
        if found is not None and (now := _streams(near[found : found + 188])):
            yield max(0, offset - sync), now


def _table(packet: bytes, *, entry: int) -> bytes:
    """What a table that begins in a transport stream's packet has after `entry` bytes, without its checksum."""
    if len(packet) < 188:
        return b""
    start = 5 + (packet[4] + 1 if packet[3] & 32 else 0)  # the table begins after the adaptation field and a pointer
    start += packet[start - 1] if start < len(packet) else 0
    size = int.from_bytes(packet[start + 1 : start + 3]) & 4095
    return packet[start + entry : start + 3 + size - 4]


def _streams(packet: bytes) -> dict[int, int]:
    """Type of each stream by its number, from the packet with which the table of a program's streams begins."""
    table = _table(packet, entry=10)
    streams = {}
    at = 2 + (int.from_bytes(table[:2]) & 4095) if len(table) > 2 else 0
    while at + 5 <= len(table):
        streams[int.from_bytes(table[at + 1 : at + 3]) & 8191] = table[at]
        at += 5 + (int.from_bytes(table[at + 3 : at + 5]) & 4095)
    return streams
