"""The picture of one clip: a background, one or two moving objects, and where they are."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from launch.demo.world.backgrounds import GROUNDS
from launch.demo.world.drawing import Canvas
from launch.demo.world.kinds import KINDS

Picture = NDArray[np.uint8]
Box = tuple[float, float, float, float]  # left, top, right, bottom as fractions of the picture's width and height

SIZES = ((160, 128), (176, 144), (144, 120), (128, 160), (144, 176))  # width, height in pixels
_PHASES = 12  # pictures in an object's loop
_DRIFT = 12  # pixels by which a background may wander
_SEEN = 0.05  # coverage from which a pixel belongs to the object


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
    """An object in view: its loop of pictures, float32 [phases, side, side, 4], and where it goes."""

    kind: str
    loop: NDArray[np.float32]
    loops_per_second: float
    x: Swing  # of the picture's left and upper edge
    y: Swing

    def shown(self, seconds: float) -> tuple[int, int, NDArray[np.float32]]:
        """Left, top and the picture there, moved by fractions of a pixel."""
        x, y = self.x.at(seconds), self.y.at(seconds)
        left, top = math.floor(x), math.floor(y)
        right, down = np.float32(x - left), np.float32(y - top)
        picture = self.loop[int(seconds * self.loops_per_second * _PHASES) % _PHASES]
        side = picture.shape[0]
        moved = np.zeros((side + 1, side + 1, 4), np.float32)
        moved[:side, :side] = (1 - down) * (1 - right) * picture
        moved[:side, 1:] += (1 - down) * right * picture
        moved[1:, :side] += down * (1 - right) * picture
        moved[1:, 1:] += down * right * picture
        return left, top, moved


@dataclass(frozen=True)
class Scene:
    """What a clip shows over time; the first actor is the one that sounds."""

    width: int
    height: int
    ground: Picture  # larger than the picture by the drift
    ground_x: Swing
    ground_y: Swing
    actors: tuple[Actor, ...]

    def frame(self, seconds: float) -> tuple[Picture, list[Box]]:
        """The picture at a moment, uint8 [height, width, 3], and each actor's box in it."""
        left, top = round(self.ground_x.at(seconds)), round(self.ground_y.at(seconds))
        picture = self.ground[top : top + self.height, left : left + self.width].copy()
        boxes = []
        for actor in self.actors:
            left, top, object_ = actor.shown(seconds)
            side = object_.shape[0]
            under = picture[top : top + side, left : left + side]
            cover = object_[..., 3]
            under[:] = under * (1 - cover[..., None]) + 255 * object_[..., :3] + 0.5
            columns = np.flatnonzero((cover > _SEEN).any(axis=0))
            rows = np.flatnonzero((cover > _SEEN).any(axis=1))
            boxes.append(
                (
                    (left + int(columns[0])) / self.width,
                    (top + int(rows[0])) / self.height,
                    (left + int(columns[-1]) + 1) / self.width,
                    (top + int(rows[-1]) + 1) / self.height,
                )
            )
        return picture, boxes


def staged(rng: Generator, kinds: tuple[str, ...]) -> Scene:
    """A scene with one object of each of the given one or two kinds, apart from one another at all times.

    Objects keep to the middle of the picture's longer side, so that a square crop still holds them. All of them
    follow one law: nothing in the picture says which of two is the one that sounds.
    """
    width, height = SIZES[rng.integers(len(SIZES))]
    short = min(width, height)
    room_x, room_y = min(width, round(1.1 * short)), min(height, round(1.1 * short))
    rooms = [((width - room_x) // 2, (height - room_y) // 2, room_x, room_y)]
    if len(kinds) == 2:
        left, top, _, _ = rooms[0]
        if width > height:
            rooms = [(left, top, room_x // 2, room_y), (left + room_x // 2, top, room_x // 2, room_y)]
        else:
            rooms = [(left, top, room_x, room_y // 2), (left, top + room_y // 2, room_x, room_y // 2)]
        rooms = [rooms[place] for place in rng.permutation(2)]
    largest = 0.5 if len(kinds) == 1 else 0.44
    actors = []
    for kind, (left, top, across, down) in zip(kinds, rooms, strict=True):
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
    paint_ground = GROUNDS[rng.integers(len(GROUNDS))]
    ground = paint_ground(rng, width + _DRIFT, height + _DRIFT)
    grain = rng.normal(0, rng.uniform(0.005, 0.03), ground.shape[:2])[..., None]
    return Scene(
        width=width,
        height=height,
        ground=(255 * np.clip(ground + grain, 0, 1)).astype(np.uint8),
        ground_x=_swing(rng, 0, _DRIFT),
        ground_y=_swing(rng, 0, _DRIFT),
        actors=tuple(actors),
    )


def _swing(rng: Generator, start: float, buffers: float) -> Swing:
    """A movement that stays between `start` and `start + buffers` and uses at least half of it."""
    reach = buffers / 2 * rng.uniform(0.5, 1)
    middle = start + reach + (buffers - 2 * reach) * rng.random()
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
    pictures = np.stack(loop)
    pictures[..., :3] = np.minimum(pictures[..., :3] * np.float32(light), pictures[..., 3:])
    return pictures
