"""Edit lists of mp4 and QuickTime files: pictures and sound of each part are shown and heard when the list says so."""

from __future__ import annotations

import io
import struct
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from shards.format import SAMPLE_RATE_HZ, TICKS_PER_SECOND, PackSettings
from shards.media import Clip, Rejected, read, read_sync
from shards.media.container import File
from shards.media.edits import MAX_BOXES, parse_edits
from shards.media.streams import stream_pictures, stream_sound
from tests.shards.rendering import luma_of, moving, write
from workshop.decoders.flash_and_beep import Film, chirp, cut_by_copy, delay_of_chirp, film, render, seen_in

SMALL = PackSettings(side=48, keep_still=True)
Part = tuple[Fraction, Fraction | None]  # seconds, and from where in the track on; None for nothing
NTSC = Fraction(30000, 1001)
INSIDE = Fraction(731, 1000)  # in the midst of a picture at each of the rates


def with_edits(
    mp4: bytes, parts: list[Part], *, kinds: tuple[bytes, ...] = (b"vide", b"soun"), clock: int = 0
) -> bytes:
    """The same movie, its tracks of some kinds shown in parts. Its index has to be behind its media.

    clock: units of the parts' lengths in a second, as the movie's own header says.
    """
    out, at = b"", 0
    while at < len(mp4):
        size, name = struct.unpack_from(">I4s", mp4, at)
        inner = mp4[at + 8 : at + size]
        at += size
        if name == b"moov":
            [clock] = struct.unpack_from(">I", inner, inner.index(b"mvhd") + 16)
            inner = with_edits(inner, parts, kinds=kinds, clock=clock)
        elif name == b"trak" and inner[inner.index(b"hdlr") + 12 :][:4] in kinds:
            [scale] = struct.unpack_from(">I", inner, inner.index(b"mdhd") + 16)
            [zero] = struct.unpack_from(">i", inner, inner.index(b"elst") + 16)
            begins = [-1 if media is None else zero + round(media * scale) for _, media in parts]
            entries = (
                struct.pack(">IiI", round(clock * seconds), begin, 1 << 16)
                for (seconds, _), begin in zip(parts, begins, strict=True)
            )
            content = struct.pack(">II", 0, len(parts)) + b"".join(entries)
            content = struct.pack(">I4sI4s", 16 + len(content), b"edts", 8 + len(content), b"elst") + content
            old = inner.index(b"edts") - 4
            inner = inner[:old] + content + inner[old + struct.unpack_from(">I", inner, old)[0] :]
        out += struct.pack(">I4s", 8 + len(inner), name) + inner
    return out


def check(clip: Clip, shown: Film, parts: list[Part]) -> None:
    """At each tick the picture, and each chirp in its place, of the part that is due then."""
    begins = parts[0][0] if parts[0][1] is None else Fraction(0)  # the first picture is time zero
    at, ticks, chirps = -begins, 0, 0
    for seconds, media in parts:
        if media is not None:
            for tick in range(clip.ticks):
                into = Fraction(tick, TICKS_PER_SECOND) - at
                if 0 <= into < seconds - Fraction(1, 500):
                    assert seen_in(luma_of(clip.pictures[tick]))[0] == shown.number_at(media + into) % 256, tick
                    ticks += 1
            for event in shown.event_times:
                if media < event < media + seconds - Fraction(1, 10):
                    due = float(event - media + at)
                    assert abs(delay_of_chirp(clip.sound / 32768, event=due, rate=SAMPLE_RATE_HZ)) < 0.005
                    chirps += 1
        at += seconds
    assert ticks >= clip.ticks - 10
    assert chirps >= 2


@pytest.mark.parametrize("rate", [Fraction(10), Fraction(25), NTSC])
@pytest.mark.parametrize("reordered", [0, 2])
@pytest.mark.parametrize("at", [Fraction(7, 10), INSIDE, Fraction(85, 100)])
def test_a_cut_by_stream_copy_keeps_sound_and_pictures_together(
    rate: Fraction, reordered: int, at: Fraction, tmp_path: Path
) -> None:
    shown = film(rate)
    whole = render(tmp_path / "whole.mp4", shown, reordered=reordered)
    clip = read(cut_by_copy(whole, tmp_path / "cut.mp4", at=at), SMALL)
    check(clip, shown, [(shown.ends - at, at)])
    assert clip.sound_from == 0


@pytest.mark.parametrize(
    ("container", "audio"), [("mp4", "aac"), ("mov", "pcm_s16le"), ("mp4", "libopus"), ("3gp", "aac")]
)
@pytest.mark.parametrize(
    "parts",
    [
        [(Fraction(2), INSIDE - Fraction(4, 10))],
        [(Fraction(2, 5), None), (Fraction(18, 10), INSIDE - Fraction(4, 10))],
        [(Fraction(91, 100), Fraction(31, 100)), (Fraction(1), Fraction(145, 100))],
        [(Fraction(91, 100), Fraction(31, 100)), (Fraction(1, 5), None), (Fraction(1), Fraction(145, 100))],
        [(Fraction(8, 10), Fraction(1, 10)), (Fraction(8, 10), Fraction(1, 10)), (Fraction(1), Fraction(145, 100))],
        [(Fraction(91, 100), Fraction(93, 100)), (Fraction(91, 100), Fraction(31, 100))],
    ],
    ids=["one", "late", "two", "two apart", "repeated", "backwards"],
)
def test_parts_are_shown_and_heard_from_the_moments_on_that_the_list_says(
    container: str, audio: str, parts: list[Part], tmp_path: Path
) -> None:
    shown = film(Fraction(25))
    path = render(tmp_path / f"film.{container}", shown, audio=audio)
    clip = read(io.BytesIO(with_edits(path.read_bytes(), parts)), SMALL)
    check(clip, shown, parts)


@pytest.mark.parametrize(
    ("parts", "due"),
    [
        # Chirps at 0.52, 1.16, 1.64 and 2.32 s.
        ([(Fraction(8, 10), Fraction(0)), (Fraction(16, 10), Fraction(93, 100))], [0.52, 1.03, 1.51, 2.19]),
        (
            [(Fraction(8, 10), Fraction(0)), (Fraction(9, 10), None), (Fraction(1), Fraction(93, 100))],
            [0.52, 1.93, 2.41],
        ),
        ([(Fraction(8, 10), Fraction(0)), (Fraction(8, 10), Fraction(0))], [0.52, 1.32]),
        ([(Fraction(9, 10), Fraction(93, 100)), (Fraction(9, 10), Fraction(3, 100))], [0.23, 0.71, 1.39]),
        ([(Fraction(7, 10), None), (Fraction(0), Fraction(0))], [1.22, 1.86, 2.34, 3.02]),
    ],
    ids=["two", "two apart", "repeated", "backwards", "to the end"],
)
def test_each_sound_of_a_list_is_where_the_list_puts_it_and_nowhere_else(
    parts: list[Part], due: list[float], tmp_path: Path
) -> None:
    path = render(tmp_path / "film.mp4", film(Fraction(25)), audio="alac")  # pieces of 85 ms
    path.write_bytes(with_edits(path.read_bytes(), parts, kinds=(b"soun",)))
    sound, rates = zip(*stream_sound(path), strict=True)
    heard = np.concatenate(sound)
    assert max(abs(delay_of_chirp(heard, event=time, rate=rates[0])) for time in due) < 0.001
    strongest = np.correlate(heard, chirp(rates[0]), mode="valid")
    loud = np.flatnonzero(strongest > strongest.max() / 2) / rates[0]
    assert np.count_nonzero(np.diff(loud) > 0.1) + 1 == len(due)
    clip = read(path, SMALL)
    shown = [time for time in due if time < clip.sound_to / SAMPLE_RATE_HZ - 0.1]
    assert shown
    assert max(abs(delay_of_chirp(clip.sound / 32768, event=time, rate=SAMPLE_RATE_HZ)) for time in shown) < 0.001
    assert max(0, read_sync(path).offset) == pytest.approx(clip.sound_from / SAMPLE_RATE_HZ, abs=0.001)


def test_pictures_end_where_the_list_ends_them(tmp_path: Path) -> None:
    path = render(tmp_path / "film.mp4", film(Fraction(5)))
    parts: list[Part] = [(Fraction(197, 100), Fraction(3, 10))]
    clip = read(io.BytesIO(with_edits(path.read_bytes(), parts, kinds=(b"vide",))), SMALL)
    assert clip.ticks == 50  # the picture of 2.2 s is on show from 1.9 s up to 1.97 s, sound goes on to 2.6 s


def test_a_later_start_and_a_far_edit_are_reached(tmp_path: Path) -> None:
    shown = film(Fraction(25), seconds=27)
    path = render(tmp_path / "film.mp4", shown)
    path.write_bytes(with_edits(path.read_bytes(), [(Fraction(3), Fraction(2331, 100))]))
    check(read(path, SMALL), shown, [(Fraction(3), Fraction(2331, 100))])
    later = read(path, PackSettings(side=48, keep_still=True, start_seconds=0.5))
    check(later, shown, [(Fraction(5, 2), Fraction(2381, 100))])


def test_a_start_beyond_an_edit_s_beginning_is_sought_on_the_list_s_time_line(tmp_path: Path) -> None:
    shown = film(Fraction(25), seconds=27)
    path = render(tmp_path / "film.mp4", shown)
    path.write_bytes(with_edits(path.read_bytes(), [(Fraction(25), Fraction(131, 100))]))
    clip = read(path, PackSettings(side=48, keep_still=True, start_seconds=22.5, seconds=2))
    check(clip, shown, [(Fraction(2), Fraction(2381, 100))])


def test_the_audit_says_by_how_much_pipelines_err_that_begin_with_the_first_whole_picture(tmp_path: Path) -> None:
    whole = render(tmp_path / "whole.mp4", film(Fraction(25)))
    sync = read_sync(cut_by_copy(whole, tmp_path / "cut.mp4", at=Fraction(73, 100)))
    assert sync.offset == pytest.approx(0, abs=0.001)
    assert sync.errors["start_ignored"].worst == pytest.approx(-0.03, abs=0.001)  # picture 19 is due at 0.76 s
    assert sync.edits is not None
    assert sync.edits.pictures == pytest.approx(-0.81, abs=0.001)  # two frames wait for those that show before them
    assert not sync.pictures.variable_rate
    assert sync.pictures.fps == pytest.approx(25)
    assert sync.packing.ticks == 47


def test_a_file_read_piece_by_piece_lies_on_the_same_time_line(tmp_path: Path) -> None:
    shown, at = film(Fraction(25)), INSIDE
    cut = cut_by_copy(render(tmp_path / "whole.mp4", shown), tmp_path / "cut.mp4", at=at)
    pictures = dict(stream_pictures(cut, hop=Fraction(1, 25), side=48))
    for number, picture in pictures.items():
        assert seen_in(luma_of(picture))[0] == shown.number_at(at + Fraction(number, 25)) % 256
    [(sound, rate)] = stream_sound(cut)
    due = [time - float(at) for time in shown.event_times if time > at]
    assert max(abs(delay_of_chirp(sound, event=time, rate=rate)) for time in due) < 0.002


def with_speed(movie: bytes, speed: int, *, entries: Sequence[int], tracks: int = 2) -> bytes:
    """The same movie where some entries of the lists of its first tracks have another speed, in 1/65536."""
    changed, at = bytearray(movie), -1
    for _ in range(tracks):
        at = movie.index(b"elst", at + 1)
        for entry in entries:
            struct.pack_into(">I", changed, at + 12 + 12 * entry + 8, speed)
    return bytes(changed)


def test_a_picture_that_a_list_holds_is_shown_for_that_time_and_nothing_heard(tmp_path: Path) -> None:
    shown = film(Fraction(25))
    mp4 = render(tmp_path / "film.mp4", shown).read_bytes()
    played = [(Fraction(1), Fraction(0)), (Fraction(6, 10), INSIDE), (Fraction(1), Fraction(145, 100))]
    held = io.BytesIO(with_speed(with_edits(mp4, played), 0, entries=[1]))
    for start, from_tick in ((0, 0), (1.2, 30)):
        clip = read(held, replace(SMALL, start_seconds=start))
        numbers = [seen_in(luma_of(picture))[0] for picture in clip.pictures]
        assert numbers[: 40 - from_tick] == [*range(25), *[int(INSIDE * 25)] * 15][from_tick:]
        assert numbers[40 - from_tick :][1:] == list(range(37, 37 + len(numbers) - 40 + from_tick - 1))
        sound = clip.sound / 32768
        assert abs(delay_of_chirp(sound, event=1.6 + 1.64 - 1.45 - start, rate=SAMPLE_RATE_HZ)) < 0.005
        assert not sound[round((1.1 - min(start, 1)) * SAMPLE_RATE_HZ) : round((1.5 - start) * SAMPLE_RATE_HZ)].any()


def test_a_list_that_holds_each_picture_for_seconds_is_obeyed(tmp_path: Path) -> None:
    mp4 = render(tmp_path / "film.mp4", film(Fraction(25))).read_bytes()
    slides = [(Fraction(3), Fraction(2 * number + 1, 50)) for number in range(0, 60, 20)]
    clip = read(io.BytesIO(with_speed(with_edits(mp4, slides), 0, entries=range(3), tracks=1)), SMALL)
    assert [seen_in(luma_of(picture))[0] for picture in clip.pictures] == [0] * 75 + [20] * 75 + [40] * 75
    assert not clip.source["video"]["edit_list_ignored"]


def test_a_part_of_another_speed_is_named(tmp_path: Path) -> None:
    mp4 = render(tmp_path / "film.mp4", film(Fraction(25))).read_bytes()
    slow = with_speed(with_edits(mp4, [(Fraction(1), Fraction(0))]), 1 << 15, entries=[0])
    for reader in (lambda: read(io.BytesIO(slow), SMALL), lambda: list(stream_sound(io.BytesIO(slow)))):
        with pytest.raises(Rejected, match=r"its edit list plays a part at 0\.5 of its speed"):
            reader()


@pytest.mark.parametrize("flaw", ["cut short", "a box larger than the file", "boxes without end", "no film"])
def test_broken_boxes_are_no_edits(flaw: str, tmp_path: Path) -> None:
    mp4 = render(tmp_path / "film.mp4", film(Fraction(25))).read_bytes()
    at = mp4.index(b"moov") - 4
    content = {
        "cut short": mp4[: mp4.index(b"elst") + 10],
        "a box larger than the file": mp4[:at] + b"\x7f\xff\xff\xff" + mp4[at + 4 :],
        "boxes without end": struct.pack(">I4s", 8, b"free") * (MAX_BOXES + 1) + mp4,
        "no film": b"no film",
    }[flaw]
    assert parse_edits(io.BytesIO(mp4), track=1, unit=Fraction(1, 12800))
    assert parse_edits(io.BytesIO(content), track=1, unit=Fraction(1, 12800)) == []


def test_a_fragmented_movie_obeys_its_list(tmp_path: Path) -> None:
    shown = film(Fraction(25))
    whole = render(tmp_path / "whole.mp4", shown)
    options = {"movflags": "frag_keyframe+delay_moov"}
    cut = cut_by_copy(whole, tmp_path / "cut.mp4", at=INSIDE, options=options)
    assert {b"moof", b"elst"} <= {cut.read_bytes()[at : at + 4] for at in range(cut.stat().st_size)}
    check(read(cut, SMALL), shown, [(shown.ends - INSIDE, INSIDE)])


def test_edits_that_begin_inside_a_picture_of_real_files_move_its_sound(shared_data: Path) -> None:
    for name, late in (("013_4.mp4", 0.0365), ("014_5.mp4", 0.0341)):
        sync = read_sync(shared_data / "videos" / name)
        assert sync.errors["start_ignored"].worst == pytest.approx(-late, abs=0.0001)
        assert sync.offset == pytest.approx(0, abs=0.0001)
        assert read(shared_data / "videos" / name, PackSettings()).ticks == sync.packing.ticks


def test_two_containers_of_one_file_are_read_side_by_side(tmp_path: Path) -> None:
    with render(tmp_path / "film.mp4", film(Fraction(25), seconds=20)).open("rb") as content:
        file = File(content)
        with file.open() as pictures, file.open() as sound:
            pairs = zip(pictures.decode(video=0), sound.decode(audio=0), strict=False)
            stamps = [(picture.pts, heard.pts) for picture, heard in pairs]
    assert stamps == [(512 * number, 1024 * number) for number in range(500)]


def test_tracks_without_a_list_have_no_edits(tmp_path: Path) -> None:
    path = write(tmp_path / "film.mkv", moving())
    assert parse_edits(io.BytesIO(path.read_bytes()), track=1, unit=Fraction(1, 1000)) == []
