"""Videos of which every picture and every sound is known: flashes and chirps, and each picture's number in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np

WIDTH, HEIGHT = 64, 48  # upper half: black or flashing white; lower half: the picture's number in 8 cells, lowest first
CELLS = 8
CHIRP_SECONDS = 0.08
FLASH = Fraction(12, 100)
EVENTS = (0.52, 1.17, 1.63, 2.31, 24.4, 25.1)  # about when it flashes and chirps, seconds
OTHER_EVENTS = (0.79, 1.42, 2.02)  # of a film that is joined to it: none lies where one of the first does
MILLISECOND = Fraction(1, 1000)


def picture_with(number: int, *, flash: bool) -> np.ndarray:
    """uint8 (48, 64, 3): the picture with this number, below 256."""
    gray = np.full((HEIGHT, WIDTH), 16, np.uint8)
    gray[: HEIGHT // 2] = 235 if flash else 16
    for cell in range(CELLS):
        if number >> cell & 1:
            gray[HEIGHT // 2 :, cell * WIDTH // CELLS : (cell + 1) * WIDTH // CELLS] = 235
    return gray[:, :, None].repeat(3, axis=2)


def seen_in(gray: np.ndarray) -> tuple[int, bool]:
    """Number and flash of a shown picture; luma of any size."""
    height, width = gray.shape
    lower = gray[height * 5 // 8 : height * 7 // 8]
    edges = [round(width * quarter / CELLS / 4) for quarter in range(4 * CELLS)]  # a cell's middle half is looked at
    bits = [int(lower[:, edges[4 * cell + 1] : edges[4 * cell + 3]].mean() > 128) for cell in range(CELLS)]
    return sum(bit << cell for cell, bit in enumerate(bits)), bool(gray[height // 8 : height * 3 // 8].mean() > 128)


def chirp(rate: int) -> np.ndarray:
    """float32: 80 ms from 0.5 to 5 kHz at full strength; nothing correlates with it but itself."""
    t = np.arange(round(CHIRP_SECONDS * rate)) / rate
    return (0.6 * np.cos(2 * np.pi * (500 * t + 4500 / (2 * CHIRP_SECONDS) * t**2))).astype(np.float32)


def sound_with(events: Sequence[float], *, begins: float, ends: float, rate: int) -> np.ndarray:
    """float32 mono from `begins` to `ends` (seconds): faint noise, and a chirp at each event."""
    sound = np.random.default_rng(0).normal(0, 0.002, round((ends - begins) * rate)).astype(np.float32)
    for event in events:
        at, tone = round((event - begins) * rate), chirp(rate)
        if 0 <= at <= len(sound) - len(tone):
            sound[at : at + len(tone)] += tone
    return sound


def delay_of_chirp(sound: np.ndarray, *, event: float, rate: int, reach: float = 0.15) -> float:
    """How much later than at `event` (seconds) the chirp is in a sound that begins at 0; seconds, by correlation."""
    tone = chirp(rate).astype(np.float64)
    first = round((event - reach) * rate)
    heard = np.zeros(round(2 * reach * rate) + len(tone))
    low, high = max(0, first), min(len(sound), first + len(heard))
    heard[low - first : high - first] = sound[low:high]
    match = np.correlate(heard, tone, mode="valid")
    return (int(match.argmax()) + first) / rate - event


@dataclass(frozen=True)
class Film:
    """What is rendered; times in seconds from the first picture on."""

    stamps: tuple[Fraction, ...]
    lasts: Fraction  # the last picture
    events: tuple[int, ...]  # numbers of the pictures with which a flash and a chirp begin
    sound_starts: Fraction = Fraction(0)

    @property
    def ends(self) -> Fraction:
        return self.stamps[-1] + self.lasts

    @property
    def event_times(self) -> list[float]:
        return [float(self.stamps[number]) for number in self.events]

    def flashes(self, number: int) -> bool:
        """Whether a picture is part of a flash: it lasts 0.12 s, so that some tick shows it at any rate."""
        return any(self.stamps[event] <= self.stamps[number] < self.stamps[event] + FLASH for event in self.events)

    def number_at(self, time: Fraction) -> int:
        """The picture that is shown at a time."""
        return max(number for number, stamp in enumerate(self.stamps) if stamp <= time)


def film(
    rate: Fraction | None,
    *,
    seconds: float = 2.6,
    sound_starts: Fraction = Fraction(0),
    about: Sequence[float] = EVENTS,
) -> Film:
    """A film at a constant rate, or at a variable one (None) of 7 to 120 pictures a second; `about` when it flashes."""
    if rate is not None:
        stamps = [number / rate for number in range(round(seconds * rate))]
    else:
        steps = np.random.default_rng(1).uniform(1 / 120, 1 / 7, round(seconds * 120))
        stamps = [Fraction(0)]
        while stamps[-1] < seconds - 1 / 7:
            stamps.append(stamps[-1] + Fraction(round(steps[len(stamps)] * 90_000), 90_000))
    times = [time for time in about if time < seconds - 0.2]
    events = [min(range(len(stamps)), key=lambda i: abs(stamps[i] - time)) for time in times]
    return Film(tuple(stamps), 1 / rate if rate else Fraction(1, 25), tuple(events), sound_starts)


def render(
    path: Path,
    film: Film,
    *,
    video: str = "libx264",
    audio: str | None = "aac",
    container: str | None = None,
    sound_rate: int = 48_000,
    priming: int = 0,
    gap: tuple[float, float] = (0, 0),
    drift: Fraction = Fraction(0),
    declared: Fraction | None = None,
    reordered: int | None = None,
    options: dict[str, str] | None = None,
) -> Path:
    """Writes a film as a file.

    A container that cannot tell of the samples that a codec puts before the sound plays them, and all that follows
    late: `priming` of them are taken off the sound's head instead. `gap` is a span of seconds whose sound packets are
    left out. `drift` is the share by which the stamps of the sound's packets run ahead of their samples. `declared`
    is the rate that the file declares; by default that of its shortest picture. `reordered` is the number of B-frames
    between two others; by default 2 in H.264, and the encoder's own in others.
    """
    shift = max(Fraction(0), -film.sound_starts)  # containers begin at zero: whatever comes first
    step = min((b - a for a, b in pairwise(film.stamps)), default=film.lasts)
    constant = all(b - a == step for a, b in pairwise(film.stamps))
    unit = step if constant and not shift else Fraction(1, 90_000)
    with av.open(str(path), "w", format=container, options=options) as output:
        pictures: Any = output.add_stream(video, rate=declared or Fraction(1) / step, options=OPTIONS.get(video, {}))
        pictures.width, pictures.height, pictures.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        pictures.codec_context.time_base = unit
        pictures.codec_context.thread_count = 1
        if video == "libx264" or reordered is not None:
            pictures.codec_context.max_b_frames = 2 if reordered is None else reordered
        packets: list[Any] = []
        sounds: Any = output.add_stream(audio, rate=sound_rate, layout="mono") if audio else None
        for number, stamp in enumerate(film.stamps):
            frame = av.VideoFrame.from_ndarray(picture_with(number % 256, flash=film.flashes(number)), format="rgb24")
            frame.pts, frame.time_base = round((stamp + shift) / unit), unit
            packets += pictures.encode(frame)
        packets += pictures.encode(None)
        if sounds is not None:
            begins = float(film.sound_starts)
            samples = sound_with(film.event_times, begins=begins, ends=float(film.ends), rate=sound_rate)[priming:]
            heard = av.AudioFrame.from_ndarray(samples[None], format="flt", layout="mono")
            heard.sample_rate, heard.time_base = sound_rate, Fraction(1, sound_rate)
            heard.pts = round((film.sound_starts + shift) * sound_rate) + priming
            for packet in [*sounds.encode(heard), *sounds.encode(None)]:
                if not gap[0] <= packet.pts * packet.time_base - shift < gap[1]:
                    packet.pts = packet.dts = round(packet.pts * (1 + drift))
                    packets.append(packet)
        packets.sort(key=lambda packet: packet.dts * packet.time_base)
        output.mux(packets)
    return path


def cut_by_copy(source: Path, target: Path, *, at: Fraction, options: dict[str, str] | None = None) -> Path:
    """Cuts off a file's first seconds without encoding anew, as `ffmpeg -ss AT -i SOURCE -c copy TARGET` does.

    Packets before the cut that decoders need are kept; an edit list says from where on they are to be shown and heard.
    """
    with av.open(str(source)) as whole, av.open(str(target), "w", options=options) as part:
        streams = {stream.index: part.add_stream_from_template(stream) for stream in whole.streams}
        whole.seek(int(at * av.time_base))
        for packet in whole.demux():
            if packet.dts is None or packet.pts is None:
                continue
            ends = packet.pts + (packet.duration or 0)
            if packet.stream.type == "audio" and ends * packet.time_base <= at:
                continue
            early = round(at / packet.time_base)
            packet.pts, packet.dts = packet.pts - early, packet.dts - early
            packet.stream = streams[packet.stream.index]
            part.mux(packet)
    return target


OPTIONS = {
    "libx264": {"preset": "veryfast", "crf": "18"},
    "libvpx": {"deadline": "realtime", "cpu-used": "8", "crf": "8", "b": "2M"},
    "libvpx-vp9": {"deadline": "realtime", "cpu-used": "8", "crf": "20", "b": "0"},
    "mpeg4": {"qscale": "2", "flags": "+qscale"},
}
