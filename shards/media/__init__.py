"""A video file becomes pictures on the tick grid and 48 kHz mono sound, by time stamps and nothing else.

The only package in shards and avc that imports av. Two passes over the clip's part of the file, pictures first: they
say where time zero is and how long the clip lasts, so that the second pass keeps only the sound that belongs to it.

Nothing that a file says about itself is trusted: containers come from a list of formats that hold their own streams,
no other file or address can be opened, sizes are bounded before anything is decoded, and the stamps of decoded pictures
and sound rule over declared rates and durations.
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
from shards.media.clip import Clip, Rejected, refuse_useless
from shards.media.container import File, examine
from shards.media.decoding import SEEK_FROM_SECONDS
from shards.media.pictures import Hidden, edits_in, read_pictures
from shards.media.sound import channel_levels, read_sound, side_level
from shards.media.sync import measure_sync
from shards.sync import Sync

__all__ = ["Clip", "Rejected", "read", "read_side_level", "read_sync"]

T = TypeVar("T")

av.logging.set_level(None)  # many decoders' lines on one stderr help nobody: Rejected and Clip.source say what matters


def read(source: Path | BinaryIO, settings: PackSettings) -> Clip:
    """Reads the clip that `settings` names out of a video file, which must be seekable.

    Raises Rejected for everything that cannot be packed.
    """
    return _with_file(source, partial(_read, settings=settings))


def read_sync(source: Path | BinaryIO, *, seconds: float = math.inf) -> Sync:
    """Measures how the sound of a video file, which must be seekable, lies to its pictures, over its first `seconds`.

    Raises Rejected for everything that has no time line, as `read` does.
    """
    return _with_file(source, partial(measure_sync, seconds=seconds))


def read_side_level(source: Path | BinaryIO, *, seconds: float) -> float | None:
    """How far two channels of a file's sound differ, dB, as `side_level` says; raises Rejected as `read` does."""
    return _with_file(source, partial(side_level, seconds=seconds))


def _with_file(source: Path | BinaryIO, work: Callable[[File], T]) -> T:
    with bytes_of(source) as content:
        try:
            return work(File(content))
        except Hidden:
            return work(File(content, edit_lists=False))


@contextlib.contextmanager
def bytes_of(source: Path | BinaryIO) -> Iterator[BinaryIO]:
    """A file's content; in the block libav's errors become Rejected."""
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
    with file.opened() as container:
        declared = examine(container)
        frames = read_pictures(file, container, settings=settings, seek=seek, declared=declared)
        unread = container if edits_in(file, container) else None
        known = len(file.parts)
        sound = read_sound(file, unread, start=frames.start, ticks=frames.limit, seek=seek)
    ticks = timeline.held_ticks(frames.ticks, -(-sound.ends // SAMPLES_PER_TICK), limit=frames.limit)
    if not ticks:
        raise Rejected(Reason.TOO_SHORT, f"its pictures end before {settings.start_seconds} s")
    if len(file.parts) > max(1, known):  # told by the sound alone: the pictures were read by their own stamps
        return _read(file, settings)
    parts = {"parts": len(file.parts)} if len(file.parts) > 1 else {}
    sound = sound.first(ticks)
    facts = frames.finish(ticks)
    clip = Clip(
        pictures=frames.camera.pictures,
        width=frames.camera.width,
        height=frames.camera.height,
        ticks=ticks,
        sound=sound.samples,
        sound_from=sound.begins,
        sound_to=sound.ends,
        source=declared.container | {"video": declared.video | facts, "audio": declared.audio | sound.facts} | parts,
        flow=frames.camera.flow,
    )
    levels = partial(channel_levels, file, start=frames.start, ticks=ticks, seek=seek)
    refuse_useless(clip, settings, difference=frames.camera.difference, channel_levels=levels)
    return clip
