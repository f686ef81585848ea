"""Encodes one step of optical flow, the motion of each pixel until the next tick, as an 8-bit image.

A gray JPEG: horizontal motion above vertical motion, each padded to a multiple of 8 rows by repeating the last one.
Level 128 is no motion, ±127 levels are ±20 pixels of the stored picture; faster motion is clipped. Two-stream networks
were trained on 8-bit JPEGs with a bound of 20 pixels (Simonyan and Zisserman, NIPS 2014, section 5, and successors);
Objects that Sound does not say how it stored its flow.
"""

from __future__ import annotations

import numpy as np
import simplejpeg

from shards.format import FLOW_LEVELS_PER_PIXEL, FLOW_ZERO

_BLOCK = 8  # rows and columns of a JPEG block, and the largest factor of reduced decoding


def encode_flow(flow: np.ndarray, *, quality: int) -> bytes:
    """Encode one step, float32 (height, width, 2), x to the right and y down in pixels, as a JPEG file."""
    height, width, _ = flow.shape
    levels = np.clip(np.rint(flow * FLOW_LEVELS_PER_PIXEL), -127, 127).astype(np.int16) + FLOW_ZERO
    padded = _padded(height)
    image = np.empty((2, padded, width), np.uint8)
    image[:, :height] = levels.transpose(2, 0, 1)
    image[:, height:] = image[:, height - 1 : height]
    gray = image.reshape(2 * padded, width, 1)
    return bytes(simplejpeg.encode_jpeg(gray, quality=quality, colorspace="GRAY"))


def decode_flow(data: bytes, *, width: int, height: int, reduce: int = 1) -> np.ndarray:
    """Decode one step to uint8 (ceil(height / reduce), ceil(width / reduce), 2), x and y levels; reduce: 1, 2, 4, 8.

    Raises ValueError when the data is damaged or of another size.
    """
    stored_height, stored_width, *_ = simplejpeg.decode_jpeg_header(data)
    if (stored_height, stored_width) != (2 * _padded(height), width):  # checked before memory is allocated
        raise ValueError(f"{stored_width} x {stored_height} pixels instead of {width} x {2 * _padded(height)}")
    padded = _padded(height) // reduce
    reduced_height, reduced_width = -(-height // reduce), -(-width // reduce)
    image: np.ndarray = simplejpeg.decode_jpeg(
        data, colorspace="GRAY", min_height=2 * padded, min_width=reduced_width, min_factor=float(reduce)
    )
    assert image.shape == (2 * padded, reduced_width, 1)
    planes = image.reshape(2, padded, reduced_width)[:, :reduced_height]
    return planes.transpose(1, 2, 0)


def _padded(height: int) -> int:
    return -(-height // _BLOCK) * _BLOCK
