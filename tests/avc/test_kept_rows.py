"""Rows of features on the disk: computed once, going on after a stop, and by several at once."""

import errno
import fcntl
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from avc.encoders.cache import Identity, Inputs, extract, file_identity
from avc.encoders.encoder import AudioEncoder
from avc.encoders.sources import read_sound, windows

CPU = [torch.device("cpu")]


class Linear(AudioEncoder):
    sample_rate_hz, seconds = 22_050, 0.5

    def __init__(self, seed: int) -> None:
        super().__init__("a network")
        self.layer = torch.nn.Linear(11_025, 4, bias=False)
        own = torch.Generator().manual_seed(seed)  # the common one is no thread's alone
        torch.nn.init.normal_(self.layer.weight, std=0.01, generator=own)

    def forward(self, x, layer):
        return self.layer(x)


def features_of(
    files: list[Path],
    *,
    calls: list[Path],
    cache: Path,
    seed: int = 0,
    what: str = "counting",
    layer="embedding",
    devices=CPU,
    identify=file_identity,
):
    """Features by a linear layer of the seed; each file that is read is noted."""

    def load(path: Path):
        calls.append(path)
        return windows(read_sound(path, 22_050), 11_025)

    return extract(Linear(seed), layer, Inputs(what, load, identify), files, devices=devices, cache=cache)


class Stopping(list):
    """Of calls, so many at least, and until something is kept in `cache` if it is given."""

    def __init__(self, least: int, cache: Path | None = None) -> None:
        self.least, self.cache = least, cache

    def append(self, path: Path) -> None:
        kept = self.cache is None or any(journal.stat().st_size for journal in self.cache.glob("*.jsonl"))
        if len(self) >= self.least and kept:
            raise KeyboardInterrupt
        super().append(path)


def test_features_are_computed_once_for_the_same_network_and_files(tones, tmp_path) -> None:
    calls: list[Path] = []
    features = partial(features_of, tones, calls=calls, cache=tmp_path / "cache")
    first = features()
    assert len(calls) == 6 and first.features.item.tolist() == [n for n in range(6) for _ in range(5)]
    second = features()
    assert len(calls) == 6 and (second.features.rows == first.features.rows).all()
    features(seed=1)
    assert len(calls) == 12, "another network's features are its own"
    features(what="otherwise")
    assert len(calls) == 18
    features(layer="another")
    assert len(calls) == 24
    tones[2].write_bytes(tones[5].read_bytes())
    third = features()
    assert len(calls) == 30, "other content under the same name is another file"
    np.testing.assert_allclose(third.features.rows[10:15], first.features.rows[25:], atol=1e-5)
    [damaged, *_] = (tmp_path / "cache").iterdir()
    damaged.write_bytes(damaged.read_bytes()[:100])
    for seed in (0, 1):
        features(seed=seed)


@pytest.mark.parametrize("left", ["as it was", "rows cut", "rows flipped", "journal cut", "journal of others"])
def test_stopped_features_go_on_where_they_were_to_the_same_rows(tones, tmp_path, left) -> None:
    many, calls, cache = tones * 7, [], tmp_path / "cache"
    whole = features_of(many, calls=[], cache=tmp_path / "whole")

    with pytest.raises(KeyboardInterrupt):
        features_of(many, calls=Stopping(20, cache), cache=cache)
    [rows], [journal] = cache.glob("*.npy.part"), cache.glob("*.jsonl")
    done = 8 * len(journal.read_text().splitlines())
    assert done >= 8
    if left == "rows cut":
        rows.write_bytes(rows.read_bytes()[:-5])
    elif left == "rows flipped":
        data = bytearray(rows.read_bytes())
        data[-5] ^= 64
        rows.write_bytes(data)
    elif left == "journal cut":
        journal.write_bytes(journal.read_bytes()[:-5])
    elif left == "journal of others":
        journal.write_text("[1]\n")
    kept = {"as it was": done, "journal of others": 0}.get(left, done - 8)
    found = features_of(many, calls=calls, cache=cache)
    assert len(calls) == len(many) - kept
    assert (f"{kept} of them before a stop" in found.origin) is (kept > 0)
    np.testing.assert_array_equal(found.features.rows, whole.features.rows)
    np.testing.assert_array_equal(found.features.item, whole.features.item)
    assert sorted(path.suffix for path in cache.iterdir()) == [".lock", ".npy", ".safetensors"]


@pytest.mark.parametrize("placed", [0, 1])
def test_a_stop_while_files_take_their_places_costs_no_rows(tones, tmp_path, monkeypatch, placed) -> None:
    replace, done = os.replace, []

    def stopping(*names: Path) -> None:
        if len(done) == placed:
            raise KeyboardInterrupt
        done.append(replace(*names))

    monkeypatch.setattr(os, "replace", stopping)
    with pytest.raises(KeyboardInterrupt):
        features_of(tones, calls=[], cache=tmp_path / "cache")
    monkeypatch.undo()
    calls: list[Path] = []
    found = features_of(tones, calls=calls, cache=tmp_path / "cache")
    assert calls == [] and found.origin == "computed, 6 of them before a stop"
    whole = features_of(tones, calls=[], cache=tmp_path / "whole")
    np.testing.assert_array_equal(found.features.rows, whole.features.rows)
    assert sorted(path.suffix for path in (tmp_path / "cache").iterdir()) == [".lock", ".npy", ".safetensors"]


def test_several_that_compute_at_once_where_there_are_no_locks_have_the_same_rows(tones, tmp_path, monkeypatch) -> None:
    def flock(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", flock)
    together = threading.Barrier(2)

    class Together(list):
        def append(self, path: Path) -> None:
            if not self:
                together.wait(100)
            super().append(path)

    def extracted(calls: list[Path]):
        return features_of(tones, calls=calls, cache=tmp_path / "cache")

    with ThreadPoolExecutor(2) as pool:
        found = [*pool.map(extracted, [Together(), Together()])]
    calls: list[Path] = []
    found.append(extracted(calls))
    assert calls == [] and "read from" in found[2].origin
    for each in found:
        np.testing.assert_array_equal(np.load(each.file), found[0].features.rows)
    with pytest.raises(KeyboardInterrupt):
        features_of(tones, calls=Stopping(3), cache=tmp_path / "cache", seed=1)
    assert sorted(path.suffix for path in (tmp_path / "cache").iterdir()) == [".lock", ".lock", ".npy", ".safetensors"]


def test_what_could_not_be_read_is_tried_again(tones, tmp_path) -> None:
    whole = tones[2].read_bytes()
    many, calls = tones * 4, []

    def extracted():
        # An identity that does not change with the content, as that of a clip of shards that are copied once more.
        return features_of(many, calls=calls, cache=tmp_path / "cache", identify=lambda path: Identity(path.name, b""))

    many.append(tmp_path / "late.ogg")
    assert [name for name, _ in extracted().unreadable] == ["late.ogg"]
    calls.clear()
    assert len(extracted().unreadable) == 1 and calls == [tmp_path / "late.ogg"], "the others are remembered"
    (tmp_path / "late.ogg").write_bytes(whole)
    assert extracted().unreadable == () and 24 in extracted().features.item


def test_several_devices_give_the_features_of_one(tones, tmp_path) -> None:
    many = [path for path in tones for _ in range(4)]
    one = features_of(many, calls=[], cache=tmp_path / "one")
    three = features_of(many, calls=[], devices=CPU * 3, cache=tmp_path / "three")
    assert (one.features.item == three.features.item).all()
    np.testing.assert_allclose(one.features.rows, three.features.rows, atol=1e-6)


def test_a_corrupt_recording_is_named_and_counted_and_takes_no_part(tones, tmp_path) -> None:
    many = tones * 5
    broken = tmp_path / "broken.ogg"
    broken.write_bytes(tones[2].read_bytes()[:80])
    found = features_of([*many[:7], broken, *many[7:]], calls=[], cache=tmp_path / "cache")
    [(name, reason)] = found.unreadable
    assert name == "broken.ogg" and reason
    assert 7 not in found.features.item and set(found.features.item) == set(range(31)) - {7}
    with pytest.raises(ValueError, match=r"1 of 7 items cannot be read, such as broken\.ogg: "):
        features_of([*tones, broken], calls=[], cache=tmp_path / "cache")
