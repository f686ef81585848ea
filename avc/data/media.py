"""Pictures and recordings that somebody else made: of known forms only, and bounded before memory is taken for them.

The bounds of images and of sample rates are those of packing (shards/media/container.py).
"""

from __future__ import annotations

import os
import warnings
from fractions import Fraction
from pathlib import Path

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from shards.file_slice import Descriptor, Window
from shards.format import SAMPLE_RATE_HZ, SAMPLES_PER_TICK
from shards.media import Rejected
from shards.media.container import bound_picture, bound_sound
from shards.media.heads import heads_in

FORMS = ("JPEG", "PNG", "BMP", "WEBP", "GIF")  # Pillow would start Ghostscript for others
MAX_SECONDS = 600  # of a recording: 10 minutes at 48 kHz are 115 MB of float32
MAX_SAMPLES = 2**26  # of a recording's channels together
_UNKNOWN = 2**62  # libsndfile's number of samples is above this where a stream does not tell

warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)  # `bound_picture` decides


def read_rgb(path: Path) -> Image.Image:
    """An image in RGB. Raises ValueError, without the path, for what is none, is damaged or is too large."""
    _refuse_other_than_files(path)
    try:
        with Image.open(path, formats=FORMS) as image:
            bound_picture(image.width, image.height, Fraction(1))
            return image.convert("RGB")
    except Rejected as error:
        raise ValueError(str(error)) from None
    except UnidentifiedImageError:
        raise ValueError(f"it is no image of a known form: {', '.join(FORMS)}") from None
    except Exception as error:  # its decoders meet strange files with a dozen kinds
        raise ValueError(str(error) or type(error).__name__) from None


def read_mono(path: Path) -> tuple[NDArray[np.float32], int]:
    """A recording as float32 (samples,), the mean of its channels, usually in [-1, 1]; and its sample rate in Hz.

    Of recordings that were joined by their bytes, as chained Ogg is, all of them one after the other, at the rate of
    the first. Raises ValueError, without the path, for what libsndfile cannot decode, for no samples, for samples that
    are not finite, and for more than MAX_SECONDS or MAX_SAMPLES of them.
    """
    _refuse_other_than_files(path)
    rate, seconds = 0, 0.0
    joined: list[NDArray[np.float32]] = []
    try:
        for recording in _recordings(path):  # libsndfile reads the first alone
            with soundfile.SoundFile(recording) as file:
                bound_sound(file.samplerate, file.channels)
                rate = rate or int(file.samplerate)
                _bound_length(file, rate=rate, before=seconds)  # before memory is taken for as many as it claims
                mono: NDArray[np.float32] = file.read(dtype="float32", always_2d=True).mean(axis=1)
                seconds += file.frames / file.samplerate
                joined.append(mono if file.samplerate == rate else soxr.resample(mono, file.samplerate, rate))
    except Rejected as error:
        raise ValueError(str(error)) from None
    except soundfile.LibsndfileError as error:
        raise ValueError(error.error_string) from None  # str() has the path before it
    except (soundfile.SoundFileError, OSError, RuntimeError, TypeError) as error:
        raise ValueError(str(error)) from None
    mono = joined[0] if len(joined) == 1 else np.concatenate(joined)
    if not len(mono):
        raise ValueError("it holds no samples")
    if not np.isfinite(mono).all():
        raise ValueError("it holds samples that are not finite")
    return mono, rate


def _recordings(path: Path) -> list[bytes | Window]:
    with path.open("rb") as file:
        heads = heads_in(file)
    if len(heads) == 1:
        return [os.fsencode(path)]
    content, ends = Descriptor(path), [*heads[1:], path.stat().st_size]
    return [Window(content, offset=begin, size=end - begin) for begin, end in zip(heads, ends, strict=True)]


def read_loudest_second(path: Path) -> NDArray[np.int16]:
    """The second of a recording with the most energy, at 48 kHz: int16 (48000,). Raises ValueError as `read_mono`.

    Also where the recording is shorter than that.
    """
    mono, rate = read_mono(path)
    audio: NDArray[np.float32] = soxr.resample(mono, rate, SAMPLE_RATE_HZ)
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


def _bound_length(file: soundfile.SoundFile, *, rate: int, before: float) -> None:
    """Of a recording that will be resampled to `rate` and follows `before` seconds of others."""
    if file.frames >= _UNKNOWN:
        raise ValueError("it does not tell how many samples it holds; encode it to a file, not to a pipe")
    seconds = before + file.frames / file.samplerate
    if seconds > MAX_SECONDS or max(file.frames * file.channels, seconds * rate) > MAX_SAMPLES:
        raise ValueError(
            f"too large: {file.frames:,} samples in {file.channels} channels at {file.samplerate:,} Hz"
            f"{f' after {before:.0f} s of others' if before else ''}; at most "
            f"{MAX_SECONDS} s and {MAX_SAMPLES:,} samples of all channels are read"
        )


def _refuse_other_than_files(path: Path) -> None:
    if not path.exists():
        raise ValueError("there is no such file")
    if not path.is_file():
        raise ValueError("it is not a regular file")
