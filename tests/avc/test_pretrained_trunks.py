"""Towers that begin with encoders: their features are computed once, and heads are trained on them as everything is."""

import json
import re
import time

import numpy as np
import pytest
import torch

from avc.config import load_config, parse_config
from avc.data.windows import resample
from avc.encoders.load import load
from avc.encoders.pretrained_trunk import pretrained_trunks
from avc.encoders.sources import embed_clips
from avc.evaluation.boxes import read_boxes
from avc.evaluation.correspondence import judge_pairs
from avc.evaluation.localization import evaluate_localization
from avc.evaluation.pairs import embed_features, judge_clips
from avc.runs.attempt import newest_folder
from avc.runs.checkpoint import load_newest
from avc.tasks import task_of
from avc.tasks.features import FeatureReader, encoders_of
from shards.format import SAMPLES_PER_TICK
from shards.read import Shards
from tests.avc.launching import (
    Training,
    assert_same_bits,
    final_state,
    metrics,
    train_here,
    train_in_two,
    write_config,
)
from tests.avc.networks import saved
from tests.command_line import avc

ENCODERS = """
import torch
from torch.nn import functional as F
from avc.encoders.encoder import TOWER, AudioEncoder, ImageEncoder

class Eye(ImageEncoder):
    size = 28
    layers, unit_layers, tower_classes = ("embedding", TOWER), ("embedding",), 6

    def __init__(self):
        super().__init__("Eye")
        self.weight = torch.nn.Parameter(torch.linspace(-1, 1, 18).view(6, 3))

    def maps(self, x, layer):
        return F.avg_pool2d(x.permute(0, 3, 1, 2).float(), 7) / 255

    def features(self, x, layer):
        mean = self.maps(x, layer).mean(dim=(2, 3))
        return torch.cat([self.maps(x, layer).flatten(1), mean @ self.weight.T], dim=1) if layer == TOWER else mean

class Ear(AudioEncoder):
    sample_rate_hz = 16_000
    layers, tower_classes = ("embedding", TOWER), 6

    def __init__(self):
        super().__init__("Ear")
        self.weight = torch.nn.Parameter(torch.linspace(-1, 1, 96).view(6, 16))

    def features(self, x, layer):
        bands = torch.stft(x, 512, window=torch.hann_window(512), return_complex=True).abs()
        bands = bands[:, :256].log1p().mean(dim=2).view(len(x), 16, 16).mean(dim=2)
        return torch.cat([bands, bands @ self.weight.T], dim=1) if layer == TOWER else bands
"""


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """Features of this test alone."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("AVC_RUN_CODE", "1")  # of mine.py
    return tmp_path / "home" / ".cache" / "avc" / "features"


@pytest.fixture
def towers(tmp_path):
    """Settings of towers that begin with two small encoders."""
    (tmp_path / "mine.py").write_text(ENCODERS)
    return {"image": f"{tmp_path}/mine.py:Eye", "audio": f"{tmp_path}/mine.py:Ear"}


def written(tmp_path, shards, towers, **model):
    name = {"name": "ave_nce"} | towers | {"dropout": 0.25, "width": 1.0} | model
    optim = {"batch_pairs": 32, "micro_batch_pairs": 32, "lr": 1e-2}
    return write_config(tmp_path, shards, model=name, optim=optim)


def test_heads_are_trained_and_what_the_towers_begin_with_stays(small_world, tmp_path, towers) -> None:
    config = written(tmp_path, small_world, towers)
    said = train_here(config, tmp_path / "run", "training.steps=30")
    assert "features by Eye: 0 of 40 clips\n" in said and "features by Ear: 0 of 40 clips\n" in said
    assert "by Eye: computed" in said and "by Ear: computed" in said
    losses = [line["loss"] for line in metrics(tmp_path / "run") if line["kind"] == "train"]
    assert losses[-1] < losses[0]
    fresh, trained = pretrained_trunks(load_config(config).model), load(tmp_path / "run").model
    for before, after in zip(fresh, (trained.vision, trained.audio), strict=True):
        assert torch.equal(before.encoder.encoder.weight, after.encoder.encoder.weight)


def test_trained_towers_change_and_begin_with_the_same_features(small_world, tmp_path, towers) -> None:
    config = written(tmp_path, small_world, towers, train_towers=True, dropout=0.0)
    train_here(config, tmp_path / "run", "training.steps=2")
    fresh, trained = pretrained_trunks(load_config(config).model), load(tmp_path / "run").model
    for before, after in zip(fresh, (trained.vision, trained.audio), strict=True):
        assert not torch.equal(before.encoder.encoder.weight, after.encoder.encoder.weight)


def test_networks_that_take_other_features_of_an_encoder_do_not_share_them(small_world, tmp_path, towers) -> None:
    for name in ("ave", "avol"):
        config = written(tmp_path, small_world, towers, name=name, dropout=0.0)
        said = train_here(config, tmp_path / name, "training.steps=1", "validation.every_steps=0")
    assert "by Eye: computed" in said and "by Ear: read from" in said


@pytest.mark.parametrize("name", ["ave", "l3", "avol"])
def test_every_network_of_pairs_can_begin_so(small_world, tmp_path, towers, name) -> None:
    train_here(written(tmp_path, small_world, towers, name=name, dropout=0.0), tmp_path / "run", "training.steps=2")
    network = load(tmp_path / "run")
    image, audio = torch.zeros(2, 60, 90, 3, dtype=torch.uint8), torch.zeros(2, 16_000, dtype=torch.int16)
    assert len(network.embed_audio(audio)) == 2
    if name == "avol":
        seconds = torch.zeros(2, 48_000, dtype=torch.int16)  # as they are packed
        assert network.localize(image, seconds).shape == (2, 5, 7)  # of 32×48 pixels, 7 to a cell
        shards = Shards(small_world)
        truths = read_boxes(small_world.parent / "world" / "labels.jsonl")
        assert 0 <= evaluate_localization(network, shards, shards.clips("validation"), truths).mean <= 1
    else:
        assert len(network.embed_image(image)) == 2


def test_a_run_begins_with_the_trunks_of_another_one(small_world, tmp_path) -> None:
    saved(tmp_path / "begun")
    towers = {"image": str(tmp_path / "begun"), "audio": str(tmp_path / "begun")}
    config = written(tmp_path, small_world, towers, name="l3", dropout=0.0)
    train_here(config, tmp_path / "run", "data.image_size=56", "training.steps=2")
    given, taken = load(tmp_path / "begun").model, load(tmp_path / "run").model
    for part in ("vision", "audio"):
        own = getattr(taken, part).encoder.encoder.network.get_submodule(part).state_dict()
        assert all(torch.equal(own[name], value) for name, value in getattr(given, part).state_dict().items())


def test_a_view_is_the_frame_and_the_second_nearest_to_what_was_drawn(small_world, towers) -> None:
    shards = Shards(small_world)
    config = parse_config({"model": {"name": "ave"} | towers, "data": {"image_size": 28}})
    reader = task_of(config, shards).reader
    _, audio = encoders_of(config.model)
    rows = reader.sampler.rows(0, 8)
    batch = reader[0, 8]
    assert isinstance(reader, FeatureReader)
    for clip, tick, row in zip(rows.audio_clip, rows.audio_center // SAMPLES_PER_TICK, batch.audio, strict=True):
        ticks = range(13, 38, 12)  # of 2 s
        nearest = min(ticks, key=lambda there: abs(there - tick))
        sound = torch.from_numpy(shards.sound(int(clip), nearest * SAMPLES_PER_TICK - 24_000)).float() / 32768
        heard = torch.from_numpy(resample(sound.numpy(), 16_000))[None]
        torch.testing.assert_close(audio(heard, "embedding")[0], row, atol=1e-4, rtol=1e-4)
    assert batch.images.shape == (8, 54)


def test_the_features_of_other_splits_of_the_same_clips_are_read_again(small_world, tmp_path, towers) -> None:
    config = written(tmp_path, small_world, towers)
    train_here(config, tmp_path / "run", "training.steps=1")
    again = train_here(config, tmp_path / "again", "training.steps=1", "run.seed=1")
    assert again.count("read from") == 2 and "computed" not in again and "features by" not in again
    accuracy = judge_pairs(tmp_path / "run", Shards(small_world), passes=1)
    assert accuracy.pairs == 32
    with pytest.raises(ValueError, match="sound off the grid"):
        judge_pairs(tmp_path / "run", Shards(small_world), passes=1, grid="free")


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
    kept = embed_features(network, shards, "validation", passes=20)
    read = embed_clips(network, shards, clips, passes=20)
    assert (kept.clip == read.clip).all() and (kept.tick == read.tick).all()
    there = np.isin(kept.tick, range(13, 38, 12))  # where features are of
    assert there.sum() > 9
    for name in ("image", "audio"):
        np.testing.assert_allclose(getattr(kept, name)[there], getattr(read, name)[there], atol=1e-4)
    done = avc("eval", "pairs", tmp_path / "run", "--split", "validation", "--json", tmp_path / "pairs.json")
    assert done.returncode == 0 and "embedding:" not in done.stderr, done.stderr
    by_hand, _ = judge_clips(embed_features(network, shards, "validation", passes=10), np.arange(16), seed=0)
    told = json.loads((tmp_path / "pairs.json").read_text())
    assert told["above"][0]["mean"] == by_hand[0].mean and told["weights_chosen_on"] is None


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


def test_dropout_is_the_plans_and_keeps_the_mean(towers) -> None:
    trunk = pretrained_trunks(parse_config({"model": {"name": "ave"} | towers}).model)[0]
    trunk.mean += 3
    rows, draws = torch.rand(400, trunk.out_channels), torch.rand(400)
    thinned = trunk.thinned(rows, draws, 0.25)
    dropped = thinned == 3
    assert 0.23 < dropped.float().mean() < 0.27
    assert (dropped.float().mean(dim=0) - 0.25).abs().max() < 0.1  # no feature is left out more often than others
    assert torch.equal(thinned[7:9], trunk.thinned(rows[7:9], draws[7:9], 0.25))
    torch.testing.assert_close(thinned[~dropped] - 3, (rows[~dropped] - 3) / 0.75)


def test_heads_begin_with_the_classes_that_both_encoders_tell(small_world, towers) -> None:
    config = parse_config({"model": {"name": "ave"} | towers, "data": {"image_size": 28}})
    network = task_of(config, Shards(small_world)).network()
    both = [
        head.weight[:, trunk.classes]
        for head, trunk in ((network.vision_head, network.vision), (network.audio_head, network.audio))
    ]
    directions = [weight / weight.norm() for weight in both]
    torch.testing.assert_close(*directions, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (["model.audio=null"], "need each other"),
        (["model.image=/nowhere"], "is not the folder of a run"),
        (["model.image=efficientnet_lite"], r"there is no efficientnet_lite.*efficientnet_lite0"),
        (["model.audio=nowhere.safetensors"], r"there is no nowhere\.safetensors"),
        (["data.image_size=32"], r"set data\.image_size=28"),
        (["negatives.grid=free", "negatives.source=independent", "model.name=ave"], "sound off the grid"),
        (["model.image=null", "model.audio=null"], "dropout need both"),
        (["model.image=mfcc"], "only hears|librosa"),
        (["model.frozen_trunks=runs/a"], "model.image=RUN model.audio=RUN"),
    ],
)
def test_what_does_not_fit_is_refused_in_words(small_world, tmp_path, towers, changes, words) -> None:
    with pytest.raises(ValueError, match=words):
        train_here(written(tmp_path, small_world, towers), tmp_path / "run", *changes)


def test_settings_that_lie_with_weights_run_no_program_and_lead_to_no_circle(
    small_world, tmp_path, towers, monkeypatch
) -> None:
    config = written(tmp_path, small_world, towers)
    train_here(config, tmp_path / "run", "training.steps=1", "validation.every_steps=0")
    with pytest.raises(ValueError, match=r"the towers begin with .*mine.py:Eye and .* without which nobody"):
        load(tmp_path / "run").save_pretrained(tmp_path / "published")
    ran = tmp_path / "ran"
    (tmp_path / "mine.py").write_text(f"open({str(ran)!r}, 'w')\n" + ENCODERS)
    monkeypatch.delenv("AVC_RUN_CODE")
    with pytest.raises(ValueError, match=r"its model.image is .*mine.py:Eye, and loading it would run that program"):
        load(tmp_path / "run")
    assert not ran.exists()
    settings = tmp_path / "run" / "latest" / "config.yaml"
    settings = settings if settings.is_file() else tmp_path / "run" / "config.yaml"
    settings.write_text(re.sub(r"\S*mine.py:\w+", str(tmp_path / "run"), settings.read_text()))
    text = settings.read_text()
    settings.write_text(text.replace(str(tmp_path / "run"), "owner/network"))
    with pytest.raises(ValueError, match=r"its model.image is owner/network, and there is nothing of that name here"):
        load(tmp_path / "run")
    settings.write_text(text)
    with pytest.raises(ValueError, match=r"its own towers begin with other weights \(model.image is "):
        load(tmp_path / "run")
