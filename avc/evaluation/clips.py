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
from avc.data.transforms import audio_to_input, images_to_input
from avc.evaluation.classifiers import Integers
from avc.evaluation.extraction import Extractor, Identity, Unreadable
from avc.evaluation.image import pool_image, require_single_frames
from avc.evaluation.linear import Features
from avc.evaluation.sound import pool_audio
from avc.models.pair import PairNetwork
from avc.models.waveform import SAMPLE_RATE, WaveformNetwork, to_waveform
from avc.settings import PairData
from shards.format import SAMPLE_RATE_HZ, SAMPLES_PER_TICK, centers_of, second_start
from shards.read import BadRecord, Shards

SPACING_TICKS = 12
LAYERS = ("trunk", "embedding")  # of a pair of towers: the map that a trunk ends in, and what its tower does
PLACES = (12, 16)  # of the trunks' maps, audio and vision, that a unit's values stand side by side for
CONTEXT_SECONDS = 3.0  # of audio that a waveform network hears around a second
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


def audio_features(
    model: PairNetwork, shards: Shards, data: PairData, *, name: str, layer: str = "trunk"
) -> Extractor[int]:
    """Of the audio of each second of a clip: a layer of LAYERS, `trunk` before its last ReLU and max-pooled to 4×3."""

    def load(clip: int) -> list[Tensor]:
        return [torch.from_numpy(shards.sound(clip, second_start(tick))) for tick in middles(shards.index[clip])]

    def inputs(seconds: Tensor) -> Tensor:
        return audio_to_input(seconds, None, data)

    if layer == "trunk":
        return Extractor(name, "sound", model.audio.eval(), _rows(load), lambda net, x: pool_audio(net, inputs(x)))
    return Extractor(name, "embedding, sound", model.eval(), _rows(load), lambda net, x: net.embed_audio(inputs(x)))


def waveform_steps(model: WaveformNetwork, layer: str | None) -> tuple[int, int]:
    """The steps of a layer in CONTEXT_SECONDS of audio, and how many of them a second has, rounded up.

    Raises ValueError for a layer that there is not.
    """
    there = model.output_steps(round(CONTEXT_SECONDS * SAMPLE_RATE), model.named_layer(layer))
    return there, math.ceil(there / CONTEXT_SECONDS)


def waveform_features(model: WaveformNetwork, shards: Shards, *, name: str, layer: str | None = None) -> Extractor[int]:
    """Of the audio of each second of a clip: the steps of a layer that lie in it, as many as its share is, rounded up.

    The network hears them in the middle of CONTEXT_SECONDS of the clip, which is repeated at its ends as in SoundNet's
    released code. Raises ValueError for a layer that there is not.
    """
    layer = model.named_layer(layer)
    samples = round(CONTEXT_SECONDS * SAMPLE_RATE)
    there, steps = waveform_steps(model, layer)
    first = (there - steps) // 2

    def load(clip: int) -> list[Tensor]:
        row = shards.index[clip]
        begin, end = (int(tick) for tick in sound_ticks(row))
        sound = student_sound(shards, clip, begin, end - begin)
        rows = []
        for tick in middles(row):
            center = second_start(tick) + SAMPLE_RATE_HZ // 2 - begin * SAMPLES_PER_TICK
            start = round(center * SAMPLE_RATE / SAMPLE_RATE_HZ) - samples // 2
            rows.append(torch.from_numpy(sound.take(np.arange(start, start + samples), mode="wrap")))
        return rows

    def compute(network: WaveformNetwork, audio: Tensor) -> Tensor:
        return network.features(to_waveform(audio.float() / 32768), layer)[:, :, first : first + steps].flatten(1)

    return Extractor(name, f"sound, {layer}, {steps} of {there} steps", model.eval(), _rows(load), compute)


def image_features(
    model: PairNetwork, shards: Shards, data: PairData, *, name: str, layer: str = "trunk"
) -> Extractor[int]:
    """Of the frame in the middle of each second: a layer of LAYERS, `trunk` after its last ReLU, max-pooled to 4×4."""
    require_single_frames(model)
    size = data.image_size

    def load(clip: int) -> list[Tensor]:
        frames = [torch.from_numpy(shards.picture(clip, tick)) for tick in middles(shards.index[clip])]
        return [center_crop(frame[None], size)[0] for frame in frames]

    def inputs(images: Tensor) -> Tensor:
        return images_to_input(images, None, data)

    what = f"frames of {size} pixels"
    if layer == "trunk":
        return Extractor(name, what, model.vision.eval(), _rows(load), lambda net, x: pool_image(net, inputs(x)))
    return Extractor(name, f"embedding, {what}", model.eval(), _rows(load), lambda net, x: net.embed_image(inputs(x)))


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


def _rows(load: Callable[[int], list[Tensor]]) -> Callable[[int], tuple[Tensor, bool]]:
    def rows(clip: int) -> tuple[Tensor, bool]:
        try:
            return torch.stack(load(clip)), False
        except BadRecord as error:
            raise Unreadable(str(error)) from None

    return rows
