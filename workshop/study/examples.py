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
from sklearn.preprocessing import normalize

from avc.data.labels import names_of
from avc.encoders.load import load
from avc.encoders.sources import embed_clips, middles
from launch.report.overlay import blend
from launch.report.units import spectrogram
from shards.format import HALF_SECOND_SAMPLES, SAMPLE_RATE_HZ, SAMPLES_PER_TICK
from shards.read import Shards
from workshop.demo.world.render import Label
from workshop.demo.world.scene import Box
from workshop.study.runs import SPLIT

SCENES = 5
QUERIES = 3  # sounds that look for frames, and frames that look for sounds
NEIGHBORS = 7
RIGHT, WRONG = "#2a9d4a", "#c0392b"


@dataclass(frozen=True)
class Panel:
    """An image, uint8 (H, W, 3), its title, the color of its frame, and boxes to draw with their line style."""

    image: NDArray[np.uint8]
    title: str
    color: str = "black"
    boxes: tuple[tuple[Box, str], ...] = ()


def scenes(run: Path, packed: Path, labels: Mapping[str, Label]) -> list[list[Panel]]:
    """A row for each of the first held-out frames with two objects, at most one a kind: the map under four sounds."""
    network, shards = load(run), Shards(packed)
    clips = shards.clips(SPLIT)
    truth = dict(zip(clips.tolist(), [labels[name] for name in names_of(shards, clips)], strict=True))
    clip_of_kind = {label.kind: clip for clip, label in truth.items()}
    rows: dict[str, list[Panel]] = {}
    for clip, label in truth.items():
        foreign = next((kind for kind in clip_of_kind if kind not in label.visible), None)
        if label.kind in rows or label.silent_kind not in clip_of_kind or foreign is None or len(rows) == SCENES:
            continue
        sounds = {
            f"its own: {label.kind}": _audio(shards, clip),
            f"the silent one's: {label.silent_kind}": _audio(shards, clip_of_kind[label.silent_kind]),
            f"of neither: {foreign}": _audio(shards, clip_of_kind[foreign]),
            "silence": np.zeros(SAMPLE_RATE_HZ, np.int16),
        }
        tick = _middle_tick(shards, clip)
        frame = shards.picture(clip, tick)
        frames = np.repeat(frame[None], len(sounds), axis=0)
        maps = network.localize(torch.from_numpy(frames), torch.from_numpy(np.stack(list(sounds.values()))))
        boxes = ((label.boxes[tick], "-"), (label.silent_boxes[tick], ":"))
        rows[label.kind] = [
            Panel(frame, "sounds (solid), silent (dotted)", boxes=boxes),
            *(
                Panel(image, f"{sound}; max {float(map_.max()):.2f}")
                for sound, image, map_ in zip(sounds, blend(frames, maps), maps, strict=True)
            ),
        ]
    return list(rows.values())


def neighbors(run: Path, packed: Path, labels: Mapping[str, Label]) -> list[list[Panel]]:
    """Sounds and the held-out frames nearest to them, then frames and the sounds nearest to them."""
    network, shards = load(run), Shards(packed)
    views = embed_clips(network, shards, shards.clips(SPLIT))
    kinds = [labels[name].kind for name in names_of(shards, views.clip)]
    image, audio = normalize(views.image), normalize(views.audio)

    def shown(view: int, *, sound: bool) -> NDArray[np.uint8]:
        clip, tick = int(views.clip[view]), int(views.tick[view])
        return spectrogram(_audio(shards, clip, tick)) if sound else shards.picture(clip, tick)

    first_of_kind = [kinds.index(kind) for kind in sorted(set(kinds))]
    rows = []
    for sound_asks, queries, items in ((True, audio, image), (False, image, audio)):
        for query in first_of_kind[:QUERIES] if sound_asks else first_of_kind[QUERIES : 2 * QUERIES]:
            row = [Panel(shown(query, sound=sound_asks), f"query: {kinds[query]}")]
            for view in np.argsort(-(items @ queries[query]))[:NEIGHBORS].tolist():
                color = RIGHT if kinds[view] == kinds[query] else WRONG
                row.append(Panel(shown(view, sound=not sound_asks), kinds[view], color=color))
            rows.append(row)
    return rows


def _audio(shards: Shards, clip: int, tick: int | None = None) -> NDArray[np.int16]:
    """The second of audio around a tick, or in the middle of the clip."""
    middle = _middle_tick(shards, clip) if tick is None else tick
    return shards.sound(clip, middle * SAMPLES_PER_TICK - HALF_SECOND_SAMPLES, SAMPLE_RATE_HZ)


def _middle_tick(shards: Shards, clip: int) -> int:
    """A tick with a frame, and with a second of audio around it."""
    ticks = middles(shards.index[clip])
    return ticks[len(ticks) // 2]
