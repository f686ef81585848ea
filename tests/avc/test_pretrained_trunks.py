"""Towers that begin with encoders: their features are computed once, and heads are trained on them as everything is."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch

import avc.tasks.features
from avc.config import load_config, parse_config
from avc.data.windows import resample
from avc.encoders.load import load
from avc.encoders.pretrained_trunk import pretrained_trunks
from avc.evaluation.boxes import read_boxes
from avc.evaluation.localization import _middle, evaluate_localization
from avc.tasks import task_of
from avc.tasks.features import FeatureReader, encoders_of
from shards.format import SAMPLES_PER_TICK, TICKS_PER_SECOND, PackSettings
from shards.pack import pack
from shards.read import Shards
from tests.avc.launching import metrics, train_here
from tests.avc.networks import saved
from tests.avc.own_encoders import ENCODERS, written


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


def test_a_run_begins_with_the_trunks_of_another_one(small_world, tmp_path, cache) -> None:
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
    _, audio = encoders_of(config)
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
        (["model.image=/nowhere"], "there is no run at /nowhere"),
        (["model.image=efficientnet_lite"], r"there is no efficientnet_lite.*efficientnet_lite0"),
        (["model.audio=nowhere.safetensors"], r"there is no nowhere\.safetensors"),
        (["data.image_size=32"], r"set data\.image_size=28"),
        (["negatives.grid=free", "negatives.source=independent", "model.name=ave"], "sound off the grid"),
        (["model.image=null", "model.audio=null"], "dropout need both"),
        (["model.image=mfcc"], "only hears|librosa"),
    ],
)
def test_what_does_not_fit_is_refused_in_words_before_features_are_computed(
    small_world, tmp_path, towers, changes, words, monkeypatch
) -> None:
    monkeypatch.setattr(avc.tasks.features, "extract", None)
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


def test_boxes_of_real_frames_are_of_the_middle_frames_of_packed_clips(shared_data, tmp_path, towers) -> None:
    boxes = Path(__file__).with_name("real_boxes.json")
    rows = json.loads(boxes.read_text())
    assert len({row["file"] for row in rows}) == 60
    corners = np.array([box for row in rows for box in row["bbox"]])
    assert corners.min() >= 0 and corners.max() <= 1 and (corners[:, :2] < corners[:, 2:]).all()
    named = [row for row in rows if row["file"][:7] in ("s04_004", "s04_012", "s09_002", "s09_003", "s09_006")]
    files = [shared_data / "clips" / row["file"] for row in named]
    pack(files, tmp_path / "shards", PackSettings(every=5, split=(1.0, 0.0, 0.0)), workers=1)
    shards = Shards(tmp_path / "shards")
    times = {str(shards.info(clip)["name"]): _middle(shards, clip) / TICKS_PER_SECOND for clip in range(len(shards))}
    assert times == {row["file"]: row["time"] for row in named}
    changes = "training.steps=2", "validation.every_steps=0", "optim.batch_pairs=8", "optim.micro_batch_pairs=8"
    train_here(written(tmp_path, tmp_path / "shards", towers, name="avol", dropout=0.0), tmp_path / "run", *changes)
    found = evaluate_localization(load(tmp_path / "run"), shards, shards.clips("train"), read_boxes(boxes))
    assert (found.met, found.unknown) == (len(named), 0) and found.all.frames == len(named)
