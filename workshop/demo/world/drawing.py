"""Anti-aliased shapes in plain numpy: what the world's objects are drawn with.

A shape is its signed distance: an array over the canvas, negative inside, in canvas units. Union, intersection and
difference of shapes are then `np.minimum`, `np.maximum` and `np.maximum(a, -b)`.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Plane = NDArray[np.floating[Any]]
Color = tuple[float, float, float]  # red, green, blue in [0, 1]


@dataclass(frozen=True)
class Grid:
    """Coordinates of every pixel: x to the right and y downwards, the canvas from -1 to 1 in both."""

    x: Plane
    y: Plane

    def turned(self, angle: float, *, about: tuple[float, float] = (0.0, 0.0)) -> Grid:
        """The same pixels seen by a shape that is turned clockwise by `angle` radians around a point."""
        cos, sin = math.cos(angle), math.sin(angle)
        x, y = self.x - about[0], self.y - about[1]
        return Grid(x * cos + y * sin + about[0], y * cos - x * sin + about[1])

    def radius(self, x: float = 0.0, y: float = 0.0) -> Plane:
        """Distance of every pixel from a point."""
        distance: Plane = np.hypot(self.x - x, self.y - y)
        return distance

    def disc(self, x: float, y: float, radius: float) -> Plane:
        return self.radius(x, y) - radius

    def ring(self, x: float, y: float, radius: float, *, width: float) -> Plane:
        distance: Plane = np.abs(self.radius(x, y) - radius) - width / 2
        return distance

    def ellipse(self, x: float, y: float, half_width: float, half_height: float) -> Plane:
        """An ellipse along the axes; the distance is exact on its edge and good near it."""
        scaled = np.hypot((self.x - x) / half_width, (self.y - y) / half_height)
        slope = np.hypot((self.x - x) / half_width**2, (self.y - y) / half_height**2)
        distance: Plane = scaled * (scaled - 1) / np.maximum(slope, 1e-4)
        return distance

    def box(self, x: float, y: float, half_width: float, half_height: float, *, corner: float = 0.0) -> Plane:
        """A rectangle along the axes whose corners are rounded by `corner`."""
        over = np.abs(self.x - x) - (half_width - corner)
        beyond = np.abs(self.y - y) - (half_height - corner)
        outside = np.hypot(np.maximum(over, 0), np.maximum(beyond, 0))
        distance: Plane = outside + np.minimum(np.maximum(over, beyond), 0) - corner
        return distance

    def line(self, start: tuple[float, float], end: tuple[float, float], *, width: float) -> Plane:
        """A straight stroke with round ends."""
        along = (end[0] - start[0], end[1] - start[1])
        length = max(along[0] ** 2 + along[1] ** 2, 1e-9)
        x, y = self.x - start[0], self.y - start[1]
        at = np.clip((x * along[0] + y * along[1]) / length, 0, 1)
        distance: Plane = np.hypot(x - at * along[0], y - at * along[1]) - width / 2
        return distance

    def stroke(self, *points: tuple[float, float], width: float) -> Plane:
        """A line through several points."""
        parts = [self.line(a, b, width=width) for a, b in itertools.pairwise(points)]
        nearest: Plane = np.minimum.reduce(parts)
        return nearest

    def triangle(self, a: tuple[float, float], b: tuple[float, float], c: tuple[float, float]) -> Plane:
        """A triangle with corners in either order."""
        if (b[0] - a[0]) * (c[1] - a[1]) < (b[1] - a[1]) * (c[0] - a[0]):
            b, c = c, b
        sides: list[Plane] = []
        for (x0, y0), (x1, y1) in ((a, b), (b, c), (c, a)):
            length = math.hypot(x1 - x0, y1 - y0)
            sides.append(((y1 - y0) * (self.x - x0) - (x1 - x0) * (self.y - y0)) / length)
        furthest: Plane = np.maximum.reduce(sides)
        return furthest


class Canvas:
    """A square picture of color and coverage, painted shape over shape.

    `rgba` is float32 [pixels, pixels, 4] in [0, 1], its colors premultiplied by the coverage in the last channel.
    """

    def __init__(self, pixels: int) -> None:
        axis = ((np.arange(pixels) + 0.5) * (2 / pixels) - 1).astype(np.float32)
        x, y = np.meshgrid(axis, axis)
        self.grid = Grid(x, y)
        self.pixel = 2 / pixels
        self.rgba = np.zeros((pixels, pixels, 4), np.float32)

    def paint(self, shape: Plane, color: Color, *, opacity: float = 1.0) -> None:
        """Lay a color over the pixels inside the shape, in part over those that its edge cuts."""
        cover = np.clip(0.5 - shape / self.pixel, 0, 1)[..., None] * np.float32(opacity)
        inside = cover[..., 0] > 0
        rows, columns = (np.flatnonzero(inside.any(axis=axis)) for axis in (1, 0))
        if rows.size:  # most shapes cover a small part
            place = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
            self.rgba[place] *= 1 - cover[place]
            self.rgba[place] += cover[place] * np.array([*color, 1], np.float32)

    def outlined(self, shape: Plane, color: Color, *, edge: Color, width: float = 0.07) -> None:
        """Paint the shape with a darker rim inside its edge."""
        self.paint(shape, edge)
        self.paint(shape + width, color)

    def shade(self) -> None:
        """Let light fall from the upper left."""
        light = 1 - 0.16 * (self.grid.x + self.grid.y)[..., None]
        self.rgba[..., :3] = np.minimum(self.rgba[..., :3] * light, self.rgba[..., 3:])


def mixed(first: Color, second: Color, share: float) -> Color:
    """The color that is `share` of the second and the rest of the first."""
    return (
        first[0] + (second[0] - first[0]) * share,
        first[1] + (second[1] - first[1]) * share,
        first[2] + (second[2] - first[2]) * share,
    )
