"""`avc embed` takes files in the forms in which people have them, alone and in tar files, and each alike."""

from __future__ import annotations

import re
import tarfile
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image

from avc.encoders.sources import read_sound
from tests.avc.networks import saved
from tests.command_line import avc
from tests.launch.test_embed import embed, noise, read


@pytest.fixture(scope="module")
def network(tmp_path_factory) -> Path:
    return saved(tmp_path_factory.mktemp("network") / "ave")


@pytest.fixture
def scene() -> np.ndarray:
    """Colors that fall off to the right and down: uint8 (90, 120, 3)."""
    down, right = np.mgrid[0:90, 0:120]
    return np.stack([2 * down, 2 * right, 255 - down - right], axis=2).astype(np.uint8)


def moving(path: Path, scene: np.ndarray) -> Path:
    """Three seconds, ten pictures a second, each darker than the last."""
    first, *others = [Image.fromarray((scene * (1 - number / 40)).astype(np.uint8)) for number in range(30)]
    first.save(path, save_all=True, append_images=others, duration=100)
    return path


def test_pictures_embed_as_a_viewer_shows_them(network, scene, tmp_path) -> None:
    files = tmp_path / "files"
    files.mkdir()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(scene).save(files / "upright.jpg", quality=95)
    Image.fromarray(np.rot90(scene).copy()).save(files / "telephone.jpg", quality=95, exif=exif)
    gray = np.asarray(Image.fromarray(scene).convert("L"))
    Image.fromarray(gray).save(files / "gray8.png")
    Image.fromarray(gray.astype(np.uint16) * 257).save(files / "gray16.png")
    for end in ("gif", "webp", "png"):
        moving(files / f"moving.{end}", scene)
    (files / "tiles.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(20))
    embed(files, "--run", network, "--out", tmp_path / "out", "--content", "image", "--hop", 0.5)
    rows = {path.name.removesuffix(".npz"): read(path)[0] for path in (tmp_path / "out").glob("*.npz")}
    assert np.linalg.norm(rows["telephone.jpg"] - rows["upright.jpg"]) < 0.01
    assert np.array_equal(rows["gray16.png"], rows["gray8.png"])
    for end in ("gif", "webp", "png"):
        embedding, seconds = read(tmp_path / "out" / f"moving.{end}.npz")
        assert seconds.tolist() == [0, 0.5, 1, 1.5, 2, 2.5] and len(np.unique(embedding.round(5), axis=0)) == 6
    [refused] = (tmp_path / "out" / "rejected.tsv").read_text().splitlines()
    assert refused.split("\t")[1:] == ["undecodable", "HEIC is not read: export the picture as JPEG or PNG"]


def tarred(path: Path, *members: Path) -> Path:
    with tarfile.open(path, "w") as tar:
        for member in members:
            tar.add(member, member.name)
    return path


def test_a_tar_of_pictures_embeds_as_they_do_beside_it(network, scene, tmp_path) -> None:
    still = tmp_path / "still.png"
    Image.fromarray(scene).save(still)
    files = [moving(tmp_path / "moving.gif", scene), still]
    caption = tmp_path / "still.txt"
    caption.write_text("colors")
    tar = tarred(tmp_path / "pictures-000000.tar", *files, caption)
    embed(*files, tar, "--run", network, "--out", tmp_path / "out", "--content", "image", "--hop", 0.5)
    assert not (tmp_path / "out" / "rejected.tsv").read_text()
    for file, count in zip(files, (6, 1), strict=True):
        beside, inside = (read(tmp_path / "out" / part / f"{file.name}.npz") for part in ("", tar.name))
        assert len(beside[1]) == count and all(map(np.array_equal, beside, inside))


FORMS = ("wav", "aiff", "caf", "w64", "au", "rf64", "flac", "sph")


def test_sound_embeds_and_is_judged_alike_in_every_form_alone_and_in_a_tar(network, tmp_path) -> None:
    sound = (noise(4, 44_100, channels=2) * 32767).astype(np.int16)
    files = [tmp_path / f"sound.{form}" for form in FORMS]
    for file, form in zip(files, FORMS, strict=True):
        soundfile.write(file, sound, 44_100, format="NIST" if form == "sph" else form.upper(), subtype="PCM_16")
    tar = tarred(tmp_path / "sounds-000000.tar", *files)
    printed = embed(*files, tar, "--run", network, "--out", tmp_path / "out", "--hop", 0.5)
    assert f"{2 * len(FORMS)} files" in printed and not (tmp_path / "out" / "rejected.tsv").read_text()
    wanted, judged = read(tmp_path / "out" / "sound.wav.npz")[0], read_sound(files[0], 48_000)
    assert len(wanted) == 8 and len(judged) == 4 * 48_000
    for file in files:
        assert np.array_equal(read_sound(file, 48_000), judged), file
        for part in ("", tar.name):
            assert np.array_equal(read(tmp_path / "out" / part / f"{file.name}.npz")[0], wanted), (part, file)


def test_a_tar_of_neither_kind_is_not_passed_over(network, tmp_path) -> None:
    (tmp_path / "a.json").write_text("{}")
    tar = tarred(tmp_path / "labels.tar", tmp_path / "a.json")
    embed(tar, "--run", network, "--out", tmp_path / "out", status=1)
    assert (
        "labels.tar\tunreadable file\tthe tar file holds no member whose ending"
        in (tmp_path / "out" / "rejected.tsv").read_text()
    )


def test_channels_that_cancel_are_rejected_in_words_and_nothing_that_embeds_is_status_1(network, tmp_path) -> None:
    sound = noise(2, 48_000)
    soundfile.write(tmp_path / "inverted.wav", np.concatenate([sound, -sound], axis=1), 48_000)
    soundfile.write(tmp_path / "silent.wav", np.zeros((96_000, 2)), 48_000)
    words = ("--run", network, "--out", tmp_path / "out", "--hop", 0.5, "--workers", 1, "--devices", "cpu")
    said = r"inverted\.wav: silent, its channels cancel each other: each at -\d\d dBFS, their mean at -(inf|1\d\d)"
    for status, names in ((1, ["inverted.wav"]), (0, ["inverted.wav", "silent.wav"]), (0, ["silent.wav"])):
        done = avc("embed", *(tmp_path / name for name in names), *words)
        assert done.returncode == status, done.stdout
        assert bool(re.search(said, done.stdout)) == ("inverted.wav" in names), done.stdout
    assert [path.name for path in (tmp_path / "out").glob("*.npz")] == ["silent.wav.npz"]
