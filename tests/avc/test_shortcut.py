"""The audit finds what is planted and nothing where there is nothing; its distributions are those of the draws."""

from collections import Counter

import numpy as np
import pytest
import torch

import avc.evaluation.shortcut
from avc.data.sampler import PairSampler
from avc.evaluation.shortcut import (
    audit,
    clips_of_different_times,
    distributions_of_rows,
    exact_distributions,
    frame_features,
    sound_features,
)
from avc.evaluation.sound_probe import judged_by_convolution
from avc.intervals import clustered_interval, wilson_interval
from shards.format import PackSettings
from shards.pack import pack
from shards.read import Shards
from workshop.demo.world.render import VIDEOS, World, render

MISALIGNMENT = 12


@pytest.fixture(autouse=True)
def _fewer_pairs(monkeypatch) -> None:
    monkeypatch.setattr(avc.evaluation.shortcut, "PROBE_PAIRS", 2048)


@pytest.fixture(scope="module")
def ticking(tmp_path_factory) -> Shards:
    """The shards of 40 clips of the world with a faint click at every multiple of 0.04 s."""
    folder = tmp_path_factory.mktemp("ticking")
    render(folder / "world", World(clips=40, seed=5, seconds=1.4, ticking=True), workers=1)
    pack([folder / "world" / VIDEOS], folder / "shards", PackSettings(side=64), workers=1)
    return Shards(folder / "shards")


def test_the_planted_artefact_is_caught_off_the_grid_and_harmless_on_it(ticking) -> None:
    free = audit(ticking, grid="free", max_misalignment_ticks=MISALIGNMENT)
    sound, frame = free.probes
    assert sound.accuracy > 0.85  # only 20 clips are fitted on; a click within 2.5 ms of the grid looks as if on it
    assert frame.interval_95[0] < 0.5 < frame.interval_95[1]
    assert free.verdict.startswith("A shortcut: the sound alone")
    on_grid = audit(ticking, grid="frame", max_misalignment_ticks=MISALIGNMENT)
    assert all(abs(probe.accuracy - 0.5) < 0.03 for probe in on_grid.probes)
    assert on_grid.verdict.startswith("No shortcut")
    assert [distribution.difference for distribution in on_grid.distributions] == [0, 0, 0]


def test_the_convolutional_probe_hears_a_poor_resampler_off_the_grid_and_nothing_on_it() -> None:
    rng = np.random.default_rng(0)
    label = np.arange(256) % 2

    def seconds(count: int, *, off_grid: bool) -> torch.Tensor:
        sounds = []
        for positive in label[:count]:
            noise = 1000 * rng.standard_normal(23_000)  # of 22.05 kHz, brought to 48 by straight lines
            at = np.arange(48_000) + (rng.integers(1920) if off_grid and not positive else 0)
            sounds.append(np.interp(at * 147 / 320, np.arange(len(noise)), noise).astype(np.int16))
        return torch.from_numpy(np.stack(sounds))

    held_out = torch.cat([seconds(64, off_grid=True), seconds(64, off_grid=False)])
    guesses = judged_by_convolution(seconds(256, off_grid=True), label, held_out, seed=0).reshape(2, 64)
    off_grid, on_grid = (guesses == label[:64]).mean(axis=1)
    assert off_grid > 0.8
    assert 0.4 < on_grid < 0.6


def test_off_the_grid_the_exact_part_finds_the_offset_and_nothing_else(small_world) -> None:
    shards = Shards(small_world)
    clips = clips_of_different_times(shards)
    sampler = PairSampler(shards.index, clips, seed=0, grid="free", max_misalignment_ticks=MISALIGNMENT)
    frame, tick, offset = (distribution.difference for distribution in exact_distributions(shards, sampler))
    assert (frame, tick) == (0, 0)
    assert offset == pytest.approx(1 - 1 / 1920)


@pytest.mark.parametrize("label", [0, 1])
def test_the_enumerated_law_is_the_one_that_draws_follow(make_index, label) -> None:
    index = make_index(120, every=2, ticks=60)
    index["sound_from"], index["sound_to"] = 977, 60 * 1920 - 1313  # all clips alike: one distribution, many draws
    sampler = PairSampler(index, np.arange(120), seed=3, max_misalignment_ticks=5)
    drawn = sampler.rows(0, 24_000)
    own = int(np.flatnonzero(drawn.label == label)[0])
    frame_distribution, sound_distribution, offset_distribution = distributions_of_rows(sampler, own, own, ticks=60)
    mine = drawn.label == label
    for distribution, values in (
        (frame_distribution, drawn.frame_tick[mine]),
        (sound_distribution, drawn.audio_center[mine] // 1920),
    ):
        counts = Counter(values.tolist())
        assert sum(distribution.values()) == pytest.approx(1)
        assert set(distribution) == set(counts)
        # Pearson's statistic has mean n - 1 and variance 2 (n - 1).
        expected = {value: share * len(values) for value, share in distribution.items()}
        statistic = sum((counts[value] - wanted) ** 2 / wanted for value, wanted in expected.items())
        assert statistic < len(distribution) - 1 + 5 * np.sqrt(2 * (len(distribution) - 1))
    assert offset_distribution == {0: 1.0}


def test_clips_that_have_the_same_times_are_enumerated_once(small_world) -> None:
    shards = Shards(small_world)
    clips = clips_of_different_times(shards)
    facts = [tuple(shards.index[clip][["ticks", "every", "sound_from", "sound_to"]]) for clip in clips]
    assert len(set(facts)) == len(facts) > 1


def test_the_interval_covers_the_truth_where_guesses_about_a_clip_are_alike() -> None:
    rng = np.random.default_rng(0)
    clip = np.repeat(np.arange(50), 40)
    covered, naive = 0, 0
    for _ in range(400):
        right = rng.random(2000) < rng.beta(2, 2, size=50)[clip]  # each clip has a share of its own, 0.5 on average
        low, high = clustered_interval(right, clip)
        covered += low < 0.5 < high
        low, high = wilson_interval(float(right.mean()), 2000)
        naive += low < 0.5 < high
    assert 0.92 < covered / 400 < 0.98
    assert naive / 400 < 0.7


def test_the_interval_covers_the_truth_where_pairs_have_a_clip_in_common() -> None:
    rng = np.random.default_rng(2)
    frame = np.repeat(np.arange(60), 10)
    covered, one_sided = 0, 0
    for _ in range(300):
        sound = np.where(np.arange(600) % 2, frame, rng.permutation(frame))  # positives and negatives by turns
        seen, heard = rng.standard_normal((2, 60))
        right = seen[frame] + heard[sound] + rng.standard_normal(600) > 0  # half of all there are
        low, high = clustered_interval(right, np.stack([frame, sound], axis=1))
        covered += low < 0.5 < high
        low, high = clustered_interval(right, frame)
        one_sided += low < 0.5 < high
    assert 0.91 < covered / 300 < 0.99
    assert one_sided / 300 < 0.9


def test_pairs_of_one_clip_each_have_the_interval_of_that_clip() -> None:
    rng = np.random.default_rng(3)
    right, clip = rng.random(200) < rng.random(20).repeat(10), np.arange(20).repeat(10)
    assert clustered_interval(right, np.stack([clip, clip], axis=1)) == clustered_interval(right, clip)


def test_the_interval_of_independent_guesses_is_wilsons_or_longer() -> None:
    rng = np.random.default_rng(1)
    right, clip = rng.random(2000) < 0.6, np.repeat(np.arange(50), 40)
    low, high = clustered_interval(right, clip)
    own_low, own_high = wilson_interval(float(right.mean()), 2000)
    assert low <= own_low < own_high <= high < own_high + 0.01
    assert clustered_interval(np.ones(2000, dtype=bool), clip) == wilson_interval(1.0, 50)


def test_the_features_show_where_in_a_tick_a_click_falls() -> None:
    sound = torch.zeros(2, 48_000, dtype=torch.int16)
    sound[0, 60::1920] = 3000
    sound[1, 1020::1920] = 3000
    phases = sound_features(sound)[:, :136].reshape(2, 8, 17)[:, :, :16].mean(axis=1)
    assert phases[0].argmax() == 0
    assert phases[1].argmax() == 8


def test_the_features_show_the_blocks_of_a_coarse_picture() -> None:
    smooth = torch.arange(64, dtype=torch.uint8)[None, None, :, None].expand(1, 64, 64, 3)
    edges = frame_features(smooth // 8 * 8)[0, -8:]
    assert edges.argmax() == 7
    assert np.ptp(frame_features(smooth)[0, -8:]) < 1e-3


def test_the_audit_of_real_videos_reads_one_half(shared_data, tmp_path) -> None:
    videos = sorted((shared_data / "videos").iterdir())[::4]
    pack(videos, tmp_path, PackSettings(side=64, seconds=3), workers=2)
    result = audit(Shards(tmp_path))
    assert [distribution.difference for distribution in result.distributions] == [0, 0, 0]
    assert all(probe.interval_95[0] < 0.5 < probe.interval_95[1] for probe in result.probes)


def test_too_few_clips_are_refused_in_words(small_world, monkeypatch) -> None:
    shards = Shards(small_world)
    monkeypatch.setattr(Shards, "__len__", lambda self: 5)
    with pytest.raises(ValueError, match="has 5 clips"):
        audit(shards)
