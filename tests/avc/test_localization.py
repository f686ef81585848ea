"""Hits, overlaps and sanity by hand; the forms of boxes; the whole measurement on real clips."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from avc.config import parse_config
from avc.encoders.trained import Trained, trained
from avc.evaluation.boxes import Truth, read_boxes, region
from avc.evaluation.localization import evaluate_localization
from avc.evaluation.map_metrics import RULES, consensus_iou, displacement, hits, overlap, success_and_auc
from avc.models import build
from shards.read import Shards

ONE = np.zeros(1, dtype=np.int64)
STILL = np.zeros((2, 2))


def network_of(name: str) -> Trained:
    torch.manual_seed(0)
    config = parse_config({"model": {"name": name, "width": 0.0625}, "data": {"image_size": 28, "num_workers": 0}})
    return trained(build(config.model), config)


@pytest.fixture(scope="module")
def shards(small_world) -> Shards:
    return Shards(small_world)


def peak(row: int, column: int) -> np.ndarray:
    map_ = np.zeros((4, 4))
    map_[row, column] = 1
    return map_


def test_a_hit_is_the_middle_of_the_highest_place_inside_a_box() -> None:
    # The middle of row 0, column 3 of four is at (0.875, 0.125).
    wide = region(((0.5, 0.0, 1.0, 0.25),), annotators=False)
    assert hits([peak(0, 3)], [wide], STILL[:1], ONE).maximum == 1
    assert hits([peak(1, 3)], [wide], STILL[:1], ONE).maximum == 0
    narrow = region(((0.9, 0.0, 1.0, 0.25),), annotators=False)
    assert hits([peak(0, 3)], [narrow], STILL[:1], ONE).maximum == 0


def test_the_baselines_are_the_centre_and_the_share_of_the_picture() -> None:
    middle, corner = (region((box,), annotators=False) for box in ((0.25, 0.25, 0.75, 0.75), (0.0, 0.0, 0.5, 0.25)))
    result = hits([peak(0, 0), peak(0, 0)], [middle, corner], STILL, np.arange(2))
    assert (result.frames, result.maximum, result.center) == (2, 0.5, 0.5)
    assert result.random == pytest.approx((0.25 + 0.125) / 2)


def test_a_map_that_is_displaced_by_a_constant_has_that_displacement_and_no_spread() -> None:
    # The middle of row 1, column 2 of four is at (0.625, 0.375): 100 and 30 pixels of 160 by 80.
    near, far = (0.375, 0.25, 0.625, 0.5), (0.0, 0.0, 0.1, 0.1)
    shift = displacement(peak(1, 2), (far, near), height=80, width=160)
    assert shift.tolist() == [20, 0]
    below = displacement(peak(3, 1), ((0.25, 0.25, 0.5, 0.5),), height=80, width=160)
    assert below.tolist() == [0, 40]
    anywhere = region((near,), annotators=False)
    result = hits([peak(1, 2)] * 2, [anywhere] * 2, np.stack([shift, shift]), np.arange(2))
    assert (result.displacement_pixels, result.displacement_std_pixels) == ((20, 0), (0, 0))
    result = hits([peak(1, 2), peak(3, 1)], [anywhere] * 2, np.stack([shift, below]), np.arange(2))
    assert (result.displacement_pixels, result.displacement_std_pixels) == ((10, 20), (10, 20))


def test_consensus_iou_is_that_of_an_example_worked_by_hand() -> None:
    # Two annotators agree on the left quarter; one of them adds the second quarter, which so counts half.
    wanted = region(((0.0, 0.0, 0.25, 1.0), (0.0, 0.0, 0.5, 1.0)), annotators=True)
    found = np.zeros((224, 224), bool)
    found[:, 56:168] = True  # the second and the third quarter
    assert consensus_iou(found, wanted) == pytest.approx((0.5 * 0.25) / (0.25 + 0.5 * 0.25 + 0.25))
    assert consensus_iou(wanted > 0, wanted) == 1


def test_overlap_of_a_map_that_is_the_region_is_whole_and_counts_the_centre_beside_it() -> None:
    wanted = region(((0.0, 0.0, 1.0, 0.5),), annotators=False)
    map_ = np.repeat([[1.0], [0.0]], 2, axis=1)
    for rule in RULES:
        result = overlap(rule, [map_], [wanted])
        assert result.success == 1
        assert result.auc > 0.95
        assert result.center_success == 0


@pytest.mark.parametrize("step", range(21))
def test_an_overlap_of_exactly_a_threshold_reaches_it(step) -> None:
    success, auc = success_and_auc([step / 20])
    assert success == (step >= 10)
    assert auc == pytest.approx((step + 0.5 * (step < 20)) / 20)  # the curve is 1 up to it and falls by the next


def test_vgg_ss_boxes_are_read_as_they_are_published(shared_data) -> None:
    truths = read_boxes(shared_data / "annotations" / "vggss_boxes.json")
    assert len(truths) > 5000
    elk = truths["zpWuikVorYg_000032"]
    assert elk == Truth((((0.403125, 0.253125, 0.6, 0.75),),), annotators=False, kinds=("elk bugling",))


def test_the_center_hits_69_4_percent_of_vgg_ss_whose_boxes_cover_31_percent(shared_data) -> None:
    truths = read_boxes(shared_data / "annotations" / "vggss_boxes.json")
    regions = [region(truth.boxes[0], annotators=False) for truth in truths.values()]
    assert sum(truth.without_area for truth in truths.values()) == 18
    assert sum(not truth.boxes[0] for truth in truths.values()) == 2
    assert round(float(np.mean([weights[112, 112] for weights in regions])), 3) == 0.694
    assert round(float(np.mean([weights.mean() for weights in regions])), 2) == 0.31


def test_a_world_whose_boxes_are_in_vgg_ss_form_is_measured_in_the_middle_of_its_clips(
    shards, small_world, tmp_path
) -> None:
    world = read_boxes(small_world.parent / "world" / "labels.jsonl")
    middle = len(next(iter(world.values())).boxes) // 2
    nothing = [0.5, 0.5, -2.9e16, 0.7]
    rows = [
        {"file": name, "class": truth.kinds[0], "bbox": [list(truth.boxes[middle][0]), nothing]}
        for name, truth in world.items()
    ]
    rows[-1]["bbox"] = [nothing]
    (tmp_path / "vggss.json").write_text(json.dumps(rows))
    truths = read_boxes(tmp_path / "vggss.json")
    assert sum(truth.without_area for truth in truths.values()) == len(rows)
    result = evaluate_localization(network_of("avol"), shards, shards.clips("validation"), truths)
    assert (result.all.frames, result.unknown) == (15, 1)
    assert (result.names, result.met) == (len(rows), 16)
    assert result.with_silent_object is None and result.interaction is None


def test_boxes_meet_clips_however_another_system_wrote_their_names(shards, small_world, tmp_path) -> None:
    world = small_world.parent / "world" / "labels.jsonl"
    lines = [line.replace('.mp4"', '.MP4"', 1).replace('"clip-', '"videos\\\\clip-', 1) for line in world.open()]
    (tmp_path / "labels.JSONL").write_text("\ufeff" + "\r\n".join(lines) + "\r\n", encoding="utf-8", newline="")
    truths = read_boxes(tmp_path / "labels.JSONL")
    assert truths == read_boxes(world)
    rows = [
        {"file": "abcdefghijk_5000_15000", "class": "a", "bbox": []},
        {"file": "Cafe\u0301", "class": "a", "bbox": []},
    ]
    (tmp_path / "vggss.json").write_text(json.dumps(rows))
    assert list(read_boxes(tmp_path / "vggss.json")) == ["abcdefghijk_000005", "Caf\u00e9"]


def test_flickr_soundnets_boxes_are_fractions_of_256_pixels(tmp_path) -> None:
    box = "<bbox><id>{}</id><xmin>64</xmin><ymin>0</ymin><xmax>{}</xmax><ymax>128</ymax></bbox>"
    text = f"<root><annotator1>{box.format(1, 128)}</annotator1><annotator2>{box.format(1, 192)}</annotator2></root>"
    (tmp_path / "10000130166.xml").write_text(text)
    truth = read_boxes(tmp_path)["10000130166"]
    assert truth.boxes == (((0.25, 0.0, 0.5, 0.5), (0.25, 0.0, 0.75, 0.5)),)
    assert truth.annotators
    assert region(truth.boxes[0], annotators=True)[10, [0, 60, 120]].tolist() == [0, 1, 0.5]


def test_a_file_without_boxes_is_refused_in_words(tmp_path) -> None:
    (tmp_path / "boxes.json").write_text('[{"file": "a"}]')
    with pytest.raises(ValueError, match="no boxes in a form that is known"):
        read_boxes(tmp_path / "boxes.json")


def test_the_world_is_measured_whole_and_foreign_sounds_are_of_kinds_that_are_not_in_view(shards, small_world) -> None:
    truths = read_boxes(small_world.parent / "world" / "labels.jsonl")
    result = evaluate_localization(network_of("avol"), shards, shards.clips("validation"), truths, passes=2)
    silent = sum(len(truths[name].kinds) > 1 for name in truths if int(name[-5:]) >= 24)
    assert 16 < result.all.frames <= 32
    assert result.with_silent_object is not None
    assert silent < result.with_silent_object.frames <= 2 * silent
    assert [one.key for one in result.sanity] == ["foreign", "silence", "noise"]
    assert [one.key for one in result.thresholds[1].wrong] == [one.key for one in result.sanity]
    assert result.interaction is not None
    assert 0 < result.interaction.frames <= result.with_silent_object.frames
    assert json.dumps([one.auc for one in result.sanity])


def test_boxes_count_from_the_videos_beginning_wherever_the_clip_starts(shards, small_world, monkeypatch) -> None:
    truths = read_boxes(small_world.parent / "world" / "labels.jsonl")
    plain = evaluate_localization(network_of("avol"), shards, shards.clips("validation"), truths)
    settings = replace(shards.manifest.settings, start_seconds=1.0)
    monkeypatch.setattr(shards, "manifest", replace(shards.manifest, settings=settings))
    with pytest.raises(ValueError, match=r"has boxes for \d+ ticks of 0\.04 s, and its clip goes on to tick \d+"):
        evaluate_localization(network_of("avol"), shards, shards.clips("validation"), truths, passes=60)
    none = ((),) * 25
    longer = {
        name: replace(truth, boxes=none + truth.boxes, silent_boxes=truth.silent_boxes and none + truth.silent_boxes)
        for name, truth in truths.items()
    }
    assert evaluate_localization(network_of("avol"), shards, shards.clips("validation"), longer) == plain


def test_only_avol_net_can_localize(shards, small_world) -> None:
    truths = read_boxes(small_world.parent / "world" / "labels.jsonl")
    with pytest.raises(ValueError, match=r"model\.name=ave, and only avol"):
        evaluate_localization(network_of("ave"), shards, shards.clips("validation"), truths)
    with pytest.raises(ValueError, match="0 of the 16 clips have boxes"):
        evaluate_localization(network_of("avol"), shards, shards.clips("validation"), {})


def test_the_map_covers_the_whole_picture_and_moves_with_it() -> None:
    network = network_of("avol")
    pictures = torch.randint(0, 256, (1, 64, 128, 3), dtype=torch.uint8)
    sound = torch.randint(-9000, 9000, (1, 48_000), dtype=torch.int16)
    map_ = network.localize(pictures, sound)
    assert map_.shape == (1, 2, 4)  # 28 · 8/7 = 32 pixels high, places of 16
    assert ((map_ > 0) & (map_ < 1)).all()
    mirrored = network.localize(pictures.flip(2), sound)
    assert mirrored.shape == map_.shape
    assert not torch.allclose(mirrored, map_)
