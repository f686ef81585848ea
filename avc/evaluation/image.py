"""Pictures for a linear probe of image features."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from avc.data.media import read_rgb
from avc.data.preprocessing import center_crop
from avc.encoders.encoder import ImageEncoder
from avc.evaluation.extraction import Inputs, Unreadable, file_identity


def read_image(path: Path, size: int) -> Tensor:
    """The middle of an image file as uint8 (1, size, size, 3) RGB, by `center_crop`.

    Raises Unreadable for what cannot be decoded or is too large.
    """
    try:
        rgb = read_rgb(path)
    except ValueError as error:
        raise Unreadable(str(error)) from None
    return center_crop(torch.from_numpy(np.array(rgb))[None], size)


def pictures(encoder: ImageEncoder, layer: str) -> Inputs[Path]:
    """Picture files, a row each. Raises ValueError for an encoder of motion."""
    encoder.require_single_frames()
    what = f"{encoder.describe(layer)}, {encoder.size} pixels"
    return Inputs(what, lambda path: (read_image(path, encoder.size), False), file_identity)
