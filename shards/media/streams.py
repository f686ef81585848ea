"""Streams a file's complete sound or pictures piece by piece, with a few seconds of it in memory.

Packing knows all timestamps of a clip before it places its sound. Here blocks of 20 s are placed one after the other,
by the same rule (`timeline.runs_of_sound`). Time zero is the start of the container, as in a player, so sound and
pictures of one file have the same time line.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO

import av
import numpy as np
from av.container import InputContainer

from shards.format import TICKS_PER_SECOND, PackSettings, Reason
from shards.media import open_content, timeline
from shards.media.clip import SILENT_DBFS, Rejected, dbfs, lost_in_mixing
from shards.media.container import File, Kind, check_picture_size, check_sound_format, choose_stream, required_stream
from shards.media.decoding import DecodeLog, demux_packets
from shards.media.pictures import PictureEncoder, decode_pictures
from shards.media.sound import channel_levels, decode_sound, make_mixer

BLOCK_SECONDS = 20.0
PRIMED_BY_A_FRAME = ("wmav1", "wmav2")  # of silence, which no container notes: pictures beside it begin as much later
LONGEST_GAP_SECONDS = 3600.0
"""Timestamps with a longer gap in sound or pictures count as broken."""

Sound = tuple[np.ndarray, int]  # mono, float32 (samples,), and its sample rate in Hz


def stream_sound(source: Path | BinaryIO) -> Iterator[Sound]:
    """The sound of a file in consecutive pieces; gaps in its timestamps become silence.

    Channels are mixed as in packing. Raises Rejected, possibly after some pieces, for a file without decodable sound,
    and at the end where mixing removed all of it.
    """
    with _open_container(source, "audio") as (file, container, zero):
        log, placer = DecodeLog(), _SoundPlacer()
        stream, alone = required_stream(container, "audio"), choose_stream(container, "video") is None
        stamps: list[float] = []
        pieces: list[np.ndarray] = []
        formats: list[timeline.SoundFormat] = []
        mixer: Any = None
        mixer_format: timeline.SoundFormat | None = None
        block_seconds, decoded = 0.0, 0
        for frame in decode_sound(file, container, log):
            decoded += 1
            if not frame.samples:
                continue
            check_sound_format(frame.sample_rate, frame.layout.nb_channels)
            sound_format = timeline.SoundFormat(frame.format.name, frame.layout.name, frame.sample_rate)
            if mixer is None or sound_format != mixer_format:
                mixer, mixer_format = make_mixer(sound_format, channels=frame.layout.nb_channels), sound_format
            units = frame.pts if frame.pts is not None else frame.dts
            if decoded == 1 and alone and frame.samples and stream.codec_context.name in PRIMED_BY_A_FRAME:
                zero += Fraction(frame.samples, frame.sample_rate)
            stamps.append(math.nan if units is None else float(units * frame.time_base - zero))
            mixer.push(frame)
            pieces.append(mixer.pull().to_ndarray()[0])
            formats.append(sound_format)
            block_seconds += frame.samples / frame.sample_rate
            if block_seconds >= BLOCK_SECONDS:
                yield from placer.place_block(stamps, pieces, formats)
                stamps, pieces, formats, block_seconds = [], [], [], 0.0
        yield from placer.place_block(stamps, pieces, formats)
        if log.errors > decoded:
            raise Rejected(Reason.UNDECODABLE, f"{decoded} pieces of sound decode ({log})")
        if not placer.samples:
            raise Rejected(Reason.NO_AUDIO_SAMPLES, f"nothing comes out of its audio stream ({log})")
        if (loudness := placer.loudness()) < SILENT_DBFS:
            levels = channel_levels(file, start=zero, ticks=math.ceil(placer.position * TICKS_PER_SECOND), seek=False)
            if message := lost_in_mixing(loudness, levels):
                raise Rejected(Reason.SILENT, message)


class _SoundPlacer:
    """Places blocks of decoded sound one after the other."""

    def __init__(self) -> None:
        self.position = 0.0  # end of the returned sound, seconds
        self.samples = 0  # decoded, without the silence in gaps
        self._format: timeline.SoundFormat | None = None
        self._total = self._squares = 0.0

    def loudness(self) -> float:
        """Standard deviation of the decoded samples, dBFS."""
        mean = self._total / self.samples
        return dbfs(math.sqrt(max(0.0, self._squares / self.samples - mean**2)))

    def place_block(
        self, stamps: list[float], pieces: list[np.ndarray], formats: list[timeline.SoundFormat]
    ) -> Iterator[Sound]:
        if not pieces:
            return
        if math.isnan(stamps[0]):
            stamps = [self.position, *stamps[1:]]
        for run in timeline.runs_of_sound(stamps, list(map(len, pieces)), formats):
            sound = np.concatenate(pieces[run.first : run.last])
            rate = formats[run.first].rate_hz
            if not np.isfinite(sound).all():
                raise Rejected(Reason.UNDECODABLE, "it holds samples that are not finite")
            gap_seconds = run.start_seconds - self.position
            if abs(gap_seconds) > LONGEST_GAP_SECONDS:
                raise Rejected(Reason.UNDECODABLE, f"its stamps leave {gap_seconds:,.0f} s at {self.position:,.0f} s")
            # A run that continues the block before it is not shifted by the rounding of timestamps.
            shift = round(gap_seconds * rate)
            if formats[run.first] == self._format and abs(gap_seconds) <= timeline.STAMP_TOLERANCE_SECONDS:
                shift = 0
            self._format = formats[run.first]
            for start in range(0, shift, 10 * rate):
                yield self._advance(np.zeros(min(10 * rate, shift - start), np.float32), rate)
            self.samples += len(sound)
            self._total += float(sound.sum(dtype=np.float64))
            self._squares += float(np.square(sound).sum(dtype=np.float64))
            yield self._advance(sound[max(0, -shift) :], rate)

    def _advance(self, sound: np.ndarray, rate: int) -> Sound:
        self.position += len(sound) / rate
        return sound, rate


def stream_pictures(source: Path | BinaryIO, *, hop: Fraction, side: int) -> Iterator[tuple[int, bytes]]:
    """The pictures that a player shows at the multiples of `hop` seconds: number of the multiple, and a JPEG.

    Pictures are rotated, scaled to a smallest side of `side` pixels and encoded as in packing. Raises Rejected,
    possibly after some pictures, for a file without decodable video.
    """
    with _open_container(source, "video") as (file, container, zero):
        stream = choose_stream(container, "video")
        aspect = stream.sample_aspect_ratio or Fraction(1)
        check_picture_size(stream.codec_context.width, stream.codec_context.height, aspect)
        log = DecodeLog()
        encoder: PictureEncoder | None = None
        clock: timeline.TickClock | None = None
        current: Any = None
        current_number = decoded = corrupt = 0
        for following in decode_pictures(file, container, log):
            decoded += 1
            corrupt += following.frame.is_corrupt
            if clock is None or encoder is None:
                clock = timeline.TickClock(start=zero, unit=following.unit, per_second=1 / hop)
                encoder = PictureEncoder(PackSettings(side=side), following.frame, aspect)
            number = max(0, clock.first_tick(following.stamp))
            if current is not None:
                yield from _repeat(encoder, current.frame, current_number, number, hop)
            current, current_number = following, number
        if current is None or clock is None or encoder is None:
            raise Rejected(Reason.UNDECODABLE, f"no picture decodes ({log})")
        # The last picture is shown while sound continues, and at least once: that of a still video has no duration.
        end = current.stamp + current.duration
        sound_seconds = _sound_seconds_after(file, end * current.unit)
        if timeline.MIN_HELD_SECONDS < sound_seconds <= LONGEST_GAP_SECONDS:
            end += int(sound_seconds / current.unit)
        last = max(clock.first_tick(end), current_number + (current_number == 0))
        yield from _repeat(encoder, current.frame, current_number, last, hop)
        if log.errors + corrupt > decoded:
            raise Rejected(Reason.UNDECODABLE, f"{decoded} pictures decode, {corrupt} of them corrupt ({log})")


def _repeat(encoder: PictureEncoder, frame: Any, first: int, stop: int, hop: Fraction) -> Iterator[tuple[int, bytes]]:
    if (stop - first) * hop > LONGEST_GAP_SECONDS:
        raise Rejected(Reason.UNDECODABLE, f"its stamps show one picture for {float((stop - first) * hop):,.0f} s")
    if stop > first:
        encoder.encode(frame, range(1))
        picture = encoder.pictures.pop()
        for number in range(first, stop):
            yield number, picture


def _sound_seconds_after(file: File, time: Fraction) -> Fraction:
    """Duration of a file's sound after a time, seconds, from its packets without decoding."""
    if len(file.parts) > 1:
        return Fraction(file.parts[-1].end_seconds) - time
    seconds = Fraction(0)
    with file.open() as container:
        stream = choose_stream(container, "audio")
        if stream is not None:
            with contextlib.suppress(av.error.FFmpegError):
                container.seek(int(time / stream.time_base), stream=stream)
            for packet in demux_packets(container, "audio", DecodeLog()):
                if packet.pts is not None and packet.duration:
                    duration = packet.duration * stream.time_base
                    seconds += max(Fraction(0), min(duration, packet.pts * stream.time_base + duration - time))
    return seconds


@contextlib.contextmanager
def _open_container(source: Path | BinaryIO, kind: Kind) -> Iterator[tuple[File, InputContainer, Fraction]]:
    """Open a file that has a stream of this kind; also returns its start time, seconds."""
    with open_content(source) as content, (file := File(content)).open() as container:
        stream = required_stream(container, kind)
        if stream.codec_context is None:
            raise Rejected(Reason.UNDECODABLE, f"no decoder for its {kind} stream")
        if kind == "audio":
            check_sound_format(stream.codec_context.sample_rate, stream.codec_context.channels)
        yield file, container, Fraction(container.start_time or 0, av.time_base)
