"""The linear classifier is tested on folds that neither it nor its strength has seen."""

import numpy as np
import pytest
from sklearn.svm import LinearSVC

from avc.evaluation.classifiers import softmax_layer, standardized, svm
from avc.evaluation.linear import Features, cross_validate, learn_from_few

CLASSIFIERS = {"svm": svm(standardize=False), "svm on z-scores": svm(standardize=True), "softmax": softmax_layer}


def clouds(*, items: int = 60, rows: int = 3, apart: float, seed: int = 0) -> tuple[Features, np.ndarray, np.ndarray]:
    """Three classes of items in five folds, whose rows lie around a point of their class."""
    random = np.random.default_rng(seed)
    labels = np.arange(items) % 3
    folds = 1 + np.arange(items) // 3 % 5
    item = np.repeat(np.arange(items), rows)
    features = apart * np.eye(8)[labels[item]] + random.normal(size=(items * rows, 8))
    return Features(features.astype(np.float32), item), labels, folds


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_classes_that_lie_apart_are_told_apart(name) -> None:
    features, labels, folds = clouds(apart=8)
    result = cross_validate(features, labels, folds, tested_folds=range(1, 6), classifier=CLASSIFIERS[name])
    assert result.accuracy == 1 and result.spread == 0
    assert result.confusion == ((20, 0, 0), (0, 20, 0), (0, 0, 20))


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_features_that_know_nothing_stay_near_chance(name) -> None:
    features, labels, folds = clouds(items=300, rows=1, apart=0)
    result = cross_validate(features, labels, folds, tested_folds=range(1, 6), classifier=CLASSIFIERS[name])
    assert 0.2 < result.accuracy < 0.47
    assert sum(map(sum, result.confusion)) == 300


def test_the_strength_is_chosen_without_a_look_at_the_tested_fold() -> None:
    """Whatever stands in the tested fold, the same C is chosen for it."""
    features, labels, folds = clouds(apart=1.5)
    spoilt = Features(features.rows.copy(), features.item)
    spoilt.rows[np.isin(features.item, np.flatnonzero(folds == 2))] *= -50
    chosen = [
        cross_validate(f, labels, folds, tested_folds=[2], classifier=svm(standardize=True)).folds[0].strength
        for f in (features, spoilt)
    ]
    assert chosen[0] == chosen[1]


def test_a_classifier_is_never_shown_the_rows_that_it_is_scored_on() -> None:
    features, labels, folds = clouds(apart=2)
    rows = {tuple(row): fold for row, fold in zip(features.rows.tolist(), folds[features.item], strict=True)}
    seen = []

    def watching(train, truth, test, strengths):
        seen.append(({rows[tuple(row)] for row in train.tolist()}, {rows[tuple(row)] for row in test.tolist()}))
        return svm(standardize=False)(train, truth, test, strengths)

    cross_validate(features, labels, folds, tested_folds=range(1, 6), classifier=watching)
    assert all(not train & test and len(train | test) == 5 for train, test in seen)
    assert len(seen) == 10 + 5  # each pair of folds once, then each tested fold


def test_an_item_is_scored_by_the_mean_of_its_rows() -> None:
    """One loud row outweighs two faint ones: the sum decides, and not the majority."""
    labels, folds = np.array([0, 1, 0, 1]), np.array([1, 1, 2, 2])
    features = Features(np.zeros((6, 1), np.float32), np.array([0, 1, 2, 2, 2, 3]))

    def scores(train, truth, test, strengths):
        given = {3: [[0.0, 1.0], [0.0, 1.0], [9.0, 0.0], [0.0, 1.0]], 2: [[1.0, 0.0], [0.0, 1.0]]}
        return {c: np.array(given[2 if len(test) == 2 else 3]) for c in strengths}

    result = cross_validate(features, labels, folds, tested_folds=[1, 2], classifier=scores, strengths=[1.0])
    assert result.accuracy == 1


def test_z_scores_come_from_the_training_rows() -> None:
    train, test = np.array([[1.0, 5.0], [3.0, 5.0]], np.float32), np.array([[5.0, 9.0]], np.float32)
    z, other = standardized(train, test)
    np.testing.assert_allclose(z, [[-1, 0], [1, 0]])
    np.testing.assert_allclose(other, [[3, 0]])
    constant = np.full((20_000, 1), 0.1, np.float32)  # whose mean float32 rounds
    assert standardized(constant, np.full((1, 1), 0.2, np.float32))[1] == 0


def test_the_svms_are_those_of_liblinear() -> None:
    features, labels, _ = clouds(apart=1.5)
    truth = labels[features.item]
    train, test = features.rows[:120], features.rows[120:]
    ours = svm(standardize=False)(train, truth[:120], test, [1.0, 0.01])
    for c in (0.01, 1.0):
        theirs = LinearSVC(C=c, dual=False, intercept_scaling=1000, tol=1e-8).fit(train, truth[:120])
        np.testing.assert_allclose(ours[c], theirs.decision_function(test), atol=0.01)


def test_a_class_that_nothing_is_left_to_train_on_is_an_error() -> None:
    features, labels, folds = clouds(apart=1)
    folds = np.where(labels == 2, 1, folds)
    with pytest.raises(ValueError, match=r"without the folds \[1.* nothing to train class 2 on"):
        cross_validate(features, labels, folds, tested_folds=[1], classifier=svm(standardize=False))
    with pytest.raises(ValueError, match="choosing C on training folds needs 3"):
        cross_validate(features, labels, 1 + folds % 2, tested_folds=[1], classifier=svm(standardize=False))


def test_a_fold_without_items_is_an_error_and_not_a_figure() -> None:
    features, labels, folds = clouds(apart=1)
    with pytest.raises(ValueError, match="nothing to test on in fold 9"):
        cross_validate(features, labels, folds, tested_folds=[9], classifier=svm(standardize=False))


def test_what_cannot_be_read_is_not_among_the_few() -> None:
    features, labels, folds = clouds(items=300, apart=2)
    kept = features.item % 7 != 0
    readable = Features(features.rows[kept], features.item[kept])

    def counted(train, truth, test, strengths):
        assert np.bincount(truth).tolist() == [3 * 2] * 3  # three rows an item
        return svm(standardize=True)(train, truth, test, strengths)

    folds = folds % 5
    learn_from_few(readable, labels, folds, per_class=2, draws=3, classifier=counted, strength=0.01)


def test_from_few_the_same_few_are_drawn_for_all_features_and_more_of_them_tell_more() -> None:
    features, labels, folds = clouds(items=300, apart=2)
    folds = folds % 5  # fold 0 is the tested one
    seen: list[set[int]] = []

    def watched(train, truth, test, strengths):
        seen.append({int(value) for value in train[:, -1]})
        assert np.bincount(truth).tolist() == [3 * few] * 3  # three rows an item
        return svm(standardize=True)(train[:, :-1], truth, test[:, :-1], strengths)

    marked = Features(np.column_stack([features.rows, features.item]).astype(np.float32), features.item)
    accuracies = []
    for few in (1, 20):
        for _ in range(2):
            result = learn_from_few(marked, labels, folds, per_class=few, draws=4, classifier=watched, strength=0.01)
        assert seen[-8:-4] == seen[-4:] and len({frozenset(items) for items in seen[-4:]}) == 4
        assert all(folds[item] != 0 for items in seen for item in items)
        assert [fold.items for fold in result.folds] == [60] * 4 and sum(map(sum, result.confusion)) == 240
        accuracies.append(result.accuracy)
    assert accuracies[0] < accuracies[1]
    with pytest.raises(ValueError, match=r"81 of each class were to train on, but one class has 80"):
        learn_from_few(marked, labels, folds, per_class=81, draws=1, classifier=watched, strength=0.01)
