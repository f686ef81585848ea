"""Maps under other sounds: equal to the published implementation on random maps, and by hand."""

import numpy as np
import pytest

from avc.evaluation.map_metrics import (
    RULES,
    adaptive,
    consensus_iou,
    interaction,
    overlap,
    sanity,
    universal_threshold,
    universal_thresholds,
    upsampled,
)

FRAMES = 12
SOUNDS = ("foreign", "silence", "noise")

# What xavijuanola/vssl_eval (e8ebbc9, without its object saliency) gave for the maps of `random_maps`, in shares.
AT_A_HALF = (0.3112297159362449, 0.32083333333333336)
AT_0_6 = (0.17642672879578924, 0.18750000000000003)
MARKED_AT_A_HALF = (0.4781635310375, 0.5208333333333), (0.5240055006378, 0.475), (0.5049857833758503, 0.4875)
MARKED_AT_0_6 = (0.3092697039753, 0.6875), (0.3462213010204, 0.65), (0.3352748325893, 0.6583333333333)
F_AT_0_6 = (0.2792835193757043, 0.29254885993485347)
ADAPTIVE_IOUS = [
    0.09171966579373987,
    0.4533290343382234,
    0.8241544182751903,
    0.07980110857515488,
    0.4239708765051806,
    0.8205291679948996,
    0.017703484271406403,
    0.6138613861386139,
    0.9151742627345845,
    0.009993500162495937,
    0.5920348722013077,
    0.7163173652694611,
]
ADAPTIVE = (0.5, 0.4666666666666667)
INTERACTIVE = (0.16666666666666666, 0.2)


@pytest.fixture(scope="module")
def random_maps() -> tuple[list[np.ndarray], dict[str, list[np.ndarray]], list[np.ndarray]]:
    """Maps under the right sound, the more on the region the higher i modulo 3; under wrong sounds; the regions."""
    rng = np.random.default_rng(7)
    regions = []
    for _ in range(FRAMES):
        (top, left), (height, width) = rng.integers(0, 112, 2), rng.integers(28, 112, 2)
        region = np.zeros((224, 224))
        region[top : top + height, left : left + width] = 1
        regions.append(region)
    maps = rng.random((4, FRAMES, 14, 14))
    for i, region in enumerate(regions):
        maps[0, i] = 0.4 * maps[0, i] + 0.25 * (i % 3) * region.reshape(14, 16, 14, 16).mean(axis=(1, 3))
    return list(maps[0]), {name: list(maps[1 + i]) for i, name in enumerate(SOUNDS)}, regions


@pytest.mark.parametrize(
    ("threshold", "right", "wrong"), [(0.5, AT_A_HALF, MARKED_AT_A_HALF), (0.6, AT_0_6, MARKED_AT_0_6)]
)
def test_one_threshold_gives_the_published_codes_iou_and_marked_areas(random_maps, threshold, right, wrong) -> None:
    maps, under, regions = random_maps
    result = universal_threshold("fixed", threshold, maps, regions, under)
    assert (result.iou, result.auc) == pytest.approx(right, abs=1e-6)
    assert [(one.share, one.auc) for one in result.wrong] == [pytest.approx(pair, abs=1e-6) for pair in wrong]
    if threshold == 0.6:
        assert (result.f, result.f_auc) == pytest.approx(F_AT_0_6, abs=1e-6)


def test_adaptive_iou_and_iiou_are_the_published_codes(random_maps) -> None:
    maps, _, regions = random_maps
    ious = [consensus_iou(adaptive(upsampled(m), r), r) for m, r in zip(maps, regions, strict=True)]
    assert ious == pytest.approx(ADAPTIVE_IOUS, abs=1e-6)
    result = overlap("adaptive", maps, regions)
    assert (result.success, result.auc) == pytest.approx(ADAPTIVE, abs=1e-6)
    pairs = [(maps[i], maps[i + 1]) for i in range(0, FRAMES, 2)]
    both = interaction(pairs, [(regions[i], regions[i + 1]) for i in range(0, FRAMES, 2)])
    assert both.frames == FRAMES // 2
    assert (both.iiou, both.auc) == pytest.approx(INTERACTIVE, abs=1e-6)


def test_both_objects_must_be_found_and_one_alone_is_none() -> None:
    left, right = np.zeros((224, 224)), np.zeros((224, 224))
    left[:, :112], right[:, 112:] = 1, 1
    on_left = np.repeat([[1.0, 0.0]], 2, axis=0)
    follows = interaction([(on_left, 1 - on_left)], [(left, right)])
    stays = interaction([(on_left, on_left)], [(left, right)])
    assert (follows.iiou, stays.iiou) == (1, 0)


def test_the_universal_threshold_is_the_highest_third_quartile_of_wrong_maxima() -> None:
    def maps(*maxima: float) -> list[np.ndarray]:
        return [np.array([[0.0, value]]) for value in maxima]

    rules = universal_thresholds({"silence": maps(0.1, 0.2, 0.3, 0.4, 0.5), "noise": maps(0.2, 0.2, 0.2, 0.2, 0.9)})
    assert list(rules.values()) == pytest.approx([0.5, 0.4])


def test_where_nothing_is_marked_the_wrong_sounds_are_perfect_and_f_is_nothing() -> None:
    map_, region = np.full((2, 2), 0.2), np.ones((224, 224))
    result = universal_threshold("fixed", 0.5, [map_], [region], {"silence": [map_]})
    assert (result.iou, result.f) == (0, 0)
    assert (result.wrong[0].share, result.wrong[0].auc) == pytest.approx((0, 1))


def test_the_adaptive_rule_needs_the_region_and_the_others_do_not() -> None:
    map_ = np.arange(16.0).reshape(4, 4)
    small, large = np.zeros((4, 4)), np.ones((4, 4))
    small[0, :3] = 1
    assert adaptive(map_, small).sum() == 2  # less one, as in the published code
    assert adaptive(map_, large).sum() == 15
    assert all((rule(map_, small) == rule(map_, large)).all() for rule in list(RULES.values())[:2])


def test_sanity_counts_the_frames_that_fall_and_the_order_over_all_frames() -> None:
    result = sanity("silence", np.array([0.9, 0.5, 0.8, 0.2]), np.array([0.1, 0.6, 0.1, 0.1]))
    assert result.falls == 0.75
    assert result.auc == pytest.approx(14 / 16)  # 0.5 and 0.2 of the right ones are below 0.6
