"""The levels of stored pictures against exact arithmetic, fields of interlaced film, what is said of HDR."""

from __future__ import annotations

import io
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from shards.format import PackSettings
from shards.media import read
from shards.media.scaling import Scaler
from tests.shards.rendering import frame_of, luma_of, write

LOOK = PackSettings(side=128, keep_still=True)
WEIGHTS = {1: (0.2126, 0.0722), 2: (0.299, 0.114), 6: (0.299, 0.114), 9: (0.2627, 0.0593)}  # of red and blue, by H.273
CHROMA = {
    **{"yuv420p": (2, 2), "yuvj420p": (2, 2), "yuv422p": (1, 2), "yuv444p": (1, 1)},
    **{"yuv420p10le": (2, 2), "yuv422p10le": (1, 2), "yuv420p12le": (2, 2)},
}

Planes = list[np.ndarray]


def to_chroma(red: float, blue: float) -> np.ndarray:
    """Luma and chroma of red, green and blue."""
    luma = np.array([red, 1 - red - blue, blue])
    return np.stack([luma, ([0, 0, 1] - luma) / (2 - 2 * blue), ([1, 0, 0] - luma) / (2 - 2 * red)])


def areas(size: int, scaled: int) -> np.ndarray:
    """How much of each of `size` pixels lies in each of `scaled` ones, a row for each of these."""
    edges = np.arange(scaled + 1)[:, None] * size / scaled
    covered = np.clip(edges[1:], np.arange(size), np.arange(size) + 1) - np.clip(
        edges[:-1], np.arange(size), np.arange(size) + 1
    )
    return covered * scaled / size


def exact(levels: Planes, *, matrix: int, size: tuple[int, int]) -> Planes:
    """Luma and chroma of a picture scaled to (height, width) and taken to BT.601, before anything is rounded."""
    half = (size[0] + 1) // 2, (size[1] + 1) // 2
    luma, blue, red = (
        areas(plane.shape[0], to[0]) @ plane @ areas(plane.shape[1], to[1]).T
        for plane, to in zip(levels, (size, half, half), strict=True)
    )
    change = to_chroma(0.299, 0.114) @ np.linalg.inv(to_chroma(*WEIGHTS[matrix]))
    added, new_blue, new_red = (row[1] * (blue - 128) + row[2] * (red - 128) for row in change)
    return [luma + added.repeat(2, axis=0).repeat(2, axis=1)[: size[0], : size[1]], new_blue + 128, new_red + 128]


def patches(size: tuple[int, int], *, lowest: float, highest: float, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    levels = rng.uniform(lowest, highest, (size[0] // 16 + 1, size[1] // 16 + 1))
    return levels.repeat(16, axis=0).repeat(16, axis=1)[: size[0], : size[1]] + rng.uniform(-3, 3, size)


@pytest.mark.parametrize("size", [(128, 227), (256, 455), (90, 160), (361, 640), (180, 320)])
@pytest.mark.parametrize("matrix", WEIGHTS)
@pytest.mark.parametrize("pixel_format", CHROMA)
@pytest.mark.parametrize("full", [False, True])
def test_the_mean_of_each_plane_is_that_of_exact_arithmetic(
    pixel_format: str, matrix: int, size: tuple[int, int], full: bool
) -> None:
    bits = 12 if "12" in pixel_format else 10 if "10" in pixel_format else 8
    rows, columns = CHROMA[pixel_format]
    shapes = (361, 640), (-(-361 // rows), 640 // columns), (-(-361 // rows), 640 // columns)
    full |= pixel_format.startswith("yuvj")
    black, step, chroma_step = (0, (2**bits - 1) / 255, (2**bits - 1) / 255) if full else (16, 219 / 255, 224 / 255)
    scale = 1 if full else 2 ** (bits - 8)
    luma, *chroma = (
        patches(shape, lowest=lowest, highest=highest, seed=seed)
        for seed, (shape, lowest, highest) in enumerate(zip(shapes, (50, 60, 90), (205, 150, 190), strict=True))
    )
    neutral = 128 * 2 ** (bits - 8)
    coded = [
        np.rint(scale * (black + luma * step)),
        *(np.rint(neutral + scale * (plane - 128) * chroma_step) for plane in chroma),
    ]
    kept = [
        (coded[0] / scale - black) / step,
        *((plane - neutral) / scale / chroma_step + 128 for plane in coded[1:]),
    ]
    kind = np.uint16 if bits > 8 else np.uint8
    frame = frame_of(
        [plane.astype(kind) for plane in coded], pixel_format, colorspace=matrix, color_range=2 if full else 1
    )
    stored = Scaler(size[1], size[0])(frame)
    for plane, wanted in zip(stored, exact(kept, matrix=matrix, size=size), strict=True):
        assert plane.shape == wanted.shape
        assert abs((plane - wanted).mean()) < 0.05
        assert (plane - wanted).std() < 0.5


@pytest.mark.parametrize("size", [(128, 227), (480, 854)])
def test_rgb_and_grey_are_not_tinted(size: tuple[int, int]) -> None:
    for level in (0, 40, 93, 128, 201, 255):
        red = av.VideoFrame.from_ndarray(np.full((240, 426, 3), level, np.uint8), format="rgb24")
        limited = np.full((240, 426), round(16 + level * 219 / 255), np.uint8)
        neutral = np.full((120, 213), 128, np.uint8)
        for frame in (
            red,
            red.reformat(format="bgr0"),
            frame_of([np.full((240, 426), level, np.uint8)], "gray"),
            frame_of([limited, neutral, neutral], "yuv420p", colorspace=1),
        ):
            luma, blue, red_chroma = Scaler(size[1], size[0])(frame)
            assert np.abs(luma.astype(int) - level).max() <= 1
            assert {*np.unique(blue), *np.unique(red_chroma)} == {128}


@pytest.mark.parametrize(("width", "height"), [(1280, 720), (320, 240), (640, 361)])
@pytest.mark.parametrize("colorspace", [1, 2])
def test_a_grey_film_is_packed_grey(width: int, height: int, colorspace: int, tmp_path: Path) -> None:
    half = np.full((-(-height // 2), width // 2), 128, np.uint8)
    frame = frame_of((np.full((height, width), 96, np.uint8), half, half), "yuv420p", colorspace=colorspace)
    path = write(tmp_path / "gray.mkv", [frame] * 30)
    for quality in (90, 100):
        clip = read(path, PackSettings(keep_still=True, jpeg_quality=quality))
        rgb = np.array(Image.open(io.BytesIO(clip.pictures[0])).convert("RGB"))
        assert np.unique(rgb).tolist() == [93]


def bar(*, at: int) -> np.ndarray:
    luma = np.full((256, 256), 40, np.uint8)
    luma[:, at : at + 32] = 200
    return luma


def film_of_a_moving_bar(path: Path, *, fields: bool) -> Path:
    """A bar that moves by 8 pixels a picture, between the two instants of a picture too where it has `fields`."""
    neutral = np.full((128, 128), 128, np.uint8)
    frames = []
    for number in range(27):
        luma = bar(at=8 * number)
        if fields:
            luma[1::2] = bar(at=8 * number + 4)[1::2]
        frames.append(frame_of((luma, neutral, neutral), "yuv420p"))
    return write(path, frames, video="mpeg2video", audio="mp2", fields=fields)


def combing(luma: np.ndarray) -> float:
    """How much a line differs from those above and below it, gray levels."""
    lines = luma.astype(float)
    return float(np.abs(2 * lines[1:-1] - lines[:-2] - lines[2:]).mean() / 2)


@pytest.mark.parametrize("side", [64, 128, 256, 300])
def test_an_interlaced_film_does_not_comb(side: int, tmp_path: Path) -> None:
    settings = PackSettings(side=side, jpeg_quality=100)
    fields = read(film_of_a_moving_bar(tmp_path / "fields.mkv", fields=True), settings)
    whole = read(film_of_a_moving_bar(tmp_path / "whole.mkv", fields=False), settings)
    before = read(tmp_path / "fields.mkv", PackSettings(side=side, jpeg_quality=100, version=1))
    assert (fields.width, fields.height) == (whole.width, whole.height) == (side, side)
    assert fields.ticks == whole.ticks == 27
    for tick in range(5, 20):
        seen, right, interleaved = (luma_of(clip.pictures[tick]) for clip in (fields, whole, before))
        assert combing(seen) < 0.5 < 5 < combing(interleaved)
        assert np.abs(seen.astype(float) - right).mean() < 2
    assert fields.source["video"]["interlaced"]
    assert not {"interlaced", "size_changes"} & whole.source["video"].keys()


@pytest.mark.parametrize(("transfer", "name"), [(1, None), (16, "smpte2084"), (18, "arib-std-b67")])
def test_a_record_says_which_hdr_its_video_is(transfer: int, name: str | None, tmp_path: Path) -> None:
    planes = [np.full(size, 512, np.uint16) for size in ((128, 128), (64, 64), (64, 64))]
    frame = frame_of(planes, "yuv420p10le", colorspace=9, color_range=1)
    frame.color_trc, frame.color_primaries = transfer, 9
    clip = read(write(tmp_path / "film.mkv", [frame] * 30), LOOK)
    assert clip.source["video"].get("transfer") == name
