"""Inputs are packed in an order that means nothing: every shard is a sample of the set, whatever the names are."""

from __future__ import annotations

import os
import random
import shutil
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from shards.build_index import merge
from shards.format import PackSettings
from shards.journal import Packed, read_events
from shards.pack import pack
from shards.sources import Source, in_packing_order, list_sources
from shards.tasks import Task, assign_tasks
from shards.verify import order_problem
from tests.command_line import avc
from tests.shards.packing import SETTINGS
from tests.small_videos import render_video

SHARD_BYTES = 700_000  # five records
BY_NAME = replace(SETTINGS, version=1)


def excess(shards: Iterable[Sequence[Path]]) -> float:
    """How many times as often as in the whole set two videos of one shard are of one folder."""
    shards = [[path.parent for path in shard] for shard in shards]
    same, pairs = map(sum, zip(*map(_pairs, shards), strict=True))
    same_in_all, pairs_in_all = _pairs([folder for shard in shards for folder in shard])
    return (same / pairs) / (same_in_all / pairs_in_all)


def _pairs(folders: Sequence[Path]) -> tuple[int, int]:
    return sum(n * (n - 1) // 2 for n in Counter(folders).values()), len(folders) * (len(folders) - 1) // 2


def packed_in(out: Path) -> dict[tuple[Path, str], list[Path]]:
    """The videos of each shard, in their order."""
    shards: dict[tuple[Path, str], list[Path]] = {}
    for journal in sorted(out.rglob("journal.jsonl")):
        for event in read_events(journal):
            if isinstance(event, Packed):
                shards.setdefault((journal.parent, event.shard), []).append(Path(event.source.path))
    return shards


@pytest.fixture(scope="module")
def classes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for each of six classes, with ten videos in each."""
    root = tmp_path_factory.mktemp("classes")
    for number in range(60):
        folder = root / f"class-{number // 10}"
        folder.mkdir(exist_ok=True)
        render_video(folder / f"{number % 10}.mp4", seed=number, seconds=1.2)
    return root


@pytest.fixture(scope="module")
def mixed(classes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pack_all(classes, tmp_path_factory.mktemp("mixed") / "out")


@pytest.fixture(scope="module")
def by_name(classes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pack_all(classes, tmp_path_factory.mktemp("by-name") / "out", BY_NAME)


def pack_all(classes: Path, out: Path, settings: PackSettings = SETTINGS) -> Path:
    pack([classes], out, replace(settings, split=(1, 0, 0)), shard_bytes=SHARD_BYTES)
    return out


@pytest.mark.parametrize("tasks", [1, 3])
def test_twenty_classes_by_name_are_a_twentieth_of_each_other_s_neighbors(tasks: int) -> None:
    rng = random.Random(1)
    sizes = [int(rng.lognormvariate(11, 0.5)) for _ in range(20 * 60)]
    sources = [
        Source(path, path, None, size, 0)
        for number, size in enumerate(sizes)
        for path in [f"/videos/{number // 60:02d}/{number % 60:02d}.mp4"]
    ]

    def shards(orders: Iterable[Sequence[Source]]) -> list[list[Path]]:
        return [[Path(each.path) for each in order[n : n + 30]] for order in orders for n in range(0, len(order), 30)]

    shares = assign_tasks(sources, tasks)
    assert excess(shards(shares)) > 5
    assert excess(shards(in_packing_order(share, SETTINGS) for share in shares)) < 1.2


def test_shards_of_a_folder_for_each_class_hold_all_classes(by_name: Path, mixed: Path) -> None:
    assert len(packed_in(mixed)) >= 10
    assert excess(packed_in(by_name).values()) > 4
    assert excess(packed_in(mixed).values()) < 2


def test_tasks_pack_the_same_order_each_its_own_part_of_it(classes: Path, mixed: Path, tmp_path: Path) -> None:
    for number in (1, 2, 3):
        settings = replace(SETTINGS, split=(1, 0, 0))
        pack([classes], tmp_path, settings, task=Task(number, 3), shard_bytes=SHARD_BYTES)
    whole = [path for shard in packed_in(mixed).values() for path in shard]
    parts: dict[Path, list[Path]] = {}
    for (task, _), paths in packed_in(tmp_path).items():
        parts.setdefault(task, []).extend(paths)
    assert [len(part) > 0 for part in parts.values()] == [True] * 3
    for part in parts.values():
        assert part == [path for path in whole if path in set(part)]
    assert sum(merge(tmp_path).packed.values()) == 60
    assert excess(packed_in(tmp_path).values()) < 2


def test_folders_and_another_system_s_accents_do_not_change_the_order(tmp_path: Path) -> None:
    names = [f"Caf\u00e9 {number}.mp4" for number in range(40)]

    def order(sources: Iterable[Source]) -> list[str]:
        return [unicodedata.normalize("NFC", source.basename) for source in in_packing_order(sources, SETTINGS)]

    here = [Source(f"/a/{name}", f"/a/{name}", None, 7, 0) for name in names]
    moved = [
        Source(path, path, None, 7, 0)
        for name in names
        for path in [f"/b/{len(name)}/{unicodedata.normalize('NFD', name)}"]
    ]
    in_tar = [Source(f"/c.tar::x/{name}", "/c.tar", 512, 7, 0) for name in names]
    assert order(here) == order(moved) == order(in_tar)
    assert order(here) != names
    assert order(replace(source, size=8) for source in here) != order(here)
    # Where size and base name are equal, the order is that of the names.
    alike = [Source(path, path, None, 7, 0) for number in range(9) for path in [f"/a/{number}/x\udcff.mp4"]]
    assert in_packing_order(alike, SETTINGS) == alike


def test_a_packing_that_was_begun_in_order_of_name_goes_on_in_it(classes: Path, tmp_path: Path) -> None:
    begun = pack_all(classes / "class-0", tmp_path / "out", BY_NAME)
    pack_all(classes, begun)
    names = [str(path) for shard in packed_in(begun).values() for path in shard]
    assert names == [source.name for source in list_sources([classes])]


def test_verify_says_where_shards_are_sorted(classes: Path, by_name: Path, mixed: Path, tmp_path: Path) -> None:
    said = "records lie in one shard with the next one by name"
    assert said in avc("verify", by_name).stdout
    assert "packed in order of name" in avc("verify", "--quick", by_name).stdout
    copy = shutil.copytree(by_name, tmp_path / "copy")
    (copy / "journal.jsonl").unlink()
    assert "packed in order of name" in avc("verify", copy).stdout
    for folder in sorted(classes.iterdir()):  # mixed each, one after the other
        pack_all(folder, tmp_path / "in-turn")
    assert said in avc("verify", tmp_path / "in-turn").stdout
    for options in ([], ["--quick"]):
        told = avc("verify", *options, mixed).stdout
        assert "name" not in told.replace("names and sizes", "")
        assert told.endswith("all is as it was packed\n")


@pytest.mark.parametrize("kind", ["a pipe", "of another set", "without end", "damaged"])
def test_verify_does_not_trust_the_journal(by_name: Path, mixed: Path, tmp_path: Path, kind: str) -> None:
    copy = shutil.copytree(by_name, tmp_path / "copy")
    journal = copy / "journal.jsonl"
    lines = journal.read_bytes()
    journal.unlink()
    if kind == "a pipe":
        os.mkfifo(journal)
    elif kind == "of another set":
        shutil.copy(mixed / "journal.jsonl", journal)
        journal.write_bytes(journal.read_bytes() + lines[lines.index(b"\n") + 1 :])
    elif kind == "without end":
        journal.write_bytes(lines)
        os.truncate(journal, 2**32)  # takes no room on the disk
    else:
        journal.write_bytes(lines[:3000] + b"\n" + lines[3000:])
    done = avc("verify", copy)
    assert done.returncode == 0
    assert "packed in order of name" in done.stdout


def test_one_shard_is_never_called_sorted(classes: Path, tmp_path: Path) -> None:
    summary = pack([classes / "class-0"], tmp_path / "out", replace(BY_NAME, split=(1, 0, 0)))
    for quick in (True, False):
        assert order_problem(tmp_path / "out", summary.manifest, quick=quick) == ""
