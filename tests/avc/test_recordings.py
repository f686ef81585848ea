"""Recordings for evaluation: all of one that was joined from several by their bytes."""

from __future__ import annotations

import multiprocessing
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import soundfile

from avc.data.media import MAX_SECONDS, read_mono
from avc.files.decoding import Wanted, decode, pieces_of
from shards.format import Reason
from shards.sources import list_sources
from workshop.decoders.decoders import beeps_in
from workshop.decoders.flash_and_beep import sound_with

FORMS = {"ogg": ("OGG", "VORBIS"), "opus": ("OGG", "OPUS"), "flac": ("FLAC", "PCM_16"), "wav": ("WAV", "PCM_16")} | {
    "mp3": ("MP3", "MPEG_LAYER_III")
}
EVENTS = ([0.5, 2.0], [1.1, 2.9])
JOINED = [0.5, 2.0, 5.1, 6.9]
WANTED = Wanted("audio", Fraction(1), 48_000, 64)


def songs(path: Path, rates: tuple[int, ...]) -> Path:
    """Songs of 4 s of which each beeps at other times, joined by their bytes."""
    form, subtype = FORMS[path.suffix[1:]]
    content = b""
    for events, rate in zip(EVENTS, rates, strict=True):
        song = sound_with(events, begins=0, ends=4, rate=rate)
        soundfile.write(path, song, rate, format=form, subtype=subtype)
        content += path.read_bytes()
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("rates", [(48_000, 48_000), (48_000, 24_000), (24_000, 48_000)])
@pytest.mark.parametrize("form", FORMS)
def test_a_recording_that_was_joined_is_heard_whole_in_evaluation_and_embedding(
    form: str, rates: tuple[int, int], tmp_path: Path
) -> None:
    path = songs(tmp_path / f"songs.{form}", rates)
    mono = read_mono(path, 48_000)
    assert len(mono) == pytest.approx(8 * 48_000, abs=0.1 * 48_000)
    assert beeps_in(mono, rate_hz=48_000) == pytest.approx(JOINED, abs=0.06)  # mp3 begins with its codec's delay
    with path.open("rb") as file:
        embedded = np.concatenate([piece for _, piece in pieces_of(file, WANTED)])
    assert np.array_equal(embedded, mono)


def test_files_are_decoded_ahead_in_order_and_what_nobody_takes_is_not(tmp_path: Path) -> None:
    paths = [tmp_path / f"{number}.wav" for number in range(5)]
    for number, path in enumerate(paths):
        soundfile.write(path, np.full(60 * 48_000, number / 10, np.float32), 48_000, subtype="FLOAT")
    (tmp_path / "5.wav").write_bytes(b"no sound")
    sources = list_sources([tmp_path])
    found: dict[int, list[np.ndarray]] = {number: [] for number in range(6)}
    ends = {}
    for number, piece in decode(iter(enumerate(sources)), WANTED, processes=2, time_limit_seconds=60):
        if piece is None or isinstance(piece[0], Reason):
            ends[number] = piece
        else:
            assert number not in ends
            found[number].append(piece[1])
    assert [len(np.concatenate(found[number])) for number in range(5)] == [60 * 48_000] * 5
    assert all(np.allclose(np.concatenate(found[number]), number / 10) for number in range(5))
    assert [ends[number] for number in range(5)] == [None] * 5 and ends[5][0] == Reason.NOT_MEDIA and not found[5]
    decoded = decode(iter(enumerate(sources)), WANTED, processes=2, time_limit_seconds=60)
    next(decoded)
    assert multiprocessing.active_children()
    decoded.close()
    assert not multiprocessing.active_children()


def test_the_bound_on_a_recording_is_on_all_of_it(tmp_path: Path) -> None:
    path = tmp_path / "long.flac"
    soundfile.write(path, np.zeros(8_000 * (MAX_SECONDS // 2 + 1), np.int16), 8_000)
    read_mono(path, 8_000)
    path.write_bytes(path.read_bytes() * 2)
    with pytest.raises(ValueError, match="too large"):
        read_mono(path, 8_000)
