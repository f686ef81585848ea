"""From a decoded frame to the planes of the stored picture: scaled, of one field, in JPEG's own colors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter

from shards.media import jpeg

USUAL = ("yuv420p", "yuvj420p")


class Scaler:
    """Scales the frames of one stream, always to the same size."""

    def __init__(self, width: int, height: int) -> None:
        """The size in pixels, before the picture is turned upright."""
        self._width, self._height = width, height
        self._scaler = VideoReformatter()
        self._ways: dict[tuple[object, ...], _Way] = {}

    def __call__(self, frame: VideoFrame) -> jpeg.Planes:
        """The picture's planes; the next call overwrites them."""
        fields = 1 + frame.interlaced_frame
        form = frame.format.name, frame.color_range, frame.colorspace, frame.width, frame.height, fields
        way = self._ways.get(form) or self._ways.setdefault(form, self._way_of(frame, fields))
        planes: Any = self._scaler.reformat(frame, **way.options).planes
        luma, blue, red = (
            np.frombuffer(plane, np.uint16).reshape(plane.height, -1)[::fields, : plane.width] for plane in planes
        )
        return way.recolouring((luma, blue, red))

    def _way_of(self, frame: VideoFrame, fields: int) -> _Way:
        source, size = frame.format, (self._width, self._height)
        # What is rounded to 8 bits before it is expanded or recolored is rounded twice, and averages of few numbers are
        # always rounded upwards: 10 bits hold those of pictures of 8 whose chroma is of half size, as most are.
        bits = 10 if source.name in USUAL else 16
        full = source.name.startswith(("yuvj", "gray", "ya")) or frame.color_range == ColorRange.JPEG
        full &= not (source.is_rgb or source.has_palette)
        reduces = min(frame.width, frame.height // fields) >= min(size)
        options = {
            "width": self._width,
            "height": self._height * fields,  # swscale scales each field by itself
            "format": f"yuv420p{bits}le",
            "interpolation": Interpolation.AREA if reduces else Interpolation.BICUBIC,
            # Naming one matrix for both keeps swscale from a detour over RGB: Recolouring makes the change afterwards,
            # on planes that are small by then.
            "src_colorspace": None if source.is_rgb else Colorspace.ITU601,
            "dst_colorspace": Colorspace.ITU601,
            "dst_color_range": ColorRange.JPEG if full else ColorRange.MPEG,
            "threads": 1,
        }
        matrix = jpeg.BT601 if source.is_rgb else jpeg.MATRICES.get(frame.colorspace, jpeg.BT601)
        levels = jpeg.limited_range(bits)
        if full:
            copied = (frame.width, frame.height) == size and source.name.startswith((*USUAL, "gray"))
            levels = jpeg.full_range(bits, of=source.components[0].bits, filled=copied)  # as swscale then does
        return _Way(options, jpeg.Recolouring(matrix, levels, width=self._width, height=self._height))


@dataclass(frozen=True)
class _Way:
    """How frames of one form become planes: options of VideoReformatter, and what comes after it."""

    options: dict[str, Any]
    recolouring: jpeg.Recolouring


class ScalerOfVersion1:
    """As `Scaler`, in packings that were begun as version 1: chroma half a level low, fields interleaved.

    Such a packing ends with the pixels that it was begun with; nothing new is made of it.
    """

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
