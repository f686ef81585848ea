"""Where an image is cropped, and how large it is before: one rule for training, evaluation and teachers."""

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


def scaled_sides(height: int, width: int, size: int) -> tuple[int, int]:
    """Height and width, in pixels, of an image whose smallest side is scaled to 8/7 of `size`."""
    scale = size / CROP / min(height, width)
    return max(size, round(height * scale)), max(size, round(width * scale))


def scaled_center(x: Tensor, size: int) -> Tensor:
    """float32 (N, C, H, W) → (N, C, size, size): smallest side to 8/7 of size, bilinear with antialiasing; the middle.

    An image that has that size already is cropped as it is.
    """
    sides = scaled_sides(x.shape[2], x.shape[3], size)
    if sides != tuple(x.shape[2:]):
        x = F.interpolate(x, sides, mode="bilinear", antialias=True, align_corners=False)
    top, left = (crop_origin(side, size) for side in sides)
    return x[:, :, top : top + size, left : left + size]


def center_crop(images: Tensor, size: int) -> Tensor:
    """uint8 (N, H, W, C) → uint8 (N, size, size, C): smallest side to 8/7 of size, the middle, as in validation."""
    x = scaled_center(images.permute(0, 3, 1, 2).float(), size).round().clamp(0, 255).to(torch.uint8)
    return x.permute(0, 2, 3, 1)
