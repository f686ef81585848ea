"""From the planes of a scaled picture to a JPEG: the right way up, in JPEG's own colors.

Pure numpy, OpenCV and libjpeg-turbo: no media library, no files. JPEG (JFIF) means full-range BT.601; a video's matrix
is usually BT.709 in high definition.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import cv2
import numpy as np
import simplejpeg

Planes = tuple[np.ndarray, np.ndarray, np.ndarray]  # luma (height, width), two chroma planes of half size; uint8


@dataclass(frozen=True)
class Matrix:
    """One of the ways to make luma and chroma of red, green and blue, and how to get from it to BT.601.

    Luma never leaks into chroma, so gray stays gray: two weights, of old blue and red chroma, make what is added to
    luma, two the new blue chroma and two the new red.
    """

    name: str
    weights: tuple[tuple[float, float], tuple[float, float], tuple[float, float]]


def _matrix(name: str, red: float, blue: float) -> Matrix:
    change = _from_rgb(0.299, 0.114) @ np.linalg.inv(_from_rgb(red, blue))
    luma, new_blue, new_red = ((float(row[1]), float(row[2])) for row in change)
    return Matrix(name, (luma, new_blue, new_red))


def _from_rgb(red: float, blue: float) -> np.ndarray:
    luma = np.array([red, 1 - red - blue, blue])
    return np.stack([luma, ([0, 0, 1] - luma) / (2 - 2 * blue), ([1, 0, 0] - luma) / (2 - 2 * red)])


BT601 = _matrix("bt601", 0.299, 0.114)

# By the code that streams and libav use (ITU-T H.273, table 4), with the weights of red and blue in luma. Everything
# else, and most of all "unspecified", is taken for BT.601, as libav's own scaler does.
MATRICES = {
    1: _matrix("bt709", 0.2126, 0.0722),
    4: _matrix("fcc", 0.30, 0.11),
    7: _matrix("smpte240m", 0.212, 0.087),
    9: _matrix("bt2020", 0.2627, 0.0593),
    10: _matrix("bt2020", 0.2627, 0.0593),
}


@dataclass(frozen=True)
class Levels:
    """What the numbers of a scaled picture mean: black, white and the neutral of chroma, and JPEG's levels in a step.

    Numbers are of 10 bits (uint16) where anything is left to round: what is rounded to 8 bits before it is expanded or
    recolored is rounded twice, and averages of few pixels are always rounded upwards.
    """

    black: int
    white: int
    neutral: int
    chroma_step: float


LIMITED = Levels(64, 940, 512, 255 / 896)
FULL = Levels(0, 1020, 512, 1 / 4)  # swscale makes 10 bits of 8 by shifting them
FULL_OF_MORE_BITS = Levels(0, 1023, 512, 255 / 1023)
COPIED = Levels(0, 255, 128, 1)  # uint8


class Recolouring:
    """Takes scaled pictures of one size to full-range BT.601 of 8 bits, always in the same memory.

    swscale can expand limited range, too, but puts chroma half a level low. New arrays for each picture would be mapped
    and unmapped by the system each time, which costs more than the sums.
    """

    def __init__(self, matrix: Matrix, levels: Levels, *, width: int, height: int) -> None:
        half = (height + 1) // 2, (width + 1) // 2
        self._levels = levels
        self._weights = [[round(weight * levels.chroma_step * 2**20) for weight in row] for row in matrix.weights]
        self._old = np.empty((2, *half), np.int32)
        self._sum, self._term = np.empty(half, np.int32), np.empty(half, np.int32)
        self._row = np.empty((half[0], width), np.int16)
        self._luma = np.empty((height, width), np.uint8)
        self._chroma = np.empty((2, *half), np.uint8)
        luma_step = 255 / (levels.white - levels.black)
        self._expand_luma = _Expansion(luma_step, fixed=levels.black, to=0, shape=(height, width))
        self._expand_chroma = _Expansion(levels.chroma_step, fixed=levels.neutral, to=128, shape=half)

    def __call__(self, planes: Planes) -> Planes:
        """The picture; what the call before gave is overwritten."""
        luma, *chroma = planes
        self._expand_luma(luma, out=self._luma)
        if not any(self._weights[0]):
            for new, plane in zip(self._chroma, chroma, strict=True):
                self._expand_chroma(plane, out=new)
            return self._luma, self._chroma[0], self._chroma[1]
        for old, plane in zip(self._old, chroma, strict=True):
            old[:] = plane
            old -= self._levels.neutral
        self._add_to_luma()
        for new, row in zip(self._chroma, self._weights[1:], strict=True):
            total = self._weighted(row)
            total += 128
            np.clip(total, 0, 255, out=total)
            new[:] = total
        return self._luma, self._chroma[0], self._chroma[1]

    def _add_to_luma(self) -> None:
        added = self._weighted(self._weights[0])
        added &= 0xFFFF
        added *= 0x10001  # the same int16 twice, side by side
        twice = added.view(np.int16)[:, : self._luma.shape[1]]
        for half in (0, 1):
            rows = self._luma[half::2]
            total = np.add(twice[: len(rows)], rows, out=self._row[: len(rows)])
            np.clip(total, 0, 255, out=rows, casting="unsafe")

    def _weighted(self, row: list[int]) -> np.ndarray:
        np.multiply(self._old[0], row[0], out=self._sum)
        self._sum += np.multiply(self._old[1], row[1], out=self._term)
        self._sum += 2**19
        self._sum >>= 20
        return self._sum


class _Expansion:
    """Rounds planes of one shape to levels from 0 to 255: `to` where they are `fixed`, `step` more for each number."""

    def __init__(self, step: float, *, fixed: int, to: int, shape: tuple[int, int]) -> None:
        zero = fixed - to / step
        self._step, self._at_0 = step, -zero * step
        # OpenCV gives how far a level is from 0, also where it is below. It is faster by an array than by a number.
        self._least = np.full(shape, math.ceil(zero), np.uint16) if zero > 0 else None
        self._raised = None if self._least is None else np.empty_like(self._least)

    def __call__(self, plane: np.ndarray, *, out: np.ndarray) -> None:
        if self._least is not None:
            plane = cv2.max(plane, self._least, self._raised)
        cv2.convertScaleAbs(plane, out, self._step, self._at_0)


@dataclass(frozen=True)
class Orientation:
    """How a stored picture becomes the shown one: transposed first, then mirrored left-right, then top-bottom."""

    transposed: bool = False
    left_right: bool = False
    top_bottom: bool = False


def orientation_of(display_matrix: Sequence[int]) -> Orientation:
    """The nearest of the eight quarter-turned and mirrored orientations to a container's display matrix.

    The matrix has nine numbers by rows, and takes a stored pixel (x, y) to the shown (a x + c y, b x + d y) with
    a, b = its elements 0, 1 and c, d = its elements 3, 4 (ISO/IEC 14496-12, 8.3.2).
    """
    a, b, _, c, d = display_matrix[:5]
    if abs(b) + abs(c) > abs(a) + abs(d):
        return Orientation(transposed=True, left_right=c < 0, top_bottom=b < 0)
    return Orientation(left_right=a < 0, top_bottom=d < 0)


def upright(planes: Planes, orientation: Orientation) -> Planes:
    """The picture as it is to be shown."""
    luma, blue, red = (_turned(plane, orientation) for plane in planes)
    return luma, blue, red


def _turned(plane: np.ndarray, orientation: Orientation) -> np.ndarray:
    plane = plane.T if orientation.transposed else plane
    plane = plane[:, ::-1] if orientation.left_right else plane
    return plane[::-1] if orientation.top_bottom else plane


def stored_size(width: int, height: int, *, pixel_aspect: Fraction, side: int) -> tuple[int, int]:
    """Width and height of a picture with square pixels and smallest side `side`; its own are `pixel_aspect` as wide."""
    shown = Fraction(width) * pixel_aspect / height
    return (side, round(side / shown)) if shown <= 1 else (round(side * shown), side)


def coarse(luma: np.ndarray) -> np.ndarray:
    """Mean gray level of each 8x8 block (float32): where coding noise averages out and a moving thing does not."""
    rows, columns = luma.shape[0] // 8, luma.shape[1] // 8
    heaps = luma[: rows * 8, : columns * 8].reshape(rows, 8, columns * 8).sum(axis=1, dtype=np.uint16)
    means: np.ndarray = heaps.reshape(rows, columns, 8).sum(axis=2, dtype=np.uint16).astype(np.float32) / 64
    return means


def encode(planes: Planes, *, quality: int) -> bytes:
    """One JPEG with 4:2:0 chroma from full-range BT.601 planes."""
    luma, blue, red = (plane if plane.strides[1] == 1 else np.ascontiguousarray(plane) for plane in planes)
    height, width = luma.shape
    if height % 2 or width % 2:
        # libjpeg-turbo reads the luma of whole 2x2 blocks: beyond an odd edge it would take whatever memory follows.
        whole = np.empty((height + height % 2, width + width % 2), np.uint8)
        whole[:height, :width] = luma
        whole[height:, :width] = luma[-1]
        whole[:, width:] = whole[:, width - 1 : width]
        luma = whole[:height, :width]
    return bytes(simplejpeg.encode_jpeg_yuv_planes(luma, blue, red, quality))
