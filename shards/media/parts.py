"""Finds the parts of files whose timestamps restart: concatenated captures, chained recordings, DVD parts.

A file is scanned, without decoding, only where reading it meets discontinuous timestamps or a second header. Each part
is then shifted to begin where the part before it ends, pictures and sound by the same amount.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import av
import numpy as np
from av.container import InputContainer
from av.stream import Discard

from shards.media.clip import Rejected
from shards.media.container import File, Kind, Part, choose_stream
from shards.media.headers import find_program_changes, first_table_lists

KINDS: tuple[Kind, ...] = ("video", "audio")
# Timestamps restart where they fall by more than this and do not return.
FALL_SECONDS = 1.0
# In formats without headers or an index, whose clock may be reset, timestamps also restart at a leap ahead of more than
# this, as in ffmpeg's own programs: their timestamps have 33 bits, and libav unwraps a deep fall into a leap.
HEADLESS = ("mpegts", "mpeg")
LEAP_SECONDS = 10.0
# Timestamps that return within this time were single wrong ones.
STRAY_SECONDS = 1.0
# The first pictures and the first sound of a part are at most this much sound apart in the file.
APART_SECONDS = 5.0
# Sound that ends up to this much after its pictures is codec padding: the next part's sound overwrites it.
PADDING_SECONDS = 0.1
# Packets are not sorted by presentation time: the start and the end of a part are searched among this many.
EDGE_PACKETS = 64


class DiscontinuityDetector:
    """Detects discontinuities in the timestamps of one stream, packet by packet."""

    def __init__(self, container: InputContainer, stream: Any) -> None:
        self._fall, self._leap = -FALL_SECONDS / stream.time_base, _leap_seconds(container) / stream.time_base
        self._latest: int | None = None

    def detect(self, packet: Any) -> bool:
        """Whether timestamps are discontinuous at this packet, the next one of the stream."""
        stamp = packet.pts if packet.dts is None else packet.dts
        if stamp is None or packet.is_discard:  # packets hidden by an edit list may have any timestamp
            return False
        step = 0 if self._latest is None else stamp - self._latest
        self._latest = stamp
        return bool(step < self._fall or step > self._leap)


def _leap_seconds(container: InputContainer) -> float:
    return LEAP_SECONDS if container.format.name in HEADLESS else math.inf


def has_later_programs(file: File, container: InputContainer) -> bool:
    """Whether a transport stream continues in other streams after those of its first program table."""
    return container.format.name == "mpegts" and len(find_program_changes(file.content)) > 1


def starts_late(file: File, container: InputContainer, stream: Any) -> bool:
    """Whether the first program table lacks this stream: its timestamps may belong to a later part."""
    return container.format.name == "mpegts" and not first_table_lists(file.content, stream.id)


def find_parts(file: File) -> list[Part]:
    """The parts of a file, at least one for each header; cached in `file.parts`."""
    if not file.parts:
        position = file.content.tell()
        with file.open() as container:
            if container.format.name == "mpegts" and len(file.headers) == 1:
                file.headers[:] = find_program_changes(file.content)
        unplaced = [part for section in range(len(file.headers)) for part in _scan_section(file, section)]
        file.content.seek(position)
        file.parts.extend(_place_parts(unplaced))
    return file.parts


@dataclass(frozen=True)
class PacketTable:
    """The packets of one stream, float64 (packets,) each; times in seconds."""

    positions: np.ndarray  # rank of each packet in the file
    stamps: np.ndarray  # decoding timestamps
    starts: np.ndarray  # presentation timestamps; NaN where hidden by an edit list
    durations: np.ndarray

    def seconds_between(self, first: float, last: float) -> float:
        """Duration of the packets between two positions in the file."""
        low, high = np.searchsorted(self.positions, [first + 1, last])
        return float(self._cumulative[max(low, high)] - self._cumulative[low])

    @cached_property
    def _cumulative(self) -> np.ndarray:
        return np.concatenate([[0.0], np.cumsum(self.durations)])

    def span(self, packets: slice) -> tuple[float, float] | None:
        """Start of the first and end of the last of these packets; None where all are hidden."""
        starts, durations = self.starts[packets], self.durations[packets]
        if np.isnan(starts).all():
            return None
        shown = ~np.isnan(starts)
        starts, ends = starts[shown], (starts + durations)[shown]
        return float(starts[:EDGE_PACKETS].min()), float(ends[-EDGE_PACKETS:].max())


@dataclass(frozen=True)
class _UnplacedPart:
    """A part before its offset is known; `spans`: start and end of its streams by their own timestamps, seconds."""

    section: int
    first: dict[Kind, int]
    packets: dict[Kind, int]
    spans: dict[Kind, tuple[float, float]]


def _scan_section(file: File, section: int) -> list[_UnplacedPart]:
    try:
        with file.open(section) as container:
            streams, leap = _read_packet_tables(container), _leap_seconds(container)
    except (Rejected, av.error.FFmpegError):  # reading it raises this again
        return [_UnplacedPart(section, {}, {}, {})]
    cuts: list[dict[Kind, int]] = [dict.fromkeys(streams, 0), *find_joins(streams, leap)]
    packets = {kind: len(stream.positions) for kind, stream in streams.items()}
    parts = []
    for cut, following in zip(cuts, [*cuts[1:], {}], strict=True):
        spans = {kind: stream.span(slice(cut[kind], following.get(kind))) for kind, stream in streams.items()}
        parts.append(_UnplacedPart(section, cut, packets, {kind: span for kind, span in spans.items() if span}))
    return parts


def _read_packet_tables(container: InputContainer) -> dict[Kind, PacketTable]:
    chosen = {stream.index: kind for kind in KINDS if (stream := choose_stream(container, kind)) is not None}
    for other in container.streams:
        other.discard = Discard.default if other.index in chosen else Discard.all
    rows: dict[Kind, list[tuple[float, ...]]] = {kind: [] for kind in chosen.values()}
    try:
        for position, packet in enumerate(container.demux([container.streams[index] for index in chosen])):
            if packet.size and packet.stream_index in chosen:
                unit = float(packet.time_base)
                dts = packet.pts if packet.dts is None else packet.dts
                pts = None if packet.is_discard else dts if packet.pts is None else packet.pts
                seconds = (np.nan if stamp is None else stamp * unit for stamp in (dts, pts))
                rows[chosen[packet.stream_index]].append((position, *seconds, (packet.duration or 0) * unit))
    except (av.error.FFmpegError, IndexError):  # the end, as in `demux_packets`
        pass
    streams = {}
    for kind, table in rows.items():
        positions, stamps, starts, durations = np.array(table, np.float64).reshape(-1, 4).T
        stream = choose_stream(container, kind)
        if stream.start_time is not None:  # what decoders drop before it was never heard: the pre-skip of Opus
            begin = float(stream.start_time * stream.time_base)
            early = slice(int(np.argmax(starts >= begin)) if len(starts) else 0)
            starts[early] = np.maximum(starts[early], begin)
        steps = np.diff(np.sort(starts[~np.isnan(starts)]))
        if not durations.any() and steps.any():
            durations = np.full_like(durations, np.median(steps[steps > 0]))
        streams[kind] = PacketTable(positions, stamps, starts, durations)
    return streams


def find_joins(streams: dict[Kind, PacketTable], leap: float) -> list[dict[Kind, int]]:
    """Numbers of the packets at which parts after the first begin, by stream.

    Timestamps that fall only for pictures, while sound continues, are wrong ones (timeline.StampSelector). Those that
    fall only for sound are a join.
    """
    falls = {kind: _find_discontinuities(stream, leap) for kind, stream in streams.items()}
    if len(streams) < 2:
        return [{kind: n} for kind, numbers in falls.items() for n in numbers]
    pictures, sound = streams["video"], streams["audio"]
    picture_positions, sound_positions = pictures.positions[falls["video"]], sound.positions[falls["audio"]]
    unmatched = {*falls["video"]}
    joins: list[tuple[int, int]] = []
    for n, position in zip(falls["audio"], sound_positions, strict=True):
        index = int(np.searchsorted(picture_positions, position))
        candidates = [m for m in falls["video"][max(0, index - 1) : index + 1] if m in unmatched]
        m = min(candidates, key=lambda m: abs(pictures.positions[m] - position), default=None)
        if m is not None and sound.seconds_between(*sorted((pictures.positions[m], position))) < APART_SECONDS:
            unmatched.remove(m)
            joins.append((m, n))
        elif sound.stamps[n] < sound.stamps[n - 1]:
            joins.append((int(np.searchsorted(pictures.positions, position)), n))
    edges = np.sort(np.concatenate([[-1.0], picture_positions, sound_positions, [np.inf]]))
    for m in sorted(unmatched):
        if pictures.stamps[m] > pictures.stamps[m - 1]:
            continue
        at = pictures.positions[m]
        number = int(np.searchsorted(edges, at))
        before, after = edges[number - 1], edges[number + 1]
        for low, high, sound_position in ((at, after, after), (before, at, before)):
            if pictures.seconds_between(low, high) > max(FALL_SECONDS, 2 * sound.seconds_between(low, high)):
                joins.append((m, int(np.searchsorted(sound.positions, sound_position))))
                break
    return [{"video": m, "audio": n} for m, n in sorted(joins)]


def _find_discontinuities(stream: PacketTable, leap: float) -> list[int]:
    """Numbers of the packets at which timestamps fall, or leap, and do not return."""
    stamped = np.flatnonzero(~np.isnan(stream.stamps))
    stamps = stream.stamps[stamped]
    counted = np.cumsum(stream.durations)[stamped]
    discontinuities = []
    change = np.diff(stamps)
    for n in np.flatnonzero((change < -FALL_SECONDS) | (change > leap)) + 1:
        low, high = np.searchsorted(counted, [counted[n - 1] - STRAY_SECONDS, counted[n] + STRAY_SECONDS])
        low, high = max(low, n - 1 - EDGE_PACKETS), min(high, n + EDGE_PACKETS)
        returns_from = stamps[n] - stamps[low : n - 1]
        returns_to = stamps[n + 1 : high] - stamps[n - 1]
        if not any(((step >= 0) & (step <= STRAY_SECONDS)).any() for step in (returns_from, returns_to)):
            discontinuities.append(int(stamped[n]))
    return discontinuities


def _place_parts(unplaced: Iterable[_UnplacedPart]) -> list[Part]:
    """Shifts each part to begin where the one before it ends."""
    parts: list[Part] = []
    ends: dict[Kind, float] = {}
    offset = 0.0
    for part in unplaced:
        if part.spans and ends:
            starts = {kind: start for kind, (start, _) in part.spans.items()}
            offsets = {kind: end - starts.get(kind, min(starts.values())) for kind, end in ends.items()}
            offset = max(offsets.values())
            if "video" in starts and offset - offsets.get("video", offset) <= PADDING_SECONDS:
                offset = offsets.get("video", offset)  # or each join would add a tick
        ends |= {kind: end + offset for kind, (_, end) in part.spans.items()}
        parts.append(Part(part.section, part.first, part.packets, offset, max(ends.values(), default=0.0)))
    return parts
