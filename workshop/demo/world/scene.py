"""The kinds of objects that live in the world, and the images of one clip: a background, moving objects, their boxes.

A kind has its look, its colors, its voice and its range of pitch. Every color is shared by several kinds and the ranges
of pitch overlap, so neither tells the kind by itself.
"""

from __future__ import annotations

import colorsys
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from workshop.demo.world import sounds, sprites
from workshop.demo.world.drawing import Canvas, Color
from workshop.demo.world.sprites import Look

_HUES = {
    "red": 0.0,
    "orange": 0.07,
    "gold": 0.13,
    "green": 0.33,
    "teal": 0.48,
    "blue": 0.6,
    "violet": 0.75,
    "pink": 0.9,
}


@dataclass(frozen=True)
class Kind:
    """One kind of sounding object."""

    draw: Callable[[Canvas, float, Look], None]
    colors: tuple[str, ...]
    voice: sounds.Voice
    pitch_hz: tuple[float, float]

    def look(self, rng: Generator) -> Look:
        """The looks of one object of this kind."""
        return Look(
            main=_color(rng, str(rng.choice(self.colors))),
            accent=_color(rng, str(rng.choice(list(_HUES)))),
            build=float(rng.random()),
        )


def _color(rng: Generator, name: str) -> Color:
    hue = (_HUES[name] + rng.uniform(-0.03, 0.03)) % 1
    return colorsys.hsv_to_rgb(hue, rng.uniform(0.45, 0.95), rng.uniform(0.6, 0.95))


KINDS: dict[str, Kind] = {
    "bell": Kind(sprites.bell, ("orange", "gold", "red", "teal", "violet"), sounds.bell, (450, 1100)),
    "drum": Kind(sprites.drum, ("red", "blue", "gold", "pink", "teal"), sounds.drum, (65, 160)),
    "siren": Kind(sprites.siren, ("red", "orange", "blue", "green", "violet"), sounds.siren, (500, 1200)),
    "bird": Kind(sprites.bird, ("blue", "red", "gold", "green", "pink"), sounds.bird, (1700, 3600)),
    "cricket": Kind(sprites.cricket, ("green", "teal", "gold", "orange", "pink"), sounds.cricket, (3200, 6400)),
    "motor": Kind(sprites.motor, ("blue", "teal", "orange", "pink", "violet"), sounds.motor, (45, 100)),
    "waterfall": Kind(sprites.waterfall, ("blue", "teal", "green", "violet", "gold"), sounds.waterfall, (500, 2000)),
    "clock": Kind(sprites.clock, ("red", "green", "blue", "gold", "pink"), sounds.clock, (1400, 3400)),
    "guitar": Kind(sprites.guitar, ("orange", "gold", "red", "violet", "green"), sounds.guitar, (110, 260)),
    "organ": Kind(sprites.organ, ("gold", "teal", "violet", "red", "orange"), sounds.organ, (180, 420)),
    "robot": Kind(sprites.robot, ("blue", "pink", "green", "teal", "orange"), sounds.robot, (260, 600)),
    "fan": Kind(sprites.fan, ("violet", "pink", "blue", "orange", "green"), sounds.fan, (250, 1200)),
}


Ground = NDArray[np.float64]  # [height, width, 3] in [0, 1]


def _tone(rng: Generator) -> Ground:
    """A muted color."""
    return np.array(colorsys.hsv_to_rgb(rng.random(), rng.uniform(0.05, 0.5), rng.uniform(0.25, 0.85)))


def _gradient(rng: Generator, width: int, height: int) -> Ground:
    angle = math.tau * rng.random()
    x, y = np.linspace(-0.5, 0.5, width)[None, :, None], np.linspace(-0.5, 0.5, height)[:, None, None]
    share = np.clip(0.5 + 0.8 * (x * math.cos(angle) + y * math.sin(angle)), 0, 1)
    return _tone(rng) * share + _tone(rng) * (1 - share)


def _clouds(rng: Generator, width: int, height: int) -> Ground:
    """Soft noise of two or three scales between two colors."""
    share = np.zeros((height, width))
    for cells in (3, 6, 14)[: rng.integers(2, 4)]:
        coarse = rng.standard_normal((cells + 1, cells + 1)) / cells**0.5
        at_y, at_x = np.linspace(0, cells - 1e-6, height), np.linspace(0, cells - 1e-6, width)
        row, column = at_y.astype(int), at_x.astype(int)
        down, right = (at_y - row)[:, None], (at_x - column)[None, :]
        upper = coarse[row][:, column] * (1 - right) + coarse[row][:, column + 1] * right
        lower = coarse[row + 1][:, column] * (1 - right) + coarse[row + 1][:, column + 1] * right
        share += upper * (1 - down) + lower * down
    share = np.clip(0.5 + 0.6 * share, 0, 1)[..., None]
    return _tone(rng) * share + _tone(rng) * (1 - share)


def _stripes(rng: Generator, width: int, height: int) -> Ground:
    angle, period = math.tau * rng.random(), rng.uniform(10, 40)
    x, y = np.arange(width)[None, :], np.arange(height)[:, None]
    wave = np.sin(math.tau * (x * math.cos(angle) + y * math.sin(angle)) / period)
    share = np.clip(0.5 + rng.uniform(1, 4) * wave, 0, 1)[..., None]
    base = _tone(rng)
    return base * share + (0.6 * base + 0.4 * _tone(rng)) * (1 - share)


def _clutter(rng: Generator, width: int, height: int) -> Ground:
    """Blocks and discs of muted colors over a gradient."""
    ground = _gradient(rng, width, height)
    x, y = np.arange(width)[None, :], np.arange(height)[:, None]
    for _ in range(rng.integers(6, 16)):
        dx, dy = x - width * rng.random(), y - height * rng.random()
        reach_x, reach_y = rng.uniform(4, 22, 2)
        inside = np.hypot(dx, dy) < reach_x if rng.random() < 0.5 else (abs(dx) < reach_x) & (abs(dy) < reach_y)
        ground[inside] = 0.5 * ground[inside] + 0.5 * _tone(rng)
    return ground


BACKGROUNDS: tuple[Callable[[Generator, int, int], Ground], ...] = (_gradient, _clouds, _stripes, _clutter)


Image = NDArray[np.uint8]
Box = tuple[float, float, float, float]  # left, top, right, bottom as fractions of the image's width and height

SIZES = ((160, 128), (176, 144), (144, 120), (128, 160), (144, 176))  # width, height in pixels
_PHASES = 12  # images in an object's loop
_DRIFT = 12  # pixels by which a background may wander
_COVERED = 0.05  # coverage from which a pixel belongs to the object


@dataclass(frozen=True)
class Swing:
    """A coordinate that goes back and forth around `middle`, in pixels and seconds."""

    middle: float
    reach: float
    rate_hz: float
    start: float

    def at(self, seconds: float) -> float:
        return self.middle + self.reach * math.sin(math.tau * (self.rate_hz * seconds + self.start))


@dataclass(frozen=True)
class Actor:
    """An object in view: its loop of images, float32 [phases, side, side, 4], and where it goes."""

    kind: str
    loop: NDArray[np.float32]
    loops_per_second: float
    x: Swing  # of the object's left and upper edge
    y: Swing

    def shown(self, seconds: float) -> tuple[int, int, NDArray[np.float32]]:
        """Left, top and the object's image there, moved by fractions of a pixel."""
        x, y = self.x.at(seconds), self.y.at(seconds)
        left, top = math.floor(x), math.floor(y)
        right, down = np.float32(x - left), np.float32(y - top)
        image = self.loop[int(seconds * self.loops_per_second * _PHASES) % _PHASES]
        side = image.shape[0]
        moved = np.zeros((side + 1, side + 1, 4), np.float32)
        moved[:side, :side] = (1 - down) * (1 - right) * image
        moved[:side, 1:] += (1 - down) * right * image
        moved[1:, :side] += down * (1 - right) * image
        moved[1:, 1:] += down * right * image
        return left, top, moved


@dataclass(frozen=True)
class Scene:
    """What a clip shows over time; the first actor is the one that sounds."""

    width: int
    height: int
    background: Image  # larger than the image by the drift
    background_x: Swing
    background_y: Swing
    actors: tuple[Actor, ...]

    def frame(self, seconds: float) -> tuple[Image, list[Box]]:
        """The image at a moment, uint8 [height, width, 3], and each actor's box in it."""
        left, top = round(self.background_x.at(seconds)), round(self.background_y.at(seconds))
        image = self.background[top : top + self.height, left : left + self.width].copy()
        boxes = []
        for actor in self.actors:
            left, top, sprite = actor.shown(seconds)
            side = sprite.shape[0]
            under = image[top : top + side, left : left + side]
            cover = sprite[..., 3]
            under[:] = under * (1 - cover[..., None]) + 255 * sprite[..., :3] + 0.5
            columns = np.flatnonzero((cover > _COVERED).any(axis=0))
            rows = np.flatnonzero((cover > _COVERED).any(axis=1))
            boxes.append(
                (
                    (left + int(columns[0])) / self.width,
                    (top + int(rows[0])) / self.height,
                    (left + int(columns[-1]) + 1) / self.width,
                    (top + int(rows[-1]) + 1) / self.height,
                )
            )
        return image, boxes


def stage(rng: Generator, kinds: tuple[str, ...]) -> Scene:
    """A scene with one object of each of the given one or two kinds, apart from one another at all times.

    Objects keep to the middle of the image's longer side, so that a square crop still holds them. All of them have one
    distribution: nothing in the image says which of two is the one that sounds.
    """
    width, height = SIZES[rng.integers(len(SIZES))]
    short = min(width, height)
    across, down = min(width, round(1.1 * short)), min(height, round(1.1 * short))
    left, top = (width - across) // 2, (height - down) // 2
    if len(kinds) == 1:
        areas = [(left, top, across, down)]
    elif width > height:
        areas = [(left + half * (across // 2), top, across // 2, down) for half in rng.permutation(2).tolist()]
    else:
        areas = [(left, top + half * (down // 2), across, down // 2) for half in rng.permutation(2).tolist()]
    largest = 0.5 if len(kinds) == 1 else 0.44
    actors = []
    for kind, (left, top, across, down) in zip(kinds, areas, strict=True):
        side = round(short * rng.uniform(0.34, largest))
        actors.append(
            Actor(
                kind=kind,
                loop=_loop(rng, kind, side),
                loops_per_second=rng.uniform(0.7, 1.6),
                x=_swing(rng, left, across - side - 1),
                y=_swing(rng, top, down - side - 1),
            )
        )
    paint = BACKGROUNDS[rng.integers(len(BACKGROUNDS))]
    background = paint(rng, width + _DRIFT, height + _DRIFT)
    grain = rng.normal(0, rng.uniform(0.005, 0.03), background.shape[:2])[..., None]
    return Scene(
        width=width,
        height=height,
        background=(255 * np.clip(background + grain, 0, 1)).astype(np.uint8),
        background_x=_swing(rng, 0, _DRIFT),
        background_y=_swing(rng, 0, _DRIFT),
        actors=tuple(actors),
    )


def _swing(rng: Generator, start: float, width: float) -> Swing:
    """A movement that stays between `start` and `start + width` and uses at least half of it."""
    reach = width / 2 * rng.uniform(0.5, 1)
    middle = start + reach + (width - 2 * reach) * rng.random()
    return Swing(middle=middle, reach=reach, rate_hz=rng.uniform(0.08, 0.3), start=rng.random())


def _loop(rng: Generator, kind: str, side: int) -> NDArray[np.float32]:
    look = KINDS[kind].look(rng)
    mirrored, start, light = rng.random() < 0.5, rng.random(), rng.uniform(0.9, 1.1)
    loop = []
    for number in range(_PHASES):
        canvas = Canvas(side)
        KINDS[kind].draw(canvas, (start + number / _PHASES) % 1, look)
        canvas.shade()
        loop.append(canvas.rgba[:, ::-1] if mirrored else canvas.rgba)
    images = np.stack(loop)
    images[..., :3] = np.minimum(images[..., :3] * np.float32(light), images[..., 3:])
    return images
