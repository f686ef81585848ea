"""Colours, orientation and sizes of single pictures."""

from __future__ import annotations

import io
from fractions import Fraction

import numpy as np
import pytest
import simplejpeg
from PIL import Image

from shards.media import jpeg

LEVELS = {  # black, steps to a level of JPEG, steps to a level of JPEG's chroma
    jpeg.limited_range(10): (64, 876 / 255, 896 / 255),
    jpeg.full_range(10, of=8): (0, 4, 4),
    jpeg.full_range(10, of=10): (0, 1023 / 255, 1023 / 255),
    jpeg.full_range(10, of=8, expanded=True): (0, 1023 / 255, 4),
}
WEIGHTS = {1: (0.2126, 0.0722), 4: (0.30, 0.11), 7: (0.212, 0.087), 9: (0.2627, 0.0593)}  # of red and blue, by H.273


def full_range(rgb: np.ndarray, red: float, blue: float) -> np.ndarray:
    """Luma and chroma of colors (n, 3) in 0 to 255."""
    luma = rgb @ [red, 1 - red - blue, blue]
    return np.stack([luma, (rgb[:, 2] - luma) / (2 - 2 * blue) + 128, (rgb[:, 0] - luma) / (2 - 2 * red) + 128])


@pytest.mark.parametrize("levels", LEVELS)
@pytest.mark.parametrize("code", WEIGHTS)
@pytest.mark.parametrize("size", [(6, 10), (5, 9), (17, 16)])
def test_a_colour_stays_the_same_colour_in_another_matrix(
    code: int, size: tuple[int, int], levels: jpeg.Levels
) -> None:
    colors = np.random.default_rng(code).integers(0, 256, (50, 3)).astype(float)
    black, steps, chroma_steps = LEVELS[levels]
    convert = jpeg.ColorConversion(jpeg.MATRICES[code], levels, width=size[1], height=size[0])
    half = ((size[0] + 1) // 2, (size[1] + 1) // 2)
    for old, true in zip(full_range(colors, *WEIGHTS[code]).T, full_range(colors, 0.299, 0.114).T, strict=True):
        coded = black + old[0] * steps, *(512 + (old[1:] - 128) * chroma_steps)
        values = np.rint(np.clip(coded, 0, 1023)).astype(np.uint16)
        planes = convert((np.full(size, values[0]), np.full(half, values[1]), np.full(half, values[2])))
        assert [plane.shape for plane in planes] == [size, half, half]
        assert max(np.ptp(plane) for plane in planes) == 0
        assert [int(plane[0, 0]) for plane in planes] == pytest.approx(np.clip(true, 0, 255), abs=2.1)


@pytest.mark.parametrize("levels", LEVELS)
def test_grey_is_the_same_in_every_matrix(levels: jpeg.Levels) -> None:
    black, steps, _ = LEVELS[levels]
    gray = np.arange(256, dtype=np.uint8).reshape(16, 16)
    coded = np.rint(black + gray * float(steps)).astype(np.uint16)
    for matrix in (jpeg.BT601, *jpeg.MATRICES.values()):
        convert = jpeg.ColorConversion(matrix, levels, width=16, height=16)
        luma, blue, red = convert((coded, *np.full((2, 8, 8), 512, np.uint16)))
        assert (luma == gray).all()
        assert (blue == 128).all()
        assert (red == 128).all()


@pytest.mark.parametrize("levels", LEVELS)
def test_numbers_beyond_black_and_white_are_black_and_white(levels: jpeg.Levels) -> None:
    black, steps, chroma_steps = LEVELS[levels]
    every = np.arange(1024, dtype=np.uint16)[None].repeat(2, axis=0)
    convert = jpeg.ColorConversion(jpeg.BT601, levels, width=every.shape[1], height=2)
    luma, blue, red = convert((every, every[:1, ::2], every[:1, 1::2]))
    chroma = np.stack([blue, red], axis=2).reshape(1, -1)
    assert (
        np.abs(luma - np.clip((every - float(black)) / steps, 0, 255)).max() <= 0.503
    )  # 1/512 of a level is rounded away
    assert (
        np.abs(chroma - np.clip((every[:1] - 512.0) / chroma_steps + 128, 0, 255)).max() <= 0.503
    )  # 1/512 of a level is rounded away


@pytest.mark.parametrize("quarter_turns", range(4))
@pytest.mark.parametrize("mirrored", [False, True])
def test_a_display_matrix_turns_each_pixel_to_where_it_says(quarter_turns: int, mirrored: bool) -> None:
    turn = np.linalg.matrix_power(np.array([[0, 1], [-1, 0]]), quarter_turns) @ np.diag([-1 if mirrored else 1, 1])
    (a, b), (c, d) = turn * 0x10000
    stored = np.arange(12, dtype=np.uint8).reshape(3, 4)
    shown = jpeg.turn_upright((stored, stored, stored), jpeg.nearest_orientation([a, b, 0, c, d, 0, 0, 0, 1 << 30]))[0]

    rows, columns = np.indices(stored.shape)
    places = np.stack([columns.ravel(), rows.ravel()], axis=1) @ turn  # (x, y) to (a x + c y, b x + d y)
    places -= places.min(axis=0)
    assert shown.shape == (places[:, 1].max() + 1, places[:, 0].max() + 1)
    assert (shown[places[:, 1], places[:, 0]] == stored.ravel()).all()


def test_a_display_matrix_of_nonsense_turns_nothing() -> None:
    assert jpeg.nearest_orientation([0] * 9) == jpeg.Orientation()


@pytest.mark.parametrize(
    ("width", "height", "aspect", "stored"),
    [
        (1920, 1080, "1", (455, 256)),
        (1080, 1920, "1", (256, 455)),
        (640, 480, "1", (341, 256)),
        (64, 48, "1", (341, 256)),
        (720, 576, "64/45", (455, 256)),
        (720, 480, "8/9", (341, 256)),
        (100, 100, "1/2", (256, 512)),
        (2, 2, "1", (256, 256)),
    ],
)
def test_the_smallest_side_is_what_was_asked_and_the_shape_is_kept(
    width: int, height: int, aspect: str, stored: tuple[int, int]
) -> None:
    assert jpeg.stored_size(width, height, pixel_aspect=Fraction(aspect), side=256) == stored


@pytest.mark.parametrize("size", [(48, 64), (47, 64), (48, 63), (47, 63), (1, 1)])
def test_a_jpeg_holds_the_planes_that_were_given(size: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    half = ((size[0] + 1) // 2, (size[1] + 1) // 2)
    smooth = 60 + np.add.outer(np.arange(size[0]), np.arange(size[1])).astype(np.uint8)
    planes = (smooth, np.full(half, 118, np.uint8), np.full(half, 140, np.uint8))
    encoded = jpeg.encode(planes, quality=95)
    y, cb, cr = np.moveaxis(np.array(Image.open(io.BytesIO(encoded)).convert("YCbCr")), 2, 0)
    assert np.abs(y.astype(int) - smooth).max() <= 3
    assert np.abs(cb.astype(int) - 118).max() <= 2
    assert np.abs(cr.astype(int) - 140).max() <= 2
    assert simplejpeg.decode_jpeg_header(encoded)[:2] == size
    around = rng.integers(0, 256, (size[0] + 2, size[1] + 2), dtype=np.uint8)  # equal pictures in unequal surroundings
    around[: size[0], : size[1]] = smooth
    assert jpeg.encode((around[: size[0], : size[1]], *planes[1:]), quality=95) == encoded


def test_noise_averages_out_of_the_coarse_picture_and_a_small_thing_does_not() -> None:
    rng = np.random.default_rng(0)
    still = np.full((256, 341), 120.0)
    noisy = (still + rng.normal(0, 3, still.shape)).astype(np.uint8)
    other = still.astype(np.uint8)
    other[100:110, 200:210] = 160
    reference = jpeg.block_means(still.astype(np.uint8))
    assert np.abs(jpeg.block_means(noisy) - reference).max() < 2.5
    assert np.abs(jpeg.block_means(other) - reference).max() > 10
