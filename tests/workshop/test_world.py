"""The demo's world: real files, the same for everyone, whose labels are true."""

from __future__ import annotations

import math
import re
from collections import Counter
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.random import Generator, Philox
from numpy.typing import NDArray
from PIL import Image

from avc.config import load_config
from shards.format import TICKS_PER_SECOND, PackSettings
from shards.pack import pack
from shards.read import Shards
from workshop.demo.demo import CONFIG, prepare, run_settings
from workshop.demo.world.contact_sheet import contact_sheet
from workshop.demo.world.render import CONTAINERS, FRAME_RATES, Label, World, cast, ceiling, read_labels, render
from workshop.demo.world.scene import KINDS
from workshop.demo.world.sounds import synthesize

WORLD = World(clips=24, seed=3, seconds=1.6, silent_share=0.5)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    render(folder, WORLD, workers=1)
    return folder


def pictures(path: Path) -> list[NDArray[np.uint8]]:
    with av.open(path) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def label(file: str, kind: str, silent_kind: str | None = None) -> Label:
    return Label(
        file=file,
        kind=kind,
        boxes=(),
        silent_kind=silent_kind,
        silent_boxes=(),
        width=160,
        height=128,
        frame_rate="25",
        seconds=4.0,
        pitch_hz=440.0,
        level_db=-20.0,
        sample_rate_hz=48_000,
    )


def test_equal_seeds_give_equal_bytes_whatever_the_number_of_workers_and_of_clips_after(
    world: Path, tmp_path: Path
) -> None:
    render(tmp_path / "again", replace(WORLD, clips=5), workers=2)
    again = sorted((tmp_path / "again" / "videos").iterdir())
    assert len(again) == 5
    for path in again:
        assert path.read_bytes() == (world / "videos" / path.name).read_bytes()


def test_another_seed_gives_another_world_and_no_two_files_are_equal(world: Path, tmp_path: Path) -> None:
    render(tmp_path / "other", replace(WORLD, clips=5, seed=4), workers=1)
    files = [*(world / "videos").iterdir(), *(tmp_path / "other" / "videos").iterdir()]
    assert len({path.read_bytes() for path in files}) == 24 + 5


def test_the_files_are_h264_with_aac_at_every_frame_rate_in_every_container(world: Path) -> None:
    rates, suffixes = set(), set()
    for file, truth in read_labels(world).items():
        with av.open(world / "videos" / file) as container:
            video, audio = container.streams.video[0], container.streams.audio[0]
            assert (video.codec_context.name, audio.codec_context.name) == ("h264", "aac")
            assert (video.width, video.height, audio.rate) == (truth.width, truth.height, truth.sample_rate_hz)
            assert video.width != video.height
            times = [float(frame.time) for frame in container.decode(video=0)]
        rate = Fraction(truth.frame_rate)
        assert times == pytest.approx([float(n / rate) for n in range(len(times))], abs=2e-3)
        assert len(truth.boxes) == math.ceil(len(times) / rate * TICKS_PER_SECOND)
        rates.add(rate)
        suffixes.add(Path(file).suffix[1:])
    assert rates == set(FRAME_RATES)
    assert suffixes == set(CONTAINERS)


def test_the_file_shows_the_scene_and_the_boxes_are_those_of_the_picture_shown_at_each_tick(world: Path) -> None:
    for number, (file, truth) in enumerate(list(read_labels(world).items())[:6]):
        kind, silent_kind, scene = cast(WORLD, number)
        assert (kind, silent_kind) == (truth.kind, truth.silent_kind)
        rate = Fraction(truth.frame_rate)
        for shown, picture in enumerate(pictures(world / "videos" / file)):
            meant, _ = scene.frame(shown / float(rate))
            assert np.abs(picture.astype(int) - meant).mean() < 6
        for tick, box in enumerate(truth.boxes):
            shown = math.floor(Fraction(tick, TICKS_PER_SECOND) * rate)
            _, boxes = scene.frame(float(shown / rate))
            assert box == boxes[0]
            assert silent_kind is None or truth.silent_boxes[tick] == boxes[1]


def test_every_clip_is_packed_and_the_picture_at_each_tick_is_the_one_that_its_box_is_for(
    world: Path, tmp_path: Path
) -> None:
    labels = read_labels(world)
    videos = [world / "videos" / file for file in labels][: 2 * len(FRAME_RATES)]
    pack(videos, tmp_path / "shards", PackSettings(side=96), workers=1)
    shards = Shards(tmp_path / "shards")
    assert len(shards) == len(videos)
    for clip in range(len(shards)):
        truth = labels[shards.info(clip)["name"]]
        assert len(truth.boxes) == shards.index[clip]["ticks"]
        _, _, scene = cast(WORLD, int(truth.file[5:10]))
        rate = Fraction(truth.frame_rate)
        for tick in (0, 7, 23, len(truth.boxes) - 1):
            packed = shards.picture(clip, tick)
            meant, _ = scene.frame(math.floor(Fraction(tick, TICKS_PER_SECOND) * rate) / float(rate))
            size = (packed.shape[1], packed.shape[0])
            resized = np.asarray(Image.fromarray(meant).resize(size, Image.Resampling.BICUBIC))
            assert np.abs(packed.astype(int) - resized).mean() < 7


@pytest.mark.parametrize("number", range(12))
def test_a_box_holds_the_whole_object_and_hardly_more(number: int) -> None:
    _, _, scene = cast(replace(WORLD, silent_share=0.0), number)
    for seconds in (0.0, 0.7, 1.9, 3.1):
        picture, [(left, top, right, bottom)] = scene.frame(seconds)
        without, _ = replace(scene, actors=()).frame(seconds)
        differs = np.abs(picture.astype(int) - without).max(axis=2) > 12
        columns, rows = np.flatnonzero(differs.any(axis=0)), np.flatnonzero(differs.any(axis=1))
        edges = np.rint([left * scene.width, top * scene.height, right * scene.width, bottom * scene.height])
        drawn = np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])
        margin = (drawn - edges) * [1, 1, -1, -1]
        assert margin.min() >= 0
        assert margin.max() <= 2


def test_every_object_moves_all_the_time(world: Path) -> None:
    for file, truth in read_labels(world).items():
        shown = pictures(world / "videos" / file)
        apart = round(0.4 * Fraction(truth.frame_rate))
        for before, after in zip(shown, shown[apart:], strict=False):
            assert (np.abs(before.astype(int) - after).max(axis=2) > 25).sum() > 40


@pytest.mark.parametrize("kind", KINDS)
def test_every_second_of_every_kind_is_heard_and_none_clips(kind: str) -> None:
    rate = 32_000
    for seed in range(6):
        rng = Generator(Philox(key=[seed, 0]))
        low, high = KINDS[kind].pitch_hz
        pitch_hz = rng.uniform(low, high)
        wave = synthesize(KINDS[kind].voice, rng, pitch_hz=pitch_hz, level_db=-18, seconds=3, sample_rate_hz=rate)
        assert np.abs(wave).max() <= 0.9001
        power = np.convolve(wave.astype(float) ** 2, np.ones(rate // 4), mode="valid")[:: rate // 25]
        # The loudest quarter second of each second, so that the faint noise between the beats does not count.
        each_second = [power[start : start + 19].max() for start in range(len(power) - 19)]
        assert min(each_second) > 0.25 * power.max()


def test_kinds_are_dealt_out_evenly_and_a_silent_object_is_of_another_kind_and_apart(world: Path) -> None:
    labels = list(read_labels(world).values())
    assert Counter(truth.kind for truth in labels) == dict.fromkeys(KINDS, 2)
    pairs = [truth for truth in labels if truth.silent_kind is not None]
    assert 5 <= len(pairs) <= 19  # half of 24, within three standard deviations
    for truth in pairs:
        assert truth.silent_kind in KINDS
        assert truth.silent_kind != truth.kind
        assert truth.visible == (truth.kind, truth.silent_kind)
        assert len(truth.boxes) == len(truth.silent_boxes)
        for one, other in zip(truth.boxes, truth.silent_boxes, strict=True):
            assert one[2] <= other[0] or other[2] <= one[0] or one[3] <= other[1] or other[3] <= one[1]
    for truth in labels:
        assert all(0 <= left < right <= 1 and 0 <= top < bottom <= 1 for left, top, right, bottom in truth.boxes)


def test_neither_a_color_nor_a_pitch_belongs_to_one_kind_alone() -> None:
    uses = Counter(color for kind in KINDS.values() for color in kind.colors)
    assert min(uses.values()) >= 4
    for name, kind in KINDS.items():
        low, high = kind.pitch_hz
        others = [other.pitch_hz for key, other in KINDS.items() if key != name]
        assert any(low < top and bottom < high for bottom, top in others)


def test_the_ceiling_of_a_hand_worked_plan() -> None:
    labels = {
        "a": label("a", "bell"),
        "b": label("b", "drum", "bell"),
        "c": label("c", "bird"),
        "d": label("d", "bell"),
    }
    # The bell of a and d is in view in a, b and d; the drum of b only in b itself; the bird of c only in c.
    assert ceiling([("a", "c"), ("c", "a"), ("a", "b"), ("d", "b")], labels) == 1.0
    assert ceiling([("a", "d"), ("c", "a"), ("a", "b"), ("d", "b")], labels) == 1 - 0.5 / 4
    assert ceiling([("b", "a"), ("a", "d"), ("a", "b"), ("d", "c")], labels) == 0.75
    assert ceiling([("b", "a"), ("a", "d")], labels) == 0.5
    with pytest.raises(ValueError, match="no negatives"):
        ceiling([], labels)


def test_a_finished_world_is_kept_and_an_unfinished_or_other_one_is_rendered_anew(tmp_path: Path) -> None:
    done: list[tuple[int, int]] = []

    def again(clips: int) -> dict[str, Label]:
        done.clear()
        world = World(clips=clips, seed=1, seconds=1.2)
        return render(tmp_path, world, workers=1, progress=lambda number, total: done.append((number, total)))

    labels = again(3)
    assert done == [(1, 3), (2, 3), (3, 3)]
    assert again(3) == labels == read_labels(tmp_path)
    assert done == []
    (tmp_path / "world.json").write_text("")  # as a kill or a full disk may leave it
    assert again(3) == labels
    assert len(done) == 3
    assert len(again(2)) == 2
    assert len(list((tmp_path / "videos").iterdir())) == 2


def test_the_demo_does_not_render_over_another_world_that_is_packed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    world = World(clips=3, seed=1, seconds=1.2, kinds=2)
    labels = prepare(tmp_path, world, workers=1)
    assert prepare(tmp_path, world, workers=1) == labels
    kinds = r"kinds \['bell', 'drum'\] and not \['bell', 'drum', 'siren'\]"
    with pytest.raises(ValueError, match=f"another world, of clips 3 and not 4, seed 1 and not 2, {kinds}; give"):
        prepare(tmp_path, replace(world, clips=4, seed=2, kinds=3), workers=1)
    assert len(list((tmp_path / "world" / "videos").iterdir())) == 3
    assert "--side 128 --every 2 --split 0.75,0.25,0" in capsys.readouterr().out
    run = tmp_path / "my #1: run"
    assert load_config(CONFIG, run_settings(tmp_path, run)).run.dir == run


def test_a_folder_with_other_files_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "holiday.mp4").write_bytes(b"precious")
    with pytest.raises(ValueError, match=r"holiday\.mp4"):
        render(tmp_path, World(clips=1, seed=1, seconds=2.0), workers=1)
    assert (tmp_path / "holiday.mp4").read_bytes() == b"precious"


@pytest.mark.parametrize("wrong", [{"clips": 0}, {"seed": -1}, {"seconds": 1.0}, {"kinds": 13}, {"silent_share": 1.5}])
def test_numbers_that_make_no_world_are_refused_by_name(wrong: dict[str, float]) -> None:
    [(name, value)] = wrong.items()
    with pytest.raises(ValueError, match=rf"(?s){name}.*input_value={re.escape(str(value))}"):
        replace(WORLD, **wrong)  # type: ignore[arg-type]


def test_a_folder_without_labels_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no labels\.jsonl"):
        read_labels(tmp_path)


def test_the_contact_sheet_has_a_row_for_every_kind(world: Path, tmp_path: Path) -> None:
    contact_sheet(world, tmp_path / "sheet.png")
    sheet = np.asarray(Image.open(tmp_path / "sheet.png").convert("L"))
    assert sheet.shape[1] == 1320
    rows = np.array_split(sheet, len(KINDS))
    assert all(row[:, 110:330].std() > 15 and row[:, 935:].std() > 15 for row in rows)
