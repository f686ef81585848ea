"""The optimizer and its learning rate."""

from __future__ import annotations

import torch
from torch import nn

from avc.settings import OptimSettings


def build_optimizer(model: nn.Module, settings: OptimSettings) -> torch.optim.Adam:
    """Adam with weight decay added to the gradient, as in both papers (Objects that Sound 3.3).

    Fused, and so it leaves out a step by itself where the tensor `found_inf` that it is given is 1.
    """
    return torch.optim.Adam(model.parameters(), lr=settings.lr, weight_decay=settings.weight_decay, fused=True)


def learning_rate(epoch: int, settings: OptimSettings) -> float:
    """× 0.94 every 16 epochs (Objects that Sound 3.3); `epoch` counts from 0."""
    return settings.lr * settings.lr_decay ** (epoch // settings.lr_decay_epochs)
