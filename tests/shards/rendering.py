"""Videos of which every picture and every sound is known: those of the decoders' audit, and any others."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import simplejpeg

from workshop.decoders.flash_and_beep import OPTIONS, picture_with


def luma_of(jpeg: bytes) -> np.ndarray:
    return simplejpeg.decode_jpeg(jpeg, colorspace="GRAY")[:, :, 0]


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
    fields: bool = False,
) -> Path:
    """Writes given pictures at a constant rate, and float sound (channels, samples), noise where none is given.

    `turn` is how the pictures are to be shown: degrees counterclockwise, then mirrored or not. The stamps begin at
    `begins` seconds. With `fields`, mpeg2video says that the lines of each picture are of two instants.
    """
    if sound is None:
        sound = np.random.default_rng(0).normal(0, 0.1, (1, len(pictures) * sound_rate // rate))
    with av.open(str(path), "w") as output:
        options = OPTIONS.get(video, {}) | ({"flags": "+ildct+ilme", "b": "8M"} if fields else {})
        shown = output.add_stream(video, rate=rate, options=options)
        first = pictures[0]
        shown.width, shown.height, shown.pix_fmt = first.width, first.height, first.format.name
        context = shown.codec_context
        context.thread_count = 1
        context.colorspace, context.color_range = first.colorspace, first.color_range
        context.color_trc, context.color_primaries = first.color_trc, first.color_primaries
        if pixel_aspect:
            context.sample_aspect_ratio = pixel_aspect
        if turn:
            shown.set_display_rotation(turn[0], hflip=turn[1])
        heard = output.add_stream(audio, rate=sound_rate, layout=layout)
        if audio.startswith("wma"):
            heard.bit_rate = 128_000  # has no default
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
