"""Finds the file headers inside files that were concatenated byte by byte; each part is then read as its own file.

Program streams have no headers: behind another container they are found by their first pack. The tables of a transport
stream are found only by reading it to the end, so parts.py searches them only where timestamps are discontinuous.
"""

from __future__ import annotations

import heapq
import os
import re
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from itertools import islice, takewhile
from typing import BinaryIO

from shards.format import Reason
from shards.media.clip import Rejected

MP4_BOXES = (b"ftyp", b"styp", b"moov", b"moof", b"mdat", b"sidx", b"wide", b"free", b"skip")
EBML, SEGMENT = b"\x1aE\xdf\xa3", b"\x18S\x80g"
# Patterns of headers: mp4 from its fifth byte on, but no picture; Matroska; AVI; FLV, with its length and a tag of 0;
# FLAC, with the length of its first block; the header object of ASF; the partition of MXF, of any status.
MP4 = rb"ftyp(?!avi[fs]|he|mif1|msf1)[ -~]{4}"
MATROSKA = rb"\x1aE\xdf\xa3.{0,52}(matroska|webm)"
AVI = rb"RIFF....AVI LIST"
FLV = rb"FLV\x01.\0\0\0\x09\0\0\0\0"
FLAC = rb"fLaC\0\0\0\x22"
ASF = re.escape(bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c"))
MXF = re.escape(bytes.fromhex("060e2b34020501010d0102010102"))
# A pack of an MPEG program stream (MPEG-2, MPEG-1) and what follows it; the packet of a transport stream's first table.
PACK = rb"\0\0\x01\xba(?:[\x44-\x7f].{8}\xf8|[\x21-\x2f].{7})\0\0\x01[\xbb-\xff]"
TABLE = rb"\x47\x40\0"
LONGEST_PATTERN = 64  # bytes
OGG_FIRST_PAGE = b"OggS\0\x02"  # a page that begins a stream
RIFF_FORMS = (b"AVI ", b"WAVE")
BOX_NAME = re.compile(rb"[ -~\xa9]{4}")
HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")  # of HEIC, without those of AVIF
ARCHIVES = (b"\x1f\x8b", b"PK\3\4", b"\xfd7zXZ", b"(\xb5/\xfd", b"7z\xbc\xaf", b"BZh", b"Rar!")
# First bytes of files of other formats.
SIGNATURES = (
    *(EBML, b"OggS", b"FLV\x01", b"0&\xb2u\x8ef\xcf\x11", b"\0\0\x01\xba", b"\0\0\x01\xb3"),
    *(b"riff.\x91\xcf\x11", b"caff", b".snd"),
)

CHUNK = 1 << 20  # bytes
MAX_HEADERS = 4096
MAX_HEADER_BYTES = 1 << 24  # of the boxes before a file's first fragment


def find_headers(content: BinaryIO) -> list[int]:
    """Byte offsets of the headers of the concatenated files, 0 first; does not move the position of `content`.

    Raises Rejected for more than MAX_HEADERS.
    """
    position = content.tell()
    headers: list[int] = []
    start: int | None = 0
    try:
        while start is not None and len(headers) <= MAX_HEADERS:
            of_its_format, end = _headers_and_end(content, start)
            following = _next_file(content, end, first=start)
            before = takewhile((following or sys.maxsize).__gt__, of_its_format)
            headers += sorted({start, *islice(before, MAX_HEADERS + 1)})
            start = following
    finally:
        content.seek(position)
    if len(headers) > MAX_HEADERS:
        raise Rejected(Reason.TOO_LARGE, f"it was joined from more than {MAX_HEADERS:,} files")
    return headers


def _headers_and_end(content: BinaryIO, start: int) -> tuple[Iterable[int], int]:
    """Offsets of headers of the format that begins at `start`, and where its files end; `start` + 1 if unknown."""
    head = _read_at(content, start, 16)
    if head[4:8] in MP4_BOXES:
        [(last_box, _, size)] = deque(_top_boxes(content, start), maxlen=1)
        return _mp4_headers(content, start), last_box + size
    if head.startswith(EBML):
        return (), _matroska_end(content, start)
    if head.startswith(b"RIFF") and head[8:12] in RIFF_FORMS:
        return (), _riff_end(content, start)
    if head.startswith(b"OggS"):
        return _ogg_headers(content, start), start + 1
    if pattern := next((pattern for pattern in (FLV, FLAC, ASF, MXF) if re.match(pattern, head, re.DOTALL)), b""):
        return _find_pattern(content, pattern, start), start + 1
    if head.startswith(b"ID3") or _is_mp3(head):
        return _mp3_headers(content, start), start + 1
    length = content.seek(0, os.SEEK_END)
    on_grid = (length - start) % 188 == 0  # or other files lie between the first and the last packets
    all_packets = (
        on_grid and _is_transport_stream(content, start) and _is_transport_stream(content, max(0, length - 4 * 188))
    )
    return (), length if all_packets else start + 1


def _next_file(content: BinaryIO, start: int, *, first: int) -> int | None:
    """Offset of the next header of a file of any format at `start`, or of an mp4, Matroska or AVI after it."""
    if start > first + 1 and (has_signature(_read_at(content, start, 16)) or _is_transport_stream(content, start)):
        return start
    matches = (_find_pattern(content, pattern, start) for pattern in (MATROSKA, AVI))
    mp4 = (offset - 4 for offset in _find_pattern(content, MP4, start + 4))
    streamed = _find_streamed(content, start, first=first)
    return min(filter(None, (next(offsets, None) for offsets in (mp4, *matches, *streamed))), default=None)


def _find_streamed(content: BinaryIO, start: int, *, first: int) -> Iterator[Iterator[int]]:
    """Headers of containers without a length behind one of another kind that has none either."""
    head = _read_at(content, first, LONGEST_PATTERN)
    transport = _is_transport_stream(content, first)
    if not transport and not any(re.match(pattern, head, re.DOTALL) for pattern in (FLV, ASF, PACK)):
        return
    for pattern in (FLV, ASF, PACK):
        if not re.match(pattern, head, re.DOTALL):
            yield _find_pattern(content, pattern, start)
    if not transport:
        tables = _find_pattern(content, TABLE, start)
        yield (offset for offset in tables if _read_at(content, offset, 5 * 188 + 1)[::188] == b"\x47" * 6)


def has_signature(head: bytes) -> bool:
    """Whether the first 16 bytes of a file are those of a known container: mp4, Matroska, AVI and others."""
    is_riff = head.startswith(b"RIFF") and head[8:12] in RIFF_FORMS
    return is_riff or head[4:8] in MP4_BOXES or head.startswith(SIGNATURES)


def is_picture(start: bytes) -> bool:
    """Whether a file with these first 12 bytes is a picture and not sound or video: JPEG, PNG, BMP, GIF, WebP, HEIF."""
    if start[4:8] == b"ftyp":
        return start[8:12] in (b"avif", b"avis", *HEIF_BRANDS)
    is_webp = (start[:4], start[8:]) == (b"RIFF", b"WEBP")
    return is_webp or start.startswith((b"\xff\xd8\xff", b"\x89PNG", b"BM", b"GIF8"))


def _is_transport_stream(content: BinaryIO, start: int) -> bool:
    return _read_at(content, start, 3 * 188 + 1)[::188] == b"\x47" * 4


def _read_at(content: BinaryIO, offset: int, size: int) -> bytes:
    content.seek(offset)
    return content.read(size)


def _find_pattern(content: BinaryIO, pattern: bytes, start: int = 0) -> Iterator[int]:
    """Offsets of a pattern of at most LONGEST_PATTERN bytes."""
    buffer = b""
    while chunk := _read_at(content, start + len(buffer), CHUNK):
        buffer += chunk
        done = max(0, len(buffer) - LONGEST_PATTERN)
        for match in re.finditer(pattern, buffer, re.DOTALL):
            yield start + match.start()
            done = max(done, match.end())
        start, buffer = start + done, buffer[done:]


def _mp3_headers(content: BinaryIO, start: int) -> Iterator[int]:
    """Xing and Info frames of mp3 after the first one: each gives a length, and decoders stop after it."""
    tag = _read_at(content, start, 10)
    size = 10 + sum((tag[6 + n] & 127) << 7 * (3 - n) for n in range(4)) if tag.startswith(b"ID3") else 0
    first = start + size
    for offset in heapq.merge(*(_find_pattern(content, name, start) for name in (b"Xing", b"Info"))):
        for distance in (36, 21, 13):  # by MPEG version (1, 2) and number of channels
            if offset - distance > first and _is_mp3(_read_at(content, offset - distance, 4)):
                yield offset - distance
                break


def _is_mp3(head: bytes) -> bool:
    """Whether this is the header of a layer 3 frame."""
    return len(head) >= 4 and head[0] == 255 and head[1] & 0xE6 == 0xE2 and head[2] >> 4 not in (0, 15)


def _mp4_headers(content: BinaryIO, start: int) -> Iterator[int]:
    """ftyp boxes at the top level, and fragments at which the decode time of a track falls."""
    times_before: dict[bytes, int] = {}
    for offset, name, size in _top_boxes(content, start):
        if name == b"ftyp":
            times_before = {}
            yield offset
        elif name == b"moof" and size <= CHUNK:
            times = _fragment_times(_read_at(content, offset + 8, size - 8))
            if any(time < times_before.get(track, 0) for track, time in times.items()):
                times_before = {}
                yield offset
            times_before |= times


def _top_boxes(content: BinaryIO, offset: int = 0) -> Iterator[tuple[int, bytes, int]]:
    """Offset, name and size of each top-level box; the last one may extend to the end of the file."""
    length = content.seek(0, os.SEEK_END)
    while offset + 8 <= length:
        header = _read_at(content, offset, 16)
        size, name = int.from_bytes(header[:4]), header[4:8]
        if not BOX_NAME.fullmatch(name):  # another file begins
            return
        if size == 1:
            size = int.from_bytes(header[8:16])
        if size < 8:
            yield offset, name, length - offset
            return
        yield offset, name, size
        offset += size


def _fragment_times(fragment: bytes) -> dict[bytes, int]:
    """Base decode time of each track of a fragment, in the track's units, by track number."""
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


def header_for(content: BinaryIO, headers: list[int]) -> bytes:
    """The header to prepend to the last section: fragments without a header need that of the section before."""
    if _read_at(content, headers[-1] + 4, 4) != b"moof":
        return b""
    start = next((header for header in reversed(headers) if _read_at(content, header + 4, 4) != b"moof"), 0)
    end = next((offset for offset, name, _ in _top_boxes(content, start) if name == b"moof"), start)
    return _read_at(content, start, min(end - start, MAX_HEADER_BYTES))


def _matroska_end(content: BinaryIO, start: int) -> int:
    """Where a Matroska file ends; `start` + 1 if its segment has no size, as of a live recording."""
    header_size, header_length = _read_vint(_read_at(content, start + 4, 8))
    segment = start + 4 + header_length + header_size
    size, size_length = _read_vint(_read_at(content, segment + 4, 8))
    size_known = _read_at(content, segment, 4) == SEGMENT and size != (1 << 7 * size_length) - 1
    return segment + 4 + size_length + size if size_known else start + 1


def _read_vint(data: bytes) -> tuple[int, int]:
    """Matroska's variable-size integer at the beginning of `data`, and its length in bytes."""
    length = 9 - data[0].bit_length() if data and data[0] else 8
    return int.from_bytes(data[:length]) & ((1 << 7 * length) - 1), length


def _ogg_headers(content: BinaryIO, start: int) -> Iterator[int]:
    """The links of a chained Ogg file. The first pages of a link's streams precede all its other pages."""
    end = -1
    for offset in _find_pattern(content, OGG_FIRST_PAGE, start):
        lacing = _read_at(content, offset + 27, _read_at(content, offset + 26, 1)[0])
        if offset != end:
            yield offset
        end = offset + 27 + len(lacing) + sum(lacing)


def _riff_end(content: BinaryIO, start: int) -> int:
    """Where an avi or wav ends. Large avi files continue in RIFF chunks of another form (AVIX)."""
    end = start
    while end == start or _read_at(content, end, 12)[8:] == b"AVIX":
        size = int.from_bytes(_read_at(content, end + 4, 4), "little")
        end += 8 + size + size % 2
    return end


def find_program_changes(content: BinaryIO) -> list[int]:
    """Byte offsets at which a transport stream's program tables change their streams, 0 first."""
    headers, types_before = [0], dict[int, int]()
    for offset, types in _program_tables(content):
        changed = any(types_before.get(pid, type_) != type_ for pid, type_ in types.items())
        if changed or (types_before and not types_before.keys() & types):
            headers.append(offset)
        types_before = types
    return headers


def first_table_lists(content: BinaryIO, pid: int) -> bool:
    """Whether the first program table of a transport stream lists this PID; True where there is no table."""
    return pid in next((streams for _, streams in _program_tables(content)), [pid])


def _program_tables(content: BinaryIO) -> Iterator[tuple[int, dict[int, int]]]:
    """Byte offset of each program association table, and stream type by PID of its first program."""
    step, sync = (188, 0) if _read_at(content, 0, 1) == b"\x47" else (192, 4)
    for offset in _find_pattern(content, b"\x47\x40\x00"):  # a packet in which a program association table begins
        if offset % step != sync:
            continue
        programs = _table_body(_read_at(content, offset, 188), entry=8)
        numbers = [programs[n + 2 : n + 4] for n in range(0, len(programs) - 3, 4) if any(programs[n : n + 2])]
        if not numbers:
            continue
        prefix = bytes((0x47, numbers[0][0] & 31 | 64, numbers[0][1]))
        nearby = _read_at(content, offset, 64 * step)
        start = next((n for n in range(0, len(nearby), step) if nearby.startswith(prefix, n)), None)
        if start is not None and (types := _stream_types(nearby[start : start + 188])):
            yield max(0, offset - sync), types


def _table_body(packet: bytes, *, entry: int) -> bytes:
    """The bytes of a table from `entry` to its checksum; `packet` is the transport packet in which it begins."""
    if len(packet) < 188:
        return b""
    start = 5 + (packet[4] + 1 if packet[3] & 32 else 0)  # after the adaptation field and the pointer field
    start += packet[start - 1] if start < len(packet) else 0
    size = int.from_bytes(packet[start + 1 : start + 3]) & 4095
    return packet[start + entry : start + 3 + size - 4]


def _stream_types(packet: bytes) -> dict[int, int]:
    """Stream types by PID, from the packet in which a program map table begins."""
    table = _table_body(packet, entry=10)
    streams = {}
    at = 2 + (int.from_bytes(table[:2]) & 4095) if len(table) > 2 else 0
    while at + 5 <= len(table):
        streams[int.from_bytes(table[at + 1 : at + 3]) & 8191] = table[at]
        at += 5 + (int.from_bytes(table[at + 3 : at + 5]) & 4095)
    return streams
