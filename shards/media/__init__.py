"""Decodes a video file into pictures on the tick grid and 48 kHz mono sound, by their timestamps alone.

The only package in shards and avc that imports av. It makes two passes over the clip's part of the file. The first
decodes the pictures, which define time zero and the clip's length; the second decodes the sound of that interval.

Files are untrusted: only self-contained formats are opened, no other file or address can be opened, sizes are bounded
before anything is decoded, and the timestamps of decoded pictures and sound override declared rates and durations.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import BinaryIO, TypeVar

import av

from shards.format import SAMPLES_PER_TICK, PackSettings, Reason
from shards.media import timeline
from shards.media.clip import Clip, Rejected, reject_unusable
from shards.media.container import File, read_declaration
from shards.media.decoding import SEEK_FROM_SECONDS
from shards.media.pictures import BadEditList, read_pictures, video_edits
from shards.media.sound import channel_levels, read_sound, side_level
from shards.media.sync import measure_sync
from shards.sync import Sync

__all__ = ["Clip", "Rejected", "read", "read_side_level", "read_sync"]

T = TypeVar("T")

av.logging.set_level(None)  # decoders' messages mix on one stderr; Rejected and Clip.source have what matters


def read(source: Path | BinaryIO, settings: PackSettings) -> Clip:
    """Decodes the clip that `settings` selects from a seekable video file.

    Raises Rejected for a file that cannot be packed.
    """
    return _open_and_call(source, partial(_read, settings=settings))


def read_sync(source: Path | BinaryIO, *, seconds: float = math.inf) -> Sync:
    """Measures the synchronization of sound and pictures over the first `seconds` of a seekable video file.

    Raises Rejected as `read` does.
    """
    return _open_and_call(source, partial(measure_sync, seconds=seconds))


def read_side_level(source: Path | BinaryIO, *, seconds: float) -> float | None:
    """`side_level` (dB) of the first `seconds` of a file's sound; raises Rejected as `read` does."""
    return _open_and_call(source, partial(side_level, seconds=seconds))


def _open_and_call(source: Path | BinaryIO, function: Callable[[File], T]) -> T:
    with open_content(source) as content:
        try:
            return function(File(content))
        except BadEditList:
            return function(File(content, edit_lists=False))


@contextlib.contextmanager
def open_content(source: Path | BinaryIO) -> Iterator[BinaryIO]:
    """Open a file's content; libav's errors in the block become Rejected."""
    try:
        opened = source.open("rb") if isinstance(source, Path) else contextlib.nullcontext(source)
    except OSError as error:
        raise Rejected(Reason.UNREADABLE, str(error)) from error
    try:
        with opened as content:
            yield content
    except av.error.MemoryError as error:
        raise Rejected(Reason.TOO_LARGE, "decoding it takes more memory than there is") from error
    except av.error.FFmpegError as error:
        raise Rejected(Reason.UNDECODABLE, f"libav gave up: {error.strerror}") from error


def _read(file: File, settings: PackSettings) -> Clip:
    seek = settings.start_seconds >= SEEK_FROM_SECONDS
    with file.open() as container:
        declared = read_declaration(container)
        frames = read_pictures(file, container, settings=settings, seek=seek, declared=declared)
        fresh_container = container if video_edits(file, container) else None
        parts_before = len(file.parts)
        sound = read_sound(file, fresh_container, start=frames.start, ticks=frames.limit, seek=seek)
    ticks = timeline.clip_ticks(frames.ticks, -(-sound.end_sample // SAMPLES_PER_TICK), limit=frames.limit)
    if not ticks:
        raise Rejected(Reason.TOO_SHORT, f"its pictures end before {settings.start_seconds} s")
    if len(file.parts) > max(1, parts_before):  # only the sound revealed them: read the pictures again
        return _read(file, settings)
    parts = {"parts": len(file.parts)} if len(file.parts) > 1 else {}
    sound = sound.trim(ticks)
    picture_facts = frames.finish(ticks)
    clip = Clip(
        pictures=frames.encoder.pictures,
        width=frames.encoder.width,
        height=frames.encoder.height,
        ticks=ticks,
        sound=sound.samples,
        sound_from=sound.start_sample,
        sound_to=sound.end_sample,
        source=declared.container
        | {"video": declared.video | picture_facts, "audio": declared.audio | sound.facts}
        | parts,
        flow=frames.encoder.flow,
    )
    levels = partial(channel_levels, file, start=frames.start, ticks=ticks, seek=seek)
    reject_unusable(clip, settings, difference=frames.encoder.difference, channel_levels=levels)
    return clip
