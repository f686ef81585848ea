"""What a network hears and sees of labeled clips."""

import numpy as np
import pytest
import torch

from avc.data.preprocessing import images_to_input
from avc.data.reader import PairReader
from avc.data.sampler import PairSampler
from avc.data.segments import sound_ticks, student_sound
from avc.encoders.cache import Features, Unreadable
from avc.encoders.load import load
from avc.encoders.sources import clip_identity, frames_of_clips, middles, places_of_second, seconds_of_clips
from avc.evaluation.kinds import concatenate, labeled_clips
from avc.models.waveform import to_waveform
from avc.settings import PairData
from shards.format import centers
from shards.read import BadRecord, Shards
from tests.avc.networks import encoders
from tests.avc.own_encoders import ENCODERS

DATA = PairData(image_size=28)


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return encoders("l3", width=0.0625, data={"image_size": 28})


def test_every_second_of_a_clip_has_its_sound_and_a_picture(small_world) -> None:
    shards = Shards(small_world)
    for row in shards.index:
        possible = centers(**{name: int(row[name]) for name in ("ticks", "sound_from", "sound_to")})
        ticks = middles(row)
        assert len(ticks) >= 2 and ticks[0] == possible[0] and possible[-1] - ticks[-1] < 12
        row = row.copy()
        row["every"] = 5
        assert all(tick % 5 == 0 and tick in possible for tick in middles(row)) and middles(row).step == 10


def test_sound_and_frames_have_a_row_for_each_second(network, small_world) -> None:
    shards = Shards(small_world)
    seconds = len(middles(shards.index[0]))
    for encoder, source, layer, size in (
        (network.audio, seconds_of_clips, "trunk", 4 * 3 * 32),
        (network.image, frames_of_clips, "trunk", 4 * 4 * 32),
        (network.audio, seconds_of_clips, "embedding", 32),
        (network.image, frames_of_clips, "embedding", 32),
    ):
        rows, padded = source(encoder, layer, shards).load(0)
        with torch.inference_mode():
            assert encoder(rows, layer).shape == (seconds, size) and not padded
    assert places_of_second(network.audio, "trunk") == 12 and places_of_second(network.audio, "embedding") == 1


def test_a_second_is_brought_to_the_rate_that_an_encoder_takes(small_world, tmp_path) -> None:
    path = tmp_path / "ears.py"
    path.write_text(ENCODERS)
    encoder = load(f"{path}:Ear").audio
    shards = Shards(small_world)
    rows, _ = seconds_of_clips(encoder, "embedding", shards).load(0)
    assert rows.shape == (len(middles(shards.index[0])), 16_000)
    with torch.inference_mode():
        assert len(encoder(rows, "embedding")) == len(rows)


def test_a_second_of_a_waveform_network_is_heard_within_its_clip_which_is_repeated(small_world) -> None:
    shards = Shards(small_world)
    encoder = encoders("soundnet8", width=0.0625).audio
    inputs = seconds_of_clips(encoder, "pool5", shards)
    audio, _ = inputs.load(0)
    begin, end = (int(tick) for tick in sound_ticks(shards.index[0]))
    sound = student_sound(shards, 0, begin, end - begin) / np.float32(32768)
    half = audio.shape[1] // 2
    assert len(audio) == len(middles(shards.index[0])) and audio.shape[1] == 3 * 22_050 > len(sound)
    for row, tick in zip(audio.numpy(), middles(shards.index[0]), strict=True):
        center = 882 * (tick - begin)
        assert np.array_equal(row[half - 11_025 : half + 11_025], sound[center - 11_025 : center + 11_025])
        assert np.array_equal(row[: len(row) - len(sound)], row[len(sound) :])
    with torch.inference_mode():
        rows = inputs.select(encoder(audio, "pool5"))
        steps = encoder.network.features(to_waveform(audio), "pool5")
    assert (
        places_of_second(encoder, "pool5") == 3
        and steps.shape[2] == 8
        and torch.equal(rows, steps[:, :, 2:5].flatten(1))
    )


def test_a_picture_is_that_of_the_loader_in_validation(network, small_world) -> None:
    shards = Shards(small_world)
    sampler = PairSampler(shards.index, shards.clips("validation"), seed=0, max_misalignment_ticks=0)
    rows = sampler.rows(0, 2)
    clip, tick = int(rows.frame_clip[0]), int(rows.frame_tick[0])
    batch = PairReader(shards, sampler, image_size=28, augment=False).read(rows)
    index = shards.index.copy()
    index[clip]["sound_from"] = 1920 * (tick - 12)  # so that the first second is around that very tick
    shards.index = index
    assert middles(index[clip])[0] == tick
    pictures, _ = frames_of_clips(network.image, "trunk", shards).load(clip)
    ours, theirs = (images_to_input(one, None, DATA) for one in (pictures[:1], batch.images[:1]))
    assert (ours - theirs).abs().max() < 0.02  # rounded to 8 bits once more


def test_training_clips_of_each_kind_are_dealt_to_folds(small_world) -> None:
    shards = Shards(small_world)
    labels = small_world.parent / "two.csv"
    names = {clip: shards.info(clip)["name"] for clip in range(len(shards))}
    kinds = {clip: ("a", "b")[clip % 2] for clip in names}
    rows = [f"{names[clip]},{kind}" for clip, kind in kinds.items() if clip != 3] + [f"{names[5]},a"]
    labels.write_text("\n".join(rows))
    known = labeled_clips(shards, labels, split="validation")
    assert known.left_out == 2 and not {3, 5} & set(known.clips.tolist())
    assert set(known.clips[known.fold == 0]) == set(shards.clips("validation")) - {3, 5}
    for label in (0, 1):
        counts = np.bincount(known.fold[(known.label == label) & (known.fold > 0)])[1:]
        assert counts.max() - counts.min() <= 1
    assert [known.classes[label] for label in known.label] == [kinds[clip] for clip in known.clips]
    labels.write_text("\n".join(f"{name},{'rare' if clip < 4 else 'other'}" for clip, name in names.items()))
    with pytest.raises(ValueError, match=r"class rare of .* at least 5"):
        labeled_clips(shards, labels, split="validation")
    assert labeled_clips(shards, labels, split="validation", least=1).classes == ("other", "rare")
    both = [f"{name},{kind}" for clip, name in names.items() for kind in (("a", "b")[clip % 2],)]
    labels.write_text("\n".join([*both, f"{names[0]},c"]))  # c is one label of several alone
    assert labeled_clips(shards, labels, split="validation").classes == ("a", "b")
    training = {names[clip] for clip in shards.clips("train").tolist()}
    labels.write_text("\n".join(row for row in both if row.partition(",")[0] in training))
    with pytest.raises(ValueError, match=r"no clip of the validation split .* has a single label"):
        labeled_clips(shards, labels, split="validation")


def test_rows_of_both_are_of_the_same_second() -> None:
    sound = Features(np.arange(10.0, dtype=np.float32).reshape(5, 2), np.array([0, 0, 1, 2, 2]))
    frames = Features(np.arange(3.0, dtype=np.float32).reshape(3, 1), np.array([0, 0, 1]))
    both = concatenate(sound, frames)
    assert both.rows.tolist() == [[0, 1, 0], [2, 3, 1], [4, 5, 2]] and both.item.tolist() == [0, 0, 1]


def test_a_damaged_clip_is_unreadable_and_known_by_its_name(network, small_world) -> None:
    shards = Shards(small_world)
    identity = clip_identity(shards)(0)
    assert identity.name == shards.info(0)["name"] and identity != clip_identity(shards)(1)

    def damaged(*_, **__):
        raise BadRecord("folder", "shard", "key", "key.wav", "cut short")

    shards.sound = damaged
    with pytest.raises(Unreadable, match=r"key\.wav of record key"):
        seconds_of_clips(network.audio, "trunk", shards).load(0)
