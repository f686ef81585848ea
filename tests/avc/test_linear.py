"""The linear classifier is tested on folds that neither it nor its strength has seen."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.svm import LinearSVC

from avc.encoders.cache import Features
from avc.evaluation import classifiers
from avc.evaluation.classifiers import Rows, softmax_layer, svm, z_scores
from avc.evaluation.linear import cross_validate, learn_from_few

CLASSIFIERS = {
    "svm": svm(standardize=False),
    "svm on z-scores": svm(standardize=True),
    "softmax": softmax_layer(torch.device("cpu")),
}


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

    def watching(train, truth, strengths, tell):
        tested = set()
        seen.append(({rows[tuple(row)] for row in train[:].tolist()}, tested))

        def watched(layer):
            return lambda block: tested.update(rows[tuple(row)] for row in block.tolist()) or layer(block)

        layers = svm(standardize=False)(train, truth, strengths, tell)
        return {c: watched(layer) for c, layer in layers.items()}

    cross_validate(features, labels, folds, tested_folds=range(1, 6), classifier=watching)
    assert all(not train & test and len(train | test) == 5 for train, test in seen)
    assert len(seen) == 10 + 5  # each pair of folds once, then each tested fold


def test_an_item_is_scored_by_the_mean_of_its_rows() -> None:
    """One loud row outweighs two faint ones: the sum decides, and not the majority."""
    labels, folds = np.array([0, 1, 0, 1]), np.array([1, 1, 2, 2])
    features = Features(np.zeros((6, 1), np.float32), np.array([0, 1, 2, 2, 2, 3]))

    def scores(train, truth, strengths, tell):
        given = {4: [[0.0, 1.0], [0.0, 1.0], [9.0, 0.0], [0.0, 1.0]], 2: [[1.0, 0.0], [0.0, 1.0]]}
        return {c: lambda block: np.array(given[len(block)]) for c in strengths}

    result = cross_validate(features, labels, folds, tested_folds=[1, 2], classifier=scores, strengths=[1.0])
    assert result.accuracy == 1


def test_z_scores_come_from_the_training_rows() -> None:
    rows = np.array([[1.0, 5.0], [5.0, 9.0], [3.0, 5.0]], np.float32)
    mean, scale = z_scores(Rows(rows, np.array([0, 2])))
    np.testing.assert_allclose((rows - mean) * scale, [[-1, 0], [3, 0], [1, 0]])
    constant = np.full((20_000, 1), 0.1, np.float32)  # whose mean float32 rounds
    assert z_scores(Rows(constant, np.arange(20_000)))[1] == 0


def test_the_svms_are_those_of_liblinear() -> None:
    features, labels, _ = clouds(apart=1.5)
    truth = labels[features.item]
    train, test = features.rows[:120], features.rows[120:]
    ours = svm(standardize=False)(Rows(features.rows, np.arange(120)), truth[:120], [1.0, 0.01], print)
    for c in (0.01, 1.0):
        theirs = LinearSVC(C=c, dual=False, intercept_scaling=1000, tol=1e-8).fit(train, truth[:120])
        np.testing.assert_allclose(ours[c](test), theirs.decision_function(test), atol=0.01)


@pytest.mark.parametrize("kept_as", [np.float32, np.float16])
def test_the_softmax_layer_that_streams_from_a_file_is_scikit_learns(tmp_path, monkeypatch, kept_as) -> None:
    features, labels, _ = clouds(apart=1.5)
    monkeypatch.setattr(classifiers, "BLOCK_BYTES", 40 * 4 * 8)  # 40 rows at once
    stored = (features.rows * np.float32([1, 10, 1, 1, 0.1, 1, 1, 1]) + 3).astype(kept_as)
    np.save(tmp_path / "rows.npy", stored)
    mapped = np.load(tmp_path / "rows.npy", mmap_mode="r")
    trained, truth = np.flatnonzero(np.arange(len(stored)) % 3), labels[features.item]
    ours = softmax_layer(torch.device("cpu"))(Rows(mapped, trained), truth[trained], [1.0, 1e-4, 0.01], print)
    mean, deviation = (f(stored[trained].astype(np.float64), axis=0) for f in (np.mean, np.std))
    z = (stored - mean) / deviation
    for c in (1e-4, 0.01, 1.0):
        theirs = LogisticRegression(C=c, max_iter=1000, tol=1e-8).fit(z[trained], truth[trained])
        logits = ours[c](stored.astype(np.float32))
        np.testing.assert_allclose(logits - logits.mean(axis=1, keepdims=True), theirs.decision_function(z), atol=0.01)


def test_a_softmax_layer_takes_less_memory_than_the_file_that_it_is_trained_on(tmp_path) -> None:
    random = np.random.default_rng(0)
    rows = np.lib.format.open_memmap(tmp_path / "rows.npy", mode="w+", dtype=np.float32, shape=(8_000, 2048))
    for start in range(0, len(rows), 2000):
        rows[start : start + 2000] = random.standard_normal((2000, 2048), dtype=np.float32)
        rows[np.arange(start, start + 2000), np.arange(2000) % 4] += 5
    del rows
    code = f"""
import numpy as np, torch
from avc.evaluation import classifiers, linear
from avc.encoders.cache import Features
from avc.evaluation.linear import cross_validate
classifiers.BLOCK_BYTES = linear.BLOCK_BYTES = 2**22
def accuracy(count):
    rows = np.load({str(tmp_path / "rows.npy")!r}, mmap_mode="r")
    number = np.arange(count)
    features = Features(rows if count == len(rows) else np.array(rows[:count]), number)
    layer = classifiers.softmax_layer(torch.device("cpu"))
    return cross_validate(
        features, number % 4, number % 3, tested_folds=[0], classifier=layer, strengths=[1e-5]
    ).accuracy
def peak():
    [line] = [line for line in open("/proc/self/status") if line.startswith("VmHWM")]
    return int(line.split()[1]) / 1024
accuracy(300)
before = peak()
print(accuracy(8_000), peak() - before)
"""
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    accuracy, mebibytes = map(float, done.stdout.split())
    assert accuracy > 0.9
    assert mebibytes < 35, f"the file has 62, and {mebibytes} were taken"


def test_of_very_many_items_one_fold_is_held_out_to_choose_the_strength(monkeypatch) -> None:
    features, labels, folds = clouds(apart=2)
    trainings = []

    def counted(train, truth, strengths, tell):
        trainings.append(len(strengths))
        return svm(standardize=True)(train, truth, strengths, tell)

    for most, expected in ((60, [6, 6, 6, 6, 1]), (59, [6, 1])):
        trainings.clear()
        monkeypatch.setattr("avc.evaluation.linear.MANY_ITEMS", most)
        cross_validate(features, labels, folds, tested_folds=[2], classifier=counted)
        assert trainings == expected


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

    def counted(train, truth, strengths, tell):
        assert np.bincount(truth).tolist() == [3 * 2] * 3  # three rows an item
        return svm(standardize=True)(train, truth, strengths, tell)

    folds = folds % 5
    learn_from_few(readable, labels, folds, per_class=2, draws=3, classifier=counted, strength=0.01)


def test_from_few_the_same_few_are_drawn_for_all_features_and_more_of_them_tell_more() -> None:
    features, labels, folds = clouds(items=300, apart=2)
    folds = folds % 5  # fold 0 is the tested one
    seen: list[set[int]] = []

    def watched(train, truth, strengths, tell):
        seen.append({int(value) for value in train[:][:, -1]})
        assert np.bincount(truth).tolist() == [3 * few] * 3  # three rows an item
        layers = svm(standardize=True)(Rows(train[:][:, :-1], np.arange(len(train))), truth, strengths, tell)
        return {c: lambda block, layer=layer: layer(block[:, :-1]) for c, layer in layers.items()}

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
