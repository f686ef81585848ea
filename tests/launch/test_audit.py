"""`avc audit sync`, as a user calls it."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import pytest

from tests.command_line import avc
from tests.small_videos import render_video
from workshop.decoders.flash_and_beep import film, render


def test_audit_sync_measures_what_can_be_read_and_names_the_rest(tmp_path: Path) -> None:
    videos = tmp_path / "videos"
    videos.mkdir()
    render(videos / "late.mkv", film(Fraction(25), sound_starts=Fraction(3, 10)), audio="libopus")
    render_video(videos / "mute.mp4", seed=1, sound=False)
    (videos / "text.mp4").write_text("no video at all")
    (videos / "twice.mkv").write_bytes((videos / "late.mkv").read_bytes() * 2)
    (videos / "short.mp4").write_bytes(render_video(tmp_path / "whole.mp4", seed=2).read_bytes()[:3000])
    done = avc("audit", "sync", videos, "--workers", 1, "--json", tmp_path / "sync.json")
    assert done.returncode == 0, done.stderr
    words = " ".join(done.stdout.replace("│", " ").split())
    assert "300 ms of silence first" in words
    assert "rejected: 3" in done.stdout
    assert "mute.mp4: no audio stream" in done.stdout
    found = json.loads((tmp_path / "sync.json").read_text())
    late, twice = sorted(found["files"], key=lambda each: each["file"])
    assert (late["parts"], twice["parts"]) == (1, 2)
    assert "puts 2 parts, whose stamps start over, one after the other" in words
    assert late["file"] == str(videos / "late.mkv")
    assert abs(late["offset"] - 0.3) < 0.005
    assert abs(late["errors"]["all_three"]["worst"] - 0.3) < 0.005
    assert {Path(each["file"]).name: each["reason"] for each in found["rejected"]} == {
        "mute.mp4": "no audio stream",
        "short.mp4": "undecodable",
        "text.mp4": "not a media file",
    }


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["audit", "sync", "/nowhere"], "/nowhere does not exist"),
        (["audit", "sync", "{empty}"], "there are no files in"),
        (["audit", "sync", "{empty}", "--workers", "0"], "workers must be at least 1, not 0"),
    ],
)
def test_a_users_mistake_is_a_paragraph_and_status_2(arguments: list[str], words: str, tmp_path: Path) -> None:
    done = avc(*(argument.format(empty=tmp_path) for argument in arguments))
    assert (done.returncode, words in done.stderr) == (2, True), done.stderr
