"""A packing ends with the pixels that it was begun with, whatever the program has learnt since."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from shards.build_index import merge
from shards.format import PACKING_VERSION
from shards.index import read_manifest
from shards.pack import pack
from shards.tasks import Task
from shards.verify import verify
from tests.shards.packing import SETTINGS, SHARD_BYTES, content
from tests.small_videos import render_folder


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return render_folder(tmp_path_factory.mktemp("videos"), videos=6)


def _pack(videos: Path, out: Path) -> None:
    pack([videos], out, SETTINGS, shard_bytes=SHARD_BYTES)


def test_a_packing_that_was_begun_as_version_1_ends_as_version_1(videos: Path, tmp_path: Path) -> None:
    first = replace(SETTINGS, version=1)
    some = sorted(videos.iterdir())[:3]
    pack([videos], tmp_path / "before", first, shard_bytes=SHARD_BYTES)
    pack([videos], tmp_path / "now", SETTINGS, shard_bytes=SHARD_BYTES)
    pack(some, tmp_path / "begun", first, shard_bytes=SHARD_BYTES)
    pack(some, tmp_path / "known", first, shard_bytes=SHARD_BYTES)
    header = (tmp_path / "begun" / "journal.jsonl").read_bytes().splitlines()[0]
    assert b"version" not in header  # as it was written before there were versions
    (tmp_path / "begun" / "journal.jsonl").write_bytes(header + b"\n")
    for path in (tmp_path / "begun").iterdir():
        if path.name != "journal.jsonl":
            path.unlink()
    _pack(videos, tmp_path / "begun")
    assert content(tmp_path / "begun") == content(tmp_path / "before")
    assert content(tmp_path / "now")["train-000000.tar"] != content(tmp_path / "before")["train-000000.tar"]
    assert read_manifest(tmp_path / "begun").settings.version == 1
    assert read_manifest(tmp_path / "now").settings.version == PACKING_VERSION
    _pack(videos, tmp_path / "known")
    assert read_manifest(tmp_path / "known").settings.version == 1
    assert verify(tmp_path / "known") == []


def test_tasks_that_begin_beside_a_task_of_version_1_are_of_version_1(videos: Path, tmp_path: Path) -> None:
    pack([videos], tmp_path, replace(SETTINGS, version=1), task=Task(2, 3), shard_bytes=SHARD_BYTES)
    for number in (1, 3):
        pack([videos], tmp_path, SETTINGS, task=Task(number, 3), shard_bytes=SHARD_BYTES)
    assert merge(tmp_path).settings.version == 1


def test_a_packing_of_a_later_version_is_refused(videos: Path, tmp_path: Path) -> None:
    pack([videos], tmp_path / "later", replace(SETTINGS, version=PACKING_VERSION + 1), shard_bytes=SHARD_BYTES)
    with pytest.raises(ValueError, match="was begun as version 3 of packing, and this program knows 2 at most"):
        _pack(videos, tmp_path / "later")
