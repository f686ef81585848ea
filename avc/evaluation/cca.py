"""Canonical correlation analysis: directions of two sets of features along which they agree most."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from avc.encoders.sources import ClipEmbeddings, Floats, embed_clips
from avc.encoders.trained import Trained
from shards import Report
from shards.read import Shards

COMPONENTS = 128  # Objects that Sound 3.1
FITTED_VIEWS = 4096  # where there are fewer training clips: several views of each,
VIEWS_OF_A_CLIP = 8  # but no more than this, for they are much alike

# Directions in which features vary less than this part of their strongest are noise of float32 or dead channels.
_RANK = 1e-6


@dataclass(frozen=True)
class CCA:
    """Canonical directions of features x (D) and y (E), each side's variates scaled by their correlation.

    A product of both sides then weighs each direction by its correlation squared, the share of variance that one side
    explains of the other. Unscaled, every direction has variance 1, and the cosine of a pair is mostly the noise of
    those that hardly correlate. A variate times its correlation is the best linear prediction of its partner.

    correlations: float64 (K,), descending, of the fitted rows. K is `components`, or the rank of the features if less.
    """

    mean_x: NDArray[np.float64]
    mean_y: NDArray[np.float64]
    weights_x: NDArray[np.float64]
    weights_y: NDArray[np.float64]
    correlations: NDArray[np.float64]

    def of_x(self, x: Floats) -> Floats:
        """float32 (N, D) → (N, K) variates; of the fitted rows, mean 0 and standard deviation `correlations`."""
        return ((x - self.mean_x) @ self.weights_x).astype(np.float32)

    def of_y(self, y: Floats) -> Floats:
        """float32 (N, E) → (N, K) variates; of the fitted rows, mean 0 and standard deviation `correlations`."""
        return ((y - self.mean_y) @ self.weights_y).astype(np.float32)


def fit_cca(x: Floats, y: Floats, *, components: int = COMPONENTS) -> CCA:
    """The exact solution by singular values: whiten both, then decompose what they share.

    x, y: float32 (N, D), (N, E), row by row of the same things. scikit-learn's CCA finds the same directions one after
    another by iteration, which takes hours for 128 of 512.
    """
    assert len(x) == len(y) > 1, (len(x), len(y))
    mean_x, mean_y = x.mean(axis=0, dtype=np.float64), y.mean(axis=0, dtype=np.float64)
    white_x, unmix_x = _whitened(x - mean_x)
    white_y, unmix_y = _whitened(y - mean_y)
    left, singular, right = np.linalg.svd(white_x.T @ white_y, full_matrices=False)
    correlations = np.minimum(singular[:components], 1.0)
    scale = np.sqrt(len(x) - 1) * correlations
    return CCA(
        mean_x=mean_x,
        mean_y=mean_y,
        weights_x=unmix_x @ left[:, :components] * scale,
        weights_y=unmix_y @ right[:components].T * scale,
        correlations=correlations,
    )


def fitting_views(network: Trained, shards: Shards, report: Report | None = None) -> ClipEmbeddings:
    """Embed the training clips, several views of each where these are few. Raises ValueError for fewer than two."""
    clips = shards.clips("train")
    if len(clips) < 2:
        raise ValueError(f"{shards.folder} has {len(clips)} training clips, and CCA is fitted on these")
    passes = min(VIEWS_OF_A_CLIP, math.ceil(FITTED_VIEWS / len(clips)))
    return embed_clips(network, shards, clips, passes=passes, report=report)


def _whitened(centered: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(N, D) → an orthonormal basis of its columns (N, R), and the (D, R) that makes it from them."""
    # By the D × D scatter: the SVD of a tall N × D would need as much memory again.
    values, vectors = np.linalg.eigh(centered.T @ centered)
    kept = values > values[-1] * _RANK
    unmix = vectors[:, kept] / np.sqrt(values[kept])
    return centered @ unmix, unmix
