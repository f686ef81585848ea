"""Does the map follow the sound? The same frames under sounds of nothing in view, and of another object in view.

pIA, its area, F and universal thresholds: Juanola, Haro and Fuentes, ICASSP 2025, arXiv 2410.01020. IIoU: Senocak et
al., arXiv 2407.13676. Shares are 0 to 1, where the papers' tables have percent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from avc.evaluation.map_metrics import (
    THRESHOLDS,
    Map,
    adaptive,
    area,
    consensus_iou,
    success_and_auc,
    upsampled,
)


@dataclass(frozen=True)
class Sanity:
    """The same frames under a wrong sound.

    falls: share whose maximum is below that under the right sound. auc: probability that one threshold for all frames
    ranks a right sound above a wrong one, 0.5 for chance. mean: of the maxima, 0 to 1. All of it is of maxima: it says
    that the network tells pairs apart, and nothing of where the maxima lie.
    """

    sound: str
    falls: float
    auc: float
    mean: float


@dataclass(frozen=True)
class MarkedArea:
    """Under a wrong sound, where nothing should be marked.

    share: of the picture that is above the threshold (pIA), the mean over frames. auc: area under the share of frames
    in which at most 0, 0.05, ... 1 of the picture is marked (AUC_N); 1 where nothing ever is.
    """

    sound: str
    share: float
    auc: float


@dataclass(frozen=True)
class UniversalThreshold:
    """One threshold for all frames and sounds, so that nothing is known beforehand of an object's size or presence.

    iou: mean consensus IoU under the right sounds; auc: area under the share of frames at or above 0, 0.05, ... 1.
    f: harmonic mean of `iou` and of the part of the picture that wrong sounds leave unmarked; f_auc: that of the areas.
    """

    rule: str
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


def sanity(sound: str, right: NDArray[np.float64], wrong: NDArray[np.float64]) -> Sanity:
    """Compare the maxima of the same frames under their own sound and under a wrong one."""
    labels = np.repeat([1, 0], len(right))
    auc = float(roc_auc_score(labels, np.concatenate([right, wrong])))
    return Sanity(sound, falls=float((wrong < right).mean()), auc=auc, mean=float(wrong.mean()))


def universal_thresholds(wrong: Mapping[str, Sequence[Map]]) -> dict[str, float]:
    """The thresholds by their rule: 0.5, and one that three of four maps lie below under each of the wrong sounds.

    The papers' code has a number for each network, named after the third quartile of the maxima. Here it is the largest
    of the quartiles under the single sounds.
    """
    quartiles = [float(np.quantile([map_.max() for map_ in maps], 0.75)) for maps in wrong.values()]
    return {"0.5": 0.5, "third quartile of wrong sounds' maxima": max(quartiles)}


def universal_threshold(
    rule: str, threshold: float, maps: Sequence[Map], regions: Sequence[Map], wrong: Mapping[str, Sequence[Map]]
) -> UniversalThreshold:
    """Cut all maps at one threshold: those under the right sounds, and under wrong ones by the sound's name."""
    ious = [consensus_iou(upsampled(map_) > threshold, weights) for map_, weights in zip(maps, regions, strict=True)]
    _, auc = success_and_auc(ious)
    marked = []
    for sound, under in wrong.items():
        shares = np.array([(upsampled(map_) > threshold).mean() for map_ in under])
        marked.append(MarkedArea(sound, float(shares.mean()), area((shares[:, None] <= THRESHOLDS).mean(axis=0))))
    iou = float(np.mean(ious))
    return UniversalThreshold(
        rule,
        threshold,
        iou=iou,
        auc=auc,
        wrong=tuple(marked),
        f=_harmonic(iou, float(np.mean([1 - one.share for one in marked]))),
        f_auc=_harmonic(auc, float(np.mean([one.auc for one in marked]))),
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
