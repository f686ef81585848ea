"""From the planes of a scaled picture to a JPEG: the right way up, in JPEG's own colors.

Pure numpy, OpenCV and libjpeg-turbo: no media library, no files. JPEG (JFIF) means full-range BT.601; a video's matrix
is usually BT.709 in high definition.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import cv2
import numpy as np
import simplejpeg

ZERO = 128 << 8  # of what is added to a level, and neutral chroma, in 1/256 of a level

Planes = tuple[np.ndarray, np.ndarray, np.ndarray]  # luma (height, width), two chroma planes of half size


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
    luma, new_blue, new_red = ((round(float(row[1]), 9), round(float(row[2]), 9)) for row in change)
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
    """What a picture's numbers mean: black, neutral chroma, and JPEG's levels in a step of luma and of chroma."""

    black: int
    neutral: int
    luma_step: float
    chroma_step: float


def limited_range(bits: int) -> Levels:
    """Of numbers of so many bits, as nearly all videos have them."""
    scale = 2 ** (bits - 8)
    return Levels(16 * scale, 128 * scale, 255 / 219 / scale, 255 / 224 / scale)


def full_range(bits: int, *, of: int, filled: bool = False) -> Levels:
    """Of numbers of so many bits that were shifted up from fewer; filled: those of luma so that white is all ones."""
    step = 255 / ((2**of - 1) * 2 ** (bits - of))
    return Levels(0, 2 ** (bits - 1), 255 / (2**bits - 1) if filled else step, step)


class Recolouring:
    """Takes scaled pictures of one size (uint16) to full-range BT.601 of 8 bits, always in the same memory.

    swscale can expand limited range, too, but puts chroma half a level low. Sums are in 1/256 of a level: where 8 bits
    are to saturate, 16 do. New arrays for each picture would be mapped and unmapped by the system each time, which
    costs more than the sums.
    """

    def __init__(self, matrix: Matrix, levels: Levels, *, width: int, height: int) -> None:
        half = (height + 1) // 2, (width + 1) // 2
        self._weights = [[256 * levels.chroma_step * weight for weight in row] for row in matrix.weights]
        self._step, self._dark = 256 * levels.luma_step, -256 * levels.luma_step * levels.black
        self._neutral = levels.neutral
        self._sums = [np.empty(shape, np.uint16) for shape in ((height, width), half, half)]
        self._added, self._twice = np.empty(half, np.uint16), np.empty((*half, 2), np.uint16)
        self._planes = [np.empty(total.shape, np.uint8) for total in self._sums]

    def __call__(self, planes: Planes) -> Planes:
        """The picture; what the call before gave is overwritten."""
        luma, blue, red = planes
        for weights, new in zip(self._weights[1:], self._sums[1:], strict=True):
            self._weighted(blue, red, weights, out=new)
        if any(self._weights[0]):
            self._weighted(blue, red, self._weights[0], out=self._added)
            cv2.merge((self._added, self._added), self._twice)
            twice = self._twice.reshape(len(self._twice), -1)[:, : luma.shape[1]]
            for half in (0, 1):
                old, new = luma[half::2], self._sums[0][half::2]
                cv2.addWeighted(old, self._step, twice[: len(old)], 1, self._dark - ZERO, new)
        else:
            cv2.addWeighted(luma, self._step, luma, 0, self._dark, self._sums[0])
        for total, plane in zip(self._sums, self._planes, strict=True):
            cv2.convertScaleAbs(total, plane, 1 / 256)
        return self._planes[0], self._planes[1], self._planes[2]

    def _weighted(self, blue: np.ndarray, red: np.ndarray, weights: list[float], *, out: np.ndarray) -> None:
        """A sum of chroma that is ZERO where it is neutral."""
        cv2.addWeighted(blue, weights[0], red, weights[1], ZERO - self._neutral * sum(weights), out)


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
