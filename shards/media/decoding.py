"""The decoded frames of one stream, whatever is wrong with some of its packets."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import av
from av.container import InputContainer
from av.stream import Discard

from shards.media.container import MAX_PIXELS, File, Kind, stream_of

# Seeking aims this much early: decoders of sound need a running start (mp3's bit reservoir, opus's 80 ms).
RUN_UP_SECONDS = 2
# A time this far in is sought; an earlier one is reached by decoding from the beginning, which cannot go wrong.
SEEK_FROM_SECONDS = 20
# Containers whose packets are numbered in the order of decoding and have no other stamps.
WITHOUT_STAMPS = ("avi",)
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


def decoded_frames(container: InputContainer, kind: Kind, record: Record) -> Iterator[Any]:
    """The frames of one stream from where the container stands; packets that do not decode are noted and skipped."""
    stream = stream_of(container, kind)
    lag = Lag() if kind == "video" and container.format.name in WITHOUT_STAMPS else None
    context = stream.codec_context
    if not context.is_open:
        context.thread_count = 1  # the packer runs a process for each core
        context.options = {"max_pixels": str(MAX_PIXELS)}
    frames = 0
    for packet in itertools.chain(packets_of(container, kind, record), [None]):
        if packet is not None:
            record.hidden += packet.is_discard
            if lag is not None:
                lag.witness(packet)
        try:
            decoded = context.decode(packet)
        except av.error.EOFError:
            return
        except av.error.MemoryError:
            raise
        except av.error.FFmpegError as error:
            record.note(error)
            if record.errors > max(PATIENCE, frames):
                return
            continue
        frames += len(decoded)
        for frame in decoded:
            frame.time_base = frame.time_base or stream.time_base
            if lag is not None:
                lag.stamp(frame)
            yield frame


class Lag:
    """Stamps of pictures in containers that have none of presentation: each is shown at the place of its number.

    The only stamps are then those of packets, in the order of decoding. A decoder that has to bring pictures into the
    order of presentation gives each of them some packets late, with the stamp of the packet that brought it out.
    """

    def __init__(self) -> None:
        self._begins: int | None = None  # decoding stamp of the first picture's packet
        self._late: int | None = None

    def witness(self, packet: Any) -> None:
        """Takes note of the next packet."""
        if self._begins is None and packet.is_keyframe:
            self._begins = packet.dts

    def stamp(self, frame: Any) -> None:
        """Gives a decoded picture its stamp of presentation; None to those that come out at the very end."""
        if self._late is None and frame.dts is not None:
            late = 0 if self._begins is None else frame.dts - self._begins
            self._late = late if 0 <= late <= MOST_PICTURES_LATE else 0
        frame.pts = None if frame.dts is None else frame.dts - (self._late or 0)


def frames_into(file: File, kind: Kind, record: Record, *, time: Fraction, seek: bool) -> Iterator[Any]:
    """Decoded frames of one stream, from before `time` (seconds) on: sought if wanted, and if that gets there."""
    if seek:
        with file.opened() as container, contextlib.suppress(av.error.FFmpegError):
            stream = stream_of(container, kind)
            container.seek(int((time - RUN_UP_SECONDS) / stream.time_base), stream=stream)
            frames = decoded_frames(container, kind, record)
            first = next(frames, None)
            if first is not None and first.pts is not None and first.pts * first.time_base <= time:
                yield first
                yield from frames
                return
    with file.opened() as container:
        yield from decoded_frames(container, kind, record)
