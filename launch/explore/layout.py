"""Where clips lie: on a map of the plane, and one after another so that neighbors share files."""

from __future__ import annotations

import numpy as np
from sklearn.manifold import TSNE
from sklearn.neighbors import NearestNeighbors

from avc.embedding import Features, Integers

PERPLEXITY = 30
FITTED = 5_000  # moments that t-SNE lays out, in about half a minute; the others go to those that they are nearest to
NEIGHBORS = 5


def map_of(image: Features, audio: Features) -> Features:
    """Points of the moments, near to those that look and sound alike: float32 (N, 2), 0 to 1.

    t-SNE of both unit vectors in a row; of more than FITTED moments, of so many evenly spread.
    """
    features = np.concatenate([image, audio], axis=1)
    count = len(features)
    if count < 4:
        return np.stack([np.linspace(0, 1, count), np.full(count, 0.5)], axis=1).astype(np.float32)
    fitted = np.unique(np.linspace(0, count - 1, min(FITTED, count)).round().astype(np.int64))
    perplexity = min(PERPLEXITY, (len(fitted) - 1) / 3)
    points = TSNE(random_state=0, init="random", perplexity=perplexity).fit_transform(features[fitted])
    placed = np.empty((count, 2), dtype=np.float32)
    placed[fitted] = points
    rest = np.setdiff1d(np.arange(count), fitted)
    if len(rest):
        near = NearestNeighbors(n_neighbors=NEIGHBORS).fit(features[fitted])
        distances, found = near.kneighbors(features[rest])
        weights = 1 / (distances + 1e-6)
        placed[rest] = (points[found] * weights[..., None]).sum(axis=1) / weights.sum(axis=1, keepdims=True)
    low, high = placed.min(axis=0), placed.max(axis=0)
    scaled: Features = (placed - low) / np.maximum(high - low, 1e-9)
    return scaled


def along(points: Features) -> Integers:
    """An order of points in the plane in which neighbors are mostly near to each other (Morton's): int64 (N,)."""
    code = np.zeros(len(points), dtype=np.int64)
    for axis in (0, 1):
        rank = np.argsort(np.argsort(points[:, axis], kind="stable"), kind="stable")
        for bit in range(20):
            code |= (rank >> bit & 1) << (2 * bit + axis)
    return np.argsort(code, kind="stable")
