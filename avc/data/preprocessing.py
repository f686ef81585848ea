"""Where an image is cropped, and how it is scaled: one rule for training, evaluation and teachers."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

CROP = 7 / 8  # 224 of 256 pixels: Objects that Sound 3.3, and how ImageNet's and Places' networks are tested


def crop_origin(side: int, crop: int, fraction: float = 0.5) -> int:
    """The first of `crop` pixels out of `side`, where `fraction`, 0 to 1, of the places for it lie before.

    0.5 is the middle. Where the margin is odd, its larger half is before the crop.
    """
    return int(fraction * (side - crop + 1))


def middle(images: Tensor) -> Tensor:
    """(N, H, W, C) → (N, side, side, C), a view: the middle, 7/8 of the smallest side high and wide."""
    side = round(min(images.shape[1:3]) * CROP)
    top, left = (crop_origin(whole, side) for whole in images.shape[1:3])
    return images[:, top : top + side, left : left + side]


def center_crop(images: Tensor, size: int) -> Tensor:
    """uint8 (N, H, W, C) → uint8 (N, size, size, C): what a network sees of a picture in validation and ever after.

    The middle, scaled where it has another size: bilinear with antialiasing, rounded.
    """
    x = middle(images)
    if x.shape[1] == size:
        return x
    x = F.interpolate(x.permute(0, 3, 1, 2).float(), (size, size), mode="bilinear", antialias=True, align_corners=False)
    return x.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1)
