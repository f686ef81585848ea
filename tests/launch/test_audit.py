"""`avc audit sync` and `avc audit decoders`, as a user calls them."""

from __future__ import annotations

import json
import os
import signal
import time
from fractions import Fraction
from itertools import product
from pathlib import Path

import pytest

from launch.bench import conformance
from launch.bench.conformance import CASES, CUT_RATES, Case, measure
from launch.bench.decoders import DECODERS, Decoder
from launch.bench.flash_and_beep import film, render
from shards.format import Reason
from shards.journal import Rejection
from shards.sources import Source
from tests.command_line import avc
from tests.small_videos import render_video


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
        (["audit", "decoders", "--only", "vlc"], "no decoder is named so: avc pack, PyAV"),
    ],
)
def test_a_users_mistake_is_a_paragraph_and_status_2(arguments: list[str], words: str, tmp_path: Path) -> None:
    done = avc(*(argument.format(empty=tmp_path) for argument in arguments))
    assert (done.returncode, words in done.stderr) == (2, True), done.stderr


def test_packing_keeps_every_beep_at_its_flash_and_numbers_of_frames_and_samples_do_not() -> None:
    whole = [case for case in CASES if not case.joined]
    cases = [case for case in whole if case.container == "mkv" and case.rate != Fraction(25)] + [*whole[-2:]]
    assert [case for case in cases if case.gap != (0, 0)] and [case for case in cases if case.drift]
    chosen = [DECODERS["avc pack"], DECODERS["PyAV, frame and sample numbers"]]
    packing, numbers = measure(chosen, cases).scores
    assert packing.failures == {}
    assert packing.within == 1.0
    assert max(map(abs, packing.pairs)) < 0.005
    assert numbers.within < 0.5
    assert max(map(abs, numbers.pairs)) > 0.29  # sound that begins 0.3 s after the picture


def test_packing_keeps_every_beep_at_its_flash_in_files_that_were_joined_by_their_bytes() -> None:
    cases = [case for case in CASES if case.joined]
    packing, stamps = measure([DECODERS["avc pack"], DECODERS["PyAV, stamps"]], cases).scores
    assert {case.container for case in cases} == {"ts", "mpg", "webm", "mkv", "mp4"}
    assert packing.failures == {}
    assert (packing.within, packing.events) == (1.0, 7 * len(cases))
    assert stamps.within < 0.5  # its stamps put one part over the other


def test_packing_keeps_every_beep_at_its_flash_in_cuts_by_stream_copy_and_in_files_without_stamps() -> None:
    cases = [
        case for case in CASES if case.cut == Fraction(73, 100) or (case.container, case.video) == ("avi", "libx264")
    ]
    assert {(case.rate, case.reordered) for case in cases if case.cut} == set(product(CUT_RATES, (0, 2)))
    assert {case.reordered for case in cases if not case.cut} == {0, 1, 2, 3}
    packing, stamps = measure([DECODERS["avc pack"], DECODERS["PyAV, stamps"]], cases).scores
    assert packing.failures == {}
    assert packing.within == 1.0
    assert max(map(abs, packing.pairs)) < 0.005
    assert stamps.within < 0.5


def decode_badly(source: Source, *, decoder: str) -> Rejection:
    """Stands in for a decoder that crashes on one file and hangs on another."""
    if "002" in source.basename:
        os.kill(os.getpid(), signal.SIGSEGV)
    while "003" in source.basename:
        time.sleep(0.1)
    return Rejection(source, Reason.UNDECODABLE, "seven")


def test_a_decoder_that_crashes_or_hangs_costs_that_file_and_one_that_is_absent_is_listed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(conformance, "_decode", decode_badly)
    bad = Decoder("bad", "av", lambda path: pytest.fail(path), ("av",))
    absent = Decoder("absent", "av", lambda path: pytest.fail(path), ("no_such_module",))
    case = Case("mkv", "libx264", "libopus", 48_000, Fraction(25))
    result = measure([bad, absent], [case] * 3, time_limit_seconds=5)
    assert result.absent == {"absent": "no_such_module"}
    [score] = result.scores
    assert score.within == 0
    assert score.failures == {
        "001.mkv": "seven",
        "002.mkv": "its process ended with signal 11",
        "003.mkv": "no result within 5 s",
    }
    printed = conformance.report(result).plain()
    assert "absent: no no_such_module" in printed
    assert "0 of 3" in printed
