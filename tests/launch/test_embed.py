"""`avc embed`: the numbers of the API and of evaluation, every file right or named, killed anywhere and resumed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

import avc as package
from avc.encoders.sources import embed_clips
from shards.format import PackSettings
from shards.pack import pack
from shards.read import Shards
from tests.avc.networks import saved
from tests.command_line import avc
from tests.shards.rendering import moving, write

ALIKE = 2e-5  # of numbers up to a few: batches of other sizes round differently


@pytest.fixture(scope="module")
def network(tmp_path_factory) -> Path:
    return saved(tmp_path_factory.mktemp("network") / "ave")


def noise(seconds: float, rate: int, channels: int = 1, seed: int = 0) -> np.ndarray:
    """Noise that swells and fades, so that no two seconds are alike."""
    swell = 0.2 * (1 + np.sin(np.arange(round(seconds * rate)) / rate * 2))[:, None]
    return (np.random.default_rng(seed).standard_normal((len(swell), channels)) * swell / 4).astype(np.float32)


def embed(*arguments: object, status: int = 0) -> str:
    """What `avc embed` printed, one process decoding, and its exit status is this one."""
    done = avc("embed", *arguments, "--workers", 1, "--devices", "cpu")
    assert done.returncode == status, done.stderr
    return done.stdout


def read(path: Path) -> tuple[np.ndarray, np.ndarray]:
    with np.load(path) as file:
        assert file["embedding"].dtype == np.float32 and file["seconds"].dtype == np.float64
        return file["embedding"], file["seconds"]


def test_recordings_of_any_rate_embed_as_the_api_embeds_them(network, tmp_path) -> None:
    loaded = package.load(str(network))
    for name, rate, channels in (("a.wav", 44_100, 2), ("b.wav", 48_000, 1), ("c.flac", 22_050, 1)):
        soundfile.write(tmp_path / name, noise(23.7, rate, channels), rate)  # longer than a piece of 20 s
    for center in (True, False):
        out = tmp_path / f"out-{center}"
        embed(
            *sorted(tmp_path.glob("*.*")), "--run", network, "--out", out, "--hop", 0.5, *[["--no-center"], []][center]
        )
        for name in ("a.wav", "b.wav", "c.flac"):
            embedding, seconds = read(out / f"{name}.npz")
            samples, rate = soundfile.read(tmp_path / name, dtype="float32")
            ours, times = loaded.embed_audio(samples, sample_rate=rate, hop_size=0.5, center=center)
            assert np.array_equal(seconds, times) and seconds[1] == 0.5
            np.testing.assert_allclose(embedding, ours, atol=2e-4)  # resampled whole, and piece by piece


def test_what_was_joined_by_its_bytes_embeds_to_its_end(network, tmp_path) -> None:
    for name, rates in (("same.ogg", (48_000, 48_000)), ("other.ogg", (48_000, 44_100))):
        content = b""
        for number, rate in enumerate(rates):
            soundfile.write(tmp_path / "song.ogg", noise(4, rate, seed=number), rate)
            content += (tmp_path / "song.ogg").read_bytes()
        (tmp_path / name).write_bytes(content)
    (tmp_path / "song.ogg").unlink()
    for number in range(2):
        write(tmp_path / f"{number}.webm", moving(75), video="libvpx", audio="libopus", sound=noise(3, 48_000).T)
    (tmp_path / "film.webm").write_bytes(b"".join((tmp_path / f"{number}.webm").read_bytes() for number in range(2)))
    for content, files in (("audio", ("same.ogg", "other.ogg", "film.webm")), ("image", ("film.webm",))):
        out = tmp_path / content
        paths = [tmp_path / name for name in files]
        embed(*paths, "--run", network, "--out", out, "--hop", 0.5, "--content", content)
        for name in files:
            embedding, seconds = read(out / f"{name}.npz")
            lasts = 8 if name.endswith(".ogg") else 6
            assert len(embedding) == len(seconds) and lasts - 0.5 <= seconds[-1] <= lasts
            assert np.array_equal(seconds, np.arange(len(seconds)) / 2)


def test_a_video_embeds_as_evaluation_embeds_it_once_packed(network, tmp_path) -> None:
    for number in range(2):
        sound = noise(3, 48_000, seed=number).T
        write(tmp_path / f"{number}.mkv", moving(75), sound=sound)
    pack(sorted(tmp_path.glob("*.mkv")), tmp_path / "shards", PackSettings(side=64, split=(1.0, 0.0, 0.0)), workers=1)
    shards = Shards(tmp_path / "shards")
    views = embed_clips(package.load(str(network)), shards, shards.clips("train"), passes=4)
    for content, theirs in (("audio", views.audio), ("image", views.image)):
        out = tmp_path / content
        embed(
            tmp_path / "0.mkv", tmp_path / "1.mkv", "--run", network, "--out", out, "--hop", 0.04, "--content", content
        )
        for row, (clip, tick) in enumerate(zip(views.clip, views.tick, strict=True)):
            embedding, seconds = read(out / f"{shards.info(clip)['name']}.npz")
            assert seconds[tick] == pytest.approx(tick * 0.04)
            np.testing.assert_allclose(embedding[tick], theirs[row], atol=ALIKE)


def test_pictures_and_frames_embed_as_the_api_embeds_them(network, tmp_path) -> None:
    from PIL import Image

    picture = np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8)
    Image.fromarray(picture).save(tmp_path / "picture.png")
    write(tmp_path / "film.mkv", moving(30))
    embed(
        tmp_path / "picture.png",
        tmp_path / "film.mkv",
        "--run",
        network,
        "--out",
        tmp_path / "out",
        "--content",
        "image",
    )
    embedding, seconds = read(tmp_path / "out" / "picture.png.npz")
    ours = package.load(str(network)).embed_image(torch.from_numpy(picture)[None])
    np.testing.assert_allclose(embedding, ours.numpy(), atol=ALIKE)
    assert seconds.tolist() == [0]
    embedding, seconds = read(tmp_path / "out" / "film.mkv.npz")
    np.testing.assert_allclose(seconds, np.arange(12) * 0.1)
    assert len(np.unique(embedding.round(4), axis=0)) == 12  # all pictures of the film differ


def test_each_odd_file_is_embedded_or_listed_with_its_reason(network, tmp_path) -> None:
    files = tmp_path / "files"
    files.mkdir()
    (files / "empty.wav").touch()
    (files / "text.wav").write_text("no sound")
    os.mkfifo(files / "pipe.wav")
    write(files / "whole.mkv", moving(50))
    content = (files / "whole.mkv").read_bytes()
    (files / "cut.mkv").write_bytes(content[: len(content) // 2])
    (files / "head.mkv").write_bytes(content[:100])
    soundfile.write(files / "cut.wav", noise(4, 48_000), 48_000)
    os.truncate(files / "cut.wav", 2 * 48_000 * 2)
    soundfile.write(files / "silent.wav", np.zeros(48_000), 48_000)
    soundfile.write(files / "three.wav", np.array([0.1, -0.1, 0.2]), 48_000)
    soundfile.write(files / "seven.wav", noise(2, 8_000, channels=7), 8_000)
    soundfile.write(files / "nothing.wav", np.zeros(0), 48_000)
    soundfile.write(files / "one.wav", np.array([0.1]), 192_000)  # a quarter of a sample at 48 kHz
    broken = noise(1, 48_000)
    broken[100] = np.nan
    soundfile.write(files / "nan.wav", broken, 48_000, subtype="FLOAT")
    printed = embed(files, "--run", network, "--out", tmp_path / "out", "--hop", 0.5)
    lines = [line.split("\t") for line in (tmp_path / "out" / "rejected.tsv").read_text().splitlines()]
    assert {Path(name).name: reason for name, reason, _ in lines} == {
        "cut.mkv": "no audio samples",
        "empty.wav": "not a media file",
        "head.mkv": "undecodable",
        "nan.wav": "undecodable",
        "nothing.wav": "no audio samples",
        "one.wav": "too short",
        "pipe.wav": "unreadable file",
        "text.wav": "not a media file",
    }
    assert f"8 files rejected, see {tmp_path / 'out' / 'rejected.tsv'}:" in printed
    rows = {path.name.removesuffix(".npz"): len(read(path)[1]) for path in (tmp_path / "out").glob("*.npz")}
    assert rows == {"three.wav": 1, "seven.wav": 4, "cut.wav": 4, "silent.wav": 2, "whole.mkv": 4}
    silent, _ = read(tmp_path / "out" / "silent.wav.npz")
    ours = package.load(str(network)).embed_audio(torch.zeros(1, 48_000, dtype=torch.int16))
    np.testing.assert_allclose(silent, ours.expand(len(silent), -1).numpy(), atol=ALIKE)
    assert all(np.isfinite(read(path)[0]).all() for path in (tmp_path / "out").glob("*.npz"))


def start(*arguments: object) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "launch.cli", "embed", *map(str, arguments), "--workers", "2", "--devices", "cpu"]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_killed_and_called_again_it_ends_with_the_same_bytes(network, tmp_path) -> None:
    files, killed, whole = tmp_path / "files", tmp_path / "killed", tmp_path / "whole"
    (files / "below").mkdir(parents=True)
    for number in range(8):
        name = f"below/{number}.wav" if number % 2 else f"{number}.wav"
        soundfile.write(files / name, noise(5 + number, 48_000, seed=number), 48_000)
    (files / "empty.wav").touch()
    process = start(files, "--run", network, "--out", killed, "--hop", 0.25)
    while not any(killed.rglob("*.npz")):
        assert process.poll() is None, process.stderr and process.stderr.read()
        time.sleep(0.002)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    there = {path: path.stat().st_mtime_ns for path in killed.rglob("*.npz")}
    assert 1 <= len(there) < 8
    printed = embed(files, "--run", network, "--out", killed, "--hop", 0.25)
    assert f"{len(there)} of them were there" in printed and "8 files" in printed
    assert {path: path.stat().st_mtime_ns for path in there} == there
    embed(files, "--run", network, "--out", whole, "--hop", 0.25)
    assert contents(killed) == contents(whole)


def test_a_folder_takes_no_embeddings_by_other_settings(network, tmp_path) -> None:
    soundfile.write(tmp_path / "a.wav", noise(1, 48_000), 48_000)
    embed(tmp_path / "a.wav", "--run", network, "--out", tmp_path / "out")
    done = avc("embed", tmp_path / "a.wav", "--run", network, "--out", tmp_path / "out", "--hop", 0.2)
    assert done.returncode == 2 and "other settings (hop_size" in done.stderr
    (tmp_path / "out" / "embeddings.json").write_text("{")
    done = avc("embed", tmp_path / "a.wav", "--run", network, "--out", tmp_path / "out")
    assert done.returncode == 2 and "is damaged" in done.stderr


def test_one_parquet_has_the_rows_of_every_file(network, tmp_path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
    for number in range(3):
        soundfile.write(tmp_path / f"{number}.wav", noise(1 + number, 48_000, seed=number), 48_000)
    (tmp_path / "empty.wav").touch()
    files = sorted(tmp_path.glob("*.wav"))
    embed(*files, "--run", network, "--out", tmp_path / "out")
    printed = embed(*files, "--run", network, "--out", tmp_path / "all.parquet")
    assert f"see {tmp_path / 'all.parquet.rejected.tsv'}:" in printed.replace("\n", " ")
    table = parquet.read_table(tmp_path / "all.parquet")
    assert table.column_names == ["file", "seconds", "embedding"]
    names = np.array([Path(name).name for name in table["file"].to_pylist()])
    for path in files[:3]:
        embedding, seconds = read(tmp_path / "out" / f"{path.name}.npz")
        rows = np.flatnonzero(names == path.name)
        assert np.array_equal(np.array(table["embedding"].to_pylist(), np.float32)[rows], embedding)
        assert np.array_equal(table["seconds"].to_numpy()[rows], seconds)
    assert "empty.wav" in (tmp_path / "all.parquet.rejected.tsv").read_text()
    assert not (tmp_path / "all.parquet.parts").exists()


def test_parquet_without_pyarrow_is_refused_before_anything_is_computed(network, tmp_path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    soundfile.write(tmp_path / "a.wav", noise(1, 48_000), 48_000)
    done = avc("embed", tmp_path / "a.wav", "--run", network, "--out", tmp_path / "all.parquet")
    assert done.returncode == 2 and "avcorr[parquet]" in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.wav"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--hop", "0"], "the hop is 0 s"),
        (["--hop", "nan"], "the hop is nan s"),
        (["--content", "smell"], "must be audio or image"),
        (["--devices", "tpu"], "must name a device|run on cpu and cuda alone"),
        (["--run", "/nowhere"], "there is no run at /nowhere"),
    ],
)
def test_a_mistake_ends_in_one_paragraph(network, tmp_path, options, words) -> None:
    soundfile.write(tmp_path / "a.wav", noise(1, 48_000), 48_000)
    done = avc("embed", tmp_path / "a.wav", "--run", network, "--out", tmp_path / "out", *options)
    assert done.returncode == 2 and any(part in done.stderr for part in words.split("|")), done.stderr
    assert not list(tmp_path.rglob("*.npz"))


def test_two_files_of_one_name_are_refused(network, tmp_path) -> None:
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        soundfile.write(tmp_path / folder / "a.wav", noise(1, 48_000), 48_000)
    done = avc("embed", tmp_path / "one", tmp_path / "two", "--run", network, "--out", tmp_path / "out")
    assert done.returncode == 2 and "would both be written to" in done.stderr


def test_two_colons_in_a_plain_name_are_part_of_it_and_make_no_folder(network, tmp_path) -> None:
    (tmp_path / "in" / "a").mkdir(parents=True)
    for name in ("a::b.wav", "a/b.wav"):
        soundfile.write(tmp_path / "in" / name, noise(1, 48_000), 48_000)
    embed(tmp_path / "in", "--run", network, "--out", tmp_path / "out")
    written = sorted(path.relative_to(tmp_path / "out") for path in (tmp_path / "out").rglob("*.npz"))
    assert written == [Path("a/b.wav.npz"), Path("a::b.wav.npz")]
    embed(tmp_path / "in" / "a::b.wav", "--run", network, "--out", tmp_path / "alone")
    assert [path.name for path in (tmp_path / "alone").glob("*.npz")] == ["a::b.wav.npz"]
