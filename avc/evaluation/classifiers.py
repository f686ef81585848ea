"""Linear classifiers on features: what is trained, while the network that made the features stays as it is."""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy.optimize import minimize

from avc.data.sampler import Integers
from avc.encoders.sources import Floats

BLOCK_BYTES = 2**25  # of rows that are in memory at once
ITERATIONS = 100  # of the softmax layer's solver, each a pass over the rows or a little more


@dataclass(frozen=True)
class Rows:
    """Some of the rows of features, which are read as they are asked for and need not fit in memory.

    stored: float32 or float16 (N, D), an array or `np.load(..., mmap_mode="r")`. chosen: int64, rows of it, ascending.
    """

    stored: NDArray[Any]
    chosen: Integers

    def __len__(self) -> int:
        return len(self.chosen)

    def __getitem__(self, part: slice) -> Floats:
        rows: Floats = np.asarray(self.stored[self.chosen[part]], dtype=np.float32)
        if isinstance(self.stored.base, mmap.mmap):  # else all that was ever read would stay mapped
            self.stored.base.madvise(mmap.MADV_DONTNEED)
        return rows

    def blocks(self) -> Iterator[tuple[slice, Floats]]:
        """All of them, BLOCK_BYTES at a time."""
        step = max(1, BLOCK_BYTES // (4 * self.stored.shape[1]))
        for start in range(0, len(self), step):
            part = slice(start, min(start + step, len(self)))
            yield part, self[part]


@dataclass(frozen=True)
class Layer:
    """What a classifier learns: scores (rows - center) · weights + offsets. (D,), (D, K), (K,)."""

    center: Floats
    weights: NDArray[Any]
    offsets: NDArray[Any]

    def __call__(self, rows: Floats) -> NDArray[Any]:
        """float32 (rows, D) → (rows, K)."""
        scores: NDArray[Any] = (rows - self.center) @ self.weights + self.offsets
        return scores


Classifier = Callable[[Rows, Integers, Sequence[float], Callable[[str], None]], Mapping[float, Layer]]
"""(training rows, their labels 0 to K - 1, strengths, what is told of the progress) → a layer for each strength."""


def z_scores(rows: Rows) -> tuple[Floats, Floats]:
    """Mean of each dimension and what makes its deviation 1, float32 (D,); 0 for a constant dimension.

    Constant is what differs by no more than float32 rounds its mean.
    """
    count, sums = len(rows), np.zeros(rows.stored.shape[1])
    for _, block in rows.blocks():
        sums += block.sum(axis=0, dtype=np.float64)
    mean, squares = (sums / count).astype(np.float32), np.zeros_like(sums)
    for _, block in rows.blocks():
        block -= mean
        squares += np.square(block, out=block).sum(axis=0, dtype=np.float64)
    deviation = np.sqrt(squares / count)
    varies = deviation > np.finfo(np.float32).eps * 8 * np.abs(mean)
    return mean, np.where(varies, 1 / np.maximum(deviation, 1e-12), 0).astype(np.float32)


def svm(*, standardize: bool) -> Classifier:
    """One-vs-all linear SVMs: the score is the signed distance in units of the margin.

    For each class |w|² / 2 + C Σ max(0, 1 - y (w · x + b))² is as small as possible. Squared, the hinge is smooth, and
    all classes are solved at once by matrix products: thousands of rows of thousands of numbers take seconds. All
    training rows are in memory.
    """

    def layers(rows: Rows, truth: Integers, strengths: Sequence[float], _: object = None) -> dict[float, Layer]:
        mean, scale = z_scores(rows)
        if not standardize:
            scale = np.ones_like(scale)
        train, axes, scatter = _principal((rows[:] - mean) * scale)
        sides = np.where(truth[:, None] == np.arange(int(truth.max()) + 1), 1, -1).astype(np.float32)
        layer_of, weights = {}, np.zeros((train.shape[1], sides.shape[1]))
        for c in sorted(strengths):
            weights = _machines(train, sides, scatter, c=c, start=weights)  # from the solution for the C before
            layer_of[c] = Layer(mean, scale[:, None] * (axes @ weights[:-1]), weights[-1])
        return layer_of

    return layers


def _principal(train: Floats) -> tuple[Floats, Floats, NDArray[np.float64]]:
    """Centered rows in the axes of their scatter and a last column of ones, the axes, and the scatter of each column.

    Distances stay as they are, so the SVMs are the same. Axes along which the training rows do not differ are left out.
    """
    wide = train.shape[1] > len(train)
    scatter, axes = np.linalg.eigh((train @ train.T if wide else train.T @ train).astype(np.float64))
    kept = scatter > 1e-6 * scatter[-1]
    scatter = scatter[kept]
    axes = (train.T @ axes[:, kept] / np.sqrt(scatter) if wide else axes[:, kept]).astype(np.float32)
    return np.pad(train @ axes, ((0, 0), (0, 1)), constant_values=1), axes, np.append(scatter, len(train))


def _machines(
    rows: Floats, sides: Floats, scatter: NDArray[np.float64], *, c: float, start: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Weights (D, K) of squared-hinge SVMs, the last row the offsets; sides: float32 (rows, K), 1 for the class or -1.

    Where no row has its margin yet, the second derivative is 1 + 2 C scatter, axis by axis. Steps are measured by it:
    without that, features that go together make the way to the solution several times as long.
    """
    decayed = np.ones((rows.shape[1], 1))
    decayed[-1] = 0  # an offset is no complexity
    scale = 1 / np.sqrt(decayed + 2 * c * scatter[:, None])

    def objective(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        weights = flat.reshape(start.shape) * scale
        lacking = np.maximum(1 - sides * (rows @ weights.astype(np.float32)), 0)
        loss = 0.5 * float((decayed * weights**2).sum()) + c * float((lacking.astype(np.float64) ** 2).sum())
        gradient = decayed * weights - 2 * c * (rows.T @ (sides * lacking))
        return loss, (gradient * scale).ravel()

    options = {"maxiter": 500, "maxcor": 20, "ftol": 1e-7, "gtol": 1e-6}
    solution = minimize(objective, (start / scale).ravel(), jac=True, method="L-BFGS-B", options=options)
    return np.asarray(solution.x).reshape(start.shape) * scale


def softmax_layer(device: torch.device) -> Classifier:
    """One linear layer under softmax and cross-entropy on z-scores, trained on `device` on any number of rows.

    The mean cross-entropy of N rows and |w|² / (2 C N), the problem that scikit-learn's LogisticRegression solves for
    three or more classes, by at most ITERATIONS of L-BFGS. Each gradient is that of all rows, summed over blocks that
    stream through the device.
    """

    def layers(
        rows: Rows, truth: Integers, strengths: Sequence[float], tell: Callable[[str], None]
    ) -> dict[float, Layer]:
        mean, scale = z_scores(rows)
        center, factor, labels = (torch.from_numpy(x).to(device) for x in (mean, scale, truth))
        weights = torch.zeros(len(mean), int(truth.max()) + 1, device=device, requires_grad=True)
        offsets = torch.zeros(weights.shape[1], device=device, requires_grad=True)
        layer_of, passes = {}, 0

        def loss_and_gradient() -> torch.Tensor:
            nonlocal passes
            passes += 1
            tell(f"C {c:g}, pass {passes} over {len(rows):,} rows")
            loss = weights.square().sum() / (2 * c * len(rows))
            weights.grad, offsets.grad = torch.autograd.grad(loss, [weights, offsets], materialize_grads=True)
            total = loss.detach().double()
            for part, block in rows.blocks():
                scores = torch.from_numpy(block).to(device).sub_(center).mul_(factor) @ weights + offsets
                loss = F.cross_entropy(scores, labels[part], reduction="sum") / len(rows)
                loss.backward()  # type: ignore[no-untyped-call]
                total = total + loss.detach()
            return total

        for c in sorted(strengths):  # each from the solution for the C before
            passes = 0
            torch.optim.LBFGS(
                [weights, offsets],
                max_iter=ITERATIONS,
                history_size=10,
                line_search_fn="strong_wolfe",
                tolerance_grad=1e-5,
                tolerance_change=1e-7,
            ).step(loss_and_gradient)  # type: ignore[no-untyped-call]
            trained = (factor[:, None] * weights.detach()).cpu().numpy(), offsets.detach().cpu().numpy().copy()
            layer_of[c] = Layer(mean, *trained)
        return layer_of

    return layers
