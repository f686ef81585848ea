"""Journals, manifests and tables that somebody has emptied, shortened or written by hand."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from shards.pack import pack
from shards.tasks import Task
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
    assert done.returncode == 2 and r"does not tell all of train-000000.tar.part" in done.stderr
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
    assert (done.returncode == 2 and "does not tell all of" in done.stderr) or left == -1
    if left != -1:
        assert content(journal.parent) == before
