"""What is true of every clip of the world, and the limit that it sets to any network."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from pydantic import TypeAdapter

from launch.demo.world.scene import Box

LABELS = "labels.jsonl"


@dataclass(frozen=True)
class Label:
    """The truth about one clip. Boxes are one per tick of 0.04 s: of the frame that is shown then."""

    file: str  # name of the video file, without folders
    kind: str  # of the object that sounds
    boxes: tuple[Box, ...]
    silent_kind: str | None  # of the object in view that does not, where there is one
    silent_boxes: tuple[Box, ...]
    width: int
    height: int
    frame_rate: str  # frames per second, as a fraction
    seconds: float
    pitch_hz: float
    level_db: float  # root mean square of the audio, relative to full scale
    sample_rate_hz: int

    @property
    def visible(self) -> tuple[str, ...]:
        """Kinds in view, the sounding one first."""
        return (self.kind,) if self.silent_kind is None else (self.kind, self.silent_kind)


def write_labels(folder: Path, labels: Iterable[Label]) -> None:
    """Write one line per clip to the world's `labels.jsonl`."""
    (folder / LABELS).write_text("".join(json.dumps(asdict(label)) + "\n" for label in labels))


def read_labels(folder: Path) -> dict[str, Label]:
    """The labels of a rendered world by file name. Raises ValueError where the folder holds none."""
    path = folder / LABELS
    if not path.is_file():
        raise ValueError(f"{folder} holds no {LABELS}: it is not a rendered world")
    read = TypeAdapter(Label).validate_json
    return {label.file: label for label in map(read, path.read_text().splitlines())}


def ceiling(negatives: Iterable[tuple[str, str]], labels: Mapping[str, Label]) -> float:
    """The best accuracy that anyone can reach at telling these negatives from as many positives.

    Each negative is (file name of the frame's clip, file name of the sound's clip). Given its kind, nothing about how
    an object looks tells anything about how it sounds: size, color, movement and position are drawn apart from pitch,
    rhythm and level, and no movement keeps time with a sound. Silent and sounding objects have one distribution.
    So all that a pair reveals is whether the sound's kind is among the kinds in view. In a positive it always is. If it
    is not, the pair is surely a negative. If it is, 'corresponds' is the better guess: with as many positives as
    negatives, k kinds and v of them in view, a positive has that sound with probability 1/v and a negative with 1/k.
    The best listener therefore errs on exactly the negatives whose sound's kind is in view, and on no other pair:
    ceiling = 1 - share / 2, where share is their part of the negatives. Raises ValueError if there are none.
    """
    confusable = [labels[sound].kind in labels[frame].visible for frame, sound in negatives]
    if not confusable:
        raise ValueError("no negatives were given, so there is no accuracy to bound")
    return 1 - 0.5 * sum(confusable) / len(confusable)
