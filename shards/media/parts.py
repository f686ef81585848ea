"""One time line for files whose stamps start over: captures joined by their bytes, chained recordings, DVD parts.

A file is scanned, without decoding, only where reading it meets stamps that step, or a second head. Then each part of
it is moved so that it begins where the part before it ended, pictures and sound by the same amount.
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
from shards.media.container import File, Kind, Part, stream_of
from shards.media.heads import begins_with, programs_in

KINDS: tuple[Kind, ...] = ("video", "audio")
# Stamps that fall by more than this, and stay there, start over.
FALL_SECONDS = 1.0
# In formats without heads or an index, whose clock may be set anew, a leap ahead of more than this is a new beginning
# too, as it is for ffmpeg's own programs: their stamps have 33 bits, and libav makes a leap of a deep fall.
HEADLESS = ("mpegts", "mpeg")
LEAP_SECONDS = 10.0
# Stamps that are back on their line within this time are wrong ones, and nothing starts over.
STRAY_SECONDS = 1.0
# The pictures and the sound of one beginning lie at most so much sound apart in the file.
APART_SECONDS = 5.0
# Sound that lasts up to this much longer than its pictures is a codec's padding: the next part's sound goes over it.
PADDING_SECONDS = 0.1
# Packets are not in the order of their times: where a part begins and ends is looked for among so many.
EDGE_PACKETS = 64


class Watch:
    """Tells where the stamps of one stream step, packet by packet."""

    def __init__(self, container: InputContainer, stream: Any) -> None:
        self._fall, self._leap = -FALL_SECONDS / stream.time_base, _leap(container) / stream.time_base
        self._latest: int | None = None

    def steps(self, packet: Any) -> bool:
        """Whether they step at the next packet."""
        stamp = packet.pts if packet.dts is None else packet.dts
        if stamp is None or packet.is_discard:  # what an edit list hides may lie anywhere
            return False
        step = 0 if self._latest is None else stamp - self._latest
        self._latest = stamp
        return bool(step < self._fall or step > self._leap)


def _leap(container: InputContainer) -> float:
    return LEAP_SECONDS if container.format.name in HEADLESS else math.inf


def goes_on_as_others(file: File, container: InputContainer) -> bool:
    """Whether a transport stream that ended for its reader goes on in other streams."""
    return container.format.name == "mpegts" and len(programs_in(file.content)) > 1


def begins_later(file: File, container: InputContainer, stream: Any) -> bool:
    """Whether a transport stream does not begin with this one of its streams: its stamps may be a later part's."""
    return container.format.name == "mpegts" and not begins_with(file.content, stream.id)


def parts_of(file: File) -> list[Part]:
    """The parts of a file, one or more for each head in it; kept with the file once they are found."""
    if not file.parts:
        place = file.content.tell()
        with file.opened() as container:
            if container.format.name == "mpegts":
                file.heads[:] = programs_in(file.content)
        stretches = [stretch for section in range(len(file.heads)) for stretch in _stretches(file, section)]
        file.content.seek(place)
        file.parts.extend(_placed(stretches))
    return file.parts


@dataclass(frozen=True)
class Stream:
    """The packets of one stream: their places in the file, decoding stamps, when what they hold begins; seconds."""

    places: np.ndarray
    stamps: np.ndarray
    begins: np.ndarray  # NaN for what is not shown
    lasts: np.ndarray

    def between(self, first: float, last: float) -> float:
        """How much of it lies between two places of the file, seconds."""
        low, high = np.searchsorted(self.places, [first + 1, last])
        return float(self._counted[max(low, high)] - self._counted[low])

    @cached_property
    def _counted(self) -> np.ndarray:
        return np.concatenate([[0.0], np.cumsum(self.lasts)])

    def span(self, packets: slice) -> tuple[float, float] | None:
        """When the first of these packets begins and the last one ends."""
        begins, lasts = self.begins[packets], self.lasts[packets]
        if np.isnan(begins).all():
            return None
        known = ~np.isnan(begins)
        begins, ends = begins[known], (begins + lasts)[known]
        return float(begins[:EDGE_PACKETS].min()), float(ends[-EDGE_PACKETS:].max())


@dataclass(frozen=True)
class _Stretch:
    """A part that has no place yet: when its streams begin and end by their own stamps."""

    section: int
    first: dict[Kind, int]
    packets: dict[Kind, int]
    spans: dict[Kind, tuple[float, float]]


def _stretches(file: File, section: int) -> list[_Stretch]:
    try:
        with file.opened(section) as container:
            streams, leap = _packets(container), _leap(container)
    except (Rejected, av.error.FFmpegError):  # as reading it will tell
        return [_Stretch(section, {}, {}, {})]
    cuts: list[dict[Kind, int]] = [dict.fromkeys(streams, 0), *joins(streams, leap)]
    packets = {kind: len(stream.places) for kind, stream in streams.items()}
    found = []
    for cut, following in zip(cuts, [*cuts[1:], {}], strict=True):
        spans = {kind: stream.span(slice(cut[kind], following.get(kind))) for kind, stream in streams.items()}
        found.append(_Stretch(section, cut, packets, {kind: span for kind, span in spans.items() if span}))
    return found


def _packets(container: InputContainer) -> dict[Kind, Stream]:
    chosen = {stream.index: kind for kind in KINDS if (stream := stream_of(container, kind)) is not None}
    for other in container.streams:
        other.discard = Discard.default if other.index in chosen else Discard.all
    rows: dict[Kind, list[tuple[float, ...]]] = {kind: [] for kind in chosen.values()}
    try:
        for place, packet in enumerate(container.demux([container.streams[index] for index in chosen])):
            if packet.size and packet.stream_index in chosen:
                unit = float(packet.time_base)
                dts = packet.pts if packet.dts is None else packet.dts
                pts = None if packet.is_discard else dts if packet.pts is None else packet.pts
                known = (np.nan if stamp is None else stamp * unit for stamp in (dts, pts))
                rows[chosen[packet.stream_index]].append((place, *known, (packet.duration or 0) * unit))
    except (av.error.FFmpegError, IndexError):  # the end, as for the reader
        pass
    streams = {}
    for kind, table in rows.items():
        places, stamps, begins, lasts = np.array(table, np.float64).reshape(-1, 4).T
        steps = np.diff(np.sort(begins[~np.isnan(begins)]))
        if not lasts.any() and steps.any():
            lasts = np.full_like(lasts, np.median(steps[steps > 0]))
        streams[kind] = Stream(places, stamps, begins, lasts)
    return streams


def joins(streams: dict[Kind, Stream], leap: float) -> list[dict[Kind, int]]:
    """Numbers of the packets with which parts begin.

    Falling stamps of pictures alone are wrong (timeline.Trust) where sound goes on beside them; those of sound are not.
    """
    falls = {kind: _steps(stream, leap) for kind, stream in streams.items()}
    if len(streams) < 2:
        return [{kind: n} for kind, numbers in falls.items() for n in numbers]
    pictures, sound = streams["video"], streams["audio"]
    shown, heard = pictures.places[falls["video"]], sound.places[falls["audio"]]
    alone = {*falls["video"]}
    found: list[tuple[int, int]] = []
    for n, place in zip(falls["audio"], heard, strict=True):
        right = int(np.searchsorted(shown, place))
        near = [m for m in falls["video"][max(0, right - 1) : right + 1] if m in alone]
        m = min(near, key=lambda m: abs(pictures.places[m] - place), default=None)
        if m is not None and sound.between(*sorted((pictures.places[m], place))) < APART_SECONDS:
            alone.remove(m)
            found.append((m, n))
        elif sound.stamps[n] < sound.stamps[n - 1]:
            found.append((int(np.searchsorted(pictures.places, place)), n))
    ends = np.sort(np.concatenate([[-1.0], shown, heard, [np.inf]]))
    for m in sorted(alone):
        if pictures.stamps[m] > pictures.stamps[m - 1]:
            continue
        at = pictures.places[m]
        number = int(np.searchsorted(ends, at))
        before, after = ends[number - 1], ends[number + 1]
        for low, high, sounds in ((at, after, after), (before, at, before)):
            if pictures.between(low, high) > max(FALL_SECONDS, 2 * sound.between(low, high)):
                found.append((m, int(np.searchsorted(sound.places, sounds))))
                break
    return [{"video": m, "audio": n} for m, n in sorted(found)]


def _steps(stream: Stream, leap: float) -> list[int]:
    """Numbers of the packets at which stamps fall, or leap, and do not come back."""
    known = np.flatnonzero(~np.isnan(stream.stamps))
    stamps = stream.stamps[known]
    counted = np.cumsum(stream.lasts)[known]
    found = []
    change = np.diff(stamps)
    for n in np.flatnonzero((change < -FALL_SECONDS) | (change > leap)) + 1:
        low, high = np.searchsorted(counted, [counted[n - 1] - STRAY_SECONDS, counted[n] + STRAY_SECONDS])
        low, high = max(low, n - 1 - EDGE_PACKETS), min(high, n + EDGE_PACKETS)
        was_astray = stamps[n] - stamps[low : n - 1]
        comes_back = stamps[n + 1 : high] - stamps[n - 1]
        if not any(((back >= 0) & (back <= STRAY_SECONDS)).any() for back in (was_astray, comes_back)):
            found.append(int(known[n]))
    return found


def _placed(stretches: Iterable[_Stretch]) -> list[Part]:
    """Each stretch moved to where the one before it ended."""
    parts: list[Part] = []
    ends: dict[Kind, float] = {}
    moved = 0.0
    for stretch in stretches:
        if stretch.spans and ends:
            begins = {kind: begin for kind, (begin, _) in stretch.spans.items()}
            moves = {kind: end - begins.get(kind, min(begins.values())) for kind, end in ends.items()}
            moved = max(moves.values())
            if "video" in begins and moved - moves.get("video", moved) <= PADDING_SECONDS:
                moved = moves.get("video", moved)  # not a tick too many at each join
        ends |= {kind: end + moved for kind, (_, end) in stretch.spans.items()}
        parts.append(Part(stretch.section, stretch.first, stretch.packets, moved, max(ends.values(), default=0.0)))
    return parts
