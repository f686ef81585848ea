"""One JPEG file as a picture."""

from __future__ import annotations

import numpy as np
import simplejpeg


class PictureError(ValueError):
    """A JPEG file that does not decode to the size that it should have."""


def decode_picture(data: bytes, *, width: int, height: int, reduce: int = 1) -> np.ndarray:
    """Decode one JPEG file of `width` x `height` pixels: uint8, ceil(height / reduce) x ceil(width / reduce) x 3, RGB.

    `reduce` is 1, 2, 4 or 8. Raises PictureError when the data is damaged or of another size.
    """
    if reduce not in (1, 2, 4, 8):
        raise ValueError(f"reduce must be 1, 2, 4 or 8, not {reduce}: these are the scales at which libjpeg decodes")
    smaller_height, smaller_width = -(-height // reduce), -(-width // reduce)
    try:
        stored_height, stored_width, *_ = simplejpeg.decode_jpeg_header(data)
        if (stored_height, stored_width) != (height, width):  # before memory is taken for it
            raise PictureError(f"{stored_width} x {stored_height} pixels instead of {width} x {height}")
        picture: np.ndarray = simplejpeg.decode_jpeg(
            data, colorspace="RGB", min_height=smaller_height, min_width=smaller_width, min_factor=float(reduce)
        )
    except ValueError as error:
        raise PictureError(str(error)) from None
    assert picture.shape == (smaller_height, smaller_width, 3)
    return picture
