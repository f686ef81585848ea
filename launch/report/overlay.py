"""What makes this sound? AVOL-Net's map laid over a video or an image."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib import colormaps
from PIL import Image

from avc.data.media import MAX_SECONDS, read_loudest_second, read_rgb
from avc.encoders.trained import Trained
from launch.report.page import ImageArray
from launch.report.video import write_video
from shards import Report
from shards.format import (
    HALF_SECOND_SAMPLES,
    SAMPLE_RATE_HZ,
    SAMPLES_PER_TICK,
    TICKS_PER_SECOND,
    PackSettings,
    centers,
)
from shards.media import Clip, Rejected, read
from shards.read import decode_picture

# A second more than is shown at most: what goes on there is too long. The smallest side is what is shown.
READING = PackSettings(seconds=MAX_SECONDS + 1, side=360, jpeg_quality=95, keep_silent=True, keep_still=True)
OPACITY = 0.65  # of the heat where the map is 1; where it is 0 the image stays as it is
INPUT_SIDE = 1024  # pixels of the smallest side from which an image is reduced before a network takes it
_BATCH = 16
_ROWS = 256


def overlay_video(network: Trained, video: Path, out: Path, *, report: Report) -> int:
    """Write the video with the map over it, one frame a tick of 0.04 s, and with its sound; returns how many ticks.

    Each tick's map is that of its frame and the second of sound around it, or the nearest whole second at the ends. The
    file is H.264 and AAC (mono, 48 kHz) in mp4. Raises ValueError where the video cannot be used.
    """
    if out.suffix != ".mp4":
        raise ValueError(f"--out is {out} and must end in .mp4")
    if out.exists() and video.exists() and out.samefile(video):
        raise ValueError(f"--out is {out}, the video itself; name another file")
    try:
        clip = read(video, READING)
    except Rejected as error:
        raise ValueError(f"{video} cannot be used: {error}") from None
    if clip.ticks > MAX_SECONDS * TICKS_PER_SECOND:
        raise ValueError(
            f"{video} lasts more than {MAX_SECONDS} s, and all of its frames are held in memory: cut it, as "
            f"`ffmpeg -i {video.name} -t {MAX_SECONDS} -c copy part{video.suffix}` does"
        )
    aside = out.with_name(f"{out.stem}.part.mp4")
    write_video(
        aside,
        _overlaid(network, clip, report),
        frame_rate=Fraction(TICKS_PER_SECOND),
        size=(clip.width // 2 * 2, clip.height // 2 * 2),
        audio=clip.sound.astype(np.float32) / np.float32(32768),
        sample_rate_hz=SAMPLE_RATE_HZ,
    )
    aside.replace(out)
    return clip.ticks


def overlay_image(network: Trained, image: Path, sound: Path, out: Path) -> float:
    """Write the image with the map over it for the loudest second of the sound; returns the map's maximum, 0 to 1.

    Raises ValueError where the image or the sound cannot be read, or the sound is shorter than a second.
    """
    try:
        pixels = read_rgb(image)
    except ValueError as error:
        raise ValueError(f"{image} cannot be read as an image: {error}") from None
    try:
        second = read_loudest_second(sound)
    except ValueError as error:
        raise ValueError(f"{sound} cannot be read as sound: {error}") from None
    reduced = pixels.reduce(max(1, min(pixels.size) // INPUT_SIDE))  # in float32 the whole of it may take a gigabyte
    map_ = network.localize(torch.from_numpy(np.array(reduced))[None], torch.from_numpy(second)[None])
    try:
        Image.fromarray(blend(np.asarray(pixels)[None], map_)[0]).save(out)
    except (OSError, ValueError) as error:
        raise ValueError(f"{out} cannot be written: {error}") from None
    return float(map_.max())


def blend(images: ImageArray, maps: torch.Tensor) -> ImageArray:
    """uint8 (N, H, W, 3) images under the heat of float32 (N, H', W') maps, 0 to 1."""
    smooth = F.interpolate(maps[:, None], images.shape[1:3], mode="bilinear")[:, 0].numpy()
    blended = np.empty_like(images)
    for top in range(0, images.shape[1], _ROWS):  # not all at once: float64 takes 20 times the images' memory
        rows = (slice(None), slice(top, top + _ROWS))
        heat = 255 * colormaps["inferno"](smooth[rows])[..., :3]
        cover = OPACITY * smooth[rows][..., None]
        blended[rows] = (images[rows] * (1 - cover) + heat * cover).round()
    return blended


def _overlaid(network: Trained, clip: Clip, report: Report) -> Iterator[ImageArray]:
    usable = centers(ticks=clip.ticks, sound_from=clip.sound_from, sound_to=clip.sound_to)
    for start in range(0, clip.ticks, _BATCH):
        ticks = range(start, min(start + _BATCH, clip.ticks))
        frames = [decode_picture(clip.pictures[tick], width=clip.width, height=clip.height) for tick in ticks]
        images = np.stack(frames)[:, : clip.height // 2 * 2, : clip.width // 2 * 2]
        firsts = [min(max(tick, usable[0]), usable[-1]) * SAMPLES_PER_TICK - HALF_SECOND_SAMPLES for tick in ticks]
        seconds = np.stack([clip.sound[first : first + SAMPLE_RATE_HZ] for first in firsts])
        yield from blend(images, network.localize(torch.from_numpy(images.copy()), torch.from_numpy(seconds)))
        report(ticks.stop, clip.ticks, "")
