"""The kinds of objects that live in the world: for each its look, its colors, its voice and its range of pitch.

Every color is shared by several kinds and the ranges of pitch overlap, so neither tells the kind by itself.
"""

from __future__ import annotations

import colorsys
from collections.abc import Callable
from dataclasses import dataclass

from numpy.random import Generator

from launch.demo.world import sounds, sprites
from launch.demo.world.drawing import Canvas, Color
from launch.demo.world.sprites import Look

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
