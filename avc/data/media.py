"""Reads untrusted pictures and recordings: known formats only, with bounds that are checked before memory is allocated.

The bounds of images and of sample rates are those of packing (shards/media/container.py).
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageCms, UnidentifiedImageError

from avc.data.windows import Resampler
from shards.format import SAMPLE_RATE_HZ, SAMPLES_PER_TICK
from shards.media import Rejected
from shards.media.container import check_picture_size
from shards.media.headers import HEIF_BRANDS
from shards.media.streams import stream_sound

FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "GIF", "AVIF")  # Pillow would start Ghostscript for others
EXIF_TRANSPOSES = {  # from stored to displayed orientation, by the EXIF tag Orientation
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
PROFILE_MODES = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}  # Pillow's modes by the color space of a profile
MIN_FRAME_MS, DEFAULT_FRAME_MS = 10, 100  # shorter frames get the default, as in browsers and in FFmpeg for GIF
MAX_FRAME_MS = 3_600_000  # as for videos
MAX_SECONDS = 600  # of a recording: 10 minutes at 48 kHz are 115 MB of float32

warnings.filterwarnings("ignore", module=r"PIL\.")  # sizes (see `check_picture_size`), damaged tags


def read_rgb(path: Path) -> Image.Image:
    """Read a still picture as displayed RGB: see `read_pictures`.

    Raises ValueError, without the path, where the file is no picture, is animated, damaged or too large.
    """
    _require_file(path)
    with path.open("rb") as file:
        picture, seconds = next(read_pictures(file))
    if seconds is not None:
        raise ValueError("it is animated, and a still picture is wanted: give one of its frames as PNG or JPEG")
    return picture


def read_pictures(file: BinaryIO) -> Iterator[tuple[Image.Image, Fraction | None]]:
    """Read the picture of a file as displayed RGB, with None; or the frames of an animation, with seconds of each.

    Applies the EXIF orientation, converts the color profile to sRGB, blends transparency with white and keeps the upper
    8 of 16 bits. Animations are not repeated. Raises ValueError, possibly after some frames, where the file is no
    picture, is damaged or too large.
    """
    start = file.read(12)
    file.seek(0)
    try:
        with Image.open(file, formats=FORMATS) as image:
            check_picture_size(image.width, image.height, Fraction(1))
            # The additional pictures of a JPEG (MPO) are depth maps, gain maps or previews.
            animated = getattr(image, "is_animated", False) and image.format != "MPO"
            if not animated:
                yield _to_display_rgb(image), None
                return
            first = int(getattr(image, "default_image", False))  # a PNG's still picture for viewers without animation
            for number in range(first, image.n_frames):  # type: ignore[attr-defined]
                image.seek(number)
                yield _to_display_rgb(image), _frame_seconds(image)
    except Rejected as error:
        raise ValueError(str(error)) from None
    except UnidentifiedImageError:
        if start[4:8] == b"ftyp" and start[8:12] in HEIF_BRANDS:
            raise ValueError("HEIC is not read: export the picture as JPEG or PNG") from None
        raise ValueError(f"it is no image of a known form: {', '.join(FORMATS)}") from None
    except Exception as error:  # decoders raise many types for damaged files
        raise ValueError(str(error) or type(error).__name__) from None


def _to_display_rgb(image: Image.Image) -> Image.Image:
    image.load()
    transpose_ = EXIF_TRANSPOSES.get(_orientation(image))
    if image.mode.startswith("I"):  # 16-bit gray, which `convert` would clip at 255
        converted = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    elif image.has_transparency_data:
        rgba = image.convert("RGBA")
        converted = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    else:
        converted = image if image.mode in PROFILE_MODES.values() else image.convert("RGB")
    rgb = _to_srgb(converted, image.info.get("icc_profile"))
    return rgb if transpose_ is None else rgb.transpose(transpose_)


def _to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    if profile:
        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            if PROFILE_MODES.get(source.profile.xcolor_space.strip()) == image.mode:
                converted = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
                assert converted is not None
                return converted
        except (OSError, ImageCms.PyCMSError):
            pass  # a damaged profile is ignored, as in viewers
    return image.convert("RGB")


def _orientation(image: Image.Image) -> int:
    try:
        tag: int = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # a damaged tag is ignored, as in viewers
        return 1
    return tag


def _frame_seconds(image: Image.Image) -> Fraction:
    """Duration of the current frame of an animation."""
    duration_ms = image.info.get("duration", 0)
    if duration_ms > MAX_FRAME_MS:
        raise ValueError(f"one of its pictures is shown for {duration_ms / 1000:,.0f} s")
    return Fraction(duration_ms if duration_ms > MIN_FRAME_MS else DEFAULT_FRAME_MS).limit_denominator(10_000) / 1000


def stream_mono(source: Path | BinaryIO, rate: int) -> Iterator[NDArray[np.float32]]:
    """Stream the sound of a recording or video at `rate` Hz in pieces: float32 (samples,), usually in [-1, 1].

    Channels are mixed as in `shards.media.streams.stream_sound`. Raises shards.media.Rejected, possibly after some
    pieces.
    """
    resampler, source_rate = Resampler(rate, rate), 0
    empty = np.zeros(0, np.float32)
    for sound, new_rate in stream_sound(source):
        if new_rate != source_rate:
            if source_rate:
                yield resampler.push(empty, last=True)
            resampler, source_rate = Resampler(new_rate, rate), new_rate
        yield resampler.push(sound)
    yield resampler.push(empty, last=True)


def read_mono(path: Path, rate: int) -> NDArray[np.float32]:
    """Read a complete recording at `rate` Hz by `stream_mono`: float32 (samples,).

    Raises ValueError, without the path, where it has no sound, is damaged, or is longer than MAX_SECONDS.
    """
    _require_file(path)
    pieces, samples = [], 0
    try:
        for piece in stream_mono(path, rate):
            pieces.append(piece)
            samples += len(piece)
            if samples > MAX_SECONDS * rate:
                raise ValueError(f"too large: it lasts longer than {MAX_SECONDS} s")
    except Rejected as error:
        raise ValueError(str(error)) from None
    return np.concatenate(pieces)


def read_loudest_second(path: Path) -> NDArray[np.int16]:
    """Read the second of a recording with the most energy, at 48 kHz: int16 (48000,).

    Raises ValueError as `read_mono`, and where the recording is shorter than a second.
    """
    audio = read_mono(path, SAMPLE_RATE_HZ)
    if len(audio) < SAMPLE_RATE_HZ:
        raise ValueError(f"it lasts {len(audio) / SAMPLE_RATE_HZ:.2f} s, and the network takes a second at a time")
    return loudest_second(audio)


def loudest_second(audio: NDArray[np.float32]) -> NDArray[np.int16]:
    """The second of audio at 48 kHz with the most energy, starting at a multiple of 0.04 s: int16 (48000,)."""
    energy = np.concatenate([[0], np.cumsum(audio.astype(np.float64) ** 2)])
    starts = np.arange(0, len(audio) - SAMPLE_RATE_HZ + 1, SAMPLES_PER_TICK)
    start = int(starts[np.argmax(energy[starts + SAMPLE_RATE_HZ] - energy[starts])])
    second = audio[start : start + SAMPLE_RATE_HZ] * 32768
    return second.round().clip(-32768, 32767).astype(np.int16)


def _require_file(path: Path) -> None:
    if not path.exists():
        raise ValueError("there is no such file")
    if not path.is_file():
        raise ValueError("it is not a regular file")
