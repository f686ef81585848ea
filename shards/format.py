"""The contract of the dataset on disk, in one place.

A packed folder holds::

    manifest.json       what is here: format version, packing settings, shards with sizes and checksums, counts
    clips.npy           the index: one CLIP row per record, sorted by key
    pictures.npy        where each picture starts inside its `.mjpeg` member (uint32)
    flow.npy            the same of `.flow.mjpeg`, where optical flow was packed
    journal.jsonl       one line per input: packed under which key, or rejected for which reason
    rejected.tsv        the rejected inputs with reason and detail, for people
    train-000000.tar    ordinary WebDataset shards, one series per split
    ...

A folder that was packed as several tasks (shards/tasks.py) has the shards and the journals in one folder a task, and
the other files over all of them.

A record is three members: ``KEY.json``, ``KEY.mjpeg`` and ``KEY.wav`` (or ``KEY.flac``); with optical flow a fourth,
``KEY.flow.mjpeg`` (shards/flow.py).

Time is an integer. One tick is 0.04 s: one picture at 25 frames per second, 1,920 samples at 48 kHz (Objects that
Sound, section 3.3). Tick 0 is the first picture of the clip.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

import numpy as np

FORMAT_VERSION = 1

# How records are made and ordered, by the same settings: a packing ends as the version that it was begun with.
# 2: chroma of limited range and of RGB is no longer half a level low, interlaced frames give the lines of one field
# instead of both, and a record says that its video is interlaced or HDR. Records lie in the order of a hash and not of
# the sources' names (`shards.sources.in_packing_order`).
PACKING_VERSION = 2
MIXED_FROM = 2  # before it, the order was that of the names

TICKS_PER_SECOND = 25
SAMPLE_RATE_HZ = 48_000
SAMPLES_PER_TICK = SAMPLE_RATE_HZ // TICKS_PER_SECOND  # 1,920, exactly
HALF_SECOND_SAMPLES = SAMPLE_RATE_HZ // 2

# Optical flow is stored in levels of 8 bits: no motion, and so many to a pixel of the stored picture.
FLOW_ZERO = 128
FLOW_LEVELS_PER_PIXEL = 127 / 20

MANIFEST = "manifest.json"
CLIPS = "clips.npy"
PICTURES = "pictures.npy"
FLOW = "flow.npy"
JOURNAL = "journal.jsonl"

SPLITS = ("train", "validation", "test")

CLIP = np.dtype(
    [
        ("key", "S32"),  # hexadecimal, from the hash of the video file's content
        ("split", "u1"),  # index into SPLITS
        ("shard", "u4"),  # row of the manifest's list of shards
        ("ticks", "u4"),  # length of the clip
        ("every", "u4"),  # a picture is kept at every `every`-th tick
        ("width", "u2"),  # of the stored pictures, pixels
        ("height", "u2"),
        ("first_picture", "u8"),  # row of pictures.npy; the clip owns ceil(ticks / every) + 1 rows there
        ("sound_from", "u4"),  # samples before this one are padding: the sound had not begun
        ("sound_to", "u4"),  # samples from this one on are padding: the sound had ended
        ("mjpeg_offset", "u8"),  # byte offsets of the members' contents inside the tar file, their sizes in bytes
        ("mjpeg_size", "u8"),  # and their CRC-32
        ("mjpeg_crc", "u4"),
        ("sound_offset", "u8"),
        ("sound_size", "u8"),
        ("sound_crc", "u4"),
        ("json_offset", "u8"),
        ("json_size", "u8"),
        ("json_crc", "u4"),
    ]
)

CLIP_WITH_FLOW = np.dtype(
    [
        *CLIP.descr,
        ("first_flow", "u8"),  # row of flow.npy; the clip owns `ticks` rows there, for ticks - 1 steps
        ("flow_offset", "u8"),
        ("flow_size", "u8"),
        ("flow_crc", "u4"),
    ]
)


class Reason(StrEnum):
    """Why an input was not packed: the whole list, closed."""

    NO_AUDIO_STREAM = "no audio stream"
    NO_VIDEO_STREAM = "no video stream"
    NO_AUDIO_SAMPLES = "no audio samples"
    SILENT = "silent"
    STILL = "still picture"
    TOO_SHORT = "too short"
    TOO_LARGE = "too large"
    UNDECODABLE = "undecodable"
    NOT_MEDIA = "not a media file"
    TIMED_OUT = "timed out"
    DECODER_CRASHED = "decoder crashed"
    DUPLICATE = "duplicate"
    UNREADABLE = "unreadable file"


@dataclass(frozen=True)
class PackSettings:
    """What decides the bytes of a record. Two packings with equal settings give equal records."""

    start_seconds: float = 0.0
    seconds: float = 10.0  # Objects that Sound uses the first 10 s of each video
    side: int = 256  # smallest side of the stored pictures, pixels
    jpeg_quality: int = 90
    every: int = 1  # keep the picture of every n-th tick only
    sound: str = "wav"  # or "flac"
    keep_silent: bool = False
    keep_still: bool = False
    split: tuple[float, float, float] = (0.8, 0.1, 0.1)  # train, validation, test: Flickr-SoundNet's 400k/50k/50k
    flow: bool = False  # store the optical flow from each picture to the next as well
    version: int = PACKING_VERSION

    def written(self) -> dict[str, Any]:
        """The settings for a file, without what is as it was before there was a choice."""
        values = asdict(self)
        if not self.flow:
            del values["flow"]
        if self.version == 1:
            del values["version"]
        return values

    @property
    def clip_type(self) -> np.dtype:
        """The type of the index's rows."""
        return CLIP_WITH_FLOW if self.flow else CLIP


def check_settings(settings: PackSettings) -> None:
    """Raise ValueError for a setting that no packing can have."""
    rules = (
        ("start_seconds", 0 <= settings.start_seconds < math.inf, "0 or more"),
        ("seconds", 1 <= settings.seconds < math.inf, "at least 1: a clip is used a second of sound at a time"),
        ("side", 16 <= settings.side <= 4096, "16 to 4096 pixels"),
        ("jpeg_quality", 1 <= settings.jpeg_quality <= 100, "1 to 100"),
        ("every", 1 <= settings.every < 2**32, "1 to 4,294,967,295: keep the picture of every n-th tick"),
        (
            "flow",
            not settings.flow or settings.every == 1,
            "off unless every picture is kept: it leads from each to the next",
        ),
        ("sound", settings.sound in ("wav", "flac"), "wav or flac"),
        (
            "split",
            len(settings.split) == len(SPLITS)
            and all(share >= 0 for share in settings.split)
            and math.isclose(sum(settings.split), 1.0, abs_tol=1e-6),
            f"three shares for {', '.join(SPLITS)} that add up to 1",
        ),
    )
    for name, holds, wanted in rules:
        if not holds:
            raise ValueError(f"the setting {name} is {getattr(settings, name)!r} and must be {wanted}")


def picture_count(ticks: int, every: int) -> int:
    """Number of pictures that a clip of `ticks` ticks stores when every `every`-th is kept."""
    return -(-ticks // every)


def centers(*, ticks: int, sound_from: int, sound_to: int) -> range:
    """Ticks of the clip around which there is one second of its own sound.

    Sound is drawn with its mid-point on such a tick k: samples [1920 k - 24000, 1920 k + 24000) lie inside the clip,
    and all but at most one tick of them at either end inside [sound_from, sound_to): many a video's sound ends a few
    hundredths of a second before its picture. Frames are drawn there too, so the range is what a clip can be used
    for; a clip for which it is empty is too short.
    """
    begin = max(0, sound_from - SAMPLES_PER_TICK)
    end = min(ticks * SAMPLES_PER_TICK, sound_to + SAMPLES_PER_TICK)
    first = -(-(begin + HALF_SECOND_SAMPLES) // SAMPLES_PER_TICK)
    last = (end - HALF_SECOND_SAMPLES) // SAMPLES_PER_TICK
    return range(first, max(first, last + 1))


def centers_of(clip: np.void) -> range:
    """`centers` of a row of the index."""
    return centers(ticks=int(clip["ticks"]), sound_from=int(clip["sound_from"]), sound_to=int(clip["sound_to"]))


def second_start(tick: int) -> int:
    """The first sample of the second of audio with its mid-point on a tick."""
    return tick * SAMPLES_PER_TICK - HALF_SECOND_SAMPLES
