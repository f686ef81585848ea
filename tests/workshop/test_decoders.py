"""The decoders' suite: what it says of packing, of a loader of anyone's own, and of one that crashes."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from fractions import Fraction
from itertools import product
from pathlib import Path

import pytest

from shards.format import Reason
from shards.journal import Rejection
from shards.sources import Source
from workshop.decoders import conformance
from workshop.decoders.conformance import CASES, CUT_RATES, Case, measure
from workshop.decoders.decoders import DECODERS, Decoded, Decoder

ROOT = Path(__file__).resolve().parents[2]


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


def never(path: str) -> Decoded:
    pytest.fail(path)


def decode_badly(source: Source, *, decoder: Decoder) -> Rejection:
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
    bad = Decoder("bad", "av", never, ("av",))
    absent = Decoder("absent", "av", never, ("no_such_module",))
    case = Case("mkv", "libx264", "libopus", 48_000, Fraction(25))
    inside = Decoder("inside", "av", never, ("no_such_package.module",))
    result = measure([bad, absent, inside], [case] * 3, time_limit_seconds=5)
    assert result.absent == {"absent": "no_such_module", "inside": "no_such_package.module"}
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


LOADERS = """
from pathlib import Path

import numpy as np
import simplejpeg

from shards.format import PackSettings
from shards.media import read

def load(path):  # a frame for each 0.04 s, as packing has them
    clip = read(Path(path), PackSettings(side=48, keep_silent=True, keep_still=True))
    frames = np.stack([simplejpeg.decode_jpeg(picture) for picture in clip.pictures])
    return frames, np.arange(len(frames)) / 25, (clip.sound / 32768).astype(np.float32), 48_000, 0.0

def late_in_mkv(path):
    *media, begins = load(path)
    return *media, begins + 0.03 * path.endswith("mkv")

def stereo(path):
    frames, times, sound, *rest = load(path)
    return frames, times, np.stack([sound, sound]), *rest

nothing = None
"""


def suite(folder: Path, mine: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Every eighth file of the suite, by a loader of a module that stands in `folder`."""
    (folder / "my_loaders.py").write_text(LOADERS)
    [example] = re.findall(r"```python\n(.*?)```", (ROOT / "workshop" / "README.md").read_text(), flags=re.DOTALL)
    (folder / "documented.py").write_text(example)
    words = ("--quick", "--only", "sample numbers", "--fps", "25", "--mine", mine, *arguments)
    return subprocess.run(
        [sys.executable, "-m", "workshop.decoders", *words],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": f"{folder}:{ROOT}"},
        capture_output=True,
        text=True,
    )


def row(done: subprocess.CompletedProcess[str], name: str) -> str:
    [line] = [line for line in done.stdout.splitlines() if line.startswith(f"{name}  ")]
    return " ".join(line.split())


def test_a_good_loader_of_ones_own_has_a_row_beside_the_others_and_status_0(tmp_path: Path) -> None:
    done = suite(tmp_path, "my_loaders:load", "--json", str(tmp_path / "decoders.json"))
    assert done.returncode == 0, done.stderr
    cases = len(CASES[::8])
    assert f"{cases} of {cases}" in row(done, "my_loaders:load") and row(done, "my_loaders:load").endswith("100%")
    assert not row(done, "PyAV, frame and sample numbers").endswith("100%")
    mine, other = json.loads((tmp_path / "decoders.json").read_text())["result"]["scores"]
    assert (mine["decoder"], mine["files"], mine["apart"]) == ("my_loaders:load", cases, {})
    assert other["apart"]


def test_a_bad_loader_of_ones_own_is_named_with_its_files_and_status_1(tmp_path: Path) -> None:
    late = suite(tmp_path, "my_loaders:late_in_mkv")
    assert late.returncode == 1, late.stderr
    share = int(row(late, "my_loaders:late_in_mkv").split()[-1].rstrip("%"))
    assert 50 < share < 100
    [file] = re.findall(r"^my_loaders:late_in_mkv, (\S+): a beep \+3[01] ms from its flash$", late.stdout, flags=re.M)
    assert file.endswith(".mkv")
    assert late.stderr.endswith("% within 20 ms, and --at-least is 100 %\n")


def test_what_a_loader_returns_or_raises_amiss_is_named_and_counts_against_it(tmp_path: Path) -> None:
    done = suite(tmp_path, "my_loaders:stereo")
    assert (done.returncode, row(done, "my_loaders:stereo").endswith(" 0%")) == (1, True), done.stdout
    assert "my_loaders:stereo, 001.mp4: ValueError: sound is float32 (2, " in done.stdout


@pytest.mark.parametrize(
    ("mine", "words"),
    [
        ("my_loaders:nothing", "--mine is 'my_loaders:nothing', which is no function"),
        (
            "my_loaders:missing",
            "--mine is 'my_loaders:missing' and must be package.module:function: module 'my_loaders' has no",
        ),
        ("my_loaders:load:x", "--mine is 'my_loaders:load:x' and must be package.module:function"),
    ],
)
def test_a_mistake_in_the_name_of_a_loader_is_a_paragraph_and_status_2(tmp_path: Path, mine: str, words: str) -> None:
    done = suite(tmp_path, mine)
    assert (done.returncode, words in done.stderr) == (2, True), done.stderr


def test_the_suite_without_a_loader_of_ones_own_ends_well_whatever_it_finds_installed() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "workshop.decoders", "--quick", "--only", "Energon"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, row(done, "Energon, AVDecoder") != "") == (0, True), done.stderr


def test_frames_too_far_apart_for_a_flash_are_a_users_mistake(tmp_path: Path) -> None:
    done = suite(tmp_path, "my_loaders:load", "--fps", "8")
    assert (done.returncode, "--fps is 8, and a flash of 0.12 s would fall" in done.stderr) == (2, True), done.stderr


def test_the_loader_that_the_documents_show_is_as_wrong_as_they_say_and_may_be_allowed(tmp_path: Path) -> None:
    done = suite(tmp_path, "documented:load", "--at-least", "10")
    assert done.returncode == 0, done.stderr
    cases = len(CASES[::8])
    assert f"{cases} of {cases}" in row(done, "documented:load")
    assert "documented:load, 002.mp4: a beep +" in done.stdout
