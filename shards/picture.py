"""From the planes of a scaled picture to a JPEG: the right way up, in JPEG's own colours.

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

    The change is by tables in the chroma's resolution: luma never leaks into chroma, so grey stays grey.
    """

    name: str
    luma: np.ndarray  # int16 (2, 256): what a value of each old chroma plane adds to luma
    chroma: np.ndarray  # int16 (2, 2, 256): [new plane, old plane, old value], the offset of 128 included once


def _matrix(name: str, red: float, blue: float) -> Matrix:
    change = _from_rgb(0.299, 0.114) @ np.linalg.inv(_from_rgb(red, blue))
    terms = np.rint(change[:, 1:, None] * (np.arange(256) - 128.0)).astype(np.int16)
    terms[1:, 0] += 128
    return Matrix(name, terms[0], terms[1:])


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


def recoloured(planes: Planes, matrix: Matrix | None) -> Planes:
    """The same picture in BT.601."""
    if matrix is None:
        return planes
    luma, blue, red = planes
    height, width = luma.shape
    added = matrix.luma[0][blue] + matrix.luma[1][red]
    added = added.repeat(2, axis=0).repeat(2, axis=1)[:height, :width]
    chroma = [np.clip(table[0][blue] + table[1][red], 0, 255).astype(np.uint8) for table in matrix.chroma]
    return np.clip(luma + added, 0, 255).astype(np.uint8), chroma[0], chroma[1]


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
    """Mean grey level of each 8x8 block (float32): where coding noise averages out and a moving thing does not."""
    rows, columns = luma.shape[0] // 8, luma.shape[1] // 8
    blocks = luma[: rows * 8, : columns * 8].reshape(rows, 8, columns, 8)
    means: np.ndarray = blocks.sum(axis=(1, 3), dtype=np.uint16).astype(np.float32) / 64
    return means


def jpeg(planes: Planes, *, quality: int) -> bytes:
    """One JPEG with 4:2:0 chroma from full-range BT.601 planes."""
    luma, blue, red = (np.ascontiguousarray(plane) for plane in planes)
    height, width = luma.shape
    if height % 2 or width % 2:
        # libjpeg-turbo reads the luma of whole 2x2 blocks: beyond an odd edge it would take whatever memory follows.
        luma = np.pad(luma, ((0, height % 2), (0, width % 2)), mode="edge")[:height, :width]
    return bytes(simplejpeg.encode_jpeg_yuv_planes(luma, blue, red, quality))
