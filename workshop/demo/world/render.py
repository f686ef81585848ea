"""A world of sounding objects as a folder of real video files with their truth, the same for all who name its seed."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from fractions import Fraction
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.random import Generator, Philox
from pydantic import Field, TypeAdapter
from pydantic.dataclasses import dataclass

from launch.report.video import write_video
from shards.atomic import PART, write_whole
from shards.format import TICKS_PER_SECOND
from shards.processes import Processes
from workshop.demo.world.scene import KINDS, Box, Image, Scene, stage
from workshop.demo.world.sounds import clicks, synthesize

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


FRAME_RATES = (Fraction(25, 2), Fraction(24000, 1001), Fraction(25), Fraction(30000, 1001), Fraction(30))
CONTAINERS = ("mp4", "mp4", "mp4", "mp4", "mkv", "mov")
SAMPLE_RATES_HZ = (32_000, 44_100, 48_000)
LEVELS_DB = (-34.0, -18.0)
SHORTEST_SECONDS = 1.2  # a whole second of sound around a frame, and something to choose from

VIDEOS = "videos"
WORLD = "world.json"

# Streams of random numbers: image and audio come from different ones, so that given the kinds the image tells nothing
# about the audio.
_IMAGE, _AUDIO, _KINDS, _RATES, _FILES = range(5)

T = TypeVar("T")


@dataclass(frozen=True)
class World:
    """What decides every byte of a world. Raises ValueError for numbers that make none."""

    clips: int = Field(ge=1)
    seed: int = Field(ge=0)
    seconds: float = Field(ge=SHORTEST_SECONDS)
    silent_share: float = Field(default=0.25, ge=0, le=1)  # of the clips show a silent object of another kind as well
    kinds: int = Field(default=len(KINDS), ge=2, le=len(KINDS))  # the first so many of KINDS
    # A faint click at every multiple of 0.04 s gives away what is sampled off that grid (Objects that Sound, 3.3).
    ticking: bool = False
    version: int = 1  # of the renderer: worlds of different versions differ


def render(
    folder: Path, world: World, *, workers: int, progress: Callable[[int, int], None] | None = None
) -> dict[str, Label]:
    """Render a world into `folder` and return its labels by file name.

    The folder then holds `videos/clip-00000.mp4` and so on, `labels.jsonl` and, written last, `world.json`. A folder
    that holds the same world already is left as it is; another or an unfinished one is rendered anew. `progress`, if
    given, is called with the number of clips done and the number of all. Raises ValueError for a folder with foreign
    files in it.
    """
    if stored_world(folder) == description(world):
        return read_labels(folder)
    _clear(folder)
    labels = []
    for label in _rendered(world, folder / VIDEOS, workers):
        labels.append(label)
        if progress is not None:
            progress(len(labels), world.clips)
    write_labels(folder, labels)
    write_whole(folder / WORLD, (json.dumps(description(world), indent=1) + "\n").encode())
    return {label.file: label for label in labels}


def description(world: World) -> dict[str, Any]:
    """The content of `world.json`: the fields of the world, kinds by their names, and the frame rates."""
    kinds = list(KINDS)[: world.kinds]
    return {**asdict(world), "kinds": kinds, "frame_rates": [str(rate) for rate in FRAME_RATES]}


def stored_world(folder: Path) -> dict[str, Any] | None:
    """The description of the finished world in a folder; None without one."""
    try:
        stored = json.loads((folder / WORLD).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    return stored if isinstance(stored, dict) else None


def _clear(folder: Path) -> None:
    """Make way for a world without removing anything that is not one."""
    videos = folder / VIDEOS
    ours = [folder / WORLD, folder / f"{WORLD}{PART}", folder / LABELS, videos, *videos.glob("clip-*")]
    foreign = sorted({*folder.glob("*"), *videos.glob("*")} - set(ours))
    if foreign:
        raise ValueError(f"{folder} holds {foreign[0].name}, which is no part of a world: name an empty folder")
    for path in ours:
        if path != videos:
            path.unlink(missing_ok=True)
    videos.mkdir(parents=True, exist_ok=True)


def _rendered(world: World, videos: Path, workers: int) -> Iterator[Label]:
    jobs = [(world, number, videos) for number in range(world.clips)]
    if workers == 1:
        yield from map(_render_clip, jobs)
        return
    with Processes(_render_clip, count=workers) as processes:
        for label in [processes.submit(job) for job in jobs]:
            yield label.result()


def cast(world: World, number: int) -> tuple[str, str | None, Scene]:
    """Kind of clip `number`'s sounding object, of its silent one where there is one, and the scene that they are in."""
    rng = _stream(world.seed, _IMAGE, number)
    kinds = tuple(KINDS)[: world.kinds]
    kind = _dealt(kinds, world.seed, _KINDS, number)
    if rng.random() >= world.silent_share:
        return kind, None, stage(rng, (kind,))
    silent_kind = str(rng.choice([other for other in kinds if other != kind]))
    return kind, silent_kind, stage(rng, (kind, silent_kind))


def _render_clip(job: tuple[World, int, Path]) -> Label:
    """Render clip `number` of the world: a pure function of the two, apart from the file it writes."""
    world, number, videos = job
    kind, silent_kind, scene = cast(world, number)
    frame_rate = _dealt(FRAME_RATES, world.seed, _RATES, number)
    file = f"clip-{number:05d}.{_dealt(CONTAINERS, world.seed, _FILES, number)}"

    rng = _stream(world.seed, _AUDIO, number)
    low, high = KINDS[kind].pitch_hz
    pitch_hz = low * (high / low) ** rng.random()
    sample_rate_hz = int(rng.choice(SAMPLE_RATES_HZ))
    wave = synthesize(
        KINDS[kind].voice,
        rng,
        pitch_hz=pitch_hz,
        level_db=rng.uniform(*LEVELS_DB),
        seconds=world.seconds,
        sample_rate_hz=sample_rate_hz,
    )
    if world.ticking:
        wave += clicks(seconds=world.seconds, sample_rate_hz=sample_rate_hz)
    shown: list[list[Box]] = []

    def frames() -> Iterator[Image]:
        for index in range(math.ceil(world.seconds * frame_rate)):
            image, boxes = scene.frame(float(index / frame_rate))
            shown.append(boxes)
            yield image

    write_video(
        videos / file,
        frames(),
        frame_rate=frame_rate,
        size=(scene.width, scene.height),
        audio=wave,
        sample_rate_hz=sample_rate_hz,
    )
    ticks = math.ceil(len(shown) / frame_rate * TICKS_PER_SECOND)
    at_tick = [shown[math.floor(tick * frame_rate / TICKS_PER_SECOND)] for tick in range(ticks)]
    return Label(
        file=file,
        kind=kind,
        boxes=tuple(boxes[0] for boxes in at_tick),
        silent_kind=silent_kind,
        silent_boxes=tuple(boxes[1] for boxes in at_tick if silent_kind is not None),
        width=scene.width,
        height=scene.height,
        frame_rate=str(frame_rate),
        seconds=world.seconds,
        pitch_hz=pitch_hz,
        level_db=10 * math.log10(float(np.mean(wave.astype(np.float64) ** 2))),
        sample_rate_hz=sample_rate_hz,
    )


def _stream(seed: int, stream: int, number: int) -> Generator:
    return Generator(Philox(key=[seed, stream], counter=[0, 0, 0, number]))


def _dealt(items: Sequence[T], seed: int, stream: int, number: int) -> T:
    """Item of clip `number` when the items are dealt out like shuffled decks, one after another."""
    deck, position = divmod(number, len(items))
    return items[int(_stream(seed, stream, deck).permutation(len(items))[position])]
