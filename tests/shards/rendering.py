"""Videos of which every picture and every sound is known: flashes and chirps, and each picture's number in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import simplejpeg

WIDTH, HEIGHT = 64, 48  # upper half: black or flashing white; lower half: the picture's number in 8 cells, lowest first
CELLS = 8
CHIRP_SECONDS = 0.08
FLASH = Fraction(12, 100)
EVENTS = (0.52, 1.17, 1.63, 2.31, 24.4, 25.1)  # about when it flashes and chirps, seconds
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


def luma_of(jpeg: bytes) -> np.ndarray:
    return simplejpeg.decode_jpeg(jpeg, colorspace="GRAY")[:, :, 0]


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


def film(rate: Fraction | None, *, seconds: float = 2.6, sound_starts: Fraction = Fraction(0)) -> Film:
    """A film at a constant rate, or at a variable one (None) of 7 to 120 pictures a second."""
    if rate is not None:
        stamps = [number / rate for number in range(round(seconds * rate))]
    else:
        steps = np.random.default_rng(1).uniform(1 / 120, 1 / 7, round(seconds * 120))
        stamps = [Fraction(0)]
        while stamps[-1] < seconds - 1 / 7:
            stamps.append(stamps[-1] + Fraction(round(steps[len(stamps)] * 90_000), 90_000))
    times = [time for time in EVENTS if time < seconds - 0.2]
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
    options: dict[str, str] | None = None,
) -> Path:
    """Writes a film as a file.

    A container that cannot tell of the samples that a codec puts before the sound plays them, and all that follows
    late: `priming` of them are taken off the sound's head instead. `gap` is a span of seconds whose sound packets are
    left out.
    """
    shift = max(Fraction(0), -film.sound_starts)  # containers begin at zero: whatever comes first
    step = min((b - a for a, b in pairwise(film.stamps)), default=film.lasts)
    constant = all(b - a == step for a, b in pairwise(film.stamps))
    unit = step if constant and not shift else Fraction(1, 90_000)
    with av.open(str(path), "w", format=container, options=options) as output:
        pictures = output.add_stream(video, rate=Fraction(1) / step, options=OPTIONS.get(video, {}))
        pictures.width, pictures.height, pictures.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        pictures.codec_context.time_base = unit
        pictures.codec_context.thread_count = 1
        if video == "libx264":
            pictures.codec_context.max_b_frames = 2
        packets = []
        sounds = output.add_stream(audio, rate=sound_rate, layout="mono") if audio else None
        for number, stamp in enumerate(film.stamps):
            frame = av.VideoFrame.from_ndarray(picture_with(number % 256, flash=film.flashes(number)), format="rgb24")
            frame.pts, frame.time_base = round((stamp + shift) / unit), unit
            packets += pictures.encode(frame)
        packets += pictures.encode(None)
        if sounds is not None:
            begins = float(film.sound_starts)
            samples = sound_with(film.event_times, begins=begins, ends=float(film.ends), rate=sound_rate)[priming:]
            frame = av.AudioFrame.from_ndarray(samples[None], format="flt", layout="mono")
            frame.sample_rate, frame.time_base = sound_rate, Fraction(1, sound_rate)
            frame.pts = round((film.sound_starts + shift) * sound_rate) + priming
            for packet in [*sounds.encode(frame), *sounds.encode(None)]:
                if not gap[0] <= packet.pts * packet.time_base - shift < gap[1]:
                    packets.append(packet)
        packets.sort(key=lambda packet: packet.dts * packet.time_base)
        output.mux(packets)
    return path


OPTIONS = {
    "libx264": {"preset": "veryfast", "crf": "18"},
    "libvpx": {"deadline": "realtime", "cpu-used": "8", "crf": "8", "b": "2M"},
    "libvpx-vp9": {"deadline": "realtime", "cpu-used": "8", "crf": "20", "b": "0"},
    "mpeg4": {"qscale": "2", "flags": "+qscale"},
}


def walk(path: Path, kind: str) -> list[tuple[Fraction, np.ndarray]]:
    """All frames of a stream with their stamps (seconds): luma (height, width) or sound (samples,)."""
    with av.open(str(path)) as container:
        found = []
        for frame in container.decode(**{kind: 0}):
            content = frame.to_ndarray(format="gray") if kind == "video" else frame.to_ndarray().astype(float)
            if kind == "audio":
                content = content[0] / (32768 if frame.format.name.startswith("s16") else 1)
            assert frame.pts is not None
            assert frame.time_base is not None
            found.append((frame.pts * frame.time_base, content))
    return found


def write(
    path: Path,
    pictures: Sequence[av.VideoFrame],
    *,
    rate: int = 25,
    video: str = "ffv1",
    sound: np.ndarray | None = None,
    layout: str = "mono",
    audio: str = "pcm_s16le",
    sound_rate: int = 48_000,
    pixel_aspect: Fraction | None = None,
    turn: tuple[int, bool] | None = None,
    begins: int = 0,
) -> Path:
    """Writes given pictures at a constant rate, and float sound (channels, samples), noise where none is given.

    `turn` is how the pictures are to be shown: degrees counterclockwise, then mirrored or not. The stamps begin at
    `begins` seconds.
    """
    if sound is None:
        sound = np.random.default_rng(0).normal(0, 0.1, (1, len(pictures) * sound_rate // rate))
    with av.open(str(path), "w") as output:
        shown = output.add_stream(video, rate=rate, options=OPTIONS.get(video, {}))
        first = pictures[0]
        shown.width, shown.height, shown.pix_fmt = first.width, first.height, first.format.name
        context = shown.codec_context
        context.thread_count = 1
        context.colorspace, context.color_range = first.colorspace, first.color_range
        if pixel_aspect:
            context.sample_aspect_ratio = pixel_aspect
        if turn:
            shown.set_display_rotation(turn[0], hflip=turn[1])
        heard = output.add_stream(audio, rate=sound_rate, layout=layout)
        for number, frame in enumerate(pictures):
            frame.pts, frame.time_base = begins * rate + number, Fraction(1, rate)
            output.mux(shown.encode(frame))
        output.mux(shown.encode(None))
        # Samples side by side: PyAV reads past the end of its pointers where sound is in eight planes or more.
        packed = np.ascontiguousarray(sound.T, np.float32).reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(packed, format="flt", layout=layout)
        frame.sample_rate, frame.time_base = sound_rate, Fraction(1, sound_rate)
        frame.pts = begins * sound_rate
        output.mux(heard.encode(frame))
        output.mux(heard.encode(None))
    return path


def frame_of(
    planes: Sequence[np.ndarray], pixel_format: str, *, colorspace: int = 2, color_range: int = 0
) -> av.VideoFrame:
    """A picture from its planes, uint8 or uint16; colorspace and color_range in libav's numbers."""
    height, width = planes[0].shape
    frame = av.VideoFrame(width, height, pixel_format)
    for plane, values in zip(frame.planes, planes, strict=True):
        rows = np.frombuffer(plane, values.dtype).reshape(plane.height, -1)
        rows[:, : values.shape[1]] = values
    frame.colorspace, frame.color_range = colorspace, color_range
    return frame


def moving(count: int = 30) -> list[av.VideoFrame]:
    """Pictures that differ."""
    return [
        av.VideoFrame.from_ndarray(picture_with(n, flash=n % 2 == 0), format="rgb24").reformat(format="yuv420p")
        for n in range(count)
    ]
