"""The planes of pictures in packings that were begun as version 1: half a level low in chroma, fields interleaved.

Kept so that such a packing ends with the pixels that it was begun with; nothing new is made of it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter

from shards.media import jpeg


class Scaler:
    """As shards.media.scaling.Scaler."""

    def __init__(self, width: int, height: int, *, reduces: bool) -> None:
        self._width, self._height = width, height
        self._filter = Interpolation.AREA if reduces else Interpolation.BICUBIC
        self._scaler = VideoReformatter()

    def __call__(self, frame: VideoFrame) -> jpeg.Planes:
        scaled = self._scaler.reformat(
            frame,
            width=self._width,
            height=self._height,
            format="yuv420p",
            interpolation=self._filter,
            src_colorspace=None if frame.format.is_rgb else Colorspace.ITU601,
            dst_colorspace=Colorspace.ITU601,
            dst_color_range=ColorRange.JPEG,
            threads=1,
        )
        buffers: Any = scaled.planes
        luma, blue, red = (
            np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)[:, : plane.width] for plane in buffers
        )
        matrix = jpeg.MATRICES.get(frame.colorspace)
        return (luma, blue, red) if matrix is None else _recoloured((luma, blue, red), matrix)


def _recoloured(planes: jpeg.Planes, matrix: jpeg.Matrix) -> jpeg.Planes:
    luma, *chroma = planes
    old = [plane.astype(np.int16) - 128 for plane in chroma]
    weights = [[round(128 * weight) for weight in row] for row in matrix.weights]
    added, blue, red = ((old[0] * row[0] + old[1] * row[1] + 64) >> 7 for row in weights)
    twice = added.repeat(2, axis=0)[: luma.shape[0]].repeat(2, axis=1)[:, : luma.shape[1]]
    new_luma, new_blue, new_red = (
        np.clip(total, 0, 255).astype(np.uint8) for total in (luma + twice, blue + 128, red + 128)
    )
    return new_luma, new_blue, new_red
