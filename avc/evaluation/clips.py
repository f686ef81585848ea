"""Audio and image features of packed clips.

A clip's rows are seconds of it that overlap by about half: the audio of the second, and the frame in its middle.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from avc.data.labels import labeled, read_labels
from avc.data.ontology import Ontology
from avc.data.preprocessing import center_crop
from avc.data.segments import sound_ticks, student_sound
from avc.data.windows import mono, resample
from avc.encoders.encoder import AudioEncoder, ImageEncoder
from avc.evaluation.classifiers import Integers
from avc.evaluation.extraction import Identity, Inputs, Unreadable
from avc.evaluation.linear import Features
from shards.format import SAMPLE_RATE_HZ, SAMPLES_PER_TICK, centers_of, second_start
from shards.read import BadRecord, Shards

SPACING_TICKS = 12
CONTEXT_SECONDS = 3.0  # of audio that an encoder of any length hears around a second
FOLDS = 5  # of the training clips, to choose the classifier's C on


@dataclass(frozen=True)
class LabeledClips:
    """Clips of one label each, int64 (N,). fold: 0 is tested on, the others are trained on. label: of `classes`.

    left_out: clips without a label, or with several. counts: a line for people on each thing that labels and clips do
    not have in common.
    """

    clips: Integers
    label: Integers
    fold: Integers
    classes: tuple[str, ...]
    left_out: int
    counts: tuple[str, ...]


def labeled_clips(
    shards: Shards, labels: Path, *, split: str, least: int = FOLDS, ontology: Ontology | None = None
) -> LabeledClips:
    """The clips of one label of the train split, dealt to folds within each class, and of `split`, which is tested on.

    ontology: whose names the labels get, in place of identifiers.
    Raises ValueError where a class has fewer training clips than `least` (FOLDS, to choose C on them), or there is
    nothing to test on.
    """
    training, labels_of = shards.clips("train"), read_labels(labels)
    if ontology is not None:
        labels_of = ontology.named(labels_of)
    with_labels = labeled(shards, np.concatenate([training, shards.clips(split)]), labels_of)
    single = (with_labels.sets == with_labels.sets[:, :1]).all(axis=1)
    clips = with_labels.clips[single]
    occurring, label = np.unique(with_labels.sets[single, 0], return_inverse=True)
    classes = tuple(with_labels.classes[number] for number in occurring)
    in_training = np.isin(clips, training)
    if in_training.all():
        raise ValueError(f"no clip of the {split} split of {shards.folder} has a single label in {labels}")
    fold = np.zeros(len(clips), dtype=np.int64)
    for number, name in enumerate(classes):
        members = np.flatnonzero((label == number) & in_training)
        if len(members) < least:
            raise ValueError(
                f"class {name} of {labels} has {len(members)} training clips in {shards.folder} and needs at least "
                f"{least}"
            )
        fold[members] = 1 + np.arange(len(members)) % FOLDS  # in the order of keys, which are hashes
    counts, several = with_labels.counts(labels, f"the train and {split} splits"), int((~single).sum())
    if several:
        counts.append(f"{several:,} clips have several labels and are left out")
    return LabeledClips(clips, label, fold, classes, with_labels.unlabeled + several, tuple(counts))


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


def concatenate(audio: Features, image: Features) -> Features:
    """Rows of the two side by side, for the clips that both have."""
    in_image, in_audio = np.isin(audio.item, image.item), np.isin(image.item, audio.item)
    return Features(np.concatenate([audio.rows[in_image], image.rows[in_audio]], axis=1), audio.item[in_image])


def clip_identity(shards: Shards) -> Callable[[int], Identity]:
    """A clip is known by its key, which is its video's digest, and by how it was packed."""
    packing = repr(shards.manifest.settings)
    return lambda clip: Identity(
        str(shards.info(clip)["name"]), hashlib.sha256(f"{shards.key(clip)} {packing}".encode()).digest()
    )


def _named(encoder: AudioEncoder | ImageEncoder, layer: str) -> str:
    return "" if layer == encoder.layers[0] else f"{layer}, "


def _rows(load: Callable[[int], list[Tensor]]) -> Callable[[int], tuple[Tensor, bool]]:
    def rows(clip: int) -> tuple[Tensor, bool]:
        try:
            return torch.stack(load(clip)), False
        except BadRecord as error:
            raise Unreadable(str(error)) from None

    return rows
