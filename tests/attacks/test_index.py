"""Journals, manifests and tables that somebody has emptied, shortened or written by hand."""

from __future__ import annotations

import json
import os
import pickle
import random
import shutil
from collections.abc import Callable
from functools import partial, reduce
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shards.pack import pack
from shards.read import BadRecord, Shards
from shards.tasks import Task
from tests.avc.launching import Training, write_config
from tests.command_line import avc
from tests.shards.packing import SETTINGS, SHARD_BYTES, content
from tests.small_videos import render_folder


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return render_folder(tmp_path_factory.mktemp("videos"), videos=8)


@pytest.fixture(scope="module")
def packed(videos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("packed") / "out"
    pack([videos], folder, SETTINGS, workers=2, shard_bytes=SHARD_BYTES)
    return folder


@pytest.fixture
def out(packed: Path, tmp_path: Path) -> Path:
    return shutil.copytree(packed, tmp_path / "out")


def without(*kinds: str, at: int = 0) -> object:
    """An edit that takes the line of that number, among those of these kinds, out of a journal."""

    def edit(lines: list[bytes]) -> list[bytes]:
        lines.remove([line for line in lines if line.startswith(tuple(f'{{"{kind}"'.encode() for kind in kinds))][at])
        return lines

    return edit


JOURNALS = {
    "empty": lambda lines: [],
    "header only": lambda lines: lines[:1],
    "torn header": lambda lines: [lines[0][:20]],
    "half": lambda lines: lines[: len(lines) // 2],
    "first record lost": without("packed"),
    "a record in the middle lost": without("packed", at=1),
    "last record lost": without("packed", at=-1),
    "last record and all after it lost": lambda lines: lines[:-3],
    "a shard's line lost": without("shardfile"),
    "records of a shard lost": lambda lines: [line for line in lines if b'"train-000000.tar"' not in line],
}


@pytest.mark.parametrize("name", JOURNALS)
def test_a_journal_that_lacks_lines_about_shards_never_lets_packing_write_over_them(
    out: Path, videos: Path, name: str
) -> None:
    lines = (out / "journal.jsonl").read_bytes().splitlines(keepends=True)
    (out / "journal.jsonl").write_bytes(b"".join(JOURNALS[name](lines)))
    before = content(out)
    done = avc("pack", videos, "--out", out, "--side", 32, "--shard-mb", 1, "--workers", 1)
    assert done.returncode == 2
    assert "journal" in done.stderr and "estore" in done.stderr and "Traceback" not in done.stderr
    assert content(out) == before


def test_an_emptied_journal_keeps_an_unfinished_shard_as_well(out: Path, videos: Path) -> None:
    for path in out.glob("*.tar"):
        os.rename(path, out / "train-000000.tar.part")
    (out / "journal.jsonl").write_bytes(b"")
    done = avc("pack", videos, "--out", out, "--side", 32, "--shard-mb", 1, "--workers", 1)
    assert done.returncode == 2 and r"lacks lines about train-000000.tar.part" in done.stderr
    assert (out / "train-000000.tar.part").stat().st_size


@pytest.mark.parametrize("left", [0, 1, -1])
def test_a_task_whose_journal_was_emptied_is_neither_merged_nor_packed_over(
    videos: Path, tmp_path: Path, left: int
) -> None:
    pack([videos], tmp_path, SETTINGS, task=Task(1, 1), workers=2, shard_bytes=SHARD_BYTES)
    journal = tmp_path / "task-0001-of-0001" / "journal.jsonl"
    journal.write_bytes(b"".join(journal.read_bytes().splitlines(keepends=True)[:left]))
    before = content(journal.parent)
    done = avc("merge", tmp_path)
    assert done.returncode == 2 and "tells of " in done.stderr
    done = avc("pack", videos, "--out", tmp_path, "--side", 32, "--shard-mb", 1, "--task", "1/1")
    assert (done.returncode == 2 and "lacks lines about" in done.stderr) or left == -1
    if left != -1:
        assert content(journal.parent) == before


EVENTS = {
    **{f"split {value}": ("shardfile.split", value) for value in ("dev", -1, [])},
    **{f"shard {value}": ("packed.shard", value) for value in ("../train-000000.tar", "train-x.tar", {}, None)},
    **{f"name {value}": ("packed.source.name", value) for value in (1.5, [])},
    **{f"width {value}": ("packed.width", value) for value in (None, -1, 2**70)},
    **{f"pictures {value}": ("packed.picture_sizes", value) for value in (5, [{}], [2**40], [float("nan")])},
    **{f"members {value}": ("packed.members", value) for value in ({}, "x", {"json": 5})},
    **{f"offset {value}": ("packed.members.json.offset", value) for value in ("x", 2**64, -5)},
    "a member less": ("packed.members.wav", None),
    "a shard's name": ("shardfile.name", "train-000000.tar/../../x"),
    "a key that leads out": ("packed.key", "../../x"),
}


@pytest.mark.parametrize("name", EVENTS)
def test_a_journal_that_somebody_wrote_by_hand_is_refused_in_words(out: Path, videos: Path, name: str) -> None:
    place, value = EVENTS[name]
    kind, *parts, last = place.split(".")
    lines = (out / "journal.jsonl").read_bytes().splitlines(keepends=True)
    number = next(number for number, line in enumerate(lines) if line.startswith(f'{{"{kind}"'.encode()))
    event = json.loads(lines[number])
    inner = reduce(lambda content, part: content[part], parts, event[kind])
    inner[last] = value
    lines[number] = json.dumps(event).encode() + b"\n"
    (out / "journal.jsonl").write_bytes(b"".join(lines))
    before = content(out)
    done = avc("pack", videos, "--out", out, "--side", 32, "--shard-mb", 1, "--workers", 1)
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and "journal" in done.stderr
    assert content(out) == before


MANIFESTS: dict[str, Callable[[dict[str, Any]], object]] = {
    "a list": lambda m: [m],
    "nothing": lambda m: None,
    "shards as text": lambda m: m | {"shards": "train"},
    "a shard outside": lambda m: _with_shard(m, name="../train-000000.tar"),
    "a shard by an absolute path": lambda m: _with_shard(m, name="/etc/passwd"),
    "a shard deep in a folder": lambda m: _with_shard(m, name="task-1-of-1/x/train-000000.tar"),
    "a shard with a line break": lambda m: _with_shard(m, name="train-000000.tar\n"),
    "a shard with a NUL": lambda m: _with_shard(m, name="train\0.tar"),
    "a shard twice": lambda m: m | {"shards": [m["shards"][0], *m["shards"]]},
    "a size of 2^70": lambda m: _with_shard(m, bytes=2**70),
    "a size below 0": lambda m: _with_shard(m, bytes=-1),
    "a size that is not a number": lambda m: _with_shard(m, bytes=float("nan")),
    "-1 records": lambda m: _with_shard(m, records=-1),
    "10^30 records": lambda m: _with_shard(m, records=10**30),
    "an unknown split": lambda m: _with_shard(m, split="dev"),
    "every 0": lambda m: m | {"settings": m["settings"] | {"every": 0}},
    "every 10^30": lambda m: m | {"settings": m["settings"] | {"every": 10**30}},
    "sound of no kind": lambda m: m | {"settings": m["settings"] | {"sound": "../x"}},
    "flow that is not there": lambda m: m | {"settings": m["settings"] | {"flow": True}},
    "settings that are none": lambda m: m | {"settings": []},
    "no shards": lambda m: m | {"shards": []},
    "another format": lambda m: m | {"format": [10**30]},
}


def _with_shard(manifest: dict[str, Any], **changes: object) -> dict[str, Any]:
    first, *others = manifest["shards"]
    return manifest | {"shards": [first | changes, *others]}


def refused(folder: Path) -> str:
    """What `avc verify` and opening for training say of a folder, which are to agree that it cannot be read."""
    with pytest.raises(ValueError, match=r"\w") as caught:
        Shards(folder)
    done = avc("verify", folder)
    assert done.returncode in (1, 2) and done.stderr.count("\n") <= 1
    return str(caught.value)


@pytest.mark.parametrize("name", MANIFESTS)
def test_a_manifest_that_somebody_wrote_by_hand_is_refused_in_words(out: Path, name: str) -> None:
    content = json.loads((out / "manifest.json").read_text())
    (out / "manifest.json").write_text(json.dumps(MANIFESTS[name](content)))
    assert str(out) in refused(out)


@pytest.mark.parametrize(
    "text", [b"", b"{", b"[" * 1_000_000, b"9" * 1_000_000, b"\xff\xfe", b'{"format":1' + b"0" * 9]
)
def test_a_manifest_that_is_no_json_is_refused_in_words(out: Path, text: bytes) -> None:
    (out / "manifest.json").write_bytes(text)
    assert "manifest.json is not what the packer wrote" in refused(out) or b"format" in text


def test_a_manifest_of_gigabytes_or_a_pipe_is_not_read(out: Path) -> None:
    os.truncate(out / "manifest.json", 10**10)
    assert "10,000,000,000 bytes" in refused(out)
    (out / "manifest.json").unlink()
    os.mkfifo(out / "manifest.json")
    assert "is no file" in refused(out)


NUMBERS: dict[str, tuple[str, int]] = {
    **{f"{name}_offset": (f"{name} beyond", 2**63) for name in ("json", "mjpeg", "sound")},
    **{f"{name}_size": (f"{name} beyond", 2**64 - 1) for name in ("json", "mjpeg", "sound")},
    "split": ("of no split", 3),
    "shard": ("names another shard", 2**32 - 1),
    "ticks": ("pictures.npy has", 2**32 - 1),
    "every": ("keeps other pictures", 0),
    "width": ("no pixels", 0),
    "height": ("no pixels", 0),
    "first_picture": ("does not follow", 2**63),
    "sound_from": ("sound outside", 2**32 - 1),
    "sound_to": ("sound outside", 2**32 - 1),
}


@pytest.mark.parametrize("column", NUMBERS)
def test_a_number_of_the_index_that_cannot_be_is_refused_with_its_row(out: Path, column: str) -> None:
    words, value = NUMBERS[column]
    clips = np.load(out / "clips.npy")
    clips[5][column] = value
    np.save(out / "clips.npy", clips)
    said = refused(out)
    assert words in said and ("row 5 of clips.npy" in said or column == "ticks")


@pytest.mark.parametrize("key", [b"", b"\xff" * 32, b"../" * 10, b"f" * 32])
def test_a_key_that_is_not_hexadecimal_or_out_of_order_is_refused(out: Path, key: bytes) -> None:
    clips = np.load(out / "clips.npy")
    clips["key"][5] = key
    np.save(out / "clips.npy", clips)
    assert "of clips.npy has no hexadecimal key" in refused(out) or key == b"f" * 32


def test_offsets_whose_sum_with_the_size_wraps_round_are_refused(out: Path) -> None:
    clips = np.load(out / "clips.npy")
    clips[2]["json_offset"], clips[2]["json_size"] = 2**64 - 512, 1024
    np.save(out / "clips.npy", clips)
    assert "row 2 of clips.npy has its json beyond the shard's end" in refused(out)


def _npy(header: bytes) -> bytes:
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header


TABLES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda data: b"",
    "half": lambda data: data[: len(data) // 2],
    "a row less": lambda data: data[:-4],
    "a row more": lambda data: data + bytes(125),
    "noise": lambda data: random.Random(2).randbytes(len(data)),
    "zeros": lambda data: bytes(len(data)),
    "version 9": lambda data: data[:6] + b"\x09" + data[7:],
    "a header that is no dictionary": lambda data: _npy(b"[" * 9000),
    "a header with unclosed brackets": lambda data: _npy(b"{'descr': (((((((((\n"),
    "a header of minus signs": lambda data: _npy(b"-" * 9000 + b"1"),
    "2^60 rows": lambda data: _npy(b"{'descr': '<u4', 'fortran_order': False, 'shape': (1152921504606846976,), }\n"),
    "-1 rows": lambda data: _npy(b"{'descr': '<u4', 'fortran_order': False, 'shape': (-1,), }\n"),
    "objects": lambda data: _npy(b"{'descr': '|O', 'fortran_order': False, 'shape': (1,), }\n") + bytes(8),
}


@pytest.mark.parametrize("table", ["clips.npy", "pictures.npy"])
@pytest.mark.parametrize("name", TABLES)
def test_a_damaged_table_is_refused_in_words(out: Path, table: str, name: str) -> None:
    (out / table).write_bytes(TABLES[name]((out / table).read_bytes()))
    assert table in refused(out)


def bad_records(shards: Shards) -> list[BadRecord]:
    """What goes wrong when all clips are read; nothing but this may be raised."""
    found = []
    for clip in range(len(shards)):
        reads = [partial(shards.key, clip), partial(shards.info, clip), partial(shards.picture, clip, 0)]
        for read in (*reads, partial(shards.sound, clip, 0)):
            try:
                read()
            except BadRecord as error:
                found.append(error)
    return found


def test_no_noise_in_the_tables_raises_anything_but_words(out: Path) -> None:
    rng = random.Random(5)
    data = {name: (out / name).read_bytes() for name in ("clips.npy", "pictures.npy")}
    opened = 0
    for _ in range(400):
        for name, whole in data.items():
            changed = bytearray(whole)
            for _ in range(rng.choice([0, 1, 1, 30])):
                changed[rng.choice([rng.randrange(len(whole)), rng.randrange(128)])] = rng.randrange(256)
            (out / name).write_bytes(changed)
        try:
            shards = Shards(out)
        except ValueError:
            continue
        opened += 1
        bad_records(shards)
    assert opened


CUTS: dict[str, Callable[[Path], object]] = {
    "clips.npy emptied": lambda folder: os.truncate(folder / "clips.npy", 0),
    "clips.npy cut": lambda folder: os.truncate(folder / "clips.npy", 1000),
    "clips.npy removed": lambda folder: (folder / "clips.npy").unlink(),
    "pictures.npy emptied": lambda folder: os.truncate(folder / "pictures.npy", 0),
    "pictures.npy removed": lambda folder: (folder / "pictures.npy").unlink(),
    "pictures.npy longer": lambda folder: os.truncate(folder / "pictures.npy", 10**6),
    "manifest removed": lambda folder: (folder / "manifest.json").unlink(),
    "shards emptied": lambda folder: [os.truncate(path, 0) for path in folder.glob("*.tar")],
    "shards removed": lambda folder: [path.unlink() for path in folder.glob("*.tar")],
    "all removed": lambda folder: shutil.rmtree(folder),
}


@pytest.mark.parametrize("at_work", [False, True], ids=["opened", "at work"])
@pytest.mark.parametrize("name", CUTS)
def test_what_disappears_under_those_who_read_is_a_bad_record_or_does_not_matter(
    out: Path, name: str, at_work: bool
) -> None:
    rank = Shards(out)
    worker: Shards = pickle.loads(pickle.dumps(rank))
    if at_work:
        for shards in (rank, worker):
            shards.picture(0, 0)
    state = pickle.dumps(rank)
    CUTS[name](out)
    late: Shards = pickle.loads(state)
    bad = [error for shards in (rank, worker, late) for error in bad_records(shards)]
    assert bad or name == "manifest removed"
    assert all("`avc verify " in str(error) for error in bad)


def test_a_training_whose_table_is_cut_off_under_its_workers_ends_in_one_line(
    small_world: Path, tmp_path: Path
) -> None:
    shards = shutil.copytree(small_world, tmp_path / "shards")
    config = write_config(tmp_path, shards, data={"num_workers": 1}, training={"steps": 100_000})
    training = Training(config, tmp_path / "run")
    try:
        training.wait_for_step(1)
        os.truncate(shards / "pictures.npy", 0)
        said = training.finish(status=1)
    finally:
        training.kill()
    assert "`avc verify " in said.splitlines()[-1] and "Traceback" not in said and "Aborted" not in said
