"""Encodes the planes of a scaled picture as a JPEG: upright, converted to JPEG's color space.

Pure numpy, OpenCV and libjpeg-turbo: no media library, no files. JPEG (JFIF) is full-range BT.601; high-definition
video is usually BT.709.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import cv2
import numpy as np
import simplejpeg

ZERO = 128 << 8  # neutral chroma, and zero of the luma change, in 1/256 of a level

Planes = tuple[np.ndarray, np.ndarray, np.ndarray]  # luma (height, width), two chroma planes of half size


@dataclass(frozen=True)
class Matrix:
    """A YCbCr matrix and its conversion to BT.601.

    weights: of the old blue and red chroma, for the luma change, the new blue chroma and the new red chroma. Luma has
    no weight in chroma, so gray stays gray.
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

# By code of ITU-T H.273, table 4, with the weights of red and blue in luma. All others, "unspecified" included, are
# treated as BT.601, as in libav's own scaler.
MATRICES = {
    1: _matrix("bt709", 0.2126, 0.0722),
    4: _matrix("fcc", 0.30, 0.11),
    7: _matrix("smpte240m", 0.212, 0.087),
    9: _matrix("bt2020", 0.2627, 0.0593),
    10: _matrix("bt2020", 0.2627, 0.0593),
}


@dataclass(frozen=True)
class Levels:
    """Quantization of a picture: values of black and neutral chroma, and JPEG levels per step of luma and chroma."""

    black: int
    neutral: int
    luma_step: float
    chroma_step: float


def limited_range(bits: int) -> Levels:
    """Limited range at a bit depth, as in nearly all videos."""
    scale = 2 ** (bits - 8)
    return Levels(16 * scale, 128 * scale, 255 / 219 / scale, 255 / 224 / scale)


def full_range(bits: int, *, of: int, expanded: bool = False) -> Levels:
    """Full range at a depth of `bits`, shifted up from `of` bits; expanded: white luma is all ones."""
    step = 255 / ((2**of - 1) * 2 ** (bits - of))
    return Levels(0, 2 ** (bits - 1), 255 / (2**bits - 1) if expanded else step, step)


class ColorConversion:
    """Converts scaled pictures of one size (uint16) to full-range 8-bit BT.601, reusing its memory.

    swscale can expand limited range, but its chroma is half a level low. Sums are in 1/256 of a level, so they saturate
    at 16 bits where the result does at 8. Allocating arrays for each picture would cost more than the arithmetic.
    """

    def __init__(self, matrix: Matrix, levels: Levels, *, width: int, height: int) -> None:
        half = (height + 1) // 2, (width + 1) // 2
        self._weights = [[256 * levels.chroma_step * weight for weight in row] for row in matrix.weights]
        self._step, self._black_offset = 256 * levels.luma_step, -256 * levels.luma_step * levels.black
        self._neutral = levels.neutral
        self._sums = [np.empty(shape, np.uint16) for shape in ((height, width), half, half)]
        self._luma_change, self._upsampled = np.empty(half, np.uint16), np.empty((*half, 2), np.uint16)
        self._planes = [np.empty(sums.shape, np.uint8) for sums in self._sums]

    def __call__(self, planes: Planes) -> Planes:
        """The converted planes; the next call overwrites them."""
        luma, blue, red = planes
        for weights, new in zip(self._weights[1:], self._sums[1:], strict=True):
            self._sum_chroma(blue, red, weights, out=new)
        if any(self._weights[0]):
            self._sum_chroma(blue, red, self._weights[0], out=self._luma_change)
            cv2.merge((self._luma_change, self._luma_change), self._upsampled)
            upsampled = self._upsampled.reshape(len(self._upsampled), -1)[:, : luma.shape[1]]
            for half in (0, 1):
                old, new = luma[half::2], self._sums[0][half::2]
                cv2.addWeighted(old, self._step, upsampled[: len(old)], 1, self._black_offset - ZERO, new)
        else:
            cv2.addWeighted(luma, self._step, luma, 0, self._black_offset, self._sums[0])
        for sums, plane in zip(self._sums, self._planes, strict=True):
            cv2.convertScaleAbs(sums, plane, 1 / 256)
        return self._planes[0], self._planes[1], self._planes[2]

    def _sum_chroma(self, blue: np.ndarray, red: np.ndarray, weights: list[float], *, out: np.ndarray) -> None:
        """A weighted sum of chroma, ZERO where it is neutral."""
        cv2.addWeighted(blue, weights[0], red, weights[1], ZERO - self._neutral * sum(weights), out)


@dataclass(frozen=True)
class Orientation:
    """Steps from stored to displayed orientation: transpose, then flip left-right, then flip top-bottom."""

    transposed: bool = False
    left_right: bool = False
    top_bottom: bool = False


def nearest_orientation(display_matrix: Sequence[int]) -> Orientation:
    """The orientation (of eight) nearest to a container's display matrix.

    The matrix has nine numbers, row by row, and maps a stored pixel (x, y) to (a x + c y, b x + d y) with
    a, b = its elements 0, 1 and c, d = its elements 3, 4 (ISO/IEC 14496-12, 8.3.2).
    """
    a, b, _, c, d = display_matrix[:5]
    if abs(b) + abs(c) > abs(a) + abs(d):
        return Orientation(transposed=True, left_right=c < 0, top_bottom=b < 0)
    return Orientation(left_right=a < 0, top_bottom=d < 0)


def turn_upright(planes: Planes, orientation: Orientation) -> Planes:
    """The picture in display orientation."""
    luma, blue, red = (_turn_plane(plane, orientation) for plane in planes)
    return luma, blue, red


def _turn_plane(plane: np.ndarray, orientation: Orientation) -> np.ndarray:
    plane = plane.T if orientation.transposed else plane
    plane = plane[:, ::-1] if orientation.left_right else plane
    return plane[::-1] if orientation.top_bottom else plane


def stored_size(width: int, height: int, *, pixel_aspect: Fraction, side: int) -> tuple[int, int]:
    """Width and height with square pixels and smallest side `side`; pixel_aspect: width / height of a given pixel."""
    shown = Fraction(width) * pixel_aspect / height
    return (side, round(side / shown)) if shown <= 1 else (round(side * shown), side)


def block_means(luma: np.ndarray) -> np.ndarray:
    """Mean gray level of each 8x8 block (float32), in which coding noise averages out and motion does not."""
    rows, columns = luma.shape[0] // 8, luma.shape[1] // 8
    column_sums = luma[: rows * 8, : columns * 8].reshape(rows, 8, columns * 8).sum(axis=1, dtype=np.uint16)
    means: np.ndarray = column_sums.reshape(rows, columns, 8).sum(axis=2, dtype=np.uint16).astype(np.float32) / 64
    return means


def encode(planes: Planes, *, quality: int) -> bytes:
    """One JPEG with 4:2:0 chroma from full-range BT.601 planes."""
    luma, blue, red = (plane if plane.strides[1] == 1 else np.ascontiguousarray(plane) for plane in planes)
    height, width = luma.shape
    if height % 2 or width % 2:
        # libjpeg-turbo reads luma in complete 2x2 blocks: pad odd sizes, or it would read memory beyond the edge.
        padded = np.empty((height + height % 2, width + width % 2), np.uint8)
        padded[:height, :width] = luma
        padded[height:, :width] = luma[-1]
        padded[:, width:] = padded[:, width - 1 : width]
        luma = padded[:height, :width]
    return bytes(simplejpeg.encode_jpeg_yuv_planes(luma, blue, red, quality))
