"""From a decoded frame to the planes of the stored picture: scaled, of one field, in JPEG's own colors."""

from __future__ import annotations

from typing import Any

import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter

from shards.media import jpeg


class Scaler:
    """Scales the frames of one stream, always to the same size."""

    def __init__(self, width: int, height: int) -> None:
        """The size in pixels, before the picture is turned upright."""
        self._width, self._height = width, height
        self._scaler = VideoReformatter()
        self._recolourings: dict[tuple[jpeg.Matrix, jpeg.Levels], jpeg.Recolouring] = {}

    def __call__(self, frame: VideoFrame) -> jpeg.Planes:
        """The picture's planes; the next call overwrites them."""
        fields = 1 + frame.interlaced_frame
        levels = self._levels_of(frame)
        reduces = min(frame.width, frame.height // fields) >= min(self._width, self._height)
        filtering = Interpolation.AREA if reduces else Interpolation.BICUBIC
        scaled = self._scaler.reformat(
            frame,
            width=self._width,
            height=self._height * fields,  # swscale scales each field by itself
            format="yuv420p" if levels is jpeg.COPIED else "yuv420p10le",
            interpolation=filtering,
            # Naming one matrix for both keeps swscale from a detour over RGB: Recolouring makes the change afterwards,
            # on planes that are small by then.
            src_colorspace=None if frame.format.is_rgb else Colorspace.ITU601,
            dst_colorspace=Colorspace.ITU601,
            dst_color_range=ColorRange.MPEG if levels is jpeg.LIMITED else ColorRange.JPEG,
            threads=1,
        )
        buffers: Any = scaled.planes
        kind = np.dtype(np.uint8 if levels is jpeg.COPIED else np.uint16)
        luma, blue, red = (
            np.frombuffer(plane, kind).reshape(plane.height, -1)[::fields, : plane.width] for plane in buffers
        )
        matrix = jpeg.BT601 if frame.format.is_rgb else jpeg.MATRICES.get(frame.colorspace, jpeg.BT601)
        if (matrix, levels) not in self._recolourings:
            self._recolourings[matrix, levels] = jpeg.Recolouring(
                matrix, levels, width=self._width, height=self._height
            )
        return self._recolourings[matrix, levels]((luma, blue, red))

    def _levels_of(self, frame: VideoFrame) -> jpeg.Levels:
        name = frame.format.name
        full = name.startswith(("yuvj", "gray", "ya")) or frame.color_range == ColorRange.JPEG
        if frame.format.is_rgb or frame.format.has_palette or not full:
            return jpeg.LIMITED
        if frame.format.components[0].bits > 8:
            return jpeg.FULL_OF_MORE_BITS
        same = (frame.width, frame.height) == (self._width, self._height)
        return jpeg.COPIED if same and name in ("yuv420p", "yuvj420p", "gray") else jpeg.FULL
