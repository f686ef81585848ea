"""Linear classifiers on features: what is trained, while the network that made the features stays as it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from sklearn.linear_model import LogisticRegression

Floats = NDArray[np.float32]
Integers = NDArray[np.int64]

Classifier = Callable[[Floats, Integers, Floats, Sequence[float]], Mapping[float, NDArray[Any]]]
"""(training rows, their labels 0 to K - 1, test rows, strengths) → scores (test rows, K) for each strength."""


def standardized(train: Floats, test: Floats) -> tuple[Floats, Floats]:
    """z-score of each dimension by the training rows' mean and deviation; a constant dimension becomes 0.

    Constant is what differs by no more than float32 rounds its mean.
    """
    mean, deviation = train.mean(axis=0), train.std(axis=0)
    varies = deviation > np.finfo(np.float32).eps * 8 * np.abs(mean)
    scale = np.where(varies, 1 / np.maximum(deviation, 1e-12), 0).astype(np.float32)
    return (train - mean) * scale, (test - mean) * scale


def svm(*, standardize: bool) -> Classifier:
    """One-vs-all linear SVMs: the score is the signed distance in units of the margin.

    For each class |w|² / 2 + C Σ max(0, 1 - y (w · x + b))² is as small as possible. Squared, the hinge is smooth, and
    all classes are solved at once by matrix products: thousands of rows of thousands of numbers take seconds.
    """

    def scores(train: Floats, truth: Integers, test: Floats, strengths: Sequence[float]) -> dict[float, NDArray[Any]]:
        if standardize:
            train, test = standardized(train, test)
        train, test, scatter = _principal(train, test)
        sides = np.where(truth[:, None] == np.arange(int(truth.max()) + 1), 1, -1).astype(np.float32)
        scores_of, weights = {}, np.zeros((train.shape[1], sides.shape[1]))
        for c in sorted(strengths):
            weights = _machines(train, sides, scatter, c=c, start=weights)  # from the solution for the C before
            scores_of[c] = test @ weights
        return scores_of

    return scores


def _principal(train: Floats, test: Floats) -> tuple[Floats, Floats, NDArray[np.float64]]:
    """The rows turned into the axes of the training rows' scatter, a last column of ones, and the scatter of each.

    Distances stay as they are, so the SVMs are the same. Axes along which the training rows do not differ are left out.
    """
    center = train.mean(axis=0)
    train, test = train - center, test - center
    wide = train.shape[1] > len(train)
    scatter, axes = np.linalg.eigh((train @ train.T if wide else train.T @ train).astype(np.float64))
    kept = scatter > 1e-6 * scatter[-1]
    scatter = scatter[kept]
    axes = (train.T @ axes[:, kept] / np.sqrt(scatter) if wide else axes[:, kept]).astype(np.float32)
    train, test = (np.pad(rows @ axes, ((0, 0), (0, 1)), constant_values=1) for rows in (train, test))
    return train, test, np.append(scatter, len(train))


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


def softmax_layer(
    train: Floats, truth: Integers, test: Floats, strengths: Sequence[float]
) -> dict[float, NDArray[Any]]:
    """One linear layer under softmax and cross-entropy, weights decayed by 1/C, on z-scores: the logits."""
    train, test = standardized(train, test)
    logits_of = {}
    for c in strengths:
        layer = LogisticRegression(C=c, max_iter=500).fit(train, truth)
        logits = layer.decision_function(test)
        logits_of[c] = logits if logits.ndim == 2 else np.stack([-logits, logits], axis=1)
    return logits_of
