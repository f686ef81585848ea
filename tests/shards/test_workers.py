"""The processes that read videos: what their script must have, and what they leave behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from multiprocessing.context import SpawnContext
from pathlib import Path

import pytest

from shards.workers import Lock
from tests.small_videos import render_folder


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return render_folder(tmp_path_factory.mktemp("videos"), videos=8)


def test_a_script_that_packs_without_a_guard_is_told_of_it_and_packs_with_one(videos: Path, tmp_path: Path) -> None:
    script, out = tmp_path / "script.py", tmp_path / "out"
    call = f"pack([{str(videos / 'video-00.mp4')!r}], {str(out)!r}, workers=2)"
    script.write_text(f"from shards.pack import pack\n{call}\n")
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert 'under `if __name__ == "__main__":`' in last and "end as they start" in last
    assert "at work in" not in done.stderr  # no worker has come as far as the folder
    script.write_text(f'from shards.pack import pack\nif __name__ == "__main__":\n    {call}\n')
    subprocess.run([sys.executable, str(script)], check=True, capture_output=True)
    assert (out / "manifest.json").is_file()


def mapped(process: int) -> dict[int, str]:
    """What a process, and each of those that it has started, has mapped into its memory."""
    found = {process: Path(f"/proc/{process}/maps").read_text()}
    for task in Path(f"/proc/{process}/task").glob("*/children"):
        for child in task.read_text().split():
            found |= mapped(int(child))
    return found


def test_a_packing_at_work_has_nothing_with_a_name_in_shared_memory(videos: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "launch.cli", "pack", str(videos), "--out", str(tmp_path), "--workers", "1"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        found: dict[int, str] = {}
        while not any("libavcodec" in maps for one, maps in found.items() if one != process.pid):  # it decodes
            assert process.poll() is None
            with suppress(OSError):  # one has just ended
                found = mapped(process.pid)
        os.killpg(process.pid, signal.SIGSTOP)
        found = mapped(process.pid)
        assert len(found) > 1
        assert [line for maps in found.values() for line in maps.splitlines() if "/dev/shm/sem." in line] == []
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _count(lock: Lock, path: Path, times: int) -> None:
    for _ in range(times):
        assert lock.acquire() and lock.acquire(timeout=1)
        path.write_text(str(int(path.read_text()) + 1))
        lock.release()
        assert path.read_text()
        lock.release()


def test_one_process_at_a_time_has_the_lock_however_often_it_takes_it(tmp_path: Path) -> None:
    context = SpawnContext()
    lock, path = Lock(context), tmp_path / "count"
    path.write_text("0")
    assert lock.acquire()
    processes = [context.Process(target=_count, args=(lock, path, 300)) for _ in range(3)]
    for process in processes:
        process.start()
    lock.release()
    _count(lock, path, 300)
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert path.read_text() == "1200"


def test_the_lock_is_waited_for_as_long_as_is_said() -> None:
    lock = Lock(SpawnContext())
    other = Lock.__new__(Lock)
    other.__setstate__(lock.__getstate__())  # as another process has it
    assert lock.acquire()
    began = time.monotonic()
    assert not other.acquire(block=False) and not other.acquire(timeout=0.2)
    assert 0.2 <= time.monotonic() - began < 5
    lock.release()
    assert other.acquire(block=False)
    assert not lock.acquire(block=False)
    other.release()
