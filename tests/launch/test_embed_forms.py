"""`avc embed` takes files in the forms in which people have them, alone and in tar files, and each alike."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.avc.networks import saved
from tests.launch.test_embed import embed, read


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
