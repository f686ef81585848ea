"""The clips of shards as recordings and as series of pictures: what a network hears and sees of each.

A clip's rows are seconds of it that overlap by about half: the sound of the second, and the picture in its middle.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from avc.data.labels import labeled, read_labels
from avc.data.preprocessing import CROP, crop_origin
from avc.data.transforms import audio_to_input, images_to_input
from avc.evaluation.classifiers import Integers
from avc.evaluation.extraction import Extractor, Identity, Unreadable
from avc.evaluation.image import pooled_sight, refuse_motion
from avc.evaluation.linear import Features
from avc.evaluation.sound import pooled_sound
from avc.models.pair import PairNetwork
from avc.settings import PairData
from shards.format import HALF_SECOND_SAMPLES, SAMPLES_PER_TICK, centres
from shards.read import BadRecord, Shards

SPACING_TICKS = 12
LAYERS = ("conv4_2", "embedding")
FOLDS = 5  # of the training clips, to choose the classifier's C on


@dataclass(frozen=True)
class KnownClips:
    """Clips of one label each: int64 (N,). fold 0 is tested on, the others are trained on; label: of `classes`."""

    clips: Integers
    label: Integers
    fold: Integers
    classes: tuple[str, ...]
    left_out: int


def known_clips(shards: Shards, labels: Path, *, split: str, least: int = FOLDS) -> KnownClips:
    """The clips of one label of the train split, dealt to folds within each class, and of `split`, which is tested on.

    Raises ValueError where a class has fewer training clips than `least` (FOLDS, to choose C on them), or there is
    nothing to test on.
    """
    training = shards.clips("train")
    found = labeled(shards, np.concatenate([training, shards.clips(split)]), read_labels(labels))
    single = (found.sets == found.sets[:, :1]).all(axis=1)
    clips = found.clips[single]
    occurring, label = np.unique(found.sets[single, 0], return_inverse=True)
    classes = tuple(found.classes[number] for number in occurring)
    in_training = np.isin(clips, training)
    if in_training.all():
        raise ValueError(f"no clip of the {split} split of {shards.folder} has a single label in {labels}")
    fold = np.zeros(len(clips), dtype=np.int64)
    for number, name in enumerate(classes):
        own = np.flatnonzero((label == number) & in_training)
        if len(own) < least:
            raise ValueError(
                f"class {name} of {labels} has {len(own)} training clips in {shards.folder} and needs at least {least}"
            )
        fold[own] = 1 + np.arange(len(own)) % FOLDS  # in the order of keys, which are hashes
    return KnownClips(clips, label, fold, classes, found.unlabeled + int((~single).sum()))


def middles(row: np.void) -> range:
    """The ticks in the middle of a clip's seconds, each with a picture; row: of `shards.format.CLIP`."""
    every = int(row["every"])
    possible = centres(ticks=int(row["ticks"]), sound_from=int(row["sound_from"]), sound_to=int(row["sound_to"]))
    return range(-(-possible.start // every) * every, possible.stop, max(1, SPACING_TICKS // every) * every)


def heard(model: PairNetwork, shards: Shards, data: PairData, *, name: str, layer: str = "conv4_2") -> Extractor[int]:
    """What is heard of each second of a clip; layer: conv4_2 of the audio trunk before its ReLU, max-pooled to 4×3, or
    the embedding that the audio tower ends in."""

    def load(clip: int) -> list[Tensor]:
        first = [tick * SAMPLES_PER_TICK - HALF_SECOND_SAMPLES for tick in middles(shards.index[clip])]
        return [torch.from_numpy(shards.sound(clip, sample)) for sample in first]

    def pooled(trunk: nn.Module, sound: Tensor) -> Tensor:
        return pooled_sound(trunk, audio_to_input(sound, None, data))

    def embedded(network: nn.Module, sound: Tensor) -> Tensor:
        assert isinstance(network, PairNetwork)
        return network.embed_audio(audio_to_input(sound, None, data))

    if layer == "conv4_2":
        return Extractor(name, "sound", model.audio.eval(), _rows(load), pooled)
    return Extractor(name, "embedding, sound", model.eval(), _rows(load), embedded)


def seen(model: PairNetwork, shards: Shards, data: PairData, *, name: str, layer: str = "conv4_2") -> Extractor[int]:
    """What is seen in the middle of each second; layer: conv4_2 of the vision trunk after its ReLU, max-pooled to 4×4,
    or the embedding that the vision tower ends in."""
    refuse_motion(model)
    size = data.image_size

    def load(clip: int) -> list[Tensor]:
        side = int(min(shards.index[clip]["width"], shards.index[clip]["height"]))
        reduce = next((reduce for reduce in (8, 4, 2) if round(side * CROP) // reduce >= size), 1)
        pictures = [shards.picture(clip, tick, reduce=reduce) for tick in middles(shards.index[clip])]
        return [_middle(torch.from_numpy(picture), size) for picture in pictures]

    def pooled(trunk: nn.Module, pictures: Tensor) -> Tensor:
        return pooled_sight(trunk, images_to_input(pictures, None, data))

    def embedded(network: nn.Module, pictures: Tensor) -> Tensor:
        assert isinstance(network, PairNetwork)
        return network.embed_image(images_to_input(pictures, None, data))

    if layer == "conv4_2":
        return Extractor(name, f"frames of {size} pixels", model.vision.eval(), _rows(load), pooled)
    return Extractor(name, f"embedding, frames of {size} pixels", model.eval(), _rows(load), embedded)


def together(sound: Features, frames: Features) -> Features:
    """Rows of the two side by side, for the clips that both have."""
    own = [np.isin(one.item, other.item) for one, other in ((sound, frames), (frames, sound))]
    rows = [one.rows[mine] for one, mine in zip((sound, frames), own, strict=True)]
    return Features(np.concatenate(rows, axis=1), sound.item[own[0]])


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


def _middle(picture: Tensor, size: int) -> Tensor:
    """The middle 7/8 of a picture's smallest side, uint8 (size, size, 3), as the loader crops it in validation."""
    height, width = picture.shape[:2]
    crop = round(min(height, width) * CROP)
    top, left = crop_origin(height, crop), crop_origin(width, crop)
    x = picture[top : top + crop, left : left + crop].permute(2, 0, 1)[None].float()
    x = F.interpolate(x, (size, size), mode="bilinear", antialias=True, align_corners=False)
    return x[0].permute(1, 2, 0).round().clamp(0, 255).to(torch.uint8)
