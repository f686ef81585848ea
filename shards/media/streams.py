"""A file's sound or pictures from beginning to end, piece by piece: however long it is, a few seconds are in memory.

Packing takes a clip and knows all of its stamps before it places anything. Here a block of 20 s is placed at a time,
by the same rule (`timeline.runs_of_sound`), after the blocks before it. Time zero is where the container begins, which
is where a player starts, so that sound and pictures of one file are on one time line.
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
from shards.media import bytes_of, timeline
from shards.media.clip import SILENT_DBFS, Rejected, cancellation, dbfs
from shards.media.container import File, Kind, bound_picture, bound_sound, required_stream, stream_of
from shards.media.decoding import Record, decoded_frames, packets_of
from shards.media.pictures import Camera, shown_pictures
from shards.media.sound import channel_levels, mixer_of

BLOCK_SECONDS = 20.0
LONGEST_GAP_SECONDS = 3600.0
"""Stamps that leave more than this without sound or pictures are taken for broken ones."""

Sound = tuple[np.ndarray, int]  # float32 (samples,) of one channel, and their rate in Hz


def stream_sound(source: Path | BinaryIO) -> Iterator[Sound]:
    """The sound of a file, each piece following the last; where its stamps leave a gap, silence.

    Channels are mixed as in packing. Raises Rejected, perhaps after some pieces, for what is no sound, and where the
    channels have cancelled each other.
    """
    with _container(source, "audio") as (file, container, zero):
        record, line = Record(), _Line()
        stamps: list[float] = []
        pieces: list[np.ndarray] = []
        forms: list[timeline.Form] = []
        mixer: Any = None
        mixed: timeline.Form | None = None
        held, decoded = 0.0, 0
        for frame in decoded_frames(file, container, "audio", record):
            decoded += 1
            if not frame.samples:
                continue
            bound_sound(frame.sample_rate, frame.layout.nb_channels)
            form = timeline.Form(frame.format.name, frame.layout.name, frame.sample_rate)
            if mixer is None or form != mixed:
                mixer, mixed = mixer_of(form, channels=frame.layout.nb_channels), form
            units = frame.pts if frame.pts is not None else frame.dts
            stamps.append(math.nan if units is None else float(units * frame.time_base - zero))
            mixer.push(frame)
            pieces.append(mixer.pull().to_ndarray()[0])
            forms.append(form)
            held += frame.samples / frame.sample_rate
            if held >= BLOCK_SECONDS:
                yield from line.place(stamps, pieces, forms)
                stamps, pieces, forms, held = [], [], [], 0.0
        yield from line.place(stamps, pieces, forms)
        if record.errors > decoded:
            raise Rejected(Reason.UNDECODABLE, f"{decoded} pieces of sound decode ({record})")
        if not line.samples:
            raise Rejected(Reason.NO_AUDIO_SAMPLES, f"nothing comes out of its audio stream ({record})")
        if (loudness := line.loudness()) < SILENT_DBFS:
            levels = channel_levels(file, start=zero, ticks=math.ceil(line.position * TICKS_PER_SECOND), seek=False)
            if cancelled := cancellation(loudness, levels):
                raise Rejected(Reason.SILENT, cancelled)


class _Line:
    """Places blocks of decoded sound one after the other."""

    def __init__(self) -> None:
        self.position = 0.0  # seconds that are given out
        self.samples = 0  # that were decoded and not silence put in between
        self._form: timeline.Form | None = None
        self._total = self._squares = 0.0

    def loudness(self) -> float:
        """The root mean square of what was decoded, without its mean, in dBFS."""
        mean = self._total / self.samples
        return dbfs(math.sqrt(max(0.0, self._squares / self.samples - mean**2)))

    def place(self, stamps: list[float], pieces: list[np.ndarray], forms: list[timeline.Form]) -> Iterator[Sound]:
        if not pieces:
            return
        if math.isnan(stamps[0]):
            stamps = [self.position, *stamps[1:]]
        for run in timeline.runs_of_sound(stamps, list(map(len, pieces)), forms):
            sound = np.concatenate(pieces[run.first : run.last])
            rate = forms[run.first].rate_hz
            if not np.isfinite(sound).all():
                raise Rejected(Reason.UNDECODABLE, "it holds samples that are not finite")
            away = run.start_seconds - self.position
            if abs(away) > LONGEST_GAP_SECONDS:
                raise Rejected(Reason.UNDECODABLE, f"its stamps leave {away:,.0f} s at {self.position:,.0f} s")
            # A run that goes on where the block before it ended is not moved for what stamps are rounded by.
            shift = round(away * rate)
            if forms[run.first] == self._form and abs(away) <= timeline.STAMP_TOLERANCE_SECONDS:
                shift = 0
            self._form = forms[run.first]
            for start in range(0, shift, 10 * rate):
                yield self._given(np.zeros(min(10 * rate, shift - start), np.float32), rate)
            self.samples += len(sound)
            self._total += float(sound.sum(dtype=np.float64))
            self._squares += float(np.square(sound).sum(dtype=np.float64))
            yield self._given(sound[max(0, -shift) :], rate)

    def _given(self, sound: np.ndarray, rate: int) -> Sound:
        self.position += len(sound) / rate
        return sound, rate


def stream_pictures(source: Path | BinaryIO, *, hop: Fraction, side: int) -> Iterator[tuple[int, bytes]]:
    """The picture that a player shows at each multiple of `hop` seconds: number of the multiple, and a JPEG.

    A picture is turned, scaled to `side` pixels of its smallest side and encoded as packing does. Raises Rejected,
    perhaps after some pictures, for what is no video.
    """
    with _container(source, "video") as (file, container, zero):
        stream = stream_of(container, "video")
        aspect = stream.sample_aspect_ratio or Fraction(1)
        bound_picture(stream.codec_context.width, stream.codec_context.height, aspect)
        record = Record()
        camera: Camera | None = None
        clock: timeline.Ticks | None = None
        held: Any = None
        shown_from = decoded = corrupt = 0
        for newest in shown_pictures(file, container, record):
            decoded += 1
            corrupt += newest.frame.is_corrupt
            if clock is None or camera is None:
                clock = timeline.Ticks(start=zero, unit=newest.unit, per_second=1 / hop)
                camera = Camera(PackSettings(side=side), newest.frame, aspect)
            number = max(0, clock.first_showing(newest.stamp))
            if held is not None:
                yield from _shown(camera, held.frame, shown_from, number, hop)
            held, shown_from = newest, number
        if held is None or clock is None or camera is None:
            raise Rejected(Reason.UNDECODABLE, f"no picture decodes ({record})")
        # The last one is shown at least once: a still video has one that lasts for no time. And while sound goes on.
        end = held.stamp + held.lasts
        goes_on = _sound_after(file, end * held.unit)
        if timeline.HELD_SECONDS < goes_on <= LONGEST_GAP_SECONDS:
            end += int(goes_on / held.unit)
        last = max(clock.first_showing(end), shown_from + (shown_from == 0))
        yield from _shown(camera, held.frame, shown_from, last, hop)
        if record.errors + corrupt > decoded:
            raise Rejected(Reason.UNDECODABLE, f"{decoded} pictures decode, {corrupt} of them corrupt ({record})")


def _shown(camera: Camera, frame: Any, first: int, stop: int, hop: Fraction) -> Iterator[tuple[int, bytes]]:
    if (stop - first) * hop > LONGEST_GAP_SECONDS:
        raise Rejected(Reason.UNDECODABLE, f"its stamps show one picture for {float((stop - first) * hop):,.0f} s")
    if stop > first:
        camera.shoot(frame, range(1))
        picture = camera.pictures.pop()
        for number in range(first, stop):
            yield number, picture


def _sound_after(file: File, time: Fraction) -> Fraction:
    """How long a file's sound goes on after a time, seconds: by its packets, none of which is decoded."""
    if len(file.parts) > 1:
        return Fraction(file.parts[-1].ends) - time
    goes_on = Fraction(0)
    with file.opened() as container:
        stream = stream_of(container, "audio")
        if stream is not None:
            with contextlib.suppress(av.error.FFmpegError):
                container.seek(int(time / stream.time_base), stream=stream)
            for packet in packets_of(container, "audio", Record()):
                if packet.pts is not None and packet.duration:
                    lasts = packet.duration * stream.time_base
                    goes_on += max(Fraction(0), min(lasts, packet.pts * stream.time_base + lasts - time))
    return goes_on


@contextlib.contextmanager
def _container(source: Path | BinaryIO, kind: Kind) -> Iterator[tuple[File, InputContainer, Fraction]]:
    """The file, opened, with a stream of this kind; and the time at which it begins, seconds."""
    with bytes_of(source) as content, (file := File(content)).opened() as container:
        stream = required_stream(container, kind)
        if stream.codec_context is None:
            raise Rejected(Reason.UNDECODABLE, f"no decoder for its {kind} stream")
        if kind == "audio":
            bound_sound(stream.codec_context.sample_rate, stream.codec_context.channels)
        yield file, container, Fraction(container.start_time or 0, av.time_base)
