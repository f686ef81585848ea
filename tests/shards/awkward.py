"""Videos that are awkward to read, made from whole ones byte by byte."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

from workshop.decoders.flash_and_beep import film, render

NOWHERE = 2**62  # a place in a file, in bytes, where no file system can go

BOXES_WITH_BOXES = (b"moov", b"trak", b"mdia", b"minf", b"stbl")

TS_BYTES = 188
PICTURES, SOUND, LATE, FILLER, TABLE = 256, 257, 258, 259, 4096  # numbers of the streams in a transport stream
STREAM_TYPES = {PICTURES: 2, SOUND: 3, FILLER: 0x15}  # MPEG-2 video, MPEG audio, timed metadata
PROBED_BYTES = 5_000_000  # libav looks for streams in so much


def with_samples_nowhere(mp4: bytes) -> bytes:
    """The same movie, its tables sending the reader to where no file system can go."""
    out, at = b"", 0
    while at < len(mp4):
        size, name = struct.unpack_from(">I4s", mp4, at)
        inner = mp4[at + 8 : at + size]
        at += size
        if name in BOXES_WITH_BOXES:
            inner = with_samples_nowhere(inner)
        if name == b"stco":
            [count] = struct.unpack_from(">I", inner, 4)
            name, inner = b"co64", struct.pack(">II", 0, count) + struct.pack(">Q", NOWHERE) * count
        out += struct.pack(">I4s", 8 + len(inner), name) + inner
    return out


def with_tables_nowhere(matroska: bytes, *, tables: int = 100) -> bytes:
    """The same live recording, with a list of as many attachments that lie where no file system can go."""
    begins = matroska.index(b"\x18\x53\x80\x67\x01\xff\xff\xff\xff\xff\xff\xff") + 12  # a segment of unknown size
    places = (b"\x53\xab\x84\x19\x41\xa4\x69\x53\xac\x88" + struct.pack(">Q", NOWHERE + n) for n in range(tables))
    entries = b"".join(b"\x4d\xbb" + bytes([0x80 | len(place)]) + place for place in places)
    head = b"\x11\x4d\x9b\x74" + struct.pack(">I", 0x10000000 | len(entries)) + entries
    return matroska[:begins] + head + matroska[begins:]


def with_a_late_stream(ts: bytes, *, late_type: int) -> bytes:
    """The same transport stream, with a copy of one of its streams in its middle: from 60 % to 80 % of the packets.

    The tables name it there and only there, and so much else lies before and behind it that libav opens the file
    without having seen it.
    """
    packets = [ts[at : at + TS_BYTES] for at in range(0, len(ts), TS_BYTES)]
    original = next(stream for stream, kind in STREAM_TYPES.items() if kind == late_type)
    begins, ends = len(packets) * 6 // 10, len(packets) * 8 // 10
    out: list[bytes] = []
    for number, packet in enumerate(packets):
        stream = (packet[1] & 31) << 8 | packet[2]
        if stream == TABLE:
            version = (number >= begins) + (number >= ends)
            late = {LATE: late_type} if begins <= number < ends else {}
            packet = _table(packet, STREAM_TYPES | late, version=version)
        out.append(packet)
        if stream == original and begins <= number < ends:
            out.append(struct.pack(">BH", packet[0], (packet[1] & 0xE0) << 8 | LATE) + packet[3:])
        if number in (40, ends):
            out += _filler(PROBED_BYTES)
    return b"".join(out)


def _filler(content_bytes: int) -> list[bytes]:
    """Packets of a stream that is neither pictures nor sound."""
    content = bytes(175)
    pes = b"\0\0\1\xbd" + struct.pack(">H", 3 + len(content)) + b"\x84\0\0" + content
    count = content_bytes // len(content) + 1
    return [struct.pack(">BHB", 0x47, 0x4000 | FILLER, 0x10 | n % 16) + pes for n in range(count)]


def with_programs(ts: bytes, programs: Sequence[dict[int, int]]) -> bytes:
    """The same transport stream, its streams (number to type) dealt to programs 1, 2, ..."""
    packets = [ts[at : at + TS_BYTES] for at in range(0, len(ts), TS_BYTES)]
    tables = range(TABLE, TABLE + len(programs))
    out: list[bytes] = []
    for packet in packets:
        stream = (packet[1] & 31) << 8 | packet[2]
        if stream == 0:
            listed = b"".join(struct.pack(">HH", n, 0xE000 | table) for n, table in enumerate(tables, start=1))
            packet = _section(packet, 0, struct.pack(">HBBB", 1, 0xC1, 0, 0) + listed)
        if stream != TABLE:
            out.append(packet)
            continue
        for n, (table, streams) in enumerate(zip(tables, programs, strict=True), start=1):
            mine = struct.pack(">BH", packet[0], (packet[1] & 0xE0) << 8 | table) + packet[3:]
            out.append(_table(mine, streams, version=0, program=n))
    return b"".join(out)


def _table(packet: bytes, streams: dict[int, int], *, version: int, program: int = 1) -> bytes:
    """A transport stream's table of a program's streams, number to type, in place of the one in `packet`."""
    head = struct.pack(">HBBBHH", program, 0xC1 | version << 1, 0, 0, 0xE000 | min(streams), 0xF000)
    return _section(
        packet, 2, head + b"".join(struct.pack(">BHH", kind, 0xE000 | n, 0xF000) for n, kind in streams.items())
    )


def _section(packet: bytes, table: int, body: bytes) -> bytes:
    """A table of a transport stream, in place of the one in `packet`."""
    section = struct.pack(">BH", table, 0xB000 | len(body) + 4) + body
    check = 0xFFFFFFFF
    for byte in section:
        check ^= byte << 24
        for _ in range(8):
            check = (check << 1 ^ (0x04C11DB7 if check >> 31 else 0)) & 0xFFFFFFFF
    return (packet[:4] + b"\0" + section + struct.pack(">I", check)).ljust(TS_BYTES, b"\xff")


def samples_nowhere(path: Path) -> Path:
    path.write_bytes(with_samples_nowhere(render(path, film(Fraction(25))).read_bytes()))
    return path


def tables_nowhere(path: Path) -> Path:
    path.write_bytes(with_tables_nowhere(render(path, film(Fraction(25)), options={"live": "1"}).read_bytes()))
    return path


def late_stream(path: Path, *, of: int) -> Path:
    whole = render(path, film(Fraction(25), seconds=6), video="mpeg2video", audio="mp2").read_bytes()
    path.write_bytes(with_a_late_stream(whole, late_type=STREAM_TYPES[of]))
    return path
