"""`avc audit set`: planted faults of each kind are found, and nothing else is said of what has none."""

from __future__ import annotations

import json
import os
import re
import subprocess
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from shards.read import Shards
from tests.command_line import avc
from tests.docs.blocks import ROOT

RATE, FPS = 44_100, 25


def scene(seed: int, seconds: float = 4.0, *, side: int = 160) -> np.ndarray:
    """uint8 (T, H, W, 3): a blurred pattern of its own under a bright disk that moves."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(40, 200, (6, 8, 3)).repeat(side // 6 + 1, 0).repeat(side // 6 + 1, 1)[:side, : side * 4 // 3]
    rows, columns = np.mgrid[:side, : side * 4 // 3]
    frames = []
    for number in range(round(seconds * FPS)):
        x, y = (0.5 + 0.4 * np.sin(number / FPS * rng_speed + seed) for rng_speed in (1 + seed % 3, 2))
        disk = (rows - side * y) ** 2 + (columns - side * 4 / 3 * x) ** 2 < (side / 6) ** 2
        frames.append(np.where(disk[..., None], 255 - coarse // 2, coarse))
    return np.stack(frames).astype(np.uint8)


def noise(seed: int, seconds: float = 4.0) -> np.ndarray:
    """int16 (2, samples): noise whose color and level change ten times a second, two channels of it."""
    rng = np.random.default_rng(seed)
    count = round(seconds * RATE)
    white = rng.normal(0, 1, (2, count))
    levels = rng.uniform(0.1, 1, round(seconds * 10)).repeat(RATE // 10)[:count]
    colored = np.cumsum(white, axis=1)
    colored = colored - np.stack([np.convolve(row, np.ones(64) / 64, "same") for row in colored])
    mix = rng.uniform(0, 1, round(seconds * 10)).repeat(RATE // 10)[:count]
    return ((mix * white + (1 - mix) * colored) * levels * 2500).clip(-30_000, 30_000).astype(np.int16)


def panned(seed: int, seconds: float = 4.0) -> np.ndarray:
    """uint8 (T, H, W, 3): a blurred pattern that a camera pans over."""
    rng = np.random.default_rng(seed)
    wide = np.kron(rng.integers(20, 230, (8, 60)), np.ones((20, 20))).astype(np.uint8)
    return np.stack([wide[:, 6 * n : 6 * n + 212] for n in range(round(seconds * FPS))])[..., None].repeat(3, 3)


def write(path: Path, frames: np.ndarray, sound: np.ndarray, *, codec: str = "mpeg4", heard: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        video = container.add_stream(codec, rate=FPS, bit_rate=1_500_000)
        video.height, video.width, video.pix_fmt = frames.shape[1] // 2 * 2, frames.shape[2] // 2 * 2, "yuv420p"
        heard = heard or ("flac" if path.suffix == ".mkv" else "aac")
        rate = 48_000 if heard == "libopus" else RATE
        audio = container.add_stream(heard, rate=rate, layout="stereo")
        for number, picture in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, FPS)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(sound.T.reshape(1, -1)), format="s16", layout="stereo")
        frame.sample_rate, frame.pts, frame.time_base = RATE, 0, Fraction(1, RATE)
        for piece in av.AudioResampler(audio.format, audio.layout, rate).resample(frame):
            container.mux(audio.encode(piece))
        container.mux(audio.encode(None))
    return path


def audit(*arguments: Any, tmp_path: Path) -> dict[str, dict[str, list[dict[str, Any]]]]:
    """Faults by the stem of the file and by their kind."""
    done = avc("audit", "set", *arguments, "--json", tmp_path / "set.json", "--out", tmp_path / "page", "--workers", 2)
    assert done.returncode == 0, done.stderr
    found: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for file in json.loads((tmp_path / "set.json").read_text())["files"]:
        kinds = found.setdefault(Path(file["file"].split(" (")[-1].rstrip(")")).stem, {})
        for fault in file["faults"]:
            kinds.setdefault(fault["kind"], []).append(fault)
    return found


def resampled(sound: np.ndarray, *, through: int) -> np.ndarray:
    """What is left of sound that was once at another rate."""
    spectrum = np.fft.rfft(sound)
    spectrum[:, np.fft.rfftfreq(sound.shape[1], 1 / RATE) > through / 2 * 0.98] = 0
    return np.fft.irfft(spectrum, sound.shape[1]).astype(np.int16)


def straight(sound: np.ndarray, *, through: int) -> np.ndarray:
    """The same sound at another rate, and back by straight lines."""
    times, taken = np.arange(sound.shape[1]) / RATE, np.arange(sound.shape[1] * through // RATE) / through
    kept = resampled(sound, through=through)
    return np.stack([np.interp(times, taken, np.interp(taken, times, row)) for row in kept]).astype(np.int16)


def test_a_fault_of_each_kind_is_found_and_nothing_in_what_has_none(tmp_path: Path) -> None:
    videos = tmp_path / "videos"
    for seed in range(4):
        write(videos / f"plain-{seed}.mp4", scene(seed), noise(seed))
    write(videos / "still.mp4", scene(10)[:1].repeat(100, 0), noise(10))
    half = scene(11)
    half[40:] = half[40]
    write(videos / "half-still.mp4", half, noise(11))
    slides = np.concatenate([scene(seed)[:1].repeat(34, 0) for seed in (12, 13, 14)])[:100]
    write(videos / "slides.mp4", slides, noise(12))
    write(videos / "silent.mp4", scene(15), noise(15) // 20_000)
    write(videos / "borders.mp4", np.pad(scene(16), ((0, 0), (20, 20), (0, 0), (0, 0))), noise(16))
    write(videos / "upsampled.mp4", scene(17), resampled(noise(17), through=16_000))
    write(videos / "mono.mkv", scene(18), noise(18)[:1].repeat(2, 0))
    write(videos / "clipped.mp4", scene(19), (noise(19).astype(int) * 30).clip(-32768, 32767).astype(np.int16))
    write(videos / "panned.mp4", panned(20), noise(20))
    marked = panned(21)
    logo = np.kron(np.random.default_rng(0).integers(40, 220, (3, 5)), np.ones((10, 10)))
    marked[:, 10:40, 150:200] = logo[..., None]
    write(videos / "marked.mp4", marked, noise(21))
    write(videos / "lines.mkv", scene(22), straight(noise(22), through=22_050))
    write(videos / "opus.mkv", scene(23), noise(23), heard="libopus")
    (videos / "text.mp4").write_text("no video")
    found = audit(videos, tmp_path=tmp_path)
    wanted = {
        **{f"plain-{seed}": set() for seed in range(4)},
        **{"still": {"still"}, "half-still": {"still"}, "slides": {"still", "slides"}, "silent": {"silent"}},
        **{"borders": {"borders"}, "upsampled": {"band-limited"}, "mono": {"dual mono"}, "clipped": {"clipped"}},
        **{"panned": set(), "marked": {"watermark"}, "lines": {"grid"}, "opus": {"grid"}},
    }
    assert {name: set(kinds) for name, kinds in found.items()} == wanted
    assert found["half-still"]["still"][0]["detail"].startswith("seconds 2-3 of 4")
    assert re.fullmatch(r"left 0%, right 0%, top (9|10)%, bottom (9|10)%", found["borders"]["borders"][0]["detail"])
    assert abs(float(found["upsampled"]["band-limited"][0]["detail"].split()[2]) - 7.8) < 0.4
    assert found["lines"]["grid"][0]["detail"] == "a pattern at 22,050 Hz that comes again every 0.04 s"
    assert "20 ms" in found["opus"]["grid"][0]["detail"]
    corners = [int(share) / 100 for share in re.findall(r"(\d+)%", found["marked"]["watermark"][0]["detail"])]
    assert np.abs(np.array(corners) - [150 / 212, 200 / 212, 10 / 160, 40 / 160]).max() < 0.04
    rejected = {name for name, kinds in found.items() for faults in kinds.values() for one in faults if one["rejected"]}
    assert rejected == {"still", "silent"}  # as packing says of them
    dropped = {Path(line.split("\t")[0]).stem for line in (tmp_path / "page" / "drop.tsv").read_text().splitlines()}
    assert dropped == {"still", "half-still", "slides", "silent"}
    page = (tmp_path / "page" / "index.html").read_text()
    assert "half-still.mp4" in page and "text.mp4" in page and "http" not in page.partition("<body")[2]


def changed(how: str, seed: int) -> tuple[np.ndarray, np.ndarray]:
    frames, sound = scene(seed, 5.0), noise(seed, 5.0)
    if how == "shifted":
        return frames[round(0.3 * FPS) :], sound[:, round(0.3 * RATE) :]
    if how == "cropped":
        rows, columns = (round(size * 0.025) for size in frames.shape[1:3])
        return frames[:, rows:-rows, columns:-columns], sound
    return frames[:, ::2, ::2] if how == "scaled" else frames, sound


@pytest.mark.parametrize("packed", [False, True])
def test_copies_are_found_across_splits_and_different_videos_are_not_taken_for_copies(tmp_path: Path, packed) -> None:
    ways = ("encoded", "scaled", "cropped", "shifted")
    for seed in range(6):
        write(tmp_path / "set" / "train" / f"video-{seed}.mp4", scene(seed, 5.0), noise(seed, 5.0))
    for seed, how in enumerate(ways):
        write(tmp_path / "set" / "test" / f"{how}.mp4", *changed(how, seed), codec="libx264")
    copy = tmp_path / "set" / "test" / "exact.mp4"
    copy.write_bytes((tmp_path / "set" / "train" / "video-4.mp4").read_bytes())
    place = tmp_path / "set"
    if packed:
        copy.unlink()  # packing rejects it
        lists = [f"{split}={tmp_path / split}.txt" for split in ("train", "test")]
        for split in ("train", "test"):
            names = sorted(path.name for path in (place / split).iterdir())
            (tmp_path / f"{split}.txt").write_text("\n".join(names))
        place = tmp_path / "shards"
        options = [word for each in lists for word in ("--split-list", each)]
        done = avc("pack", tmp_path / "set", "--out", place, *options, "--workers", 2)
        assert done.returncode == 0, done.stderr
    found = audit(place, tmp_path=tmp_path)
    twice = {
        name: fault["detail"]
        for name, kinds in found.items()
        for kind in ("duplicate", "near-duplicate")
        for fault in kinds.get(kind, [])
    }
    assert set(twice) == {f"video-{seed}" for seed in range(4 if packed else 5)}, twice
    for seed, how in enumerate(ways):
        assert f"{how}.mp4" in twice[f"video-{seed}"] and twice[f"video-{seed}"].endswith(
            "in test while this is in train"
        )
    shift = twice["video-3"].split(", ")[1]
    assert abs(float(shift.split()[0]) - 0.3) < 0.05
    if not packed:
        assert "exact.mp4" in twice["video-4"] and "duplicate" in found["video-4"]


def test_of_copies_the_largest_then_longest_is_kept_and_what_is_dropped_can_be_left_out_of_a_packing(tmp_path) -> None:
    videos, kept = tmp_path / "videos", tmp_path / "kept.txt"
    frames, sound = scene(1, 5.0), noise(1, 5.0)
    write(videos / "a-small.mp4", frames[:, ::2, ::2], sound)
    write(videos / "b-short.mp4", frames[10:], sound[:, RATE * 10 // FPS :])
    write(videos / "c-whole.mp4", frames, sound)
    write(videos / "other.mp4", scene(2), noise(2))
    found = audit(videos, tmp_path=tmp_path)
    assert {name for name, kinds in found.items() if "near-duplicate" in kinds} == {"a-small", "b-short"}
    page = (ROOT / "docs" / "own-videos.md").read_text(encoding="utf-8")
    (lines,) = re.findall(r"^find .*\n.*drop\.tsv .*$", page, re.M)
    lines = lines.replace("~/flickr", str(videos)).replace("audit/", f"{tmp_path}/page/")
    for name in (".hidden.mp4", ".trash/other.mp4", "half.mp4.part"):
        (videos / name).parent.mkdir(exist_ok=True)
        (videos / name).write_bytes(b"no video")
    subprocess.run(["bash", "-ec", lines], cwd=tmp_path, check=True)
    assert {Path(line).name for line in kept.read_text().splitlines()} == {"c-whole.mp4", "other.mp4"}
    done = avc("pack", kept, "--out", tmp_path / "packed", "--workers", 2)
    assert done.returncode == 0, done.stderr
    packed = Shards(tmp_path / "packed")
    names = {Path(packed.info(clip)["name"]).name for clip in range(len(packed))}
    assert names == {"c-whole.mp4", "other.mp4"}


def test_a_survey_that_was_stopped_goes_on_behind_what_it_has_looked_at(tmp_path: Path) -> None:
    videos, notes = tmp_path / "videos", tmp_path / "page" / "looks.jsonl"
    for seed in range(3):
        write(videos / f"video-{seed}.mp4", scene(seed), noise(seed) if seed else noise(seed) // 20_000)
    found = audit(videos, tmp_path=tmp_path)
    assert found["video-0"]["silent"]
    begun = notes.read_bytes().splitlines(keepends=True)
    assert len(begun) == 4
    notes.write_bytes(b"".join(begun[:2]) + begun[2][:100])  # as a kill leaves it
    times, size = (videos / "video-0.mp4").stat().st_mtime_ns, (videos / "video-0.mp4").stat().st_size
    (videos / "video-0.mp4").write_bytes(bytes(size))  # whoever looks again finds no video
    os.utime(videos / "video-0.mp4", ns=(times, times))
    assert audit(videos, tmp_path=tmp_path) == found
    assert sorted(notes.read_bytes().splitlines(keepends=True)) == sorted(begun)
    assert set(audit(videos, "--seconds", 3, tmp_path=tmp_path)) == {"video-1", "video-2"}  # another question


@pytest.mark.parametrize("every", [10, 25])
def test_packed_videos_of_few_pictures_a_second_are_told_by_their_own_seconds(every: int, tmp_path: Path) -> None:
    videos, packed = tmp_path / "videos", tmp_path / "packed"
    write(videos / "plain.mp4", scene(1), noise(1))
    write(videos / "shifted.mp4", scene(1)[20:], noise(1)[:, round(0.8 * RATE) :])
    write(videos / "still.mp4", scene(10)[:1].repeat(100, 0), noise(10))
    cut = scene(11)
    cut[50:] = scene(12)[50:]
    write(videos / "cut.mp4", cut, noise(11))
    done = avc("pack", videos, "--out", packed, "--every", every, "--keep-still", "--workers", 2)
    assert done.returncode == 0, done.stderr
    found = audit(packed, tmp_path=tmp_path)
    assert {name: set(kinds) - {"near-duplicate"} for name, kinds in found.items()} == {
        **{"plain": set(), "shifted": set(), "still": {"still"}, "cut": set()}
    }
    assert found["still"]["still"][0]["detail"] == "seconds 0-3 of 4"
    assert sum("near-duplicate" in kinds for kinds in found.values()) == 1


def test_packed_videos_with_less_than_a_picture_a_second_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "videos" / "plain.mp4", scene(1), noise(1))
    done = avc("pack", tmp_path / "videos", "--out", tmp_path / "packed", "--every", 26, "--workers", 1)
    assert done.returncode == 0, done.stderr
    done = avc("audit", "set", tmp_path / "packed", "--workers", 1)
    assert done.returncode == 2 and "less than a picture a second" in done.stderr


def test_a_set_that_cannot_be_read_at_all_is_said_to_be_that(tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("no video")
    done = avc("audit", "set", tmp_path, "--workers", 1)
    assert done.returncode == 1, done.stderr
    assert "rejected by packing: text.mp4" in done.stdout and "avc audit:" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["/nowhere"], "/nowhere does not exist"),
        (["{empty}"], "there are no videos in"),
        (["{empty}", "--seconds", "0"], "at least 1"),
        (["{empty}", "--seconds", "inf"], "at least 1"),
    ],
)
def test_a_users_mistake_is_a_paragraph_and_status_2(arguments: list[str], words: str, tmp_path: Path) -> None:
    done = avc("audit", "set", *(argument.format(empty=tmp_path) for argument in arguments))
    assert (done.returncode, words in done.stderr) == (2, True), done.stderr


def test_of_a_set_that_packing_rejects_as_a_whole_each_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("no video")
    done = avc("audit", "set", str(tmp_path), "--out", str(tmp_path / "audit"))
    assert done.returncode == 1 and "rejected by packing: text.mp4: " in done.stdout, done
    assert "text.mp4" in (tmp_path / "audit" / "index.html").read_text()
    assert (tmp_path / "audit" / "drop.tsv").read_bytes() == b""
