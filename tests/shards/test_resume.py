"""A packing that is killed, or runs out of disk, goes on and ends as if nothing had happened."""

from __future__ import annotations

import itertools
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

import shards.pack as packing
from shards import writer
from shards.format import JOURNAL, Reason
from shards.journal import Journal, Rejection, read_events
from shards.pack import pack
from shards.record import Record, make_record
from shards.sources import Source, list_sources
from shards.verify import verify
from tests.shards.packing import SETTINGS, SHARD_BYTES, content
from tests.small_videos import render_folder

Result = Record | Rejection


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = render_folder(tmp_path_factory.mktemp("videos"), videos=12)
    shutil.copy(folder / "video-03.mp4", folder / "video-03-again.mp4")
    (folder / "video-06.txt").write_text("not a video")
    return folder


@pytest.fixture(scope="module")
def reference(videos: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What a packing that nobody disturbs makes of the videos."""
    folder = tmp_path_factory.mktemp("reference") / "out"
    pack([videos], folder, SETTINGS, workers=2, shard_bytes=SHARD_BYTES)
    assert len(list(folder.glob("*.tar"))) >= 4
    return content(folder)


@pytest.fixture
def memory_disk() -> Iterator[Path]:
    """A folder where bringing something to the disk costs nothing: what is tested is the order of it."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None) as name:
        yield Path(name)


@pytest.fixture
def instant(videos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Takes the results of the packing processes from memory, so that a packing lasts milliseconds."""
    known = {source.name: make_record(source, SETTINGS) for source in list_sources([videos])}

    def results(_: object, sources: Sequence[Source], **__: object) -> Generator[Result, None, None]:
        return (known[source.name] for source in sources)

    monkeypatch.setattr(packing, "run_in_workers", results)
    monkeypatch.setattr(packing, "SECONDS_BETWEEN_SYNCS", 0.0)


def _pack(videos: Path, out: Path) -> None:
    pack([videos], out, SETTINGS, shard_bytes=SHARD_BYTES)


def _pack_until_killed(videos: Path, out: Path, *, at: int) -> bool:
    """Pack in a forked process that kills itself at its `at`-th step towards the disk; whether it got that far."""
    child = os.fork()
    if child == 0:
        steps = itertools.count(1)

        def killing(function: Callable[..., Any], *, half: bool = False) -> Callable[..., Any]:
            def step(*args: Any, **options: Any) -> Any:
                if next(steps) == at:
                    if half:  # the data is the last argument of a write
                        function(*args[:-1], args[-1][: len(args[-1]) // 2])
                    os.kill(os.getpid(), signal.SIGKILL)
                return function(*args, **options)

            return step

        os.fsync, os.rename, os.replace = killing(os.fsync), killing(os.rename), killing(os.replace)
        Path.unlink = killing(Path.unlink)  # type: ignore[method-assign]
        writer.ShardWriter._write = killing(writer.ShardWriter._write, half=True)  # type: ignore[method-assign]
        try:
            _pack(videos, out)
        except BaseException:
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return True
    assert os.WEXITSTATUS(status) == 0
    return False


def _assert_that_what_is_listed_is_complete(out: Path) -> None:
    if (out / "manifest.json").exists():
        assert verify(out) == []


@pytest.mark.usefixtures("instant")
def test_killed_at_any_step_and_resumed_gives_the_same_bytes(
    videos: Path, reference: dict[str, bytes], memory_disk: Path
) -> None:
    for step in itertools.count(1):
        out = memory_disk / str(step)
        killed = _pack_until_killed(videos, out, at=step)
        _assert_that_what_is_listed_is_complete(out)
        _pack(videos, out)
        assert content(out) == reference, f"killed at step {step}"
        shutil.rmtree(out)
        if not killed:
            break
    assert step > 60


@pytest.mark.usefixtures("instant")
@pytest.mark.parametrize("steps", [3, 7, 11])
def test_killed_again_and_again_it_still_ends_with_the_same_bytes(
    videos: Path, reference: dict[str, bytes], tmp_path: Path, steps: int
) -> None:
    runs = 1
    # A run that is killed before it has anything on record makes no progress, so each lives a little longer.
    while _pack_until_killed(videos, tmp_path / "out", at=steps + runs):
        _assert_that_what_is_listed_is_complete(tmp_path / "out")
        runs += 1
    assert runs > 3
    assert content(tmp_path / "out") == reference


@pytest.mark.usefixtures("instant")
def test_killed_while_it_adds_inputs_it_keeps_what_was_there(videos: Path, tmp_path: Path) -> None:
    some = sorted(videos.iterdir())[:5]
    pack(some, tmp_path / "begun", SETTINGS, shard_bytes=SHARD_BYTES)
    shutil.copytree(tmp_path / "begun", tmp_path / "undisturbed")
    _pack(videos, tmp_path / "undisturbed")
    for step in (1, 2, 5, 9, 14, 20, 27, 35):
        out = tmp_path / str(step)
        shutil.copytree(tmp_path / "begun", out)
        assert _pack_until_killed(videos, out, at=step)
        _assert_that_what_is_listed_is_complete(out)
        _pack(videos, out)
        assert content(out) == content(tmp_path / "undisturbed")


@pytest.mark.usefixtures("instant")
def test_a_torn_line_of_the_journal_is_done_again(videos: Path, reference: dict[str, bytes], tmp_path: Path) -> None:
    assert _pack_until_killed(videos, tmp_path / "out", at=30)
    journal = tmp_path / "out" / "journal.jsonl"
    lines = journal.read_bytes()
    # A shard has its name only after all of its lines are on the disk: no kill tears these.
    kept = max(line.end() for line in re.finditer(rb"\{[^\n]*train-000000\.tar[^\n]*\n", lines))
    assert kept < len(lines) - 100
    for size in (len(lines) - 1, len(lines) - 100, kept + 10, kept):
        os.truncate(journal, size)
    _pack(videos, tmp_path / "out")
    assert content(tmp_path / "out") == reference


@pytest.mark.usefixtures("instant")
def test_bytes_that_are_not_on_record_are_cut_off(videos: Path, reference: dict[str, bytes], tmp_path: Path) -> None:
    assert _pack_until_killed(videos, tmp_path / "out", at=30)
    part = next(path for path in (tmp_path / "out").glob("*.tar.part") if path.stat().st_size)
    with part.open("ab") as file:
        file.write(b"half a record" * 300_000)
    (tmp_path / "out" / "train-000099.tar.part").write_bytes(b"begun and never written of")
    _pack(videos, tmp_path / "out")
    assert content(tmp_path / "out") == reference


@pytest.mark.usefixtures("instant")
def test_a_journal_damaged_in_its_middle_is_refused(videos: Path, tmp_path: Path) -> None:
    _pack(videos, tmp_path / "out")
    journal = tmp_path / "out" / "journal.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join([*lines[:3], lines[3][:50] + b"\n", *lines[4:]]))
    with pytest.raises(ValueError, match=r"line 4 of .*journal\.jsonl is damaged"):
        _pack(videos, tmp_path / "out")


@pytest.mark.usefixtures("instant")
def test_a_lost_shard_is_named_and_nothing_is_packed_over_it(videos: Path, tmp_path: Path) -> None:
    _pack(videos, tmp_path / "out")
    (tmp_path / "out" / "train-000001.tar").unlink()
    before = content(tmp_path / "out")
    with pytest.raises(ValueError, match=r"train-000001\.tar was packed and is no longer there"):
        _pack(videos, tmp_path / "out")
    assert content(tmp_path / "out") == before


@pytest.mark.usefixtures("instant")
def test_a_part_that_lost_bytes_is_named(videos: Path, tmp_path: Path) -> None:
    assert _pack_until_killed(videos, tmp_path / "out", at=30)
    part = next(path for path in (tmp_path / "out").glob("*.tar.part") if path.stat().st_size)
    os.truncate(part, 100)
    with pytest.raises(ValueError, match=r"\.tar\.part has 100 bytes and the journal"):
        _pack(videos, tmp_path / "out")


def _command(videos: Path, out: Path) -> list[str]:
    options = ["--side", "32", "--shard-mb", "1", "--workers", "2"]
    return [sys.executable, "-m", "launch.cli", "pack", str(videos), "--out", str(out), *options]


def _hear_interrupts() -> None:
    """For a process to come: what a shell starts in the background ignores interrupts, and its children inherit it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _descendants(process: int) -> set[int]:
    found = set()
    for task in Path(f"/proc/{process}/task").glob("*/children"):
        for child in map(int, task.read_text().split()):
            found |= {child} | _descendants(child)
    return found


def _alive(process: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{process}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


def _named(process: int) -> list[str]:
    """What of a process's memory has a name in /dev/shm."""
    try:
        lines = Path(f"/proc/{process}/maps").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return []
    return [line for line in lines if "/dev/shm/" in line and not line.endswith("(deleted)")]


def _lines(journal: Path) -> int:
    return journal.read_bytes().count(b"\n") if journal.exists() else 0


def _assert_that_they_end(processes: set[int]) -> None:
    assert processes
    deadline = time.monotonic() + 20
    while any(map(_alive, processes)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not [process for process in processes if _alive(process)], "processes outlived the packing"


def test_the_command_killed_with_its_processes_at_work_goes_on(
    videos: Path, reference: dict[str, bytes], tmp_path: Path
) -> None:
    out, journal = tmp_path / "out", tmp_path / "out" / "journal.jsonl"
    rng = random.Random(7)
    kills = 0
    for _ in range(3):
        lines = _lines(journal)
        process = subprocess.Popen(_command(videos, out), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while process.poll() is None and _lines(journal) < lines + 2:  # the header is one, in the first run
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 0.1))
        workers = _descendants(process.pid)
        if process.poll() is not None or not workers:  # it was at its end
            process.wait()
            break
        # What has a name there would stay, were all of them killed: a resource tracker is one of them.
        assert not [line for one in {process.pid, *workers} for line in _named(one)]
        process.kill()
        process.wait()
        kills += 1
        _assert_that_what_is_listed_is_complete(out)
        _assert_that_they_end(workers)
    assert kills
    subprocess.run(_command(videos, out), check=True, capture_output=True)
    assert content(out) == reference


def test_interrupted_from_the_keyboard_it_ends_at_once_and_keeps_what_it_has(
    videos: Path, reference: dict[str, bytes], tmp_path: Path
) -> None:
    for attempt in range(20):  # on a busy machine it may have ended before it is seen at work
        out = tmp_path / str(attempt)
        command = _command(videos, out)
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, preexec_fn=_hear_interrupts)
        while process.poll() is None and _lines(out / "journal.jsonl") < 3:
            time.sleep(0.01)
        workers = _descendants(process.pid)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
        if workers and not (out / "manifest.json").exists():
            break
    assert process.returncode != 0
    assert "Traceback" not in errors
    _assert_that_they_end(workers)
    assert not (out / "manifest.json").exists()
    subprocess.run(_command(videos, out), check=True, capture_output=True)
    assert content(out) == reference


def test_an_interrupt_while_the_journal_is_written_leaves_no_line_there_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(file: int) -> None:
        raise KeyboardInterrupt

    event = Rejection(Source("/a.mp4", "/a.mp4", None, 1, 1), Reason.SILENT, "-90 dBFS")
    with Journal(tmp_path, SETTINGS, shard_bytes=SHARD_BYTES) as journal:
        journal.append(event)
        with monkeypatch.context() as patch:
            patch.setattr("shards.journal.os.fsync", interrupted)
            with pytest.raises(KeyboardInterrupt):
                journal.flush()
        journal.flush()  # what `pack` does before it ends
        assert list(read_events(tmp_path / JOURNAL)) == [event]


def test_a_full_disk_is_a_clean_error_and_more_room_is_enough_to_go_on(
    videos: Path, reference: dict[str, bytes], tmp_path: Path
) -> None:
    def full() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, 400_000))

    failed = subprocess.run(
        _command(videos, tmp_path / "out"), capture_output=True, text=True, check=False, preexec_fn=full
    )
    assert failed.returncode == 1
    last = failed.stderr.splitlines()[-1]
    assert last.startswith(f"avc pack: {tmp_path / 'out'}: File too large")
    assert "run the same command again" in last
    assert "Traceback" not in failed.stderr
    assert not (tmp_path / "out" / "manifest.json").exists()
    subprocess.run(_command(videos, tmp_path / "out"), check=True, capture_output=True)
    assert content(tmp_path / "out") == reference
