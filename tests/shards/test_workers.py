"""The processes that read videos: what their script must have, and what they leave behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

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
