"""What is measured of sound beside pictures is what was rendered, and what other tools find in real files."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from struct import unpack_from

import av
import numpy as np
import pytest

from shards.media import Rejected, read_sync
from shards.media.container import open_container
from shards.sync import Sync
from tests.shards.awkward import BOXES_WITH_BOXES
from workshop.decoders.flash_and_beep import film, render

TOLERANCE = 0.005
FORMS = [
    ("mp4", "libx264", "libopus", 48_000),
    ("mov", "libx264", "pcm_s16le", 48_000),
    ("mkv", "libx264", "libopus", 48_000),
    ("webm", "libvpx", "libopus", 48_000),
]


@pytest.mark.parametrize("start", [Fraction(0), Fraction(3, 10), Fraction(-3, 10)])
@pytest.mark.parametrize(("container", "video", "audio", "rate"), FORMS)
def test_the_offset_is_the_rendered_one(
    container: str, video: str, audio: str, rate: int, start: Fraction, tmp_path: Path
) -> None:
    shown = film(Fraction(30000, 1001), sound_starts=start)
    path = render(tmp_path / f"film.{container}", shown, video=video, audio=audio, sound_rate=rate)
    sync = read_sync(path)
    assert abs(sync.offset - start) < TOLERANCE
    assert abs(sync.errors["start_ignored"].worst - start) < TOLERANCE
    assert abs(sync.packing.silence - max(0, start)) < TOLERANCE
    assert abs(sync.packing.cut - max(0, -start)) < TOLERANCE
    assert (sync.sound.gaps, sync.sound.drift, sync.pictures.variable_rate) == ([], 0, False)
    assert sync.pictures.count == len(shown.stamps)


@pytest.mark.parametrize("container", ["mp4", "mkv", "webm"])
def test_a_gap_is_found_where_it_is_and_as_long_as_it_is(container: str, tmp_path: Path) -> None:
    path = render(
        tmp_path / f"film.{container}",
        film(Fraction(25)),
        video="libvpx" if container == "webm" else "libx264",
        audio="libopus",
        gap=(1.25, 1.55),
    )
    sync = read_sync(path)
    [gap] = sync.sound.gaps
    assert abs(gap.seconds - 0.3) < TOLERANCE  # 15 packets of opus
    assert abs(gap.at - 1.25) < 0.02 + TOLERANCE  # the first packet that begins in it
    assert sync.sound.drift == 0
    assert abs(sync.errors["samples_counted"].worst - 0.3) < TOLERANCE
    assert sync.packing.silence < TOLERANCE


@pytest.mark.parametrize("drift", [Fraction(1, 100), Fraction(-1, 200)])
def test_drift_is_as_large_as_it_was_rendered(drift: Fraction, tmp_path: Path) -> None:
    shown = film(Fraction(25), seconds=4)
    sync = read_sync(render(tmp_path / "film.mkv", shown, audio="libopus", drift=drift))
    assert abs(sync.sound.drift - drift * 4) < TOLERANCE
    assert abs(sync.sound.drift_ppm / 1e6 - drift) < 0.0005
    assert sync.sound.gaps == []
    assert abs(sync.errors["samples_counted"].worst - drift * 4) < TOLERANCE
    assert abs(sync.errors["start_ignored"].worst) < TOLERANCE


def test_frame_numbers_err_by_what_the_stamps_of_a_variable_rate_depart_from_the_declared_one(tmp_path: Path) -> None:
    shown = film(None, sound_starts=Fraction(1, 5))
    path = render(tmp_path / "film.mov", shown, audio="pcm_s16le")
    with av.open(str(path)) as container:
        declared = float(container.streams.video[0].average_rate or 0)
    late = np.array([number / declared - float(stamp) for number, stamp in enumerate(shown.stamps)])
    sync = read_sync(path)
    assert sync.pictures.variable_rate
    assert sync.errors["constant_rate"].worst == pytest.approx(late[np.abs(late).argmax()], abs=0.001)
    assert sync.errors["constant_rate"].median == pytest.approx(np.median(np.abs(late)), abs=0.001)
    late += 0.2
    assert sync.errors["all_three"].worst == pytest.approx(late[np.abs(late).argmax()], abs=TOLERANCE)


def test_packing_s_frames_are_counted_as_packing_counts_them(tmp_path: Path) -> None:
    packing = read_sync(render(tmp_path / "film.mp4", film(Fraction(50), seconds=2))).packing
    assert (packing.ticks, packing.frames_left_out, packing.frames_repeated) == (50, 50, 0)
    packing = read_sync(render(tmp_path / "film.mp4", film(Fraction(25, 2), seconds=2))).packing
    assert (packing.ticks, packing.frames_left_out, packing.frames_repeated) == (50, 0, 25)
    assert not packing.too_short
    assert read_sync(render(tmp_path / "film.mp4", film(Fraction(25), seconds=0.8))).packing.too_short


def test_priming_and_edit_lists_are_those_that_the_encoder_wrote(tmp_path: Path) -> None:
    sync = read_sync(render(tmp_path / "film.mp4", film(Fraction(25)), sound_rate=44_100))
    assert sync.sound.left_out == pytest.approx(1024 / 44_100, abs=1e-4)  # of libav's aac encoder
    assert sync.edits is not None
    assert sync.edits.sound == pytest.approx(-1024 / 44_100, abs=1e-4)
    assert sync.edits.pictures == pytest.approx(-2 / 25, abs=1e-4)  # two frames wait for those that show before them
    assert sync.errors["edit_lists_ignored"].worst == pytest.approx(2 / 25 - 1024 / 44_100, abs=1e-4)


@pytest.mark.parametrize("seconds", [1.0, 2.0])
def test_the_beginning_of_a_file_is_measured_as_it_is_measured_within_the_whole(seconds: float, tmp_path: Path) -> None:
    path = render(tmp_path / "film.mkv", film(Fraction(25)), audio="libopus", gap=(0.5, 0.7))
    part, whole = read_sync(path, seconds=seconds), read_sync(path)
    assert (part.offset, part.sound.gaps) == (whole.offset, whole.sound.gaps)
    assert part.packing.ticks == seconds * 25


def boxes(mp4: bytes, *, above: tuple[bytes, ...] = ()) -> Iterator[tuple[tuple[bytes, ...], bytes]]:
    """Every box of a movie below its folders: the names down to it, and its content."""
    at = 0
    while at + 8 <= len(mp4):
        size, name = unpack_from(">I4s", mp4, at)
        head = 16 if size == 1 else 8
        size = unpack_from(">Q", mp4, at + 8)[0] if size == 1 else size or len(mp4) - at
        content = mp4[at + head : at + size]
        yield (*above, name), content
        if name in (*BOXES_WITH_BOXES, b"edts"):
            yield from boxes(content, above=(*above, name))
        at += max(size, 8)


def edits_in(mp4: bytes) -> dict[str, tuple[float, int]]:
    """By how much the edit lists move each kind of stream, seconds, and their number of edits; from the boxes alone."""
    found, movie, kind, lists, scale = {}, 1, "", [], 1
    for names, box in [*boxes(mp4), ((b"trak",), b"")]:
        long = box[:1] == b"\1"
        if names[-1] == b"trak":
            if kind and kind not in found and lists:
                empty = sum(lasts for lasts, at in lists if at == -1) / movie
                found[kind] = empty - next(at for _, at in lists if at != -1) / scale, len(lists)
            kind, lists = "", []
        elif names[-1] == b"mvhd":
            [movie] = unpack_from(">I", box, 20 if long else 12)
        elif names[-1] == b"mdhd":
            [scale] = unpack_from(">I", box, 20 if long else 12)
        elif names[-2:] == (b"mdia", b"hdlr"):
            kind = {b"vide": "video", b"soun": "audio"}.get(box[8:12], "")
        elif names[-1] == b"elst":
            [count] = unpack_from(">I", box, 4)
            lists = [unpack_from(">Qq" if long else ">Ii", box, 8 + n * (20 if long else 12)) for n in range(count)]
    return found


def first_stamps(path: Path) -> dict[str, float]:
    """The first frame of each kind that libav's decoders give, seconds; as it is, without any of our rules."""
    stamps = {}
    for kind in ("video", "audio"):
        with open_container(str(path)) as container:
            frame = next(container.decode(**{kind: 0}))
            assert frame.time is not None
            stamps[kind] = frame.time
    return stamps


def assert_stamps(sync: Sync, stamps: dict[str, float], name: str) -> None:
    assert sync.sound.first_stamp == pytest.approx(stamps["audio"], abs=0.001), name
    assert sync.pictures.start == pytest.approx(stamps["video"], abs=0.001), name
    # The first pieces of vorbis in webm are stamped up to 10 ms late; the others tell where it begins.
    tolerance = 0.015 if sync.sound.codec == "vorbis" else 0.001
    assert sync.offset == pytest.approx(stamps["audio"] - stamps["video"], abs=tolerance), name


def test_offsets_of_real_files_are_those_of_libav_s_first_frames(shared_data: Path) -> None:
    compared = 0
    for path in sorted((shared_data / "odd").iterdir())[::2] + sorted((shared_data / "videos").iterdir())[::12]:
        try:
            sync = read_sync(path, seconds=1)
        except Rejected:
            continue
        if not sync.packing.edit_list_ignored:
            assert_stamps(sync, first_stamps(path), path.name)
            compared += 1
    assert compared > 25


def test_edit_lists_of_real_files_are_those_that_their_boxes_hold(shared_data: Path) -> None:
    compared = 0
    for path in sorted((shared_data / "videos").glob("*.mp4"))[::6]:
        lists = edits_in(path.read_bytes())
        edits = read_sync(path, seconds=1).edits
        for kind, found in (("video", edits and edits.pictures), ("audio", edits and edits.sound)):
            moved, count = lists.get(kind, (0.0, 0))
            if count < 3:
                assert (found or 0.0) == pytest.approx(moved, abs=0.001), (path.name, kind)
                compared += 1
    assert compared > 15


@pytest.mark.skipif(shutil.which("ffprobe") is None, reason="ffprobe is not on this machine")
def test_offsets_of_real_files_are_those_of_ffprobe(shared_data: Path) -> None:
    for path in sorted((shared_data / "videos").iterdir())[::20]:
        stamps = {}
        for kind in ("video", "audio"):
            shown = ["-select_streams", f"{kind[0]}:0", "-show_entries", "frame=pts_time", "-read_intervals", "%+#9"]
            asked = ["ffprobe", "-v", "error", *shown, "-of", "json", path]
            answer = subprocess.run(asked, capture_output=True, check=True).stdout
            stamps[kind] = float(json.loads(answer)["frames"][0]["pts_time"])
        assert_stamps(read_sync(path, seconds=1), stamps, path.name)
