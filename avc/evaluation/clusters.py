"""What features of labeled clips show without a classifier: clusters that follow the classes, units that detect one.

Look, Listen and Learn reports both for Kinetics-Sounds: NMI of k-means clusters with the labels, and for how many of
the 34 classes there is a unit that detects it, each beside an untrained network.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import comb

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from sklearn.metrics import normalized_mutual_info_score

from avc.evaluation.classifiers import Floats, Integers, Rows
from avc.evaluation.linear import Features

TOP = 5  # clips that a unit is known by, as L3's figures of units show
STARTS = 10  # of k-means


@dataclass(frozen=True)
class Structure:
    """nmi: mean over k-means from STARTS random starts, nmi_std over these; nmi_by_lot: with the labels dealt anew.

    units: how many there are. detectors: of these, how many detect a class; classes_detected: how many classes they
    are of; classes_by_lot: how many would be, if each unit's strongest clips were drawn by lot.
    """

    name: str
    nmi: float
    nmi_std: float
    nmi_by_lot: float
    units: int
    detectors: int
    classes_detected: int
    classes_by_lot: float


def structure(name: str, features: Features, labels: Integers, judged: Integers, *, places: int) -> Structure:
    """Measure the clips `judged`, int64 (N,) items, each by one vector of units.

    labels: int64 (items,). places: of the map for each unit, one after the other in a row. A unit's value in a row is
    its largest at any place, or 0 if that is below, as after a ReLU. Clusters: as many as classes, of each clip's mean
    over its rows as it is. A unit detects a class if the TOP clips in which it is strongest, by each clip's strongest
    row, are all of that class, and it is above 0 in all of them. The paper's own rule is not published in detail; this
    one is ours.
    """
    chosen = np.flatnonzero(np.isin(features.item, judged))
    clip, first = np.unique(features.item[chosen], return_index=True)
    label, rows = labels[clip], Rows(features.rows, chosen)
    blocks = [np.maximum(block.reshape(len(block), -1, places).max(axis=2), 0) for _, block in rows.blocks()]
    units: Floats = np.concatenate(blocks)
    counts = np.diff(np.append(first, len(units)))[:, None]
    means = np.add.reduceat(units, first, axis=0) / counts
    classes, per_class = np.unique(label, return_counts=True)
    random, nmi, by_lot = np.random.default_rng(0), [], []
    for start in range(STARTS):
        cluster = KMeans(len(classes), n_init=1, random_state=start).fit_predict(means)
        nmi.append(normalized_mutual_info_score(label, cluster))
        by_lot.append(normalized_mutual_info_score(random.permutation(label), cluster))
    found = detectors(np.maximum.reduceat(units, first, axis=0), label)
    by_class = [comb(int(members), TOP) / max(1, comb(len(label), TOP)) for members in per_class]
    return Structure(
        name,
        nmi=float(np.mean(nmi)),
        nmi_std=float(np.std(nmi)),
        nmi_by_lot=float(np.mean(by_lot)),
        units=units.shape[1],
        detectors=len(found),
        classes_detected=len(set(found.values())),
        classes_by_lot=float(sum(1 - (1 - share) ** units.shape[1] for share in by_class)),
    )


def detectors(values: NDArray[np.floating], label: Integers) -> dict[int, int]:
    """The class that each unit detects, of those that do; values: (clips, units), label: int64 (clips,)."""
    if len(values) < TOP:
        return {}
    strongest = np.argsort(-values, axis=0, kind="stable")[:TOP]
    alike = (label[strongest] == label[strongest[0]]).all(axis=0)
    above = np.take_along_axis(values, strongest, axis=0).min(axis=0) > 0
    return {unit: int(label[strongest[0, unit]]) for unit in np.flatnonzero(alike & above).tolist()}
