"""Packing in tasks: as many as one likes, and the outcome is that of a single one."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import webdataset

from shards.build_index import merge
from shards.format import PackSettings
from shards.index import Manifest, ShardFile
from shards.journal import Journal, read_events
from shards.pack import list_inputs, pack, pack_sources
from shards.read import Shards
from shards.sources import Source
from shards.tasks import Task, find_tasks, parse_task, task_of
from shards.verify import verify
from tests.shards.packing import SETTINGS, SHARD_BYTES, packing_order
from tests.small_videos import render_folder, render_video


def pack_in_tasks(inputs: list[Path], out: Path, *, tasks: int, split_lists: dict[str, Path] | None = None) -> Manifest:
    """Pack in so many tasks, the last one first, and merge."""
    for number in range(tasks, 0, -1):
        task = Task(number, tasks)
        pack(inputs, out, SETTINGS, split_lists=split_lists, task=task, workers=1, shard_bytes=SHARD_BYTES)
    return merge(out)


def records(folder: Path) -> dict[str, tuple[object, ...]]:
    """Every record with its split, its members' checksums and where its pictures start."""
    shards = Shards(folder)
    found = {}
    for row in shards.index:
        first, count = int(row["first_picture"]), -(-int(row["ticks"]) // int(row["every"])) + 1
        facts = [row[name].item() for name in row.dtype.names if not name.endswith("offset")]
        del facts[row.dtype.names.index("first_picture")], facts[row.dtype.names.index("shard")]
        found[str(row["key"], "ascii")] = (*facts, shards.pictures[first : first + count].tobytes())
    return found


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten good videos, three copies of two of them, and one of each kind of bad one."""
    folder = render_folder(tmp_path_factory.mktemp("videos"), videos=10)
    shutil.copy(folder / "video-03.mp4", folder / "again.mp4")
    shutil.copy(folder / "video-03.mp4", folder / "video-99.mp4")
    shutil.copy(folder / "video-07.mp4", folder / "video-98.mp4")
    render_video(folder / "mute.mp4", seed=20, sound=False)
    render_video(folder / "silent.mp4", seed=21, silent=True)
    render_video(folder / "short.mp4", seed=22, seconds=0.5)
    (folder / "text.txt").write_text("not a video")
    (folder / "tab\tand\nline.mp4").write_bytes(b"nothing to see")
    (folder / "lost.mp4").symlink_to("nowhere")
    return folder


@pytest.fixture(scope="module")
def alone(videos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("alone") / "out"
    pack([videos], folder, SETTINGS, workers=2, shard_bytes=SHARD_BYTES)
    return folder


@pytest.fixture(scope="module")
def merged(videos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("merged") / "out"
    pack_in_tasks([videos], folder, tasks=3)
    return folder


def test_any_number_of_tasks_gives_the_records_and_rejections_of_one(
    videos: Path, alone: Path, merged: Path, tmp_path: Path
) -> None:
    pack_in_tasks([videos], tmp_path / "one", tasks=1)
    pack_in_tasks([videos], tmp_path / "twenty", tasks=20)
    for folder in (merged, tmp_path / "one", tmp_path / "twenty"):
        assert verify(folder) == []
        assert records(folder) == records(alone)
        assert (folder / "rejected.tsv").read_bytes() == (alone / "rejected.tsv").read_bytes()
        with_index, without = (Shards(path).manifest for path in (folder, alone))
        assert (with_index.packed, with_index.rejected) == (without.packed, without.rejected)
        assert sum(with_index.rejected.values()) == 9
    used = [task for task in find_tasks(merged) if any((merged / task.name).glob("*.tar"))]
    assert len(used) == 3


def test_the_first_of_equal_videos_in_the_order_of_packing_is_the_one_that_is_packed(
    videos: Path, merged: Path
) -> None:
    shards = Shards(merged)
    names = Counter(shards.info(clip)["name"] for clip in range(len(shards)))
    rejected = (merged / "rejected.tsv").read_text()
    for copies in ({"again.mp4", "video-03.mp4", "video-99.mp4"}, {"video-07.mp4", "video-98.mp4"}):
        first, *others = sorted(copies, key=packing_order(videos).index)
        assert names[first] == 1
        for other in others:
            assert other not in names
            assert f"/{other}\tduplicate\tsame content as {videos / first}\n" in rejected


def test_reading_a_merged_folder_gives_the_pictures_and_sound_of_a_plain_one(alone: Path, merged: Path) -> None:
    one, many = Shards(alone), Shards(merged)
    for clip in range(len(one)):
        assert one.key(clip) == many.key(clip)
        assert one.frame(clip, 30) == many.frame(clip, 30)
        np.testing.assert_array_equal(one.sound(clip, 1000), many.sound(clip, 1000))
        assert one.info(clip) == many.info(clip)


def test_a_stream_over_the_tasks_shards_holds_every_record_once(alone: Path, merged: Path) -> None:
    urls = [str(merged / shard.name) for shard in Shards(merged).manifest.shards]
    assert sorted(urls) == sorted(map(str, merged.rglob("*.tar")))
    keys = [record["__key__"] for record in webdataset.WebDataset(urls, shardshuffle=False)]
    assert sorted(keys) == sorted(records(alone))


def test_a_task_s_folder_is_a_packed_folder_of_its_own(merged: Path) -> None:
    for task in find_tasks(merged):
        assert verify(merged / task.name) == []


def test_merging_again_changes_nothing_and_rewrites_no_shard(merged: Path) -> None:
    def state() -> dict[Path, tuple[bytes, int]]:
        return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in merged.rglob("*") if path.is_file()}

    before = state()
    merge(merged)
    after = state()
    assert {path: content for path, (content, _) in before.items()} == {path: after[path][0] for path in after}
    inside = [path for path in before if path.parent != merged]
    assert inside
    assert all(before[path] == after[path] for path in inside)


def test_lists_of_splits_are_held_against_all_inputs_and_not_a_task_s_share(videos: Path, tmp_path: Path) -> None:
    (tmp_path / "test.txt").write_text("video-05\n")
    pack_in_tasks([videos], tmp_path / "out", tasks=3, split_lists={"test": tmp_path / "test.txt"})
    shards = Shards(tmp_path / "out")
    assert [shards.info(clip)["name"] for clip in shards.clips("test")] == ["video-05.mp4"]
    (tmp_path / "test.txt").write_text("video-55\n")
    with pytest.raises(ValueError, match="none of the names"):
        pack([videos], tmp_path / "new", SETTINGS, split_lists={"test": tmp_path / "test.txt"}, task=Task(1, 3))


def test_added_inputs_go_to_the_tasks_and_the_merged_index_waits_for_them(videos: Path, tmp_path: Path) -> None:
    some = sorted(videos.glob("video-0*"))[:6]
    pack_in_tasks(some, tmp_path / "out", tasks=2)
    shards_before = {path: path.read_bytes() for path in tmp_path.rglob("*.tar")}
    pack([videos], tmp_path / "out", SETTINGS, task=Task(1, 2), workers=1, shard_bytes=SHARD_BYTES)
    with pytest.raises(ValueError, match=r"was packed as tasks and has no manifest\.json of them all.*avc merge"):
        Shards(tmp_path / "out")
    pack_in_tasks([videos], tmp_path / "out", tasks=2)
    pack([videos], tmp_path / "at-once", SETTINGS, workers=2)
    # video-03 was on record before again.mp4, which is a copy of it, and the first on record stays.
    assert records(tmp_path / "out").keys() == records(tmp_path / "at-once").keys()
    assert all(path.read_bytes() == content for path, content in shards_before.items())
    assert verify(tmp_path / "out") == []


def test_a_video_that_could_not_be_read_and_then_can_is_no_longer_listed_as_rejected(
    videos: Path, tmp_path: Path
) -> None:
    given = tmp_path / "in"
    given.mkdir()
    (given / "late.mp4").symlink_to(tmp_path / "late.mp4")
    tasks = 8
    assert pack_in_tasks([given], tmp_path / "out", tasks=tasks).rejected == {"unreadable file": 1}
    shutil.copy(videos / "video-00.mp4", tmp_path / "late.mp4")
    size = (tmp_path / "late.mp4").stat().st_size
    assert len({task_of(Source("", "", None, size, 0), tasks) for size in (size, -1)}) == 2, "choose other videos"
    manifest = pack_in_tasks([given], tmp_path / "out", tasks=tasks)
    assert (sum(manifest.packed.values()), manifest.rejected) == (1, {})
    assert (tmp_path / "out" / "rejected.tsv").read_bytes() == b""


def test_a_record_that_two_tasks_packed_is_refused_and_named(videos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    sources, splitter = list_inputs([videos / "video-00.mp4"], out, SETTINGS)
    for number in (1, 2):  # as if the file had grown between the two listings
        listed = [replace(source, size=size_for(number, of=2)) for source in sources]
        pack_sources(listed, out, SETTINGS, splitter, task=Task(number, 2), workers=1, shard_bytes=SHARD_BYTES)
    with pytest.raises(ValueError, match=r"is in .*task-0001-of-0002/.* and in .*Remove .*-0001-of.* and .*-0002-of"):
        merge(out)
    assert not (out / "manifest.json").exists()
    shutil.rmtree(out / "task-0001-of-0002")
    shutil.rmtree(out / "task-0002-of-0002")
    pack_in_tasks([videos / "video-00.mp4"], out, tasks=2)
    assert len(Shards(out)) == 1


def size_for(number: int, *, of: int) -> int:
    """A size in bytes that goes to the task of that number."""
    return next(size for size in range(100) if task_of(Source("", "", None, size, 0), of) == number)


def test_a_merge_names_the_tasks_that_have_not_finished(videos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(ValueError, match="holds no folders of tasks"):
        merge(out)
    pack([videos / "video-00.mp4"], out, SETTINGS, task=Task(2, 30), workers=1)
    (out / "task-0003-of-0030").mkdir()
    with pytest.raises(ValueError, match=r"29 of the 30 tasks in .* have not finished: 1, 3, 4, .*, 21, \.\.\.\. Run"):
        merge(out)


def test_a_merge_waits_for_no_task_that_is_at_work(videos: Path, tmp_path: Path) -> None:
    task = Task(1, 1)
    pack([videos / "video-00.mp4"], tmp_path, SETTINGS, task=task, workers=1, shard_bytes=SHARD_BYTES)
    with (
        Journal(tmp_path / task.name, SETTINGS, shard_bytes=SHARD_BYTES),
        pytest.raises(ValueError, match=r"another `avc pack` is at work in .*task-0001-of-0001"),
    ):
        merge(tmp_path)


def test_tasks_that_were_packed_with_different_settings_are_refused(videos: Path, tmp_path: Path) -> None:
    for number, side in ((1, 32), (2, 64)):
        pack([videos / "video-00.mp4"], tmp_path, PackSettings(side=side), task=Task(number, 2), workers=1)
    with pytest.raises(ValueError, match=r"task-0002-of-0002 was packed with .*side=64.* and task-0001-of-0002 with"):
        merge(tmp_path)


def test_a_folder_is_shared_out_in_one_way(videos: Path, alone: Path, merged: Path) -> None:
    with pytest.raises(ValueError, match="was begun as 3 tasks: resume with as many"):
        pack([videos], merged, SETTINGS, task=Task(1, 4))
    with pytest.raises(ValueError, match="was begun as 3 tasks"):
        pack([videos], merged, SETTINGS)
    with pytest.raises(ValueError, match="was begun without tasks"):
        pack([videos], alone, SETTINGS, task=Task(1, 4))
    assert verify(merged) == verify(alone) == []


@pytest.mark.parametrize("text", ["0/3", "4/3", "3", "3/", "a/b", "1/0", "-1/3", "1/3/5"])
def test_a_task_that_cannot_be_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="must be NUMBER/TASKS"):
        parse_task(text)
    assert parse_task("3/8") == Task(3, 8)


def test_shares_are_even_and_cover_every_input_once() -> None:
    rng = np.random.default_rng(0)
    sizes = rng.lognormal(16, 0.5, 20_000).astype(int).tolist()
    sources = [Source(str(number), "", None, size, 0) for number, size in enumerate(sizes)]
    shares = [Task(number, 40).select(sources) for number in range(1, 41)]
    assert sorted(source.name for select in shares for source in select) == sorted(source.name for source in sources)
    assert max(map(len, shares)) < 1.2 * 20_000 / 40
    assert all(list(select) == sorted(select, key=sources.index) for select in shares[:1])


def test_what_an_input_becomes_is_in_the_journal_of_its_task_alone(videos: Path, merged: Path) -> None:
    names = Counter(
        event.source.basename
        for task in find_tasks(merged)
        for event in read_events(merged / task.name / "journal.jsonl")
        if not isinstance(event, ShardFile)
    )
    assert names == Counter(path.name for path in videos.iterdir())


def test_verify_names_a_shard_that_no_task_listed(merged: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(merged, tmp_path / "copy")
    (copy / "task-0001-of-0003" / "train-000099.tar").write_bytes(b"")
    assert [(problem.file, problem.what) for problem in verify(copy)] == [
        ("task-0001-of-0003/train-000099.tar", "not listed")
    ]


def command(videos: Path, out: Path, number: int) -> list[str]:
    """The command line of one of three tasks."""
    options = ["--side", "32", "--shard-mb", "1", "--workers", "1", "--task", f"{number}/3"]
    return [sys.executable, "-m", "launch.cli", "pack", str(videos), "--out", str(out), *options]


def test_tasks_at_work_together_and_one_killed_and_begun_again_change_nothing(
    videos: Path, alone: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    tasks = {number: subprocess.Popen(command(videos, out, number), **quiet) for number in (1, 2, 3)}
    journal = out / "task-0002-of-0003" / "journal.jsonl"
    while tasks[2].poll() is None and not (journal.exists() and journal.read_bytes().count(b"\n") >= 2):
        pass
    tasks[2].kill()
    assert [tasks[number].wait() for number in (1, 2, 3)] == [0, -9, 0]
    unfinished = subprocess.run(
        [sys.executable, "-m", "launch.cli", "merge", str(out)], capture_output=True, text=True, check=False
    )
    assert unfinished.returncode == 2
    assert "avc merge: 1 of the 3 tasks in" in unfinished.stderr
    subprocess.run(command(videos, out, 2), check=True, capture_output=True)
    done = subprocess.run(
        [sys.executable, "-m", "launch.cli", "merge", str(out)], capture_output=True, text=True, check=True
    )
    assert "9 that were rejected" in done.stdout
    assert records(out) == records(alone)
    assert verify(out) == []
