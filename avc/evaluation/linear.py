"""Linear probes: a linear classifier on top of features, tested on folds that it was not trained on.

The classifier's strength C is chosen on the training folds alone: each of them is held out in turn, and the C that is
right most often there is taken to the tested fold.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from avc.data.sampler import Integers
from avc.encoders.cache import Features
from avc.evaluation.classifiers import BLOCK_BYTES, Classifier, Layer, Rows
from shards import Report

STRENGTHS = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)
MANY_ITEMS = 100_000  # C is chosen on one of the training folds alone


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
    report: Report | None = None,
) -> LinearResult:
    """Test on each of `tested_folds`, trained on all the other folds; an item's score is the mean of its rows'.

    labels, folds: int64 (items,); an item without rows takes no part. strengths: the values of C to choose from; one
    value is taken as it is. Each training fold is held out in turn to choose C, of more than MANY_ITEMS items one.
    Raises ValueError where a training set lacks a class, a tested fold is empty, or no fold is left to choose C on.
    """
    all_folds = sorted(set(folds[features.item].tolist()))
    choosing = len(strengths) > 1
    if empty := sorted(set(tested_folds) - set(all_folds)):
        raise ValueError(f"there is nothing to test on in fold {empty[0]}")
    if choosing and len(all_folds) < 3:
        raise ValueError(f"there are {len(all_folds)} folds; choosing C on training folds needs 3")
    most = 1 if len(labels) > MANY_ITEMS else None
    held = {fold: [other for other in all_folds if other != fold][:most] for fold in tested_folds} if choosing else {}
    pairs = {frozenset((fold, other)) for fold, others in held.items() for other in others}
    classes = int(labels.max()) + 1
    # What is held out for fold a when b is tested serves fold b when a is tested as well.
    scored: dict[frozenset[int], tuple[Integers, Mapping[float, Integers]]] = {}

    def tell(note: str) -> None:
        if report is not None:
            report(len(scored), len(pairs) + len(tested_folds), note)

    def without(held: frozenset[int], strengths: Sequence[float]) -> tuple[Integers, Mapping[float, Integers]]:
        if held not in scored:
            out = np.isin(folds, list(held))[features.item]
            truth = labels[features.item[~out]]
            if missing := sorted(set(range(classes)) - set(truth.tolist())):
                raise ValueError(f"without the folds {sorted(held)} there is nothing to train class {missing[0]} on")
            layers = classifier(Rows(features.rows, np.flatnonzero(~out)), truth, strengths, tell)
            scored[held] = _classes(layers, Rows(features.rows, np.flatnonzero(out)), features.item[out])
            tell("")
        return scored[held]

    results, confusion = [], np.zeros((classes, classes), dtype=int)
    for fold in tested_folds:
        strength = strengths[0]
        if choosing:
            right = dict.fromkeys(strengths, 0)
            for other in held[fold]:
                items, chosen = without(frozenset((fold, other)), strengths)
                judged = folds[items] == other
                for c, given in chosen.items():
                    right[c] += int((given == labels[items])[judged].sum())
            strength = max(strengths, key=lambda c: (right[c], -c))
        items, chosen = without(frozenset((fold,)), [strength])
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


def _classes(layers: Mapping[float, Layer], rows: Rows, item: Integers) -> tuple[Integers, Mapping[float, Integers]]:
    """The items, ascending, and the class that each layer gives them: of the highest sum over an item's rows.

    item: int64 (rows,), ascending. Whole items are scored, as many at once as fit into a block.
    """
    items, first = np.unique(item, return_index=True)
    bounds = np.append(first, len(item))
    most = max(1, BLOCK_BYTES // (4 * rows.stored.shape[1]))
    chosen = {c: np.empty(len(items), dtype=np.int64) for c in layers}
    begin = 0
    while begin < len(items):
        end = max(begin + 1, int(np.searchsorted(bounds, bounds[begin] + most, side="right")) - 1)
        block = rows[bounds[begin] : bounds[end]]
        for c, layer in layers.items():
            sums = np.add.reduceat(layer(block), bounds[begin:end] - bounds[begin], axis=0)
            chosen[c][begin:end] = sums.argmax(axis=1)
        begin = end
    return items, chosen
