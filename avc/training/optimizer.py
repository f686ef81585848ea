"""The papers' optimizer, Adam, and Muon.

Of Muon the momentum of a weight matrix, made orthogonal, is the step (Jordan et al. 2024,
https://kellerjordan.github.io/posts/muon); the scale of a step is that of Liu et al. 2025, arXiv 2502.16982, section
2.2, so that one learning rate does for it and for Adam. torch.optim.Muon refuses the weights of convolutions.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.adam import adam

from avc.settings import OptimSettings

MOMENTUM = 0.9
RMS = 0.2  # of a step, as large as Adam's usually are
LEAST_SIDE = 8  # of a matrix
# The published polynomial of odd degree: five times over, it takes singular values from about 0.01 to 1 near to 1.
POLYNOMIAL = (3.4445, -4.7750, 2.0315)
ITERATIONS = 5
BETAS, EPSILON = (0.9, 0.999), 1e-8  # Adam's, of what is no matrix


def build_optimizer(model: nn.Module, settings: OptimSettings) -> torch.optim.Optimizer:
    """Adam with weight decay added to the gradient, as in both papers (Objects that Sound 3.3), or Muon.

    Adam is fused, and so it leaves out a step by itself where the tensor `found_inf` that it is given is 1.
    """
    if settings.optimizer == "muon":
        return Muon(model.parameters(), lr=settings.lr, weight_decay=settings.weight_decay)
    return torch.optim.Adam(model.parameters(), lr=settings.lr, weight_decay=settings.weight_decay, fused=True)


class Muon(torch.optim.Optimizer):
    """Muon for the weights of convolutions and linear layers, Adam for all else: gains, biases, single outputs.

    Where the tensor `found_inf` that it is given is 1, it leaves out a step by itself, as fused Adam does. Of its
    groups the one with a momentum is Muon's, the other Adam's.
    """

    found_inf = torch.zeros(())

    def __init__(self, parameters: Iterable[Tensor], *, lr: float, weight_decay: float) -> None:
        matrices: list[Tensor] = []
        rest: list[Tensor] = []
        for p in parameters:
            (matrices if p.dim() > 1 and min(p.shape[0], p[0].numel()) >= LEAST_SIDE else rest).append(p)
        groups: list[dict[str, Any]] = [{"params": matrices, "momentum": MOMENTUM}, {"params": rest}]
        super().__init__(groups, {"lr": lr, "weight_decay": weight_decay, "betas": BETAS, "eps": EPSILON})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Take it with the gradients that there are, or leave it out."""
        matrices, rest = self.param_groups
        for p in matrices["params"]:
            if p.grad is not None:
                self._turn(p, p.grad + matrices["weight_decay"] * p, matrices)
        self._adam([p for p in rest["params"] if p.grad is not None], rest)

    def _turn(self, p: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        state, left_out = self.state[p], self.found_inf.bool()
        before = state.setdefault("momentum_buffer", torch.zeros_like(p))
        momentum = group["momentum"] * before + gradient
        step = orthogonal((gradient + group["momentum"] * momentum).flatten(1)).view_as(p)
        scale = group["lr"] * RMS * max(p.shape[0], p[0].numel()) ** 0.5
        before.copy_(torch.where(left_out, before, momentum))
        p.sub_(torch.where(left_out, 0, scale * step))  # NaN times 0 would be NaN

    def _adam(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        for p in parameters:
            if not self.state[p]:
                moments = {name: torch.zeros_like(p) for name in ("exp_avg", "exp_avg_sq")}
                self.state[p] = {"step": torch.zeros((), device=p.device)} | moments
        states = [self.state[p] for p in parameters]
        averages, squares, steps = ([state[name] for state in states] for name in ("exp_avg", "exp_avg_sq", "step"))
        gradients: list[Any] = [p.grad for p in parameters]
        beta1, beta2 = group["betas"]
        same: Any = {name: group[name] for name in ("lr", "weight_decay", "eps")} | {"beta1": beta1, "beta2": beta2}
        fused: Any = {"fused": True, "found_inf": self.found_inf, "amsgrad": False, "maximize": False}
        adam(parameters, gradients, averages, squares, [], steps, **fused, **same)


def orthogonal(matrix: Tensor) -> Tensor:
    """float32 (M, N) → the same with all singular values, but those near to 0, brought to between 0.7 and 1.2.

    Newton and Schulz's iteration; the products are of squares of the smaller side.
    """
    tall = matrix.shape[0] > matrix.shape[1]
    wide = matrix.T if tall else matrix
    wide = wide / (wide.norm() + 1e-7)
    a, b, c = POLYNOMIAL
    square, unit = wide @ wide.T, torch.eye(len(wide), device=wide.device)
    turned = unit
    for _ in range(ITERATIONS):
        factor = a * unit + b * square + c * square @ square
        turned, square = factor @ turned, factor @ square @ factor
    result: Tensor = turned @ wide
    return result.T if tall else result
