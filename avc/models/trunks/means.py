"""What the trunks of spectrograms begin with."""

from __future__ import annotations

import functools

import torch
from torch import Tensor, nn


class Means(nn.Module):
    """(N, 1, H, W) in any strides → (N, 1, H // pool, W // pool), means of squares of `pool` × `pool` cells."""

    def __init__(self, pool: int) -> None:
        super().__init__()
        self.pool = pool

    def forward(self, x: Tensor) -> Tensor:
        """As above, in strides that are channels last alone.

        Strides that fit both layouts, as those of one channel may, are taken for channels first, which is slower.
        """
        pool = self.pool
        height, width = (side - side % pool for side in x.shape[2:])
        cells = [x[:, 0, row:height:pool, column:width:pool] for row in range(pool) for column in range(pool)]
        # Before the copy to other strides, which is then of fewer numbers; in `AvgPool2d`'s order, to the bit.
        means = cells[0] if pool == 1 else functools.reduce(torch.add, cells) / pool**2
        return means.contiguous()[..., None].permute(0, 3, 1, 2)
