"""The kinds of objects that live in the world: for each its look, its colours, its voice and its range of pitch.

Every colour is shared by several kinds and the ranges of pitch overlap, so neither tells the kind by itself.
"""

from __future__ import annotations

import colorsys
from collections.abc import Callable
from dataclasses import dataclass

from numpy.random import Generator

from launch.world import looks, sounds
from launch.world.brush import Canvas, Colour
from launch.world.looks import Look

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
    colours: tuple[str, ...]
    voice: sounds.Voice
    pitch_hz: tuple[float, float]

    def look(self, rng: Generator) -> Look:
        """The looks of one object of this kind."""
        return Look(
            main=_colour(rng, str(rng.choice(self.colours))),
            accent=_colour(rng, str(rng.choice(list(_HUES)))),
            build=float(rng.random()),
        )


def _colour(rng: Generator, name: str) -> Colour:
    hue = (_HUES[name] + rng.uniform(-0.03, 0.03)) % 1
    return colorsys.hsv_to_rgb(hue, rng.uniform(0.45, 0.95), rng.uniform(0.6, 0.95))


KINDS: dict[str, Kind] = {
    "bell": Kind(looks.bell, ("orange", "gold", "red", "teal", "violet"), sounds.bell, (450, 1100)),
    "drum": Kind(looks.drum, ("red", "blue", "gold", "pink", "teal"), sounds.drum, (65, 160)),
    "siren": Kind(looks.siren, ("red", "orange", "blue", "green", "violet"), sounds.siren, (500, 1200)),
    "bird": Kind(looks.bird, ("blue", "red", "gold", "green", "pink"), sounds.bird, (1700, 3600)),
    "cricket": Kind(looks.cricket, ("green", "teal", "gold", "orange", "pink"), sounds.cricket, (3200, 6400)),
    "motor": Kind(looks.motor, ("blue", "teal", "orange", "pink", "violet"), sounds.motor, (45, 100)),
    "waterfall": Kind(looks.waterfall, ("blue", "teal", "green", "violet", "gold"), sounds.waterfall, (500, 2000)),
    "clock": Kind(looks.clock, ("red", "green", "blue", "gold", "pink"), sounds.clock, (1400, 3400)),
    "guitar": Kind(looks.guitar, ("orange", "gold", "red", "violet", "green"), sounds.guitar, (110, 260)),
    "organ": Kind(looks.organ, ("gold", "teal", "violet", "red", "orange"), sounds.organ, (180, 420)),
    "robot": Kind(looks.robot, ("blue", "pink", "green", "teal", "orange"), sounds.robot, (260, 600)),
    "fan": Kind(looks.fan, ("violet", "pink", "blue", "orange", "green"), sounds.fan, (250, 1200)),
}
