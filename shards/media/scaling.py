"""Scales decoded frames to the planes of stored pictures: one field of interlaced frames, JPEG's color space."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter

from shards.media import jpeg

COMMON_FORMATS = ("yuv420p", "yuvj420p")


class Scaler:
    """Scales the frames of one stream, always to the same size."""

    def __init__(self, width: int, height: int) -> None:
        """Size in pixels, before rotation."""
        self._width, self._height = width, height
        self._scaler = VideoReformatter()
        self._conversions: dict[tuple[object, ...], _Conversion] = {}

    def __call__(self, frame: VideoFrame) -> jpeg.Planes:
        """The scaled planes; the next call overwrites them."""
        fields = 1 + frame.interlaced_frame
        key = frame.format.name, frame.color_range, frame.colorspace, frame.width, frame.height, fields
        conversion = self._conversions.get(key)
        if conversion is None:
            conversion = self._conversions[key] = self._make_conversion(frame, fields)
        planes: Any = self._scaler.reformat(frame, **conversion.options).planes
        luma, blue, red = (
            np.frombuffer(plane, np.uint16).reshape(plane.height, -1)[::fields, : plane.width] for plane in planes
        )
        return conversion.color((luma, blue, red))

    def _make_conversion(self, frame: VideoFrame, fields: int) -> _Conversion:
        source, size = frame.format, (self._width, self._height)
        # Rounding to 8 bits before range expansion and color conversion would round twice, and averages of few values
        # are rounded up. 10 bits suffice for 8-bit pictures with chroma at half size, as most are.
        bits = 10 if source.name in COMMON_FORMATS else 16
        full = source.name.startswith(("yuvj", "gray", "ya")) or frame.color_range == ColorRange.JPEG
        full &= not (source.is_rgb or source.has_palette)
        downscales = min(frame.width, frame.height // fields) >= min(size)
        options = {
            "width": self._width,
            "height": self._height * fields,  # swscale scales each field by itself
            "format": f"yuv420p{bits}le",
            "interpolation": Interpolation.AREA if downscales else Interpolation.BICUBIC,
            # The same matrix for both avoids swscale's detour over RGB: ColorConversion converts the small planes.
            "src_colorspace": None if source.is_rgb else Colorspace.ITU601,
            "dst_colorspace": Colorspace.ITU601,
            "dst_color_range": ColorRange.JPEG if full else ColorRange.MPEG,
            "threads": 1,
        }
        matrix = jpeg.BT601 if source.is_rgb else jpeg.MATRICES.get(frame.colorspace, jpeg.BT601)
        levels = jpeg.limited_range(bits)
        if full:
            # swscale expands luma to all ones where it does not scale.
            unscaled = (frame.width, frame.height) == size and source.name.startswith((*COMMON_FORMATS, "gray"))
            levels = jpeg.full_range(bits, of=source.components[0].bits, expanded=unscaled)
        return _Conversion(options, jpeg.ColorConversion(matrix, levels, width=self._width, height=self._height))


@dataclass(frozen=True)
class _Conversion:
    """Conversion of frames of one format to planes: options of VideoReformatter, then a color conversion."""

    options: dict[str, Any]
    color: jpeg.ColorConversion


class ScalerV1:
    """`Scaler` of packing version 1, for resuming such packings: chroma half a level low, fields interleaved."""

    def __init__(self, width: int, height: int, *, downscales: bool) -> None:
        self._width, self._height = width, height
        self._filter = Interpolation.AREA if downscales else Interpolation.BICUBIC
        self._scaler = VideoReformatter()

    def __call__(self, frame: VideoFrame) -> jpeg.Planes:
        reformatted = self._scaler.reformat(
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
        buffers: Any = reformatted.planes
        luma, blue, red = (
            np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)[:, : plane.width] for plane in buffers
        )
        matrix = jpeg.MATRICES.get(frame.colorspace)
        return (luma, blue, red) if matrix is None else _convert_color((luma, blue, red), matrix)


def _convert_color(planes: jpeg.Planes, matrix: jpeg.Matrix) -> jpeg.Planes:
    luma, *chroma = planes
    old = [plane.astype(np.int16) - 128 for plane in chroma]
    weights = [[round(128 * weight) for weight in row] for row in matrix.weights]
    luma_change, blue, red = ((old[0] * row[0] + old[1] * row[1] + 64) >> 7 for row in weights)
    upsampled = luma_change.repeat(2, axis=0)[: luma.shape[0]].repeat(2, axis=1)[:, : luma.shape[1]]
    new_luma, new_blue, new_red = (
        np.clip(total, 0, 255).astype(np.uint8) for total in (luma + upsampled, blue + 128, red + 128)
    )
    return new_luma, new_blue, new_red
