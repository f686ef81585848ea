"""Picture classification by what a network has learnt to see: its features under one linear layer.

Look, Listen and Learn's probe: conv4_2 of the vision trunk after its ReLU, max-pooled to 4×4×512; all else is frozen.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from avc.data.media import read_rgb
from avc.data.preprocessing import crop_origin, scaled_sides
from avc.data.transforms import images_to_input
from avc.evaluation.extraction import Extractor, Unreadable
from avc.models.inputs import VisualInput
from avc.models.pair import PairNetwork
from avc.settings import PairData


def read_picture(path: Path, size: int) -> Tensor:
    """The middle of a picture as uint8 (1, size, size, 3) RGB; its smallest side is scaled to 8/7 of size first.

    Raises Unreadable for what cannot be decoded or is too large.
    """
    try:
        rgb = read_rgb(path)
    except ValueError as error:
        raise Unreadable(str(error)) from None
    height, width = scaled_sides(rgb.height, rgb.width, size)
    rgb = rgb.resize((width, height), Image.Resampling.BILINEAR)
    top, left = crop_origin(height, size), crop_origin(width, size)
    return torch.from_numpy(np.array(rgb.crop((left, top, left + size, top + size))))[None]


def pooled_sight(trunk: nn.Module, pictures: Tensor) -> Tensor:
    """(N, 3, H, W) normalized → conv4_2 after its ReLU, max-pooled to 4×4: (N, 8192) at full width."""
    return F.adaptive_max_pool2d(trunk(pictures), (4, 4)).flatten(1)


def refuse_motion(model: PairNetwork) -> None:
    """Raise ValueError for a network that sees more than one picture."""
    if model.visual_input != VisualInput():
        raise ValueError("AVE+MF and AVE+OF see motion and have no features of single pictures; give another run")


def picture_features(model: PairNetwork, data: PairData, *, name: str) -> Extractor[Path]:
    """conv4_2 of the vision trunk after ReLU, max-pooled to 4×4: 8192 numbers at full width, one row a picture."""
    refuse_motion(model)
    size = data.image_size

    def load(path: Path) -> tuple[Tensor, bool]:
        return read_picture(path, size), False

    def compute(trunk: nn.Module, pictures: Tensor) -> Tensor:
        return pooled_sight(trunk, images_to_input(pictures, None, data))

    return Extractor(name, f"conv4_2 after ReLU, {size} pixels", model.vision.eval(), load, compute)
