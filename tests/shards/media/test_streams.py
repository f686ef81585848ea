"""A file read piece by piece: all of its sound in its places, and at each moment the picture that a player shows."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import soundfile

from shards.media.clip import Rejected
from shards.media.streams import BLOCK_SECONDS, stream_pictures, stream_sound
from tests.attacks.test_media_of_embedding import leaping
from tests.shards.rendering import moving, write


def test_pieces_of_a_long_recording_join_to_the_recording(tmp_path) -> None:
    sound = np.random.default_rng(0).normal(0, 0.1, 8_000 * 50).astype(np.float32)
    soundfile.write(tmp_path / "long.wav", sound, 8_000, subtype="FLOAT")
    pieces = list(stream_sound(tmp_path / "long.wav"))
    assert len(pieces) > 1 and all(rate == 8_000 and len(piece) <= 8_000 * 2 * BLOCK_SECONDS for piece, rate in pieces)
    np.testing.assert_allclose(np.concatenate([piece for piece, _ in pieces]), sound, atol=1e-6)


def test_a_gap_between_stamps_is_silence_and_what_follows_keeps_its_time(tmp_path) -> None:
    sound = np.concatenate([piece for piece, _ in stream_sound(leaping(tmp_path / "gap.mkv", seconds=60))]) * 32768
    values = np.repeat(np.arange(40), 800)
    assert len(sound) == 60 * 8_000 + len(values)
    np.testing.assert_allclose(sound[: 20 * 800], values[: 20 * 800], atol=0.01)
    np.testing.assert_allclose(sound[20 * 800 + 60 * 8_000 :], values[20 * 800 :], atol=0.01)
    assert not sound[20 * 800 : 20 * 800 + 60 * 8_000].any()


@pytest.mark.parametrize(("rate", "hop"), [(10, Fraction(1, 25)), (30, Fraction(1, 10)), (25, Fraction(3, 10))])
def test_at_each_multiple_of_the_hop_stands_the_picture_that_is_shown_then(tmp_path, rate, hop) -> None:
    path = write(tmp_path / "film.mkv", moving(30), rate=rate)
    every = dict(stream_pictures(path, hop=Fraction(1, rate), side=64))
    assert list(every) == list(range(30)) and len(set(every.values())) == 30
    shown = dict(stream_pictures(path, hop=hop, side=64))
    assert list(shown) == list(range(len(shown))) and len(shown) == -(-Fraction(30, rate) // hop)
    assert all(picture == every[int(number * hop * rate)] for number, picture in shown.items())


def test_a_file_without_the_stream_that_is_asked_for_is_named(tmp_path) -> None:
    path = leaping(tmp_path / "sound.mkv", seconds=0)
    with pytest.raises(Rejected, match="matroska"):
        list(stream_pictures(path, hop=Fraction(1), side=64))


@pytest.mark.parametrize(
    ("inverted", "said"), [(-1.0, "each at -9 dBFS, their mean at -inf"), (-0.9, None), (0.0, None)]
)
def test_channels_that_cancel_each_other_are_named(tmp_path, inverted, said) -> None:
    sound = np.random.default_rng(0).uniform(-0.6, 0.6, 50_000)
    soundfile.write(tmp_path / "a.wav", np.stack([sound, inverted * sound], axis=1), 16_000)
    if said is None:
        assert sum(len(piece) for piece, _ in stream_sound(tmp_path / "a.wav")) == 50_000
    else:
        with pytest.raises(Rejected, match=f"silent: its channels cancel each other: {said}"):
            list(stream_sound(tmp_path / "a.wav"))


def test_a_silent_recording_is_not_one_whose_channels_cancel(tmp_path) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros((50_000, 2)), 16_000)
    assert not any(piece.any() for piece, _ in stream_sound(tmp_path / "a.wav"))
