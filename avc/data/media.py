"""Pictures and recordings that somebody else made: of known forms only, and bounded before memory is taken for them.

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
from shards.media.streams import stream_sound

FORMS = ("JPEG", "PNG", "BMP", "WEBP", "GIF", "AVIF")  # Pillow would start Ghostscript for others
TURNS = {  # the EXIF tag Orientation: how the stored picture becomes the one that is shown
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
HEIF = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")  # HEIC's, but for AVIF's own
SPACES = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}  # of color profiles, and Pillow's modes that they are of
SHORTEST_MS, USUAL_MS = 10, 100  # browsers, and FFmpeg for GIF, show a picture this long that is stamped shorter
LONGEST_MS = 3_600_000  # as of a video's picture
MAX_SECONDS = 600  # of a recording: 10 minutes at 48 kHz are 115 MB of float32

warnings.filterwarnings("ignore", module=r"PIL\.")  # sizes (see `check_picture_size`), damaged tags


def begins_like_picture(head: bytes) -> bool:
    """Whether a file that begins with these 12 bytes is a picture, of FORMS or HEIC, rather than sound or video."""
    if head[4:8] == b"ftyp":
        return head[8:12] in (b"avif", b"avis", *HEIF)
    return head.startswith((b"\xff\xd8\xff", b"\x89PNG", b"BM", b"GIF8")) or (head[:4], head[8:]) == (b"RIFF", b"WEBP")


def read_rgb(path: Path) -> Image.Image:
    """A still picture in RGB, as a viewer shows it: see `read_pictures`.

    Raises ValueError, without the path, for what is none, is animated, damaged or too large.
    """
    _refuse_other_than_files(path)
    with path.open("rb") as file:
        picture, lasts = next(read_pictures(file))
    if lasts is not None:
        raise ValueError("it is animated, and a still picture is wanted: give one of its frames as PNG or JPEG")
    return picture


def read_pictures(file: BinaryIO) -> Iterator[tuple[Image.Image, Fraction | None]]:
    """The picture of a file in RGB, as a viewer shows it, and None; or those of an animation, and how long, in seconds.

    Turned as its EXIF tag says, brought from its color profile to sRGB, what is transparent on white, of 16 bits the
    upper 8. An animation is shown once. Raises ValueError, perhaps after some pictures, for what is no picture, is
    damaged or is too large.
    """
    head = file.read(12)
    file.seek(0)
    try:
        with Image.open(file, formats=FORMS) as image:
            check_picture_size(image.width, image.height, Fraction(1))
            # Of a JPEG the pictures behind the first are other views of it: a depth map, a gain map, a preview.
            animated = getattr(image, "is_animated", False) and image.format != "MPO"
            if not animated:
                yield _as_shown(image), None
                return
            first = int(getattr(image, "default_image", False))  # of a PNG: what is shown where nothing moves
            for number in range(first, image.n_frames):  # type: ignore[attr-defined]
                image.seek(number)
                yield _as_shown(image), _seconds(image)
    except Rejected as error:
        raise ValueError(str(error)) from None
    except UnidentifiedImageError:
        if head[4:8] == b"ftyp" and head[8:12] in HEIF:
            raise ValueError("HEIC is not read: export the picture as JPEG or PNG") from None
        raise ValueError(f"it is no image of a known form: {', '.join(FORMS)}") from None
    except Exception as error:  # its decoders meet strange files with a dozen kinds
        raise ValueError(str(error) or type(error).__name__) from None


def _as_shown(image: Image.Image) -> Image.Image:
    image.load()
    turn = TURNS.get(_orientation(image))
    if image.mode.startswith("I"):  # gray of 16 bits, which `convert` would cut off at 255
        flat = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    elif image.has_transparency_data:
        rgba = image.convert("RGBA")
        flat = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    else:
        flat = image if image.mode in SPACES.values() else image.convert("RGB")
    shown = _in_srgb(flat, image.info.get("icc_profile"))
    return shown if turn is None else shown.transpose(turn)


def _in_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    if profile:
        try:
            known = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            if SPACES.get(known.profile.xcolor_space.strip()) == image.mode:
                shown = ImageCms.profileToProfile(image, known, ImageCms.createProfile("sRGB"), outputMode="RGB")
                assert shown is not None
                return shown
        except (OSError, ImageCms.PyCMSError):
            pass  # a damaged profile changes nothing, in viewers as here
    return image.convert("RGB")


def _orientation(image: Image.Image) -> int:
    try:
        tag: int = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # a damaged tag turns nothing, in viewers as here
        return 1
    return tag


def _seconds(image: Image.Image) -> Fraction:
    """How long the picture of an animation that was loaded last is shown."""
    lasts = image.info.get("duration", 0)
    if lasts > LONGEST_MS:
        raise ValueError(f"one of its pictures is shown for {lasts / 1000:,.0f} s")
    return Fraction(lasts if lasts > SHORTEST_MS else USUAL_MS).limit_denominator(10_000) / 1000


def stream_mono(source: Path | BinaryIO, rate: int) -> Iterator[NDArray[np.float32]]:
    """The sound of a file, or of a film, at `rate` Hz in pieces: float32 (samples,), usually in [-1, 1].

    `shards.media.streams.stream_sound` says how channels are mixed. Raises shards.media.Rejected, perhaps after some.
    """
    resampler, its_rate = Resampler(rate, rate), 0
    nothing = np.zeros(0, np.float32)
    for sound, new_rate in stream_sound(source):
        if new_rate != its_rate:
            if its_rate:
                yield resampler.push(nothing, last=True)
            resampler, its_rate = Resampler(new_rate, rate), new_rate
        yield resampler.push(sound)
    yield resampler.push(nothing, last=True)


def read_mono(path: Path, rate: int) -> NDArray[np.float32]:
    """A recording at `rate` Hz as `stream_mono` gives it, whole: float32 (samples,).

    Raises ValueError, without the path, for what holds no sound, is damaged, or lasts longer than MAX_SECONDS.
    """
    _refuse_other_than_files(path)
    pieces, held = [], 0
    try:
        for piece in stream_mono(path, rate):
            pieces.append(piece)
            held += len(piece)
            if held > MAX_SECONDS * rate:
                raise ValueError(f"too large: it lasts longer than {MAX_SECONDS} s")
    except Rejected as error:
        raise ValueError(str(error)) from None
    return np.concatenate(pieces)


def read_loudest_second(path: Path) -> NDArray[np.int16]:
    """The second of a recording with the most energy, at 48 kHz: int16 (48000,). Raises ValueError as `read_mono`.

    Also where the recording is shorter than that.
    """
    audio = read_mono(path, SAMPLE_RATE_HZ)
    if len(audio) < SAMPLE_RATE_HZ:
        raise ValueError(f"it lasts {len(audio) / SAMPLE_RATE_HZ:.2f} s, and the network takes a second at a time")
    return loudest_second(audio)


def loudest_second(audio: NDArray[np.float32]) -> NDArray[np.int16]:
    """The second of audio at 48 kHz with the most energy, begun at a multiple of 0.04 s: int16 (48000,)."""
    energy = np.concatenate([[0], np.cumsum(audio.astype(np.float64) ** 2)])
    starts = np.arange(0, len(audio) - SAMPLE_RATE_HZ + 1, SAMPLES_PER_TICK)
    start = int(starts[np.argmax(energy[starts + SAMPLE_RATE_HZ] - energy[starts])])
    second = audio[start : start + SAMPLE_RATE_HZ] * 32768
    return second.round().clip(-32768, 32767).astype(np.int16)


def _refuse_other_than_files(path: Path) -> None:
    if not path.exists():
        raise ValueError("there is no such file")
    if not path.is_file():
        raise ValueError("it is not a regular file")
