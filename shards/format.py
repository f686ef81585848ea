"""Defines the format of the dataset on disk.

A packed folder holds::

    manifest.json       format version, packing settings, shards with sizes and checksums, counts
    clips.npy           the index: one CLIP row per record, sorted by key
    pictures.npy        start of each picture in its `.mjpeg` member (uint32)
    flow.npy            the same for `.flow.mjpeg`, if optical flow was packed
    journal.jsonl       one line per input: its record's key, or the reason of its rejection
    rejected.tsv        the rejected inputs with reason and detail, for people
    train-000000.tar    ordinary WebDataset shards, one series per split
    ...

A folder that was packed as several tasks (shards/tasks.py) has one folder per task with its shards and journal; the
other files cover all tasks.

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

# Version of the records' content and order at equal settings; a resumed packing keeps its version.
# 2: chroma of limited range and of RGB is no longer half a level low, interlaced frames give the lines of one field
# instead of both, and a record notes interlaced and HDR video. Records are in the order of a hash instead of the
# sources' names (`shards.sources.in_packing_order`).
PACKING_VERSION = 2
MIXED_FROM = 2  # the first version with records in the order of a hash

TICKS_PER_SECOND = 25
SAMPLE_RATE_HZ = 48_000
SAMPLES_PER_TICK = SAMPLE_RATE_HZ // TICKS_PER_SECOND  # 1,920, exactly
HALF_SECOND_SAMPLES = SAMPLE_RATE_HZ // 2

# Optical flow is stored in 8-bit levels: the level of no motion, and levels per pixel of the stored picture.
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
        ("every", "u4"),  # the picture of every `every`-th tick is kept
        ("width", "u2"),  # of the stored pictures, pixels
        ("height", "u2"),
        ("first_picture", "u8"),  # row of pictures.npy; the clip owns ceil(ticks / every) + 1 rows there
        ("sound_from", "u4"),  # samples before this one are padding
        ("sound_to", "u4"),  # samples from this one on are padding
        ("mjpeg_offset", "u8"),  # byte offsets of the members' contents in the tar file, their sizes in bytes
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
    """Reasons for rejecting an input: a closed list."""

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
    """Settings of a packing. Packings with equal settings give equal records."""

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

    def to_json(self) -> dict[str, Any]:
        """The settings as JSON values, without the later fields where they have their first default."""
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

    @property
    def columns(self) -> dict[str, str]:
        """What the index calls each member of a record, by its extension."""
        return {"json": "json", "mjpeg": "mjpeg", self.sound: "sound"} | ({"flow.mjpeg": "flow"} if self.flow else {})


def check_settings(settings: PackSettings) -> None:
    """Raise ValueError for an invalid setting."""
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
    for name, valid, requirement in rules:
        if not valid:
            raise ValueError(f"the setting {name} is {getattr(settings, name)!r} and must be {requirement}")


def picture_count(ticks: int, every: int) -> int:
    """Number of pictures that a clip of `ticks` ticks stores when every `every`-th is kept."""
    return -(-ticks // every)


def centers(*, ticks: int, sound_from: int, sound_to: int) -> range:
    """Ticks of the clip that are the center of one second of its sound.

    A second of sound is drawn around such a tick k: samples [1920 k - 24000, 1920 k + 24000) lie inside the clip, and
    except for at most one tick at either end inside [sound_from, sound_to), since the sound of many videos ends some
    hundredths of a second before their pictures. Frames are drawn from these ticks, too. A clip without any is too
    short.
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
    """The first sample of the second of audio around a tick."""
    return tick * SAMPLES_PER_TICK - HALF_SECOND_SAMPLES
