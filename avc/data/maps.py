"""What maps of where sound is are made from, and how they are shifted."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from avc.data.transforms import normalized


def whole_cells(images: Tensor, *, side: float, stride: int) -> Tensor:
    """uint8 (N, H, W, 3) → float32 (N, 3, H', W') as a network takes it, sides multiples of `stride`, uncropped.

    side: pixels of the smallest side, before it is rounded.
    """
    x = images.permute(0, 3, 1, 2).float()
    scale = side / min(x.shape[2:])
    shape = [max(1, round(length * scale / stride)) * stride for length in x.shape[2:]]
    x = F.interpolate(x, shape, mode="bilinear", antialias=True, align_corners=False)
    return normalized(x.clamp(0, 255) / 255)


def shifted_back(maps: Tensor, cells: Sequence[float]) -> Tensor:
    """float32 (N, H', W'): what lies `cells` right of and below each place, bilinearly; beyond its edge a map goes on.

    affine_grid counts in halves of a side.
    """
    height, width = maps.shape[1:]
    shift = [[1, 0, 2 * cells[0] / width], [0, 1, 2 * cells[1] / height]]
    theta = torch.tensor(shift, device=maps.device).expand(len(maps), 2, 3)
    grid = F.affine_grid(theta, [len(maps), 1, height, width], align_corners=False)
    return F.grid_sample(maps[:, None], grid, padding_mode="border", align_corners=False)[:, 0]
