"""Linear probes: a linear classifier on top of features, tested on folds that it was not trained on.

The classifier's strength C is chosen on the training folds alone: each of them is held out in turn, and the C that is
right most often there is taken to the tested fold.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from avc.evaluation.classifiers import Classifier, Floats, Integers

STRENGTHS = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)


@dataclass(frozen=True)
class Features:
    """Rows of features, (N, D) float32, and the item (recording or image) that each belongs to, (N,) int64."""

    rows: Floats
    item: Integers


@dataclass(frozen=True)
class FoldResult:
    """fold: the one tested on, or the draw. right: share of its items, 0 to 1.

    strength: the C that was taken, or None where the network was trained as a whole and there is none.
    """

    fold: int
    strength: float | None
    right: float
    items: int


@dataclass(frozen=True)
class LinearResult:
    """confusion: counts of items, true class × chosen class, over all tested folds."""

    folds: tuple[FoldResult, ...]
    confusion: tuple[tuple[int, ...], ...]

    @property
    def accuracy(self) -> float:
        """Mean over the tested folds, 0 to 1."""
        return float(np.mean([fold.right for fold in self.folds]))

    @property
    def spread(self) -> float:
        """Standard deviation over the tested folds."""
        return float(np.std([fold.right for fold in self.folds]))


def cross_validate(
    features: Features,
    labels: Integers,
    folds: Integers,
    *,
    tested_folds: Sequence[int],
    classifier: Classifier,
    strengths: Sequence[float] = STRENGTHS,
    report: Callable[[int, int, str], None] | None = None,
) -> LinearResult:
    """Test on each of `tested_folds`, trained on all the other folds; an item's score is the mean of its rows'.

    labels, folds: int64 (items,); an item without rows takes no part. strengths: the values of C to choose from; one
    value is taken as it is. Raises ValueError where a training set lacks a class, a tested fold is empty, or no fold is
    left to choose C on.
    """
    all_folds = sorted(set(folds[features.item].tolist()))
    classes = int(labels.max()) + 1
    scored: dict[frozenset[int], tuple[Integers, Mapping[float, Integers]]] = {}
    choosing = len(strengths) > 1
    empty = sorted(set(tested_folds) - set(all_folds))
    if empty:
        raise ValueError(f"there is nothing to test on in fold {empty[0]}")
    if choosing and len(all_folds) < 3:
        raise ValueError(f"there are {len(all_folds)} folds; choosing C on training folds needs 3")
    pairs = {frozenset((t, o)) for t in tested_folds for o in all_folds if o != t} if choosing else set()
    total = len(pairs) + len(tested_folds)

    def choices(held_out: frozenset[int], candidates: Sequence[float]) -> tuple[Integers, Mapping[float, Integers]]:
        # The items of the folds, and the class that each is given for each C.
        # What is held out for fold a when b is tested serves fold b when a is tested as well.
        if held_out not in scored:
            out = np.isin(folds, list(held_out))
            train, test = ~out[features.item], out[features.item]
            truth = labels[features.item[train]]
            missing = sorted(set(range(classes)) - set(truth.tolist()))
            if missing:
                raise ValueError(
                    f"without the folds {sorted(held_out)} there is nothing to train class {missing[0]} on"
                )
            rows = classifier(features.rows[train], truth, features.rows[test], candidates)
            items, of_row = np.unique(features.item[test], return_inverse=True)
            scored[held_out] = items, {c: _means(score, of_row).argmax(axis=1) for c, score in rows.items()}
            if report is not None:
                report(len(scored), total, "")
        return scored[held_out]

    results, confusion = [], np.zeros((classes, classes), dtype=int)
    for fold in tested_folds:
        strength = strengths[0]
        if choosing:
            right = dict.fromkeys(strengths, 0)
            for other in all_folds:
                if other != fold:
                    items, chosen = choices(frozenset((fold, other)), strengths)
                    judged = folds[items] == other
                    for c, given in chosen.items():
                        right[c] += int((given == labels[items])[judged].sum())
            strength = max(strengths, key=lambda c: (right[c], -c))
        items, chosen = choices(frozenset((fold,)), [strength])
        np.add.at(confusion, (labels[items], chosen[strength]), 1)
        results.append(FoldResult(fold, strength, float((chosen[strength] == labels[items]).mean()), len(items)))
    return LinearResult(tuple(results), tuple(tuple(map(int, row)) for row in confusion))


def learn_from_few(
    features: Features,
    labels: Integers,
    folds: Integers,
    *,
    per_class: int,
    draws: int,
    classifier: Classifier,
    strength: float,
) -> LinearResult:
    """Test on fold 0, trained on `per_class` items of each class out of the other folds: as a fold each draw of them.

    labels, folds: int64 (items,); an item without rows takes no part. The draws are the same for all features of the
    same items. Raises ValueError where a class has fewer training items or fold 0 is empty.
    """
    present = np.unique(features.item)
    tested = present[folds[present] == 0]
    training = present[folds[present] != 0]
    of_class = [training[labels[training] == number] for number in range(int(labels.max()) + 1)]
    if min(map(len, of_class)) < per_class:
        raise ValueError(f"{per_class} of each class were to train on, but one class has {min(map(len, of_class))}")
    folds_of, confusions = [], []
    for draw in range(draws):
        random = np.random.default_rng(draw)
        drawn = np.concatenate([random.permutation(items)[:per_class] for items in of_class])
        kept = np.isin(features.item, np.concatenate([tested, drawn]))
        few = Features(features.rows[kept], features.item[kept])
        result = cross_validate(few, labels, folds, tested_folds=[0], classifier=classifier, strengths=[strength])
        folds_of.append(replace(result.folds[0], fold=draw))
        confusions.append(result.confusion)
    return LinearResult(tuple(folds_of), tuple(tuple(map(int, row)) for row in np.sum(confusions, axis=0)))


def _means(scores: NDArray[Any], item: Integers) -> NDArray[Any]:
    """(rows, classes) and the item of each row, 0 to N - 1 → (N, classes)."""
    sums = np.zeros((int(item.max()) + 1, scores.shape[1]))
    np.add.at(sums, item, scores)
    return sums / np.bincount(item)[:, None]
