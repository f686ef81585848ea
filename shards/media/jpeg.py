"""From the planes of a scaled picture to a JPEG: the right way up, in JPEG's own colors.

Pure numpy and libjpeg-turbo: no media library, no files. JPEG (JFIF) means full-range BT.601; a video's matrix is
usually BT.709 in high definition.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import simplejpeg

Planes = tuple[np.ndarray, np.ndarray, np.ndarray]  # luma (height, width), two chroma planes of half size; uint8


@dataclass(frozen=True)
class Matrix:
    """One of the ways to make luma and chroma of red, green and blue, and how to get from it to BT.601.

    Luma never leaks into chroma, so gray stays gray: two weights, of old blue and red chroma, make what is added to
    luma, two the new blue chroma and two the new red. They are in units of 1/128, so that int16 holds every sum.
    """

    name: str
    weights: tuple[tuple[int, int], tuple[int, int], tuple[int, int]]


def _matrix(name: str, red: float, blue: float) -> Matrix:
    change = _from_rgb(0.299, 0.114) @ np.linalg.inv(_from_rgb(red, blue))
    luma, new_blue, new_red = ((round(128 * row[1]), round(128 * row[2])) for row in change)
    return Matrix(name, (luma, new_blue, new_red))


def _from_rgb(red: float, blue: float) -> np.ndarray:
    luma = np.array([red, 1 - red - blue, blue])
    return np.stack([luma, ([0, 0, 1] - luma) / (2 - 2 * blue), ([1, 0, 0] - luma) / (2 - 2 * red)])


# By the code that streams and libav use (ITU-T H.273, table 4), with the weights of red and blue in luma. Everything
# else, and most of all "unspecified", is taken for BT.601, as libav's own scaler does.
MATRICES = {
    1: _matrix("bt709", 0.2126, 0.0722),
    4: _matrix("fcc", 0.30, 0.11),
    7: _matrix("smpte240m", 0.212, 0.087),
    9: _matrix("bt2020", 0.2627, 0.0593),
    10: _matrix("bt2020", 0.2627, 0.0593),
}


class Recolouring:
    """Takes pictures of one size from a matrix to BT.601, always in the same memory.

    New arrays for each picture would be mapped and unmapped by the system each time, which costs more than the sums.
    """

    def __init__(self, matrix: Matrix, *, width: int, height: int) -> None:
        half = (height + 1) // 2, (width + 1) // 2
        self._weights = np.array(matrix.weights, np.int16)
        self._old = np.empty((2, *half), np.int16)
        self._sum = np.empty(half, np.int16)
        self._term = np.empty(half, np.int16)
        self._twice = np.empty((*half, 2), np.int16)
        self._row = np.empty((half[0], width), np.int16)
        self._luma = np.empty((height, width), np.uint8)
        self._chroma = np.empty((2, *half), np.uint8)

    def __call__(self, planes: Planes) -> Planes:
        """The same picture in BT.601; what the call before gave is overwritten."""
        luma, *chroma = planes
        for old, plane in zip(self._old, chroma, strict=True):
            np.subtract(plane, np.int16(128), out=old)
        self._twice[:, :, 0] = self._twice[:, :, 1] = self._weighted(0)
        added = self._twice.reshape(len(self._twice), -1)[:, : luma.shape[1]]
        for half in (0, 1):
            rows = luma[half::2]
            total = np.add(added[: len(rows)], rows, out=self._row[: len(rows)])
            np.clip(total, 0, 255, out=self._luma[half::2], casting="unsafe")
        for new, which in zip(self._chroma, (1, 2), strict=True):
            total = self._weighted(which)
            total += 128
            np.clip(total, 0, 255, out=new, casting="unsafe")
        return self._luma, self._chroma[0], self._chroma[1]

    def _weighted(self, which: int) -> np.ndarray:
        blue, red = self._weights[which]
        np.multiply(self._old[0], blue, out=self._sum)
        self._sum += np.multiply(self._old[1], red, out=self._term)
        self._sum += 64
        self._sum >>= 7
        return self._sum


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
    blocks = luma[: rows * 8, : columns * 8].reshape(rows, 8, columns, 8)
    means: np.ndarray = blocks.sum(axis=(1, 3), dtype=np.uint16).astype(np.float32) / 64
    return means


def encode(planes: Planes, *, quality: int) -> bytes:
    """One JPEG with 4:2:0 chroma from full-range BT.601 planes."""
    luma, blue, red = (np.ascontiguousarray(plane) for plane in planes)
    height, width = luma.shape
    if height % 2 or width % 2:
        # libjpeg-turbo reads the luma of whole 2x2 blocks: beyond an odd edge it would take whatever memory follows.
        whole = np.empty((height + height % 2, width + width % 2), np.uint8)
        whole[:height, :width] = luma
        whole[height:, :width] = luma[-1]
        whole[:, width:] = whole[:, width - 1 : width]
        luma = whole[:height, :width]
    return bytes(simplejpeg.encode_jpeg_yuv_planes(luma, blue, red, quality))
