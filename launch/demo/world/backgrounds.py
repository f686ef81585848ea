"""The backgrounds: what lies behind the objects and tells nothing about them."""

from __future__ import annotations

import colorsys
import math
from collections.abc import Callable

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

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
