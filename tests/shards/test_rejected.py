"""What is not packed: listed with its reason, and no harm to the others."""

from __future__ import annotations

import os
import shutil
import signal
import time
from pathlib import Path

import pytest

from shards.format import PackSettings, Reason
from shards.journal import Rejection
from shards.pack import pack
from shards.record import Record, make_record
from shards.sources import Source
from shards.verify import verify
from tests.shards.packing import SETTINGS, outcome, packing_order
from tests.small_videos import render_folder, render_video


def test_every_rejected_input_is_listed_with_its_reason(tmp_path: Path) -> None:
    source = tmp_path / "in"
    source.mkdir()
    render_video(source / "good.mp4", seed=1)
    shutil.copy(source / "good.mp4", source / "same.mp4")
    render_video(source / "mute.mp4", seed=2, sound=False)
    render_video(source / "silent.mp4", seed=3, silent=True)
    render_video(source / "still.mp4", seed=4, still=True)
    render_video(source / "short.mp4", seed=5, seconds=0.5)
    (source / "README.txt").write_text("not a video")
    os.mkfifo(source / "pipe.mp4")
    (source / "tab\tand\nline.mp4").write_bytes(b"nothing to see")
    summary = pack([source], tmp_path / "out", SETTINGS, workers=2)
    first, second = (name for name in packing_order(source) if name in ("good.mp4", "same.mp4"))
    assert outcome(tmp_path / "out") == {
        first: "packed",
        second: "duplicate",
        "mute.mp4": "no audio stream",
        "silent.mp4": "silent",
        "still.mp4": "still picture",
        "short.mp4": "too short",
        "README.txt": "not a media file",
        "pipe.mp4": "unreadable file",
        "tab\tand\nline.mp4": "not a media file",
    }
    assert sum(summary.manifest.rejected.values()) == 8
    lines = (tmp_path / "out" / "rejected.tsv").read_text().splitlines()
    assert [line.split("\t")[1] for line in lines] == [
        outcome(tmp_path / "out")[name]
        for name in sorted(outcome(tmp_path / "out"))
        if outcome(tmp_path / "out")[name] != "packed"
    ]
    assert any("tab\\tand\\nline.mp4" in line for line in lines)
    kept = PackSettings(side=32, keep_silent=True, keep_still=True)
    summary = pack([source], tmp_path / "kept", kept, workers=2)
    assert sum(summary.manifest.packed.values()) == 3


def test_the_first_of_two_equal_files_is_the_one_that_is_packed(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    render_video(tmp_path / "in" / "b.mp4", seed=1)
    shutil.copy(tmp_path / "in" / "b.mp4", tmp_path / "in" / "a.mp4")
    pack([tmp_path / "in"], tmp_path / "out", SETTINGS, workers=2)
    first, second = packing_order(tmp_path / "in")
    assert outcome(tmp_path / "out") == {first: "packed", second: "duplicate"}
    while packing_order(tmp_path / "in")[0] == first:  # until there are copies that would come before it
        shutil.copy(tmp_path / "in" / "b.mp4", tmp_path / "in" / f"{len(os.listdir(tmp_path / 'in'))}.mp4")
    later = dict.fromkeys(packing_order(tmp_path / "in"), "duplicate")
    pack([tmp_path / "in"], tmp_path / "out", SETTINGS, workers=2)
    assert outcome(tmp_path / "out") == later | {first: "packed"}


def misbehave(source: Source, settings: PackSettings) -> Record | Rejection:
    """Stands in for `make_record` in the packing processes: some names crash or hang them."""
    if source.basename.startswith("segfault"):
        os.kill(os.getpid(), signal.SIGSEGV)
    if source.basename.startswith("exit"):
        os._exit(3)
    while source.basename.startswith("hang"):
        time.sleep(0.1)
    return make_record(source, settings)


def test_a_decoder_that_crashes_or_hangs_costs_that_video_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = render_folder(tmp_path / "in", videos=4)
    for seed, name in enumerate(("segfault", "exit", "hang")):
        render_video(source / f"{name}.mp4", seed=50 + seed)
    with monkeypatch.context() as patch:
        patch.setattr("shards.pack.make_record", misbehave)
        pack([source], tmp_path / "out", SETTINGS, workers=2, time_limit_seconds=5)
    found = outcome(tmp_path / "out")
    assert {name: found.pop(f"{name}.mp4") for name in ("segfault", "exit", "hang")} == {
        "segfault": "decoder crashed",
        "exit": "decoder crashed",
        "hang": "timed out",
    }
    assert set(found.values()) == {"packed"}
    assert verify(tmp_path / "out") == []
    # The failure lay outside of the content, so the next packing tries again.
    summary = pack([source], tmp_path / "out", SETTINGS, workers=2)
    assert (summary.done, summary.skipped) == (3, 4)
    assert summary.manifest.rejected == {}
    assert set(outcome(tmp_path / "out").values()) == {"packed"}
    assert verify(tmp_path / "out") == []


def test_an_unknown_failure_is_listed_as_undecodable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = render_video(tmp_path / "a.mp4", seed=1)
    source = Source(str(path), str(path), None, path.stat().st_size, 0)

    def broken(*_: object) -> None:
        raise ArithmeticError("seven")

    monkeypatch.setattr("shards.media.read", broken)
    result = make_record(source, SETTINGS)
    assert isinstance(result, Rejection)
    assert (result.reason, result.detail) == (Reason.UNDECODABLE, "ArithmeticError: seven")


def test_a_pipe_that_takes_the_place_of_a_listed_file_does_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.mp4")
    result = make_record(Source(str(tmp_path / "a.mp4"), str(tmp_path / "a.mp4"), None, 0, 0), SETTINGS)
    assert isinstance(result, Rejection)
    assert result.reason is Reason.UNREADABLE
