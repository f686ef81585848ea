"""A clip's own sound against another's: by hand, with intervals, within sources and across, and the control."""

import json
import tracemalloc

import numpy as np
import pytest

from avc.encoders.sources import ClipEmbeddings
from avc.evaluation.pairs import DRAWS, choice, judge_clips, own_above_other, recall_at, scores
from tests.avc.networks import saved
from tests.command_line import avc


def views(image: np.ndarray, audio: np.ndarray, passes: int) -> ClipEmbeddings:
    clip = np.repeat(np.arange(len(image) // passes), passes)
    return ClipEmbeddings(clip, np.zeros_like(clip), image.astype(np.float32), audio.astype(np.float32))


def test_own_above_other_is_the_share_of_the_others_that_are_farther_both_ways() -> None:
    score = np.array([[0.9, 0.1, 0.9], [0.5, 0.4, 0.3], [0.0, 0.2, 0.8]])
    every = np.ones((3, 3), bool)
    by_hand = [(1.5 / 2 + 2 / 2) / 2, (1 / 2 + 2 / 2) / 2, (2 / 2 + 1 / 2) / 2]
    assert own_above_other(score, every) == pytest.approx(by_hand)
    first_two = np.array([[True, True, False], [True, True, False], [False, False, True]])
    assert own_above_other(score, first_two)[:2] == pytest.approx([1, 0.5])
    assert np.isnan(own_above_other(score, first_two)[2])


def test_what_is_alike_is_found_by_lot() -> None:
    assert recall_at(np.ones((20, 20)), 10) == pytest.approx(np.full(20, 0.5))
    assert recall_at(np.eye(20), 1) == pytest.approx(np.ones(20))
    assert not recall_at(np.full((20, 20), np.nan), 10).any(), "a diverged network finds nothing"


def test_clips_that_agree_are_found_and_dealt_sounds_are_at_chance() -> None:
    rng = np.random.default_rng(0)
    image = rng.normal(size=(80, 32))
    mixed = image + rng.normal(size=image.shape)
    thrice = [np.repeat(part, 3, axis=0) + 0.5 * rng.normal(size=(240, 32)) for part in (image, mixed)]
    above, near = judge_clips(views(*thrice, 3), np.repeat(np.arange(8), 10), seed=0)
    named = {row.key: row for row in above}
    assert named["clips"].mean > 0.95 and named["clips"].mean > named["views"].mean > 0.9
    assert named["clips"].interval_95[0] < named["clips"].mean < named["clips"].interval_95[1] <= 1
    low, high = named["dealt"].interval_95
    assert low < 0.5 < high
    assert near[0].mean > 0.9 and near[1].mean < 0.3


def test_a_source_whose_clips_are_alike_is_easy_across_and_at_chance_within() -> None:
    rng = np.random.default_rng(1)
    source = np.repeat(np.arange(10), 8)
    of_source = rng.normal(size=(10, 32))[source]
    image, audio = (of_source + 0.3 * rng.normal(size=(80, 32)) for _ in range(2))
    rows = {row.key: row for row in judge_clips(views(image, audio, 1), source, seed=0)[0]}
    assert rows["across"].mean > 0.95
    assert rows["within"].interval_95[0] < 0.5 < rows["within"].interval_95[1]


def test_sources_make_a_wider_interval_than_clips_where_they_decide() -> None:
    source = np.repeat(np.arange(6), 30)
    shares = np.repeat([0.3, 0.9, 0.5, 0.7, 0.95, 0.4], 30)
    row = choice("clips", "clips", shares, source, np.random.default_rng(0))
    assert row is not None and row.interval_sources is not None
    by_clip, by_source = row.interval_95, row.interval_sources
    assert by_source[1] - by_source[0] > 2 * (by_clip[1] - by_clip[0])
    alone = choice("clips", "clips", shares, np.zeros(180, int), np.random.default_rng(0))
    assert alone is not None and alone.interval_sources is None


def test_the_scale_of_an_embedding_does_not_matter() -> None:
    rng = np.random.default_rng(2)
    image, audio = rng.normal(size=(2, 9, 4))
    assert scores(image, audio) == pytest.approx(scores(image * 7, audio * rng.uniform(1, 9, (9, 1))))


def test_the_deals_of_the_control_are_not_all_held_at_once() -> None:
    clips = 300
    rng = np.random.default_rng(3)
    drawn = views(*rng.normal(size=(2, clips, 8)), 1)
    tracemalloc.start()
    judge_clips(drawn, np.arange(clips), seed=0)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    draws = 8 * DRAWS * clips * 4  # the bootstrap's
    assert peak < draws + 12 * 8 * clips**2


def test_the_command_tells_of_clips_and_of_sources(small_world, tmp_path) -> None:
    saved(tmp_path / "ave")
    sources = tmp_path / "sources.csv"
    sources.write_text("".join(f"clip-{number:05},{number % 4}\n" for number in range(24, 39)))
    told = ("passes=2", f"sources={sources}", "--json", tmp_path / "pairs.json")
    done = avc("eval", "pairs", tmp_path / "ave", "--shards", small_world, "--split", "validation", *told)
    assert done.returncode == 0, done.stderr
    assert "16 clips of the validation split" in done.stdout
    assert "has no source of 1 clips" in done.stdout + done.stderr
    content = json.loads((tmp_path / "pairs.json").read_text())
    assert content["sources"] == 5 and content["chance"] == 10 / 16
    assert [row["key"] for row in content["above"]] == ["clips", "across", "within", "views", "dealt"]
    done = avc(
        "eval", "pairs", tmp_path / "ave", "--shards", small_world, "--split", "validation", "passes=2", *told[2:]
    )
    rows = json.loads((tmp_path / "pairs.json").read_text())["above"]
    assert [row["key"] for row in rows] == ["clips", "views", "dealt"] and "other sources" not in done.stdout
    assert {row["interval_sources"] for row in rows} == {None}


@pytest.mark.parametrize("name", ["image", "audio"])
def test_a_network_of_one_modality_is_refused_in_words(name: str, small_world, tmp_path) -> None:
    file = tmp_path / "own.py"
    file.write_text(
        "from avc.encoders.encoder import AudioEncoder, ImageEncoder\n"
        "class Image(ImageEncoder):\n    def features(self, x, layer):\n        return x.float().mean(dim=(1, 2))\n"
        "class Audio(AudioEncoder):\n    def features(self, x, layer):\n        return x[:, :8]\n"
        "def image():\n    return Image('image')\n"
        "def audio():\n    return Audio('audio')\n"
    )
    done = avc("eval", "pairs", f"{file}:{name}", "--shards", small_world)
    assert done.returncode == 2 and "in one space" in done.stderr, done.stderr


def test_sources_of_other_videos_are_refused_in_words(small_world, tmp_path) -> None:
    (tmp_path / "sources.csv").write_text("other-1.mp4,a\nother-2.mp4,b\n")
    saved(tmp_path / "ave")
    done = avc("eval", "pairs", tmp_path / "ave", f"sources={tmp_path}/sources.csv", "--shards", small_world)
    assert (done.returncode, "sources.csv has no source of any of the 16 clips" in done.stderr) == (2, True), done


def test_a_network_of_two_spaces_is_refused_in_words(small_world, tmp_path) -> None:
    saved(tmp_path / "l3", "l3")
    done = avc("eval", "pairs", tmp_path / "l3", "--shards", small_world)
    assert done.returncode == 2 and "in one space" in done.stderr
