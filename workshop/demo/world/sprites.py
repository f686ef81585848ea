"""How each kind of object looks: one function a kind, drawing it on a canvas at one phase of its movement.

Every object moves in a loop (it swings, turns, flaps, flows); `phase` in [0, 1) says where in the loop it is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from workshop.demo.world.drawing import Canvas, Color, mixed

BLACK: Color = (0.06, 0.06, 0.08)
WHITE: Color = (0.97, 0.96, 0.92)
STEEL: Color = (0.62, 0.64, 0.68)
WOOD: Color = (0.45, 0.3, 0.18)
TURN = 2 * math.pi


@dataclass(frozen=True)
class Look:
    """What two objects of one kind differ in, besides size and place."""

    main: Color
    accent: Color
    build: float  # in [0, 1]: slim to stout, few parts to many

    @property
    def edge(self) -> Color:
        return mixed(self.main, BLACK, 0.65)

    def count(self, fewest: int, most: int) -> int:
        """A number of parts between the two, both included."""
        return fewest + min(int(self.build * (most - fewest + 1)), most - fewest)


def bell(canvas: Canvas, phase: float, look: Look) -> None:
    """Swings under its crown, the clapper behind."""
    swing = 0.3 * math.sin(TURN * phase)
    grid = canvas.grid.turned(swing, about=(0, -0.8))
    late = canvas.grid.turned(0.3 * math.sin(TURN * (phase - 0.15)), about=(0, -0.8))
    canvas.paint(late.disc(0, 0.55, 0.15), look.edge)
    canvas.paint(grid.ring(0, -0.78, 0.13, width=0.09), look.edge)
    height = (grid.y + 0.65) / 1.15
    half = 0.24 + 0.06 * look.build + 0.12 * height + 0.3 * np.clip(height, 0, 1.1) ** 4
    body = np.maximum((np.abs(grid.x) - half) * 0.8, np.abs(grid.y + 0.07) - 0.57)
    canvas.outlined(body, look.main, edge=look.edge)
    canvas.paint(np.maximum(body + 0.07, np.abs(grid.y - 0.14) - 0.07), look.accent)
    canvas.paint(np.maximum(body, np.abs(grid.y - 0.44) - 0.06), look.edge)
    canvas.paint(grid.ellipse(-0.14, -0.2, 0.06, 0.26), WHITE, opacity=0.6)


def drum(canvas: Canvas, phase: float, look: Look) -> None:
    """A laced drum under two sticks that fall in turn."""
    grid, half, deep = canvas.grid, 0.62 + 0.1 * look.build, 0.2
    body = np.maximum(np.abs(grid.x) - half, np.abs(grid.y - 0.3) - 0.38)
    body = np.minimum(body, grid.ellipse(0, 0.68, half, deep))
    canvas.outlined(body, look.main, edge=look.edge)
    zigzags = look.count(3, 5)
    step = 2 * half / zigzags
    for number in range(zigzags):
        left = -half + number * step
        canvas.paint(grid.stroke((left, 0.08), (left + step / 2, 0.72), (left + step, 0.08), width=0.08), look.accent)
    canvas.paint(grid.ellipse(0, -0.08, half, deep + 0.04), look.accent)
    canvas.paint(grid.ellipse(0, -0.1, half - 0.06, deep - 0.02), WHITE)
    for side in (-1, 1):
        lift = 0.5 * max(0.0, math.sin(TURN * phase) * side)
        canvas.paint(grid.line((0.85 * side, -0.75 - lift / 3), (0.2 * side, -0.12 - lift), width=0.08), WOOD)
        canvas.paint(grid.disc(0.2 * side, -0.12 - lift, 0.09), WOOD)


def siren(canvas: Canvas, phase: float, look: Look) -> None:
    """A warning light: a turning lamp under a dome, with rays around it."""
    grid = canvas.grid
    rays = look.count(5, 7)
    reach = 0.86 + 0.1 * math.sin(2 * TURN * phase)
    for number in range(rays):
        angle = math.pi * (number + 0.5) / rays
        cos, sin = math.cos(angle), math.sin(angle)
        ray = grid.line((0.7 * cos, 0.3 - 0.78 * sin), (reach * cos, 0.3 - 1.2 * reach * sin), width=0.09)
        canvas.paint(ray, look.accent)
    dome = np.maximum(grid.ellipse(0, 0.35, 0.5 + 0.08 * look.build, 0.85), grid.y - 0.4)
    canvas.outlined(dome, look.main, edge=look.edge)
    lamp = grid.ellipse(0.32 * math.sin(TURN * phase), 0.05, 0.1 + 0.1 * abs(math.cos(TURN * phase)), 0.28)
    canvas.paint(np.maximum(lamp, dome), WHITE, opacity=0.9)
    canvas.outlined(grid.box(0, 0.6, 0.75, 0.24, corner=0.08), mixed(STEEL, BLACK, 0.55), edge=BLACK)
    canvas.paint(grid.box(0, 0.6, 0.6, 0.05), look.accent)


def bird(canvas: Canvas, phase: float, look: Look) -> None:
    """Flaps its wing."""
    grid = canvas.grid
    canvas.paint(grid.triangle((-0.35, 0.12), (-0.98, -0.12), (-0.9, 0.32)), look.edge)
    canvas.outlined(grid.ellipse(-0.05, 0.2, 0.55, 0.34 + 0.08 * look.build), look.main, edge=look.edge)
    canvas.paint(grid.ellipse(0.08, 0.36, 0.36, 0.2), mixed(look.main, WHITE, 0.6))
    canvas.outlined(grid.disc(0.47, -0.14, 0.28), look.main, edge=look.edge)
    canvas.paint(grid.triangle((0.7, -0.24), (0.98, -0.1), (0.7, -0.02)), (0.95, 0.65, 0.15))
    canvas.paint(grid.disc(0.54, -0.2, 0.09), WHITE)
    canvas.paint(grid.disc(0.56, -0.2, 0.05), BLACK)
    tip = (-0.45, 0.1 - 0.85 * math.cos(TURN * phase))
    wing = grid.triangle((-0.3, 0.12), (0.22, 0.1), tip) - 0.04
    canvas.paint(wing, look.edge)
    canvas.paint(wing + 0.08, look.accent)
    for leg in (-0.1, 0.1):
        canvas.paint(grid.line((leg, 0.5), (leg + 0.03, 0.85), width=0.07), (0.9, 0.55, 0.15))


def cricket(canvas: Canvas, phase: float, look: Look) -> None:
    """A long striped body, feelers, and a bent hind leg that rubs."""
    grid = canvas.grid
    rub = 0.12 * math.sin(TURN * phase)
    for foot in (-0.2, 0.15, 0.45):
        canvas.paint(grid.stroke((foot, 0.3), (foot + 0.1, 0.5), (foot + 0.02, 0.82), width=0.06), look.edge)
    body = grid.turned(-0.12).ellipse(-0.1, 0.22, 0.72, 0.16 + 0.07 * look.build)
    canvas.outlined(body, look.main, edge=look.edge, width=0.05)
    stripes = look.count(4, 6)
    for number in range(stripes):
        at = -0.7 + number * 0.85 / stripes
        canvas.paint(np.maximum(body + 0.05, np.abs(grid.x - at) - 0.05), look.accent)
    canvas.outlined(grid.disc(0.62, 0.1, 0.2), look.main, edge=look.edge, width=0.05)
    canvas.paint(grid.disc(0.68, 0.04, 0.07), BLACK)
    for sway in (-0.1, 0.12):
        feelers = grid.stroke((0.68, -0.06), (0.5 + sway, -0.6 + rub), (0.1 + 2 * sway, -0.92 + rub), width=0.05)
        canvas.paint(feelers, look.edge)
    leg = grid.stroke((0.0, 0.25), (-0.5, -0.55 + rub), (-0.85, 0.82), width=0.11)
    canvas.paint(leg - 0.02, look.edge)
    canvas.paint(leg + 0.03, look.accent)


def motor(canvas: Canvas, phase: float, look: Look) -> None:
    """A toothed wheel that turns."""
    teeth = look.count(8, 12)
    grid = canvas.grid.turned(TURN * phase * 3 / teeth)
    radius, angle = grid.radius(), np.arctan2(grid.y, grid.x)
    wheel = radius - 0.8 - 0.11 * np.clip(3 * np.cos(teeth * angle), -1, 1)
    canvas.outlined(wheel, look.main, edge=look.edge, width=0.06)
    canvas.paint(grid.ring(0, 0, 0.55, width=0.07), look.edge)
    holes = np.hypot(radius - 0.36, 0.36 * ((angle + 0.35) % (TURN / 3) - TURN / 6)) - 0.13
    canvas.paint(holes, look.edge)
    canvas.paint(grid.disc(0, 0, 0.2), look.accent)
    canvas.paint(grid.disc(0, 0, 0.09), BLACK)


def waterfall(canvas: Canvas, phase: float, look: Look) -> None:
    """Streaks that fall from a ledge into foam."""
    grid, half = canvas.grid, 0.5 + 0.2 * look.build
    water = np.maximum(np.abs(grid.x) - half, np.abs(grid.y - 0.05) - 0.75)
    canvas.paint(water, look.main)
    streaks = look.count(6, 9)
    width = 2 * half / streaks
    for number in range(streaks):
        x = -half + (number + 0.5) * width
        fallen = (phase + 0.37 * number) % 1
        for lap in (-1, 0):
            top = -0.75 + 1.6 * (fallen + lap)
            streak = grid.line((x, top), (x, top + 0.75), width=0.45 * width)
            canvas.paint(np.maximum(streak, water), mixed(look.accent, WHITE, 0.55))
    canvas.outlined(grid.box(0, -0.78, half + 0.2, 0.17, corner=0.1), (0.5, 0.45, 0.42), edge=(0.25, 0.22, 0.2))
    for number in range(5):
        rise = 0.07 * math.sin(TURN * (phase + number / 5))
        canvas.paint(grid.disc((number - 2) * (half + 0.05) / 2, 0.74 + rise, 0.2), WHITE)


def clock(canvas: Canvas, phase: float, look: Look) -> None:
    """A round face with marks and two hands that turn."""
    grid = canvas.grid
    for side in (-1, 1):
        canvas.paint(grid.line((0.45 * side, 0.6), (0.62 * side, 0.93), width=0.14), look.edge)
    canvas.outlined(grid.disc(0, 0, 0.86), look.main, edge=look.edge, width=0.05)
    canvas.paint(grid.disc(0, 0, 0.64), WHITE)
    for mark in range(12):
        cos, sin = math.cos(TURN * mark / 12), math.sin(TURN * mark / 12)
        inner = 0.46 if mark % 3 == 0 else 0.52
        canvas.paint(grid.line((inner * cos, inner * sin), (0.57 * cos, 0.57 * sin), width=0.07), BLACK)
    for angle, length, color in ((TURN * phase, 0.5, look.accent), (TURN * (look.build + phase / 12), 0.33, BLACK)):
        hand = grid.line((0, 0), (length * math.sin(angle), -length * math.cos(angle)), width=0.1)
        canvas.paint(hand, color)
    canvas.paint(grid.disc(0, 0, 0.09), BLACK)


def guitar(canvas: Canvas, phase: float, look: Look) -> None:
    """Rocks from side to side."""
    grid = canvas.grid.turned(0.55 + 0.2 * math.sin(TURN * phase))
    stout = 0.05 * look.build
    canvas.paint(grid.box(0, -0.5, 0.08, 0.45), WOOD)
    canvas.outlined(grid.box(0, -0.86, 0.13, 0.12, corner=0.03), look.edge, edge=BLACK, width=0.03)
    upper, lower = grid.disc(0, -0.02, 0.3 + stout), grid.ellipse(0, 0.48, 0.44 + stout, 0.4)
    blend = np.clip(0.5 + 0.5 * (lower - upper) / 0.15, 0, 1)
    body = lower * (1 - blend) + upper * blend - 0.15 * blend * (1 - blend)
    canvas.outlined(body, look.main, edge=look.edge)
    canvas.paint(grid.ring(0, 0.2, 0.17, width=0.07), look.accent)
    canvas.paint(grid.disc(0, 0.2, 0.14), BLACK)
    canvas.paint(grid.box(0, 0.62, 0.22, 0.05), look.edge)
    for string in (-0.04, 0.04):
        canvas.paint(grid.line((string, -0.8), (string, 0.62), width=0.03), WHITE)


def organ(canvas: Canvas, phase: float, look: Look) -> None:
    """A row of pipes with mouths, breathing in turn."""
    grid, pipes = canvas.grid, look.count(5, 7)
    width = 1.7 / pipes
    for number in range(pipes):
        x = (number - (pipes - 1) / 2) * width
        tall = 1.0 - 0.55 * abs(number - (pipes - 1) / 2) / pipes + 0.1 * math.sin(TURN * (phase + number / pipes))
        pipe = grid.box(x, 0.55 - 0.68 * tall, 0.46 * width, 0.68 * tall, corner=0.05)
        tone = look.main if number % 2 == 0 else mixed(look.main, WHITE, 0.45)
        canvas.outlined(pipe, tone, edge=look.edge, width=0.045)
        canvas.paint(grid.ellipse(x, 0.22, 0.25 * width, 0.09), BLACK)
    canvas.outlined(grid.box(0, 0.68, 0.93, 0.24, corner=0.04), look.accent, edge=mixed(look.accent, BLACK, 0.65))


def robot(canvas: Canvas, phase: float, look: Look) -> None:
    """A square head with a blinking aerial and eyes that look about."""
    grid = canvas.grid
    canvas.paint(grid.line((0, -0.8), (0, -0.4), width=0.08), look.edge)
    canvas.paint(grid.disc(0, -0.8, 0.1 + 0.08 * abs(math.sin(TURN * phase))), look.accent)
    for side in (-1, 1):
        canvas.paint(grid.box(0.78 * side, 0.15, 0.12, 0.22, corner=0.05), look.edge)
    tall = 0.55 + 0.1 * look.build
    canvas.outlined(grid.box(0, 0.2, 0.7, tall, corner=0.14), look.main, edge=look.edge)
    for side in (-1, 1):
        canvas.paint(grid.disc(0.31 * side, 0.02, 0.21), WHITE)
        canvas.paint(grid.disc(0.31 * side + 0.09 * math.sin(TURN * phase), 0.02, 0.11), BLACK)
    canvas.paint(grid.box(0, 0.48, 0.45, 0.15, corner=0.04), BLACK)
    for tooth in range(4):
        canvas.paint(grid.box((tooth - 1.5) * 0.21, 0.48, 0.07, 0.1), look.accent)


def fan(canvas: Canvas, phase: float, look: Look) -> None:
    """Blades that turn in a wire cage on a stand."""
    grid = canvas.grid
    canvas.paint(grid.box(0, 0.72, 0.09, 0.25), look.edge)
    canvas.paint(grid.box(0, 0.9, 0.45, 0.09, corner=0.05), look.edge)
    blades = look.count(3, 4)
    for number in range(blades):
        blade = grid.turned(TURN * (phase + number) / blades, about=(0, -0.14))
        canvas.outlined(blade.ellipse(0.06, -0.48, 0.2, 0.32), look.main, edge=look.edge, width=0.05)
    for radius in (0.78, 0.48):
        canvas.paint(grid.ring(0, -0.14, radius, width=0.07), mixed(STEEL, look.accent, 0.4))
    canvas.paint(grid.disc(0, -0.14, 0.15), look.accent)
