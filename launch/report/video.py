"""A clip as a file: H.264 frames at a constant rate and AAC audio, both from time zero."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray


def write_video(
    path: Path,
    images: Iterable[NDArray[np.uint8]],
    *,
    frame_rate: Fraction,
    size: tuple[int, int],
    audio: NDArray[np.float32],
    sample_rate_hz: int,
) -> None:
    """Encode images, uint8 [height, width, 3], and mono audio, float32 [samples]; equal inputs give equal bytes."""
    # Absolute, or what stands before a colon would be taken for a protocol.
    with av.open(path.absolute(), "w", options={"fflags": "+bitexact"}) as container:
        video = container.add_stream("libx264", rate=frame_rate, options={"preset": "ultrafast", "crf": "20"})
        video.width, video.height = size
        video.pix_fmt = "yuv420p"
        video.codec_context.thread_count = 1  # the bytes do not depend on the machine; the workers fill its cores
        sound = container.add_stream("aac", rate=sample_rate_hz, layout="mono", options={"aac_coder": "fast"})
        sound.bit_rate = 96_000
        for stream in (video, sound):
            stream.codec_context.flags |= av.codec.context.Flags.bitexact
        for number, image in enumerate(images):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = number, 1 / frame_rate
            container.mux(video.encode(frame))
        samples = av.AudioFrame.from_ndarray(audio[None], format="fltp", layout="mono")
        samples.sample_rate, samples.pts, samples.time_base = sample_rate_hz, 0, Fraction(1, sample_rate_hz)
        container.mux(sound.encode(samples))
        container.mux(video.encode())
        container.mux(sound.encode())
