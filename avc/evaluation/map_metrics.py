"""How well a map fits the annotated region: hits, displacement, consensus IoU; and does it follow the sound?

A map is float64 (H', W'), at least 0; a region is float64 (224, 224), as `boxes.region` gives it. Under sounds of
nothing in view: pIA, its area, F and universal thresholds (Juanola, Haro and Fuentes, ICASSP 2025, arXiv 2410.01020).
Under that of another object: IIoU (Senocak et al., arXiv 2407.13676). Shares are 0 to 1, the papers' tables' percent.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from avc.data.sampler import Integers
from avc.evaluation.boxes import RASTER, Box
from avc.intervals import clustered_interval

Map = NDArray[np.float64]
Mask = NDArray[np.bool_]

# Of the curves whose area is taken (Senocak et al. 2018). Published code has 0.05 * step here, which is above k / 20 in
# seven places: an IoU of exactly 0.15, 0.3, 0.35, 0.6, 0.7, 0.85 or 0.95 is then below its own threshold.
THRESHOLDS = np.arange(21) / 20
CORRECT = 0.5  # consensus IoU from which a frame counts as found


@dataclass(frozen=True)
class Hits:
    """Share of frames with a point in the annotated region: the map's maximum, the center, a random point (exactly).

    interval_95: of the maximum's share, where the clips are a sample of more. displacement_pixels: from the center of
    the nearest box to the map's maximum, right and down, in pixels of the frame, the mean over frames;
    displacement_std_pixels: its standard deviation. A map that is displaced by a constant has a mean far from 0.
    """

    frames: int
    maximum: float
    interval_95: tuple[float, float]
    center: float
    random: float
    displacement_pixels: tuple[float, float]
    displacement_std_pixels: tuple[float, float]


@dataclass(frozen=True)
class Overlap:
    """Consensus IoU (Senocak et al., CVPR 2018) of the region that a rule cuts out of the map; key: of RULES.

    success: share of frames from 0.5 on; auc: area under the share of frames at or above 0, 0.05, ... 1. `center` is
    what the same rule makes of a map that falls from the picture's center.
    """

    key: str
    success: float
    auc: float
    center_success: float
    center_auc: float


def hits(maps: list[Map], regions: list[Map], displaced: NDArray[np.float64], of_clip: Integers) -> Hits:
    """How often the center of the map's highest cell lies in the region.

    displaced: float64 (frames, 2), the `displacement` of each frame. of_clip: int64, the clip of each frame.
    """
    hit = []
    for map_, weights in zip(maps, regions, strict=True):
        x, y = maximum(map_)
        hit.append(weights[int(y * RASTER), int(x * RASTER)] > 0)
    return Hits(
        frames=len(maps),
        maximum=float(np.mean(hit)),
        interval_95=clustered_interval(np.array(hit), of_clip),
        center=float(np.mean([weights[RASTER // 2, RASTER // 2] > 0 for weights in regions])),
        random=float(np.mean([(weights > 0).mean() for weights in regions])),
        displacement_pixels=tuple(displaced.mean(axis=0).tolist()),
        displacement_std_pixels=tuple(displaced.std(axis=0).tolist()),
    )


def displacement(map_: Map, boxes: Sequence[Box], *, height: int, width: int) -> NDArray[np.float64]:
    """Pixels right and down, float64 (2,), from the center of the nearest box to that of the map's highest cell.

    height, width: of the frame, in pixels.
    """
    centers = np.array([((left + right) / 2, (top + bottom) / 2) for left, top, right, bottom in boxes])
    offsets = (maximum(map_) - centers) * (width, height)
    nearest: NDArray[np.float64] = offsets[np.hypot(*offsets.T).argmin()]
    return nearest


def maximum(map_: Map) -> tuple[float, float]:
    """x and y of the center of the map's highest cell, as fractions of width and height."""
    row, column = np.unravel_index(map_.argmax(), map_.shape)
    return (float(column) + 0.5) / map_.shape[1], (float(row) + 0.5) / map_.shape[0]


def adaptive(map_: Map, weights: Map) -> Mask:
    """The map's highest places, as many as the region has less one (arXiv 2407.13676; the count as in its code)."""
    beginning = map_.size - np.count_nonzero(weights)
    marked: Mask = map_ > np.partition(map_, beginning, axis=None)[beginning]
    return marked


RULES: dict[str, Callable[[Map, Map], Mask]] = {
    "own_range": lambda map_, _: map_ > (map_.min() + map_.max()) / 2,
    "higher_half": lambda map_, _: map_ > np.median(map_),
    "adaptive": adaptive,
}


def overlap(key: str, maps: list[Map], regions: list[Map]) -> Overlap:
    """Consensus IoU under one of RULES, with its area under the curve."""
    y, x = np.mgrid[:RASTER, :RASTER]
    centered = -np.hypot(y - (RASTER - 1) / 2, x - (RASTER - 1) / 2)
    ious, baseline = [], []
    for map_, weights in zip(maps, regions, strict=True):
        ious.append(consensus_iou(RULES[key](upsampled(map_), weights), weights))
        baseline.append(consensus_iou(RULES[key](centered, weights), weights))
    return Overlap(key, *success_and_auc(ious), *success_and_auc(baseline))


def consensus_iou(predicted: Mask, weights: Map) -> float:
    """Weight of the region inside the prediction, over that of the whole region and of what it predicts outside."""
    return float(weights[predicted].sum() / (weights.sum() + (predicted & (weights == 0)).sum()))


def success_and_auc(ious: Sequence[float]) -> tuple[float, float]:
    """Share of the values from 0.5 on, and the area under the share of those at or above 0, 0.05, ... 1."""
    values = np.array(ious)
    return float((values >= CORRECT).mean()), area((values[:, None] >= THRESHOLDS).mean(axis=0))


def area(curve: NDArray[np.float64]) -> float:
    """Area under shares at THRESHOLDS, by the trapezoid rule: 0 to 1."""
    return float(np.trapezoid(curve, THRESHOLDS))


def upsampled(map_: Map) -> Map:
    """The map at the size of a region, bilinearly."""
    smooth = F.interpolate(torch.from_numpy(map_)[None, None], (RASTER, RASTER), mode="bilinear")
    result: Map = smooth[0, 0].numpy()
    return result


@dataclass(frozen=True)
class Sanity:
    """The same frames under a wrong sound; key: foreign (of another kind or clip), silence or noise.

    falls: share whose maximum is below that under the right sound. auc: probability that one threshold for all frames
    ranks a right sound above a wrong one, 0.5 for chance. mean: of the maxima, 0 to 1. All of it is of maxima: it says
    that the network tells pairs apart, and nothing of where the maxima lie.
    """

    key: str
    falls: float
    auc: float
    mean: float


@dataclass(frozen=True)
class MarkedArea:
    """Under a wrong sound, where nothing should be marked; key: as of Sanity.

    share: of the picture that is above the threshold (pIA), the mean over frames. auc: area under the share of frames
    in which at most 0, 0.05, ... 1 of the picture is marked (AUC_N); 1 where nothing ever is.
    """

    key: str
    share: float
    auc: float


@dataclass(frozen=True)
class UniversalThreshold:
    """One threshold for all frames and sounds, so that nothing is known beforehand of an object's size or presence.

    key: half (0.5), or quartile (the third one of the wrong sounds' maxima). iou: mean consensus IoU under the right
    sounds; auc: area under the share of frames at or above 0, 0.05, ... 1.
    f: harmonic mean of `iou` and of the part of the picture that wrong sounds leave unmarked; f_auc: that of the areas.
    """

    key: str
    threshold: float
    iou: float
    auc: float
    wrong: tuple[MarkedArea, ...]
    f: float
    f_auc: float


@dataclass(frozen=True)
class Interaction:
    """Frames with two objects, under the sound of each: both must be found (IIoU), by adaptive consensus IoU from 0.5.

    iiou: share of frames. auc: area under the share of those where both are at or above 0, 0.05, ... 1.
    """

    frames: int
    iiou: float
    auc: float


def sanity(key: str, right: NDArray[np.float64], wrong: NDArray[np.float64]) -> Sanity:
    """Compare the maxima of the same frames under their own sound and under a wrong one."""
    labels = np.repeat([1, 0], len(right))
    auc = float(roc_auc_score(labels, np.concatenate([right, wrong])))
    return Sanity(key, falls=float((wrong < right).mean()), auc=auc, mean=float(wrong.mean()))


def universal_thresholds(wrong: Mapping[str, Sequence[Map]]) -> dict[str, float]:
    """The thresholds by their key: 0.5, and one that three of four maps lie below under each of the wrong sounds.

    The papers' code has a number for each network, named after the third quartile of the maxima. Here it is the largest
    of the quartiles under the single sounds.
    """
    quartiles = [float(np.quantile([map_.max() for map_ in maps], 0.75)) for maps in wrong.values()]
    return {"half": 0.5, "quartile": max(quartiles)}


def universal_threshold(
    key: str, threshold: float, maps: Sequence[Map], regions: Sequence[Map], wrong: Mapping[str, Sequence[Map]]
) -> UniversalThreshold:
    """Cut all maps at one threshold: those under the right sounds, and under wrong ones by the sound's key."""
    ious = [consensus_iou(upsampled(map_) > threshold, weights) for map_, weights in zip(maps, regions, strict=True)]
    _, auc = success_and_auc(ious)
    marked = []
    for sound, under in wrong.items():
        shares = np.array([(upsampled(map_) > threshold).mean() for map_ in under])
        marked.append(MarkedArea(sound, float(shares.mean()), area((shares[:, None] <= THRESHOLDS).mean(axis=0))))
    iou = float(np.mean(ious))
    return UniversalThreshold(
        key,
        threshold,
        iou=iou,
        auc=auc,
        wrong=tuple(marked),
        f=_harmonic(iou, float(np.mean([1 - score.share for score in marked]))),
        f_auc=_harmonic(auc, float(np.mean([score.auc for score in marked]))),
    )


def interaction(maps: Sequence[tuple[Map, Map]], regions: Sequence[tuple[Map, Map]]) -> Interaction:
    """Two maps of each frame, under the sounds of two objects, and the objects' regions."""
    worse = [
        min(
            consensus_iou(adaptive(upsampled(map_), weights), weights)
            for map_, weights in zip(pair, objects, strict=True)
        )
        for pair, objects in zip(maps, regions, strict=True)
    ]
    iiou, auc = success_and_auc(worse)
    return Interaction(len(worse), iiou, auc)


def _harmonic(first: float, second: float) -> float:
    return 2 * first * second / (first + second) if first + second else 0.0
