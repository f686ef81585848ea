"""Clusters that follow the classes and units that detect one, where features know them and where they do not."""

import numpy as np

from avc.encoders.cache import Features
from avc.evaluation.kinds import detectors, structure


def clips(*, known: float, places: int = 4) -> tuple[Features, np.ndarray]:
    """60 clips of 3 classes, two rows each, 30 units at 4 places; three of them grow with the class by `known`."""
    random = np.random.default_rng(0)
    labels, item = np.arange(60) % 3, np.repeat(np.arange(60), 2)
    rows = random.normal(size=(120, 30, places))
    rows[:, :3, 1] += known * np.eye(3)[labels[item]]
    return Features(rows.reshape(120, -1).astype(np.float32), item), labels


def test_features_that_know_the_classes_cluster_by_them_and_have_a_unit_for_each() -> None:
    features, labels = clips(known=20)
    found = structure("a", features, labels, np.arange(60), places=4)
    assert found.nmi > 0.9 and found.nmi_by_lot < 0.2
    assert (found.units, found.detectors, found.classes_detected) == (30, 3, 3)
    assert found.classes_by_lot < 1


def test_features_that_know_nothing_are_as_good_as_labels_dealt_by_lot() -> None:
    features, labels = clips(known=0)
    found = structure("a", features, labels, np.arange(60), places=4)
    assert abs(found.nmi - found.nmi_by_lot) < 0.05 and found.detectors <= 1


def test_only_the_judged_clips_count() -> None:
    features, labels = clips(known=20)
    spoilt = Features(np.where(features.item[:, None] < 30, 50 + features.rows, features.rows), features.item)
    judged = np.arange(30, 60)
    assert structure("a", spoilt, labels, judged, places=4) == structure("a", features, labels, judged, places=4)


def test_a_unit_detects_a_class_if_its_five_strongest_clips_are_all_of_it_and_above_zero() -> None:
    label = np.array([1, 1, 1, 1, 1, 0, 0, 0])
    pure = np.array([9, 8, 7, 6, 5, 4, 3, 2.0])
    mixed = np.array([9, 8, 7, 6, 3, 4, 5, 2.0])
    dead = np.array([9, 8, 7, 6, 0, 0, 0, 0.0])
    assert detectors(np.stack([pure, mixed, dead], axis=1), label) == {0: 1}
    assert detectors(pure[:4, None], label[:4]) == {}
