"""Small real videos, rendered for the tests that need files to pack."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np

FRAME_RATE = 25
SAMPLE_RATE = 48_000


def render_video(
    path: Path, *, seed: int, seconds: float = 2.0, sound: bool = True, silent: bool = False, still: bool = False
) -> Path:
    """Write a 64 x 48 MPEG-4 video of noise that drifts, with noise to hear: `seed` makes it unlike any other."""
    rng = np.random.default_rng(seed)
    picture = np.full((48, 64, 3), seed, np.uint8) if still else rng.integers(0, 256, (48, 64, 3), dtype=np.uint8)
    noise = rng.integers(-8000, 8000, int(seconds * SAMPLE_RATE)).astype(np.int16) * (not silent)
    with av.open(str(path), "w", format="matroska" if path.suffix == ".mkv" else "mp4") as container:
        video = container.add_stream("mpeg4", rate=FRAME_RATE)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        audio = container.add_stream("aac", rate=SAMPLE_RATE, layout="mono") if sound else None
        for number in range(round(seconds * FRAME_RATE)):
            frame = av.VideoFrame.from_ndarray(np.roll(picture, number, axis=1), format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, FRAME_RATE)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        if audio is not None:
            frame = av.AudioFrame.from_ndarray(noise[None], format="s16", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = SAMPLE_RATE, 0, Fraction(1, SAMPLE_RATE)
            container.mux(audio.encode(frame))
            container.mux(audio.encode(None))
    return path


def render_folder(folder: Path, *, videos: int) -> Path:
    """A folder of `videos` videos that can be packed."""
    folder.mkdir(parents=True, exist_ok=True)
    for seed in range(videos):
        render_video(folder / f"video-{seed:02d}.mp4", seed=seed)
    return folder
