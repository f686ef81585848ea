"""Makes a record from a video: the work of a packing process, which may crash or hang."""

from __future__ import annotations

import hashlib
import io
import json
import os
import wave
import zlib
from dataclasses import dataclass
from functools import partial
from typing import Any, BinaryIO

import numpy as np
import soundfile

from shards import media
from shards.format import FLOW_LEVELS_PER_PIXEL, FLOW_ZERO, SAMPLE_RATE_HZ, PackSettings, Reason
from shards.journal import Member, Packed, Rejection
from shards.sources import Source
from shards.workers import attempt

KEY_DIGITS = 32  # hexadecimal: 128 bits of SHA-256, so videos with equal keys are copies

MAX_MJPEG_BYTES = 2**32 - 1  # pictures.npy counts bytes in 32 bits


@dataclass(frozen=True)
class Record:
    """The record of a video, before it is written to a shard."""

    packed: Packed  # its split, shard and offsets are given as it is written
    contents: dict[str, bytes]  # of the members, by extension


def make_record(source: Source, settings: PackSettings) -> Record | Rejection:
    """Read, decode and encode one source."""
    result = attempt(partial(_read, settings=settings), source)
    if isinstance(result, Rejection):
        return result
    key, clip = result
    picture_sizes, flow_sizes = list(map(len, clip.pictures)), list(map(len, clip.flow))
    if max(sum(picture_sizes), sum(flow_sizes)) > MAX_MJPEG_BYTES:
        return Rejection(source, Reason.TOO_LARGE, f"its pictures take {sum(picture_sizes):,} bytes")
    contents = {
        "json": _json_member(source, key, clip, settings),
        "mjpeg": b"".join(clip.pictures),
        settings.sound: encode_sound(clip.sound, settings.sound),
    }
    if settings.flow:
        contents["flow.mjpeg"] = b"".join(clip.flow)
    packed = Packed(
        source=source,
        key=key,
        split="",
        shard="",
        end=0,
        ticks=clip.ticks,
        width=clip.width,
        height=clip.height,
        sound_from=clip.sound_from,
        sound_to=clip.sound_to,
        members={name: Member(0, len(content), zlib.crc32(content)) for name, content in contents.items()},
        picture_sizes=picture_sizes,
        flow_sizes=flow_sizes,
    )
    return Record(packed, contents)


def _read(file: BinaryIO, settings: PackSettings) -> tuple[str, media.Clip]:
    key = hashlib.file_digest(file, "sha256").hexdigest()[:KEY_DIGITS]  # type: ignore[arg-type]
    file.seek(0)
    return key, media.read(file, settings)


def encode_sound(sound: np.ndarray, sound_format: str) -> bytes:
    """Mono int16 samples at 48 kHz as a file: "wav" (44 bytes of header, then the samples) or "flac" (lossless)."""
    stream = io.BytesIO()
    if sound_format == "flac":
        soundfile.write(stream, sound, SAMPLE_RATE_HZ, format="FLAC", subtype="PCM_16")
    else:
        with wave.open(stream, "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(SAMPLE_RATE_HZ)
            file.writeframes(sound.astype("<i2").tobytes())
    return stream.getvalue()


def _json_member(source: Source, key: str, clip: media.Clip, settings: PackSettings) -> bytes:
    """The JSON member. It is independent of the machine, so equal videos give equal bytes."""
    content: dict[str, Any] = {
        "key": key,
        "name": os.fsencode(source.basename).decode("utf-8", "replace"),
        "ticks": clip.ticks,
        "every": settings.every,
        "width": clip.width,
        "height": clip.height,
        "sound": {
            "format": settings.sound,
            "rate": SAMPLE_RATE_HZ,
            "samples": len(clip.sound),
            "from": clip.sound_from,
            "to": clip.sound_to,
        },
        "source": clip.source,
    }
    if settings.flow:
        from shards.media.flow import METHOD  # which imports OpenCV

        content["flow"] = {"method": METHOD, "zero": FLOW_ZERO, "levels_per_pixel": FLOW_LEVELS_PER_PIXEL}
    return json.dumps(content, indent=1, sort_keys=True).encode("ascii") + b"\n"
