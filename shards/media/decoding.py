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
    context = stream.codec_context
    if not context.is_open:
        context.thread_count = 1  # the packer runs a process for each core
        context.options = {"max_pixels": str(MAX_PIXELS)}
    frames = 0
    for packet in itertools.chain(packets_of(container, kind, record), [None]):
        if packet is not None:
            record.hidden += packet.is_discard
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
            yield frame


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
