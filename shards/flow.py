"""One step of optical flow as an image: how far each pixel moves until the next tick, in 8 bits.

A gray JPEG, the horizontal motion above the vertical one, each filled up to a multiple of 8 rows by repeating its last.
Level 128 is no motion, 127 levels to either side are 20 pixels of the stored picture; faster motion is cut off there.
Eight bits in JPEG and a bound of 20 pixels are what two-stream networks were trained on (Simonyan and Zisserman, NIPS
2014, section 5, and its successors); Objects that Sound does not say how it stored its flow.
"""

from __future__ import annotations

import numpy as np
import simplejpeg

from shards.format import FLOW_LEVELS_PER_PIXEL, FLOW_ZERO

_BLOCK = 8  # rows and columns of a JPEG's blocks, and the strongest reduction at which one decodes


def encode_flow(flow: np.ndarray, *, quality: int) -> bytes:
    """One step: float32 (height, width, 2), x to the right and y down in pixels, to a JPEG file."""
    height, width, _ = flow.shape
    levels = np.clip(np.rint(flow * FLOW_LEVELS_PER_PIXEL), -127, 127).astype(np.int16) + FLOW_ZERO
    filled = _filled(height)
    image = np.empty((2, filled, width), np.uint8)
    image[:, :height] = levels.transpose(2, 0, 1)
    image[:, height:] = image[:, height - 1 : height]
    gray = image.reshape(2 * filled, width, 1)
    return bytes(simplejpeg.encode_jpeg(gray, quality=quality, colorspace="GRAY"))


def decode_flow(data: bytes, *, width: int, height: int, reduce: int = 1) -> np.ndarray:
    """uint8 (ceil(height / reduce), ceil(width / reduce), 2), x and y as levels; `reduce` is 1, 2, 4 or 8.

    Raises ValueError when the data is damaged or of another size.
    """
    stored_height, stored_width, *_ = simplejpeg.decode_jpeg_header(data)
    if (stored_height, stored_width) != (2 * _filled(height), width):  # before memory is taken for it
        raise ValueError(f"{stored_width} x {stored_height} pixels instead of {width} x {2 * _filled(height)}")
    filled = _filled(height) // reduce
    smaller_height, smaller_width = -(-height // reduce), -(-width // reduce)
    image: np.ndarray = simplejpeg.decode_jpeg(
        data, colorspace="GRAY", min_height=2 * filled, min_width=smaller_width, min_factor=float(reduce)
    )
    assert image.shape == (2 * filled, smaller_width, 1)
    halves = image.reshape(2, filled, smaller_width)[:, :smaller_height]
    return halves.transpose(1, 2, 0)


def _filled(height: int) -> int:
    return -(-height // _BLOCK) * _BLOCK
