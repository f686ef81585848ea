"""The decoded frames of one stream, whatever is wrong with some of its packets."""

from __future__ import annotations

import contextlib
import itertools
import math
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import av
from av.container import InputContainer
from av.stream import Discard

from shards.format import Reason
from shards.media.clip import Rejected
from shards.media.container import MAX_PIXELS, WITHOUT_STAMPS, File, Kind, Part, stream_of
from shards.media.parts import HEADLESS, Watch, begins_later, goes_on_as_others, parts_of

# Seeking aims this much early: decoders of sound need a running start (mp3's bit reservoir, opus's 80 ms).
RUN_UP_SECONDS = 2
# A time this far in is sought; an earlier one is reached by decoding from the beginning, which cannot go wrong.
SEEK_FROM_SECONDS = 20
MOST_PICTURES_LATE = 16  # that any codec allows
# A stream is given up when this many packets failed, and more than decoded.
PATIENCE = 200


@dataclass
class Record:
    """What happened to the packets of one stream."""

    errors: int = 0
    last_error: str = "none"
    hidden: int = 0  # packets that an edit list takes out

    def note(self, error: Exception) -> None:
        self.errors += 1
        self.last_error = str(error)

    def __str__(self) -> str:
        return f"{self.errors} errors, the last: {self.last_error}"


def packets_of(container: InputContainer, kind: Kind, record: Record) -> Iterator[Any]:
    """The packets of one stream from where the container stands, up to its end or an error, which is noted."""
    stream = stream_of(container, kind)
    for other in container.streams:
        other.discard = Discard.default if other is stream else Discard.all
    try:
        yield from container.demux(stream)
    except av.error.FFmpegError as error:
        record.note(error)
    except IndexError:  # before 19, after the last packet: PyAV does not know streams that began on the way
        pass


def decoded_frames(
    file: File, container: InputContainer, kind: Kind, record: Record, *, after: float = -math.inf
) -> Iterator[Any]:
    """The frames of one stream from the beginning of the container, which is the file's first, on one time line.

    Packets that do not decode are noted and skipped. Parts that end before `after` (seconds) are passed over.
    """
    stream = stream_of(container, kind)
    unit = Fraction(stream.time_base)
    if len(file.heads) > 1:  # others may count in other units
        unit /= math.ceil(unit * 1000)
    yield from _frames(file, container, kind, record, section=0, unit=unit, after=after)
    if len(file.heads) == 1:  # as most have
        return
    ends = {part.section: part.ends for part in parts_of(file)}
    for section in range(1, len(file.heads)):
        if ends[section] < after:
            continue
        try:
            with file.opened(section) as later:
                yield from _frames(file, later, kind, record, section=section, unit=unit, after=after)
        except Rejected as error:
            record.note(error)


def _frames(
    file: File, container: InputContainer, kind: Kind, record: Record, *, section: int, unit: Fraction, after: float
) -> Iterator[Any]:
    """The frames of one stream of a section, stamped in `unit` (seconds) on the file's time line."""
    stream = stream_of(container, kind)
    if stream is None:
        return
    context = stream.codec_context
    if context is None:
        raise Rejected(Reason.UNDECODABLE, f"no decoder for its {kind} stream")
    if not context.is_open:
        context.thread_count = 1  # the packer runs a process for each core
        context.options = {"max_pixels": str(MAX_PIXELS)}
    lag = Lag() if kind == "video" and container.format.name in WITHOUT_STAMPS else None
    frames = moved = 0
    rate_hz = None
    packets = packets_of(container, kind, record)
    for item in itertools.chain(_with_parts(file, container, kind, packets, section=section, after=after), [None]):
        part, packet = (item, None) if isinstance(item, Part) else (None, item)
        if packet is not None:
            record.hidden += packet.is_discard
            if lag is not None:
                lag.witness(packet)
        decoded = []
        try:
            if part is None or context.is_open:
                decoded = context.decode(packet)
        except av.error.EOFError:
            return
        except av.error.MemoryError:
            raise
        except av.error.FFmpegError as error:
            record.note(error)
            if record.errors > max(PATIENCE, frames):
                return
        frames += len(decoded)
        for frame in decoded:
            own_unit = frame.time_base  # PyAV makes a new fraction each time
            if not own_unit:
                own_unit = frame.time_base = stream.time_base
            if lag is not None:
                lag.stamp(frame)
            if container.format.name == "aac":  # it has no stamps: libav counts all of it at the first rate
                rate_hz = rate_hz or frame.sample_rate
                if frame.sample_rate != rate_hz:
                    frame.pts = frame.dts = None
            if moved or own_unit != unit:
                _place(frame, unit, moved)
            yield frame
        if part is not None:
            if context.is_open:
                context.flush_buffers()  # or pictures that refer to others are decoded by those of the part before
            moved = round(part.moved / unit)


def _with_parts(
    file: File, container: InputContainer, kind: Kind, packets: Iterator[Any], *, section: int, after: float
) -> Iterator[Any]:
    """The packets of a stream, and each Part before those that belong to it, but for a file's first."""
    stream = stream_of(container, kind)
    watch = Watch(container, stream)
    later = begins_later(file, container, stream)
    parts: dict[int, Part] | None = None
    number = 0
    last: int | None = None
    passed_over = False
    for packet in packets:
        if packet.size:
            if parts is None and (file.parts or section or later or watch.steps(packet)):
                its = [part for part in parts_of(file) if part.section == section]
                parts = {part.first[kind]: part for part in its if kind in part.first}
                last = its[-1].packets.get(kind)
            if number == last:  # what follows has another head
                return
            if parts is not None and (part := parts.get(number)):
                passed_over = part.ends < after
                if part.moved:
                    yield part
            number += 1
        if not passed_over:
            yield packet
    if parts is None and goes_on_as_others(file, container):
        parts_of(file)


def _place(frame: Any, unit: Fraction, moved: int) -> None:
    scale = frame.time_base / unit
    stamps = [None if stamp is None else round(stamp * scale) + moved for stamp in (frame.pts, frame.dts)]
    frame.duration = round((frame.duration or 0) * scale)
    frame.pts, frame.dts = stamps
    frame.time_base = unit


class Lag:
    """Stamps of pictures in containers that have none of presentation: each is shown at the place of its number.

    The only stamps are then those of packets, in the order of decoding. A decoder that has to bring pictures into the
    order of presentation gives each of them some packets late, with the stamp of the packet that brought it out.
    """

    def __init__(self) -> None:
        self._begins: int | None = None  # decoding stamp of the first picture's packet
        self._late: int | None = None
        self._stamps: deque[int] = deque(maxlen=MOST_PICTURES_LATE + 1)  # of the latest packets
        self._shown: int | None = None  # stamp of the latest picture

    def witness(self, packet: Any) -> None:
        """Takes note of the next packet."""
        if self._begins is None and packet.is_keyframe:
            self._begins = packet.dts
        if packet.dts is not None:
            self._stamps.append(packet.dts)

    def stamp(self, frame: Any) -> None:
        """Gives a decoded picture its stamp of presentation; to those of the very end the stamps that are left."""
        if self._late is None and frame.dts is not None:
            late = 0 if self._begins is None else frame.dts - self._begins
            self._late = late if 0 <= late <= MOST_PICTURES_LATE else 0
        if frame.dts is not None:
            frame.pts = frame.dts - (self._late or 0)
        elif self._shown is not None:
            frame.pts = next((stamp for stamp in self._stamps if stamp > self._shown), None)
        self._shown = frame.pts


def frames_into(file: File, kind: Kind, record: Record, *, time: Fraction, seek: bool) -> Iterator[Any]:
    """Decoded frames of one stream, from before `time` (seconds) on: sought if wanted, and if that gets there."""
    if seek and not _starts_over(file, kind, time):
        with file.opened() as container, contextlib.suppress(av.error.FFmpegError):
            stream = stream_of(container, kind)
            container.seek(int((time - RUN_UP_SECONDS) / stream.time_base), stream=stream)
            frames = decoded_frames(file, container, kind, record)
            first = next(frames, None)
            if first is not None and first.pts is not None and first.pts * first.time_base <= time:
                yield first
                yield from frames
                return
    with file.opened() as container:
        after = float(time - RUN_UP_SECONDS) if seek else -math.inf
        yield from decoded_frames(file, container, kind, record, after=after)


def _starts_over(file: File, kind: Kind, time: Fraction) -> bool:
    """Whether the stamps of a file start over before `time`, seconds: seeking would lead to any of its parts."""
    if file.parts or len(file.heads) > 1:
        return len(parts_of(file)) > 1
    with file.opened() as container:
        stream = stream_of(container, kind)
        if container.format.name not in HEADLESS:
            return False  # they have an index, or heads
        watch = Watch(container, stream)
        for packet in packets_of(container, kind, Record()):
            if watch.steps(packet):
                return len(parts_of(file)) > 1
            if packet.dts is not None and packet.dts * stream.time_base > time:
                return False
        return goes_on_as_others(file, container) and len(parts_of(file)) > 1
