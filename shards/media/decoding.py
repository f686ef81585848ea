"""Decodes the frames of one stream; packets that fail to decode are counted and skipped."""

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
from shards.media.container import MAX_PIXELS, UNSTAMPED_FORMATS, File, Kind, Part, choose_stream
from shards.media.parts import HEADLESS, DiscontinuityDetector, find_parts, has_later_programs, starts_late

# Seeks go this much before the requested time: sound decoders need preroll (mp3's bit reservoir, opus's 80 ms).
PREROLL_SECONDS = 2
# Later start times are reached by seeking, earlier ones by decoding from the beginning, which cannot fail.
SEEK_FROM_SECONDS = 20
MAX_DELAY_PACKETS = 16  # the maximum of all codecs
# Decoding stops when this many packets failed, and more than were decoded.
MAX_ERRORS = 200


@dataclass
class DecodeLog:
    """Errors and hidden packets of one stream."""

    errors: int = 0
    last_error: str = "none"
    hidden: int = 0  # packets or pictures that an edit list removes

    def add_error(self, error: Exception) -> None:
        self.errors += 1
        self.last_error = str(error)

    def __str__(self) -> str:
        return f"{self.errors} errors, the last: {self.last_error}"


def demux_packets(container: InputContainer, kind: Kind, log: DecodeLog) -> Iterator[Any]:
    """The packets of one stream from the container's position to its end or an error, which is logged."""
    stream = choose_stream(container, kind)
    for other in container.streams:
        other.discard = Discard.default if other is stream else Discard.all
    try:
        yield from container.demux(stream)
    except av.error.FFmpegError as error:
        log.add_error(error)
    except IndexError:  # after the last packet: PyAV before 19 does not know streams that appear later
        pass


def decode_frames(
    file: File, container: InputContainer, kind: Kind, log: DecodeLog, *, after: float = -math.inf
) -> Iterator[Any]:
    """The frames of one stream from the beginning of `container`, the file's first section, on one time line.

    Packets that do not decode are logged and skipped. Parts that end before `after` (seconds) are skipped.
    """
    stream = choose_stream(container, kind)
    unit = Fraction(stream.time_base)
    if len(file.headers) > 1:  # sections may differ in their units
        unit /= math.ceil(unit * 1000)
    yield from _decode_section(file, container, kind, log, section=0, unit=unit, after=after)
    if len(file.headers) == 1:
        return
    ends = {part.section: part.end_seconds for part in find_parts(file)}
    for section in range(1, len(file.headers)):
        if ends[section] < after:
            continue
        try:
            with file.open(section) as section_container:
                yield from _decode_section(file, section_container, kind, log, section=section, unit=unit, after=after)
        except Rejected as error:
            log.add_error(error)


def _decode_section(
    file: File, container: InputContainer, kind: Kind, log: DecodeLog, *, section: int, unit: Fraction, after: float
) -> Iterator[Any]:
    """The frames of one stream of a section, timestamped in `unit` (seconds) on the file's time line."""
    stream = choose_stream(container, kind)
    if stream is None:
        return
    context = stream.codec_context
    if context is None:
        raise Rejected(Reason.UNDECODABLE, f"no decoder for its {kind} stream")
    if not context.is_open:
        context.thread_count = 1  # the packer runs a process for each core
        context.options = {"max_pixels": str(MAX_PIXELS)}
    delay = DecoderDelay() if kind == "video" and container.format.name in UNSTAMPED_FORMATS else None
    frame_count = offset = 0
    rate_hz = None
    packets = demux_packets(container, kind, log)
    items = _packets_with_parts(file, container, kind, packets, section=section, after=after)
    for item in itertools.chain(items, [None]):
        part, packet = (item, None) if isinstance(item, Part) else (None, item)
        if packet is not None:
            log.hidden += packet.is_discard
            if delay is not None:
                delay.observe(packet)
        decoded = []
        try:
            if part is None or context.is_open:
                decoded = context.decode(packet)
        except av.error.EOFError:
            return
        except av.error.MemoryError:
            raise
        except av.error.FFmpegError as error:
            log.add_error(error)
            if log.errors > max(MAX_ERRORS, frame_count):
                return
        frame_count += len(decoded)
        for frame in decoded:
            frame_unit = frame.time_base  # PyAV makes a new fraction each time
            if not frame_unit:
                frame_unit = frame.time_base = stream.time_base
            if delay is not None:
                delay.set_pts(frame)
            if container.format.name == "aac":  # it has no timestamps: libav counts samples at the first rate
                rate_hz = rate_hz or frame.sample_rate
                if frame.sample_rate != rate_hz:
                    frame.pts = frame.dts = None
            if offset or frame_unit != unit:
                _restamp(frame, unit, offset)
            yield frame
        if part is not None:
            if context.is_open:
                context.flush_buffers()  # or pictures would be predicted from those of the part before
            offset = round(part.offset_seconds / unit)


def _packets_with_parts(
    file: File, container: InputContainer, kind: Kind, packets: Iterator[Any], *, section: int, after: float
) -> Iterator[Any]:
    """The packets of a stream; each part that has an offset precedes its packets."""
    stream = choose_stream(container, kind)
    detector = DiscontinuityDetector(container, stream)
    late = starts_late(file, container, stream)
    parts: dict[int, Part] | None = None
    packet_number = 0
    last_packet: int | None = None
    skipped = False
    for packet in packets:
        if packet.size:
            if parts is None and (file.parts or section or late or detector.detect(packet)):
                section_parts = [part for part in find_parts(file) if part.section == section]
                parts = {part.first[kind]: part for part in section_parts if kind in part.first}
                last_packet = section_parts[-1].packets.get(kind)
            if packet_number == last_packet:  # the rest belongs to the next section
                return
            if parts is not None and (part := parts.get(packet_number)):
                skipped = part.end_seconds < after
                if part.offset_seconds:
                    yield part
            packet_number += 1
        if not skipped:
            yield packet
    if parts is None and has_later_programs(file, container):
        find_parts(file)


def _restamp(frame: Any, unit: Fraction, offset: int) -> None:
    scale = frame.time_base / unit
    stamps = [None if stamp is None else round(stamp * scale) + offset for stamp in (frame.pts, frame.dts)]
    frame.duration = round((frame.duration or 0) * scale)
    frame.pts, frame.dts = stamps
    frame.time_base = unit


class DecoderDelay:
    """Sets presentation timestamps in containers without them, from the decoding timestamps and the decoder's delay.

    A decoder that reorders pictures returns each of them some packets late, with the decoding timestamp of the packet
    that released it.
    """

    def __init__(self) -> None:
        self._first_dts: int | None = None  # of the first keyframe's packet
        self._delay: int | None = None
        self._packet_stamps: deque[int] = deque(maxlen=MAX_DELAY_PACKETS + 1)  # of the latest packets
        self._latest_pts: int | None = None  # of the latest picture

    def observe(self, packet: Any) -> None:
        """Record the next packet's timestamp."""
        if self._first_dts is None and packet.is_keyframe:
            self._first_dts = packet.dts
        if packet.dts is not None:
            self._packet_stamps.append(packet.dts)

    def set_pts(self, frame: Any) -> None:
        """Set a decoded picture's presentation timestamp; the last pictures get the remaining packets' timestamps."""
        if self._delay is None and frame.dts is not None:
            delay = 0 if self._first_dts is None else frame.dts - self._first_dts
            self._delay = delay if 0 <= delay <= MAX_DELAY_PACKETS else 0
        if frame.dts is not None:
            frame.pts = frame.dts - (self._delay or 0)
        elif self._latest_pts is not None:
            frame.pts = next((set_pts for set_pts in self._packet_stamps if set_pts > self._latest_pts), None)
        self._latest_pts = frame.pts


def decode_frames_from(file: File, kind: Kind, log: DecodeLog, *, time: Fraction, seek: bool) -> Iterator[Any]:
    """Decoded frames of one stream from before `time` (seconds): by seeking, if `seek` and if that succeeds."""
    if seek and not _stamps_restart(file, kind, time):
        with file.open() as container, contextlib.suppress(av.error.FFmpegError):
            stream = choose_stream(container, kind)
            container.seek(int((time - PREROLL_SECONDS) / stream.time_base), stream=stream)
            frames = decode_frames(file, container, kind, log)
            first_frame = next(frames, None)
            if (
                first_frame is not None
                and first_frame.pts is not None
                and first_frame.pts * first_frame.time_base <= time
            ):
                yield first_frame
                yield from frames
                return
    with file.open() as container:
        after = float(time - PREROLL_SECONDS) if seek else -math.inf
        yield from decode_frames(file, container, kind, log, after=after)


def _stamps_restart(file: File, kind: Kind, time: Fraction) -> bool:
    """Whether the timestamps of a file restart before `time` (seconds): a seek could land in any of its parts."""
    if file.parts or len(file.headers) > 1:
        return len(find_parts(file)) > 1
    with file.open() as container:
        stream = choose_stream(container, kind)
        if container.format.name not in HEADLESS:
            return False  # it has an index or headers
        detector = DiscontinuityDetector(container, stream)
        for packet in demux_packets(container, kind, DecodeLog()):
            if detector.detect(packet):
                return len(find_parts(file)) > 1
            if packet.dts is not None and packet.dts * stream.time_base > time:
                return False
        return has_later_programs(file, container) and len(find_parts(file)) > 1
