"""What encoders are given: packed clips, recordings and pictures, as rows of tensors.

Of packed clips either random views, a frame and the second of audio around it, or every second, which overlap by about
half: the audio of the second, and the frame in its middle. Each network's protocol is that of its own paper.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from avc.data.media import read_mono, read_rgb
from avc.data.preprocessing import center_crop
from avc.data.reader import PairReader
from avc.data.sampler import Integers, PairRows, PairSampler
from avc.data.segments import sound_ticks, student_sound
from avc.data.windows import mono, resample
from avc.encoders.cache import Identity, Inputs, Unreadable, file_identity
from avc.encoders.encoder import AudioEncoder, ImageEncoder
from avc.encoders.trained import Trained
from shards import Report
from shards.format import SAMPLE_RATE_HZ, SAMPLES_PER_TICK, PackSettings, centers_of, second_start
from shards.read import BadRecord, Shards

Floats = NDArray[np.float32]

SLIGHT = 0.001
SPACING_TICKS = 12
CONTEXT_SECONDS = 3.0  # of audio that an encoder of any length hears around a second
_BATCH = 64


@dataclass(frozen=True)
class ClipEmbeddings:
    """Embeddings of V views, each a frame and its second of audio.

    clip, tick: int64 (V,), row of the index and tick of the frame; sorted by clip. image, audio: float32 (V, D), D 0
    where the network does not see, or does not hear.
    """

    clip: Integers
    tick: Integers
    image: Floats
    audio: Floats


def views_of(sampler: PairSampler, start: int, stop: int) -> PairRows:
    """Views [start, stop) of a plan of independent pairs: its positives alone, each clip once in len(sampler.clips)."""
    rows = sampler.rows(2 * start, 2 * stop)
    pairs = np.arange(stop - start)
    positives = {name: column[::2] for name, column in vars(rows).items()}
    return PairRows(**positives | {"pair_frame": pairs, "pair_audio": pairs})


def drawn_views(network: Trained, shards: Shards, clips: Integers, *, passes: int = 1) -> tuple[Integers, Integers]:
    """Clips and ticks of the frames that `embed_clips` embeds, in its order: int64 (V,) each."""
    rows = views_of(_sampler(network, shards, clips), 0, passes * len(clips))
    order = np.argsort(rows.frame_clip, kind="stable")
    return rows.frame_clip[order], rows.frame_tick[order]


@torch.no_grad()
def embed_clips(
    network: Trained, shards: Shards, clips: Integers, *, passes: int = 1, report: Report | None = None
) -> ClipEmbeddings:
    """Embed `passes` random views of each clip, as Objects that Sound 3.1 does with one; the run's seed draws them.

    `report`, if given, is told how many views are done, of how many. Raises ValueError for fewer than two clips,
    shards.read.BadRecord for damaged shards.
    """
    sampler = _sampler(network, shards, clips)
    hears, sees = network.hears, network.sees
    visual = {"image_size": sees.size, "visual_input": sees.visual_input} if sees else {"image_size": 1}
    reader = PairReader(shards, sampler, augment=False, **visual)
    total = passes * len(clips)
    image, audio = [], []
    for start in range(0, total, _BATCH):
        rows = views_of(sampler, start, min(start + _BATCH, total))
        batch = reader.read(rows)
        if sees is not None:
            image.append(network.embed_crops(batch.images).numpy())
        if hears is not None:
            audio.append(network.embed_seconds(batch.audio).numpy())
        if report is not None:
            report(start + len(rows.label), total, "")
    rows = views_of(sampler, 0, total)
    order = np.argsort(rows.frame_clip, kind="stable")
    return ClipEmbeddings(
        clip=rows.frame_clip[order],
        tick=rows.frame_tick[order],
        image=np.concatenate(image)[order] if image else np.zeros((total, 0), np.float32),
        audio=np.concatenate(audio)[order] if audio else np.zeros((total, 0), np.float32),
    )


def _sampler(network: Trained, shards: Shards, clips: Integers) -> PairSampler:
    return PairSampler(shards.index, clips, seed=network.config.run.seed, max_misalignment_ticks=0)


def read_image(path: Path, size: int) -> Tensor:
    """The middle of an image file as uint8 (1, size, size, 3) RGB, by `center_crop`.

    Raises Unreadable for what cannot be decoded or is too large.
    """
    try:
        rgb = read_rgb(path)
    except ValueError as error:
        raise Unreadable(str(error)) from None
    return center_crop(torch.from_numpy(np.array(rgb))[None], size)


def pictures(encoder: ImageEncoder, layer: str) -> Inputs[Path]:
    """Picture files, a row each. Raises ValueError for an encoder of motion."""
    encoder.require_single_frames()
    what = f"{encoder.describe(layer)}, {encoder.size} pixels"
    return Inputs(what, lambda path: (read_image(path, encoder.size), False), file_identity)


def read_sound(path: Path, sample_rate: int) -> Tensor:
    """A recording of one channel at `sample_rate`, float32 (samples,), 1 or more, in [-1, 1].

    Raises Unreadable for what `avc.data.media.read_mono` refuses, and for what is too short for a sample at that rate.
    """
    try:
        sound = torch.from_numpy(read_mono(path, sample_rate))
    except ValueError as error:
        raise Unreadable(str(error)) from None
    if not len(sound):
        raise Unreadable(f"it is too short: no sample of it is left at {sample_rate:,} Hz")
    return sound


def windows(sound: Tensor, length: int) -> tuple[Tensor, bool]:
    """(samples,) → (windows, length), each half a window after the last, and whether it was shorter than one.

    A recording shorter than a window is padded with silence at its end. So is one that lacks less than a thousandth of
    a window to its next one, as encoders drop a few samples; that alone does not count as shorter.
    """
    hop = length // 2
    missing = length - len(sound) if len(sound) < length else -(len(sound) - length) % hop
    short = len(sound) < (1 - SLIGHT) * length
    if len(sound) < length or missing < SLIGHT * length:
        sound = F.pad(sound, (0, missing))
    return sound.unfold(0, length, hop), short


def repeated(sound: Tensor, length: int) -> Tensor:
    """(samples,) → (pieces, length): the recording over and over, until the last piece is full.

    No piece begins for what is less than a thousandth of one: it is cut off.
    """
    pieces = max(1, math.ceil(len(sound) / length - SLIGHT))
    return sound.repeat(-(-pieces * length // len(sound)))[: pieces * length].view(pieces, length)


def recordings(encoder: AudioEncoder, layer: str, *, seconds: float = 1.0, whole: float = 10.0) -> Inputs[Path]:
    """Recordings as an encoder takes them.

    Windows of `seconds`, or of what it takes at once. For SoundNet the protocol of its released code (eval_esc50.lua,
    eval_dcase.lua), whose layer is pool5: the recording is repeated to `whole` seconds and goes through in one piece; a
    longer one in several. A row is as many adjacent steps of the layer as its share of `seconds` is, rounded up: 3 of
    pool5's 27 in 10 s. Rows begin one step apart. Raises ValueError where that is too short for the layer.
    """
    rate, seconds = encoder.sample_rate_hz, encoder.seconds or seconds
    if not encoder.whole:
        length = round(seconds * rate)
        encoder.places(layer, length)
        what = f"{encoder.describe(layer)}, windows of {seconds:g} s"
        return Inputs(what, lambda path: windows(read_sound(path, rate), length), file_identity)
    length = round(whole * rate)
    there = encoder.places(layer, length)
    steps = math.ceil(seconds * there / whole)

    def select(features: Tensor) -> Tensor:
        return features.view(len(features), -1, there).unfold(2, steps, 1).transpose(1, 2).flatten(2).flatten(0, 1)

    def load(path: Path) -> tuple[Tensor, bool]:
        return repeated(read_sound(path, rate), length), False

    return Inputs(f"{layer}, {steps} steps of {whole:g} s", load, file_identity, select)


def middles(row: np.void) -> range:
    """The ticks in the middle of a clip's seconds, each with an image; row: of `shards.format.CLIP`."""
    every = int(row["every"])
    centers = centers_of(row)
    return range(-(-centers.start // every) * every, centers.stop, max(1, SPACING_TICKS // every) * every)


def seconds_of_clips(encoder: AudioEncoder, layer: str, shards: Shards) -> Inputs[int]:
    """The audio of each second of a clip; for an encoder of any length, its steps around that second.

    Such a one hears CONTEXT_SECONDS about the middle of the second, within its clip, which is repeated where it is
    shorter. Raises ValueError where that is too short for the layer.
    """
    identify, rate = clip_identity(shards), encoder.sample_rate_hz
    if encoder.seconds is not None:

        def seconds(clip: int) -> list[Tensor]:
            sounds = [mono(shards.sound(clip, second_start(tick))) for tick in middles(shards.index[clip])]
            return [torch.from_numpy(resample(sound, rate)) for sound in sounds]

        return Inputs(f"{_named(encoder, layer)}sound", _rows(seconds), identify)
    samples = round(CONTEXT_SECONDS * rate)
    there = encoder.places(layer, samples)
    steps = steps_of_second(there)
    first = (there - steps) // 2

    def contexts(clip: int) -> list[Tensor]:
        row = shards.index[clip]
        begin, end = (int(tick) for tick in sound_ticks(row))
        sound = torch.from_numpy(student_sound(shards, clip, begin, end - begin)).float() / 32768
        rows = []
        for tick in middles(row):
            center = second_start(tick) + SAMPLE_RATE_HZ // 2 - begin * SAMPLES_PER_TICK
            start = round(center * rate / SAMPLE_RATE_HZ) - samples // 2
            rows.append(sound[torch.arange(start, start + samples) % len(sound)])
        return rows

    def select(features: Tensor) -> Tensor:
        return features.view(len(features), -1, there)[:, :, first : first + steps].flatten(1)

    return Inputs(f"sound, {layer}, {steps} of {there} steps", _rows(contexts), identify, select)


def places_of_second(encoder: AudioEncoder, layer: str) -> int:
    """Numbers that a row of `seconds_of_clips` has for each unit."""
    there = encoder.places(layer, round((encoder.seconds or CONTEXT_SECONDS) * encoder.sample_rate_hz))
    return there if encoder.seconds else steps_of_second(there)


def steps_of_second(there: int) -> int:
    """Of the steps in CONTEXT_SECONDS, how many a second has, rounded up."""
    return math.ceil(there / CONTEXT_SECONDS)


def frames_of_clips(encoder: ImageEncoder, layer: str, shards: Shards) -> Inputs[int]:
    """The frame in the middle of each second of a clip. Raises ValueError for an encoder of motion."""
    encoder.require_single_frames()

    def frames(clip: int) -> list[Tensor]:
        pictures = [torch.from_numpy(shards.picture(clip, tick)) for tick in middles(shards.index[clip])]
        return [center_crop(picture[None], encoder.size)[0] for picture in pictures]

    what = f"{_named(encoder, layer)}frames of {encoder.size} pixels"
    return Inputs(what, _rows(frames), clip_identity(shards))


def clip_identity(shards: Shards) -> Callable[[int], Identity]:
    """A clip is known by its key, which is its video's digest, and by how it was packed."""

    def identity(clip: int) -> Identity:
        owner = next((member.shards for member in shards.sets if int(clip) in member.rows), shards)
        # The same record in whichever split.
        packing = repr(replace(owner.manifest.settings, split=PackSettings.split))
        content = hashlib.sha256(f"{shards.key(clip)} {packing}".encode()).digest()
        return Identity(str(shards.info(clip)["name"]), content)

    return identity


def _named(encoder: AudioEncoder | ImageEncoder, layer: str) -> str:
    return "" if layer == encoder.layers[0] else f"{layer}, "


def _rows(load: Callable[[int], list[Tensor]]) -> Callable[[int], tuple[Tensor, bool]]:
    def rows(clip: int) -> tuple[Tensor, bool]:
        try:
            return torch.stack(load(clip)), False
        except BadRecord as error:
            raise Unreadable(str(error)) from None

    return rows
