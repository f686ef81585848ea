"""Features of encoders that towers begin with: computed once, kept by content, and going on after a stop."""

import json
import re
import shutil
import time
from dataclasses import replace

import numpy as np
import pytest
import torch

from avc.encoders.load import load
from avc.evaluation import options
from avc.evaluation.correspondence import judge_pairs
from avc.evaluation.measures import Request
from avc.evaluation.pairs import embed_features, judge_clips, pairs
from avc.runs.attempt import checkpoints, newest_folder
from avc.runs.checkpoint import load_newest
from shards.format import second_start
from shards.read import Shards
from tests.avc.launching import (
    Training,
    assert_same_bits,
    final_state,
    metrics,
    train_here,
    train_in_two,
)
from tests.avc.own_encoders import ENCODERS, written
from tests.command_line import avc


def test_networks_that_take_other_features_of_an_encoder_do_not_share_them(small_world, tmp_path, towers) -> None:
    for name in ("ave", "avol"):
        config = written(tmp_path, small_world, towers, name=name, dropout=0.0)
        said = train_here(config, tmp_path / name, "training.steps=1", "validation.every_steps=0")
    assert "by Eye: computed" in said and "by Ear: read from" in said


def test_the_features_of_other_splits_of_the_same_clips_are_read_again(small_world, tmp_path, towers) -> None:
    config = written(tmp_path, small_world, towers)
    train_here(config, tmp_path / "run", "training.steps=1")
    again = train_here(config, tmp_path / "again", "training.steps=1", "run.seed=1")
    assert again.count("read from") == 2 and "computed" not in again and "features by" not in again
    accuracy = judge_pairs(tmp_path / "run", Shards(small_world), passes=1)
    assert accuracy.pairs == 32
    with pytest.raises(ValueError, match="sound off the grid"):
        judge_pairs(tmp_path / "run", Shards(small_world), passes=1, grid="free")


def test_features_lie_where_the_user_keeps_caches(small_world, tmp_path, towers, cache, monkeypatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    train_here(written(tmp_path, small_world, towers), tmp_path / "run", "training.steps=1")
    assert [*(tmp_path / "caches" / "avc" / "features").glob("*.npy")] and not cache.exists()


@pytest.mark.parametrize("end", ["cut", "flipped"])
def test_a_damaged_cache_is_computed_anew_in_words(small_world, tmp_path, towers, cache, end) -> None:
    config = written(tmp_path, small_world, towers)
    train_here(config, tmp_path / "whole", "training.steps=2")
    for file in cache.glob("*.npy"):
        data = bytearray(file.read_bytes())
        data[-5] ^= 64
        file.write_bytes(data[:-8] if end == "cut" else data)
    said = train_here(config, tmp_path / "mended", "training.steps=2")
    assert said.count("damaged, computed anew") == 2
    assert_same_bits(final_state(tmp_path / "whole"), final_state(tmp_path / "mended"))


def test_other_weights_and_another_program_have_other_features(small_world, tmp_path, towers, cache) -> None:
    config = written(tmp_path, small_world, towers)
    train_here(config, tmp_path / "run", "training.steps=1")
    source = tmp_path / "mine.py"
    for before, after in (("linspace(-1, 1, 96)", "linspace(-1, 2, 96)"), ("/ 255", "/ 128")):
        source.write_text(source.read_text().replace(before, after))
        said = train_here(config, tmp_path / f"other {after[-2:]}".replace("/", ""), "training.steps=1")
        assert "by Eye: computed" in said and "by Ear: computed" in said
    with pytest.raises(ValueError, match=r"holds a run on other (image|audio)"):
        train_here(config, tmp_path / "run", "training.steps=2")


def test_maps_of_an_encoder_and_its_pooled_rows_are_kept_apart(small_world, tmp_path, towers) -> None:
    train_here(written(tmp_path, small_world, towers), tmp_path / "rows", "training.steps=1")
    config = written(tmp_path, small_world, towers, name="avol", dropout=0.0)
    said = train_here(config, tmp_path / "maps", "training.steps=1")
    assert "by Eye: computed" in said and "by Ear: read from" in said


def test_clips_are_judged_by_the_features_that_are_kept(small_world, tmp_path, towers) -> None:
    config = written(tmp_path, small_world, towers)
    train_here(config, tmp_path / "run", "training.steps=2", "validation.every_steps=0")
    network, shards = load(tmp_path / "run"), Shards(small_world)
    clips = shards.clips("validation")
    kept = embed_features(network, shards, "validation", passes=3)
    assert kept.clip.tolist() == np.repeat(clips, 3).tolist() and kept.tick[:4].tolist() == [13, 25, 37, 13]
    for view in range(9):
        clip, tick = int(kept.clip[view]), int(kept.tick[view])
        image = network.embed_image(torch.from_numpy(shards.picture(clip, tick))[None])
        audio = network.embed_seconds(torch.from_numpy(shards.sound(clip, second_start(tick)))[None])
        np.testing.assert_allclose(kept.image[view], image[0], atol=1e-4)
        np.testing.assert_allclose(kept.audio[view], audio[0], atol=1e-4)
    assert embed_features(network, shards, "validation", passes=2).tick[:2].tolist() == [13, 37]
    done = avc("eval", "pairs", tmp_path / "run", "--split", "validation", "--json", tmp_path / "pairs.json")
    assert done.returncode == 0 and "embedding:" not in done.stderr, done.stderr
    by_hand, _ = judge_clips(embed_features(network, shards, "validation", passes=10), np.arange(16), seed=0)
    told = json.loads((tmp_path / "pairs.json").read_text())
    assert told["above"][0]["mean"] == by_hand[0].mean and told["weights_chosen_on"] is None
    (tmp_path / "link").symlink_to(small_world)
    measure = Request((tmp_path / "run",), shards=tmp_path / "link", split="validation", device="cpu")
    linked = pairs(measure, options.Pairs()).content
    assert json.loads(json.dumps(linked["above"])) == told["above"], "of the same shards by another path"


def test_features_to_be_judged_are_computed_on_the_very_device(small_world, tmp_path, towers, cache) -> None:
    config = written(tmp_path, small_world, towers)
    train_here(config, tmp_path / "run", "training.steps=1", "validation.every_steps=0")
    shutil.rmtree(cache)
    network = replace(load(tmp_path / "run"), device=torch.device("meta"))  # which keeps no numbers
    with pytest.raises((NotImplementedError, RuntimeError), match="meta"):
        embed_features(network, Shards(small_world), "validation", passes=1)
    assert not list(cache.glob("*.npy"))


def test_the_same_clips_in_other_shards_and_splits_have_the_same_features(
    small_world, many_shards, tmp_path, towers
) -> None:
    train_here(written(tmp_path, small_world, towers), tmp_path / "run", "training.steps=1")
    said = train_here(written(tmp_path, many_shards, towers), tmp_path / "other", "training.steps=1")
    assert said.count("read from") == 2 and "computed" not in said


def test_features_are_computed_where_the_training_is_to_run(small_world, tmp_path, towers, monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)  # a GPU that the settings leave alone
    train_here(written(tmp_path, small_world, towers), tmp_path / "run", "training.steps=1", "training.device=cpu")


def test_a_run_that_is_killed_while_features_are_computed_goes_on_to_the_same_bits(
    small_world, tmp_path, towers, monkeypatch
) -> None:
    names = "import itertools, os, time\nHOLD, COUNT = os.environ['HOME'] + '/hold', itertools.count()\n"
    hold = "        while os.path.exists(HOLD) and len(x) > 1 and next(COUNT) > 2:\n            time.sleep(0.01)\n"
    bands = "        bands = torch.stft"
    (tmp_path / "mine.py").write_text(names + ENCODERS.replace(bands, hold + bands))
    config = written(tmp_path, small_world, towers)
    train_here(config, tmp_path / "whole")
    monkeypatch.setenv("HOME", str(tmp_path / "other"))
    folder = tmp_path / "other" / ".cache" / "avc" / "features"
    folder.mkdir(parents=True)
    (tmp_path / "other" / "hold").touch()
    killed = Training(config, tmp_path / "killed")
    deadline = time.monotonic() + 120
    while not any(journal.stat().st_size for journal in folder.glob("*.jsonl") if len(list(folder.glob("*.npy")))):
        assert killed.process.poll() is None and time.monotonic() < deadline, killed.kill()
        time.sleep(0.01)
    killed.kill()
    (tmp_path / "other" / "hold").unlink()
    said = train_here(config, tmp_path / "killed")
    assert "by Eye: read from" in said and re.search(r"by Ear: computed, \d+ of them before a stop", said)
    assert_same_bits(final_state(tmp_path / "whole"), final_state(tmp_path / "killed"))


def test_a_run_that_is_killed_while_heads_are_trained_goes_on_to_the_same_bits(small_world, tmp_path, towers) -> None:
    config = written(tmp_path, small_world, towers)
    steps = "training.steps=60", "validation.every_steps=30"
    train_here(config, tmp_path / "whole", *steps)
    killed = Training(config, tmp_path / "killed", *steps)
    killed.wait_for_step(4)
    deadline = time.monotonic() + 60
    while not checkpoints(newest_folder(tmp_path / "killed")):  # which are written beside the steps
        assert killed.process.poll() is None and time.monotonic() < deadline, killed.kill()
        time.sleep(0.01)
    killed.kill()
    left = load_newest(newest_folder(tmp_path / "killed"))
    assert left is not None and 3 <= left.step < 60
    assert "read from" in train_here(config, tmp_path / "killed", *steps)
    assert_same_bits(final_state(tmp_path / "whole"), final_state(tmp_path / "killed"))


def test_a_run_that_is_stopped_and_resumed_ends_with_the_same_bits(small_world, tmp_path, towers) -> None:
    train_in_two(written(tmp_path, small_world, towers), tmp_path, stop_at=3)


def test_two_ranks_have_the_losses_of_one(small_world, tmp_path, towers) -> None:
    config = written(tmp_path, small_world, towers, name="ave")
    train_here(config, tmp_path / "one", "training.steps=4", "validation.every_steps=0")
    Training(config, tmp_path / "two", "training.steps=4", "validation.every_steps=0", world_size=2).finish()
    one, two = ([line["loss"] for line in metrics(tmp_path / name)] for name in ("one", "two"))
    assert len(one) == 4 and np.allclose(one, two, rtol=1e-5)


def test_ranks_wait_for_features_longer_than_for_each_other(small_world, tmp_path, towers) -> None:
    bands = "        bands = torch.stft"
    slow = ENCODERS.replace(bands, f"        time.sleep(4 if len(x) > 1 else 0)\n{bands}")
    (tmp_path / "mine.py").write_text("import time\n" + slow)
    config = written(tmp_path, small_world, towers)
    steps = "training.steps=2", "validation.every_steps=0"
    limits = [f"training.{name}_timeout_seconds=10" for name in ("process_group", "first_step")]
    Training(config, tmp_path / "two", *steps, *limits, world_size=2).finish()
    assert train_here(config, tmp_path / "one", *steps).count("read from") == 2
    one, two = ([line["loss"] for line in metrics(tmp_path / name)] for name in ("one", "two"))
    assert len(one) == 2 and np.allclose(one, two, rtol=1e-5)
