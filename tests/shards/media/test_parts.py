"""Files whose stamps start over, as those joined by their bytes: one part after the other, none over another."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from fractions import Fraction
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest

from shards.format import SAMPLE_RATE_HZ, TICKS_PER_SECOND, PackSettings
from shards.media import Clip, Rejected, read, read_sync
from shards.media.headers import find_headers
from shards.media.parts import FALL_SECONDS, PacketTable, find_joins
from shards.media.streams import stream_pictures, stream_sound
from tests.shards.rendering import luma_of
from workshop.decoders.conformance import FRAGMENTS
from workshop.decoders.decoders import beeps_in
from workshop.decoders.flash_and_beep import OTHER_EVENTS, Film, film, render, seen_in

FORMS = {
    "ts": ("libx264", "aac", 48_000),
    "mpg": ("mpeg2video", "mp2", 48_000),
    "vob": ("mpeg2video", "ac3", 48_000),
    "webm": ("libvpx", "libopus", 48_000),
    "mkv": ("libx264", "aac", 44_100),
    "mp4": ("libx264", "aac", 44_100),
    "mov": ("libx264", "pcm_s16le", 48_000),
    "flv": ("libx264", "aac", 44_100),
    "avi": ("mpeg4", "pcm_s16le", 48_000),
    "wmv": ("wmv2", "pcm_s16le", 48_000),
    "mxf": ("mpeg2video", "pcm_s16le", 48_000),
}
A, B = film(Fraction(25)), film(Fraction(25), about=OTHER_EVENTS)


def part(path: Path, shown: Film, *, sound: bool = True, **options) -> bytes:
    video, audio, rate = FORMS[path.suffix[1:]]
    arguments = {"video": video, "audio": audio if sound else None, "sound_rate": rate} | options
    return render(path, shown, **arguments).read_bytes()


def joined(path: Path, films: Sequence[Film], **options) -> Path:
    contents = [part(path.with_stem(f"part-{n}"), shown, **options) for n, shown in enumerate(films)]
    path.write_bytes(b"".join(contents))
    return path


def events_of(films: Sequence[Film]) -> list[float]:
    begins = np.cumsum([0.0, *(float(shown.ends) for shown in films)])
    return [float(begin) + time for begin, shown in zip(begins, films, strict=False) for time in shown.event_times]


def flashes_in(clip: Clip) -> list[float]:
    bright = [seen_in(luma_of(jpeg))[1] for jpeg in clip.pictures]
    return [tick / TICKS_PER_SECOND for tick in range(1, clip.ticks) if bright[tick] and not bright[tick - 1]]


def check(clip: Clip, events: Sequence[float], *, heard: Sequence[float] | None = None) -> None:
    """Every event is seen on the first tick at or after it and heard within 5 ms; those of `heard` alone, if given."""
    assert flashes_in(clip) == pytest.approx([math.ceil(time * 25 - 0.1) / 25 for time in events], abs=1e-6)
    beeps = beeps_in(clip.sound / 32768, rate_hz=SAMPLE_RATE_HZ)
    assert beeps == pytest.approx(list(events if heard is None else heard), abs=0.005)


@pytest.mark.parametrize("container", FORMS)
def test_each_part_of_a_joined_file_keeps_its_own_sound(container: str, tmp_path: Path) -> None:
    path = joined(tmp_path / f"joined.{container}", [A, B], options=FRAGMENTS if container == "mp4" else None)
    clip = read(path, PackSettings(side=48))
    check(clip, events_of([A, B]))
    assert clip.ticks == 130
    assert clip.source["parts"] == 2


def test_fragments_without_a_head_of_their_own_go_on_with_the_one_before(tmp_path: Path) -> None:
    whole = [part(tmp_path / f"{n}.mp4", shown, options=FRAGMENTS) for n, shown in enumerate((A, B, A))]
    fragments = [content[content.index(b"moof") - 4 :] for content in whole]
    path = tmp_path / "joined.mp4"
    path.write_bytes(whole[0] + fragments[1] + fragments[2])
    clip = read(path, PackSettings(side=48))
    check(clip, events_of([A, B, A]))
    assert clip.ticks == 195
    assert clip.source["parts"] == 3
    assert clip.source["video"]["decoded"] == 195


def test_whole_movies_that_were_joined_are_read_one_after_the_other(tmp_path: Path) -> None:
    clip = read(joined(tmp_path / "joined.mp4", [B, A, B]), PackSettings(side=48))
    check(clip, events_of([B, A, B]))
    assert clip.source["parts"] == 3


@pytest.mark.parametrize(
    "containers",
    [
        "ts mp4",
        "mkv mp4",
        "mp4 webm mkv",
        "mp4 ts avi",
        "mpg mkv",
        "flv avi",
        "avi flv",
        "mkv mpg",
        "ts flv ts",
        "ts mp4 ts",
    ]
    + [f"{first} {second}" for first, second in permutations(["flv", "wmv", "mpg", "ts"], 2)],
)
def test_parts_of_different_containers_are_read_one_after_the_other(containers: str, tmp_path: Path) -> None:
    names = containers.split()
    films = [A, B, A][: len(names)]
    path = tmp_path / "joined"
    path.write_bytes(b"".join(part(tmp_path / f"{n}.{names[n]}", shown) for n, shown in enumerate(films)))
    clip = read(path, PackSettings(side=48))
    check(clip, events_of(films))
    assert clip.source["parts"] == read_sync(path).parts == len(films)
    seconds = sum(len(sound) / rate for sound, rate in stream_sound(path))
    assert seconds == pytest.approx(float(sum(shown.ends for shown in films)), abs=0.1)


def test_a_header_inside_of_a_file_is_no_part_of_it(tmp_path: Path) -> None:
    inside = part(tmp_path / "a.mkv", A)
    mp4 = part(tmp_path / "a.mp4", A)
    box = (8 + len(inside)).to_bytes(4, "big") + b"free" + inside
    padding = bytes(10_000)
    assert find_headers(io.BytesIO(mp4 + box)) == find_headers(io.BytesIO(mp4 + padding)) == [0]
    assert find_headers(io.BytesIO(mp4 + padding + mp4)) == [0, len(mp4) + len(padding)]


@pytest.mark.parametrize("container", ["ts", "mpg", "webm", "mp4"])
@pytest.mark.parametrize("sought_from", [1, 1000])
def test_a_clip_that_starts_in_a_later_part_is_that_part(
    container: str, sought_from: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shards.media.SEEK_FROM_SECONDS", sought_from)
    path = joined(tmp_path / f"joined.{container}", [A, B, A])
    clip = read(path, PackSettings(side=48, start_seconds=3, seconds=4))
    check(clip, [time - 3 for time in events_of([A, B, A]) if 3 < time < 7])


def test_a_file_that_goes_on_is_one_part(tmp_path: Path) -> None:
    for container in FORMS:
        clip = read(render(tmp_path / f"film.{container}", A, **_form(container)), PackSettings(side=48))
        assert "parts" not in clip.source


def _form(container: str) -> dict[str, object]:
    return dict(zip(("video", "audio", "sound_rate"), FORMS[container], strict=True))


@pytest.mark.parametrize("container", ["mkv", "mp4", "mov"])
def test_a_part_of_other_rates_is_read_by_its_own(container: str, tmp_path: Path) -> None:
    other = film(Fraction(50), about=OTHER_EVENTS)
    path = tmp_path / f"joined.{container}"
    path.write_bytes(part(tmp_path / f"a.{container}", A) + part(tmp_path / f"b.{container}", other, sound_rate=32_000))
    check(read(path, PackSettings(side=48)), events_of([A, other]))


@pytest.mark.parametrize("offset", ["200", "50000"])
@pytest.mark.parametrize("order", [1, -1])
def test_a_transport_stream_may_leap_as_far_as_it_likes(offset: str, order: int, tmp_path: Path) -> None:
    parts = [
        part(tmp_path / "a.ts", A),
        part(tmp_path / "b.ts", B, options={"output_ts_offset": offset}),
    ]
    path = tmp_path / "joined.ts"
    path.write_bytes(b"".join(parts[::order]))
    check(read(path, PackSettings(side=48)), events_of([A, B][::order]))


@pytest.mark.parametrize("sought_from", [1, 1000])
@pytest.mark.parametrize("between", [0, 40_000])
def test_a_transport_stream_that_goes_on_as_other_streams_is_read_on(
    between: int, sought_from: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shards.media.SEEK_FROM_SECONDS", sought_from)
    filler = (b"\x47\x1f\xff\x10" + 184 * b"\xff") * between  # 7.5 MB: libav looks for streams in the first 5
    other = part(tmp_path / "b.ts", B, options={"mpegts_start_pid": "512"})
    path = tmp_path / "joined.ts"
    path.write_bytes(part(tmp_path / "a.ts", A) + filler + other)
    check(read(path, PackSettings(side=48)), events_of([A, B]))
    check(read(path, PackSettings(side=48, start_seconds=3)), [time - 3 for time in events_of([A, B]) if time > 3])
    assert read_sync(path).parts == 2


def test_pictures_of_a_part_without_sound_have_none_of_another_s(tmp_path: Path) -> None:
    silent = part(tmp_path / "silent.ts", B, sound=False)
    whole = part(tmp_path / "whole.ts", A)
    path = tmp_path / "joined.ts"
    for contents, films, places in (
        ((whole, silent), [A, B], [0]),
        ((silent, whole), [B, A], [1]),
        ((whole, silent, whole), [A, B, A], [0, 2]),
    ):
        path.write_bytes(b"".join(contents))
        heard = [2.6 * place + time for place in places for time in A.event_times]
        check(read(path, PackSettings(side=48)), events_of(films), heard=heard)


def test_a_clip_that_ends_inside_of_a_part_without_sound_has_none_of_the_next_one_s(tmp_path: Path) -> None:
    silent, whole = part(tmp_path / "silent.ts", B, sound=False), part(tmp_path / "whole.ts", A)
    (tmp_path / "joined.ts").write_bytes(silent + whole)
    with pytest.raises(Rejected, match="none of its sound falls into the clip"):
        read(tmp_path / "joined.ts", PackSettings(side=48, seconds=2.0))


def test_an_audit_counts_the_parts_and_finds_no_step_between_them(tmp_path: Path) -> None:
    for container in ("ts", "webm"):
        sync = read_sync(joined(tmp_path / f"joined.{container}", [A, B]))
        assert sync.parts == 2
        assert sync.pictures.count == 130
        assert not sync.pictures.variable_rate
        assert abs(sync.offset) < 0.05
        assert all(abs(gap.seconds) < 0.1 for gap in sync.sound.gaps)
        assert read_sync(tmp_path / f"part-0.{container}").parts == 1


@pytest.mark.parametrize("container", ["ts", "webm", "mkv"])
def test_a_joined_file_is_streamed_whole(container: str, tmp_path: Path) -> None:
    path = joined(tmp_path / f"joined.{container}", [A, B])
    pieces = list(stream_sound(path))
    sound, rate = np.concatenate([sound for sound, _ in pieces]), pieces[0][1]
    zero = beeps_in(sound, rate_hz=rate)[0] - A.event_times[0]  # sound may begin before the pictures
    assert 0 <= zero + 0.001 < 0.1
    assert beeps_in(sound, rate_hz=rate) == pytest.approx([zero + t for t in events_of([A, B])], abs=0.005)
    assert [number for number, _ in stream_pictures(path, hop=Fraction(1, 2), side=48)][-1] == 10


def stream(stamps: Sequence[float], *, lasts: float, first: int) -> PacketTable:
    """A stream of every second packet of a file, from its `first` on."""
    values = np.array(stamps, float)
    return PacketTable(np.arange(len(values)) * 2.0 + first, values, values, np.full(len(values), lasts))


LINE = np.arange(500) * 0.04


def test_wrong_stamps_are_no_new_part() -> None:
    fallen, risen, burst = LINE.copy(), LINE.copy(), LINE.copy()
    fallen[250] = 0
    risen[250] = 1e5
    burst[250:259] -= 5
    for wrong in (fallen, risen, burst):
        streams = {"video": stream(LINE, lasts=0.04, first=0), "audio": stream(wrong, lasts=0.04, first=1)}
        assert find_joins(streams, 10.0) == []
        assert find_joins({"audio": streams["audio"]}, math.inf) == []


def test_pictures_alone_do_not_make_a_part_and_sound_alone_does() -> None:
    again = LINE.copy()
    again[250:] -= 10
    steady = {"video": stream(LINE, lasts=0.04, first=0), "audio": stream(LINE, lasts=0.04, first=1)}
    assert find_joins(steady | {"video": stream(again, lasts=0.04, first=0)}, math.inf) == []
    assert find_joins(steady | {"audio": stream(again, lasts=0.04, first=1)}, math.inf) == [
        {"video": 251, "audio": 250}
    ]
    assert find_joins({"video": stream(again, lasts=0.04, first=0)}, math.inf) == [{"video": 250}]
    both = {"video": stream(again, lasts=0.04, first=0), "audio": stream(again, lasts=0.04, first=1)}
    assert find_joins(both, math.inf) == [{"video": 250, "audio": 250}]


@pytest.mark.parametrize("seconds", [0.9 * FALL_SECONDS, 1.1 * FALL_SECONDS])
def test_sound_may_overlap_by_a_second(seconds: float) -> None:
    overlapping = LINE.copy()
    overlapping[250:] -= seconds
    found = find_joins({"audio": stream(overlapping, lasts=0.04, first=0)}, math.inf)
    assert len(found) == (seconds > FALL_SECONDS)


def test_real_files_have_one_head(shared_data: Path) -> None:
    paths = [path for folder in ("videos", "odd", "esc10") for path in (shared_data / folder).rglob("*.*")]
    assert len(paths) > 500
    for path in paths:
        if path.is_file():
            with path.open("rb") as content:
                assert find_headers(content) == [0], path
