"""Held-out clips to look at: what the map shows under right and wrong sounds, and what retrieval finds.

They are the first clips of the split that qualify, in the order of the index, and not the best ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from avc.data.labels import names_of
from avc.data.transforms import log_spectrogram
from avc.embedding import embed_clips
from avc.inference import load
from launch.demo.study.runs import SPLIT
from launch.demo.world.labels import Label
from launch.demo.world.scene import Box
from launch.report.overlay import blend
from shards.format import HALF_SECOND_SAMPLES, SAMPLE_RATE_HZ, SAMPLES_PER_TICK, centers_of
from shards.read import Shards

Picture = NDArray[np.uint8]

SCENES = 5
QUERIES = 3  # sounds that look for frames, and frames that look for sounds
NEIGHBORS = 7


@dataclass(frozen=True)
class Heard:
    """The map over a scene under one sound. highest: of the map, 0 to 1."""

    sound: str
    picture: Picture
    highest: float


@dataclass(frozen=True)
class Scene:
    """A frame with a silent object in view, its boxes, and the map under several sounds."""

    picture: Picture
    sounding: Box
    silent: Box
    heard: tuple[Heard, ...]


@dataclass(frozen=True)
class Item:
    """A frame, or a second of sound as its spectrogram (low pitches at the bottom), and the kind that it is of."""

    picture: Picture
    kind: str


@dataclass(frozen=True)
class Retrieved:
    """A query and what is nearest to it in the other modality."""

    query: Item
    found: tuple[Item, ...]


def scenes(run: Path, packed: Path, labels: Mapping[str, Label]) -> tuple[Scene, ...]:
    """The first held-out clips with two objects, at most one for each kind that sounds, under four sounds each."""
    network, shards = load(run), Shards(packed)
    clips = shards.clips(SPLIT)
    truth = [labels[name] for name in names_of(shards, clips)]
    second = {label.kind: _sound(shards, int(clip)) for clip, label in zip(clips, truth, strict=True)}
    shown: dict[str, Scene] = {}
    for clip, label in zip(clips.tolist(), truth, strict=True):
        if label.silent_kind is None or label.kind in shown or len(shown) == SCENES:
            continue
        tick = _middle(shards, clip)
        picture = shards.picture(clip, tick)
        foreign = next((kind for kind in second if kind not in label.visible), None)
        if label.silent_kind not in second or foreign is None:
            continue
        sounds = {
            f"its own: {label.kind}": _sound(shards, clip),
            f"the silent one's: {label.silent_kind}": second[label.silent_kind],
            f"of neither: {foreign}": second[foreign],
            "silence": np.zeros(SAMPLE_RATE_HZ, np.int16),
        }
        pictures = np.repeat(picture[None], len(sounds), axis=0)
        maps = network.localize(torch.from_numpy(pictures), torch.from_numpy(np.stack(list(sounds.values()))))
        blended = blend(pictures, maps)
        heard = zip(sounds, blended, maps.amax(dim=(1, 2)).tolist(), strict=True)
        shown[label.kind] = Scene(
            picture, label.boxes[tick], label.silent_boxes[tick], tuple(Heard(*one) for one in heard)
        )
    return tuple(shown.values())


def retrieved(run: Path, packed: Path, labels: Mapping[str, Label]) -> tuple[Retrieved, ...]:
    """Sounds and the frames nearest to them, then frames and the sounds nearest to them, of the held-out clips."""
    network, shards = load(run), Shards(packed)
    views = embed_clips(network, shards, shards.clips(SPLIT))
    kinds = [labels[name].kind for name in names_of(shards, views.clip)]
    places = list(zip(views.clip.tolist(), views.tick.tolist(), strict=True))

    def frame(i: int) -> Item:
        return Item(shards.picture(*places[i]), kinds[i])

    def sound(i: int) -> Item:
        clip, tick = places[i]
        return Item(_spectrogram(_sound(shards, clip, tick)), kinds[i])

    firsts = [kinds.index(kind) for kind in sorted(set(kinds))]
    rows = []
    image, audio = (
        features / np.linalg.norm(features, axis=1, keepdims=True) for features in (views.image, views.audio)
    )
    for queries, items, ask, answer, chosen in (
        (audio, image, sound, frame, firsts[:QUERIES]),
        (image, audio, frame, sound, firsts[QUERIES : 2 * QUERIES]),
    ):
        for i in chosen:
            nearest = np.argsort(-(items @ queries[i]))[:NEIGHBORS]
            rows.append(Retrieved(ask(i), tuple(answer(j) for j in nearest.tolist())))
    return tuple(rows)


def _sound(shards: Shards, clip: int, tick: int | None = None) -> NDArray[np.int16]:
    middle = _middle(shards, clip) if tick is None else tick
    return shards.sound(clip, middle * SAMPLES_PER_TICK - HALF_SECOND_SAMPLES, SAMPLE_RATE_HZ)


def _middle(shards: Shards, clip: int) -> int:
    """A tick with a picture, and with a second of sound around it."""
    row = shards.index[clip]
    usable = centers_of(row)
    pictured = [tick for tick in usable if tick % int(row["every"]) == 0]
    return pictured[len(pictured) // 2]


def _spectrogram(second: NDArray[np.int16]) -> Picture:
    levels = log_spectrogram(torch.from_numpy(second)[None].float() / 32768)[0].flip(0).numpy()
    return (255 * levels / max(float(levels.max()), 1e-6)).astype(np.uint8)
