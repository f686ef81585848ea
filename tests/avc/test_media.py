"""Pictures of other people's making come out as a viewer shows them: turned, in their depth and colors, over time."""

from __future__ import annotations

import io
import struct
import zlib
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image, features

from avc.data.media import read_pictures, read_rgb
from shards.media.headers import is_picture

FORMS = [
    "PNG",
    "WEBP",
    "JPEG",
    pytest.param(
        "AVIF", marks=pytest.mark.skipif(not features.check("avif"), reason="this build of Pillow reads no AVIF")
    ),
]
MOVING = [("GIF", {}), ("WEBP", {"lossless": True}), ("PNG", {}), pytest.param("AVIF", {}, marks=FORMS[-1].marks)]


@pytest.fixture(scope="module")
def scene() -> np.ndarray:
    """Smooth, so that no codec changes it by much, and without any symmetry: uint8 (60, 80, 3)."""
    down, right = np.mgrid[0:60, 0:80]
    return np.stack([4 * down, 3 * right, 255 - 2 * down - right], axis=2).clip(0, 255).astype(np.uint8)


def stored(scene: np.ndarray, orientation: int) -> np.ndarray:
    """What a camera stores that turns the scene by this tag: row 0 and column 0 lie as EXIF 2.32's table says."""
    upside, mirrored = {1: (0, 0), 2: (0, 1), 3: (1, 1), 4: (1, 0), 5: (0, 0), 6: (0, 1), 7: (1, 1), 8: (1, 0)}[
        orientation
    ]
    seen = scene[:: -1 if upside else 1, :: -1 if mirrored else 1]
    return np.ascontiguousarray(seen.swapaxes(0, 1) if orientation >= 5 else seen)


def test_the_tag_s_first_row_and_column_lie_where_exif_says(scene) -> None:
    """6: the first row is the right-hand side of what is shown, the first column its top."""
    kept = stored(scene, 6)
    assert np.array_equal(kept[0], scene[:, -1]) and np.array_equal(kept[:, 0], scene[0, ::-1])


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_is_turned_as_its_tag_says(form, orientation, scene, tmp_path) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    quality = {"lossless": True} if form == "WEBP" else {} if form == "PNG" else {"quality": 100, "subsampling": 0}
    if form == "AVIF":
        quality["subsampling"] = "4:4:4"
    Image.fromarray(stored(scene, orientation)).save(tmp_path / "picture", form, exif=exif, **quality)
    shown = np.asarray(read_rgb(tmp_path / "picture")).astype(int)
    assert shown.shape == scene.shape and np.abs(shown - scene).max() <= (0 if form in ("PNG", "WEBP") else 4)


def test_a_damaged_tag_turns_nothing(scene, tmp_path) -> None:
    Image.fromarray(scene).save(tmp_path / "picture.png", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff")
    assert np.array_equal(read_rgb(tmp_path / "picture.png"), scene)


def png(samples: np.ndarray) -> bytes:
    """16 bits a sample, (H, W, 1 to 4): gray, gray and alpha, RGB or RGBA, as Pillow itself does not write all."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width, channels = samples.shape
    header = struct.pack(">IIBBBBB", width, height, 16, {1: 0, 2: 4, 3: 2, 4: 6}[channels], 0, 0, 0)
    lines = zlib.compress(b"".join(b"\0" + line.astype(">u2").tobytes() for line in samples))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", lines) + chunk(b"IEND", b"")


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_sixteen_bits_show_what_eight_do(channels, scene, tmp_path) -> None:
    color = scene[..., :1] if channels < 3 else scene
    alpha = np.full_like(scene[..., :1], 255) if channels in (2, 4) else scene[..., :0]
    deep = np.concatenate([color, alpha], axis=2).astype(np.uint16) * 257
    (tmp_path / "picture.png").write_bytes(png(deep))
    assert np.array_equal(read_rgb(tmp_path / "picture.png"), np.broadcast_to(color, scene.shape))


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_what_is_transparent_is_white_and_not_what_lies_hidden_there(mode, tmp_path) -> None:
    rgba = np.full((8, 8, 4), (90, 90, 90, 255), np.uint8)
    rgba[:, :4] = (0, 0, 0, 0)
    picture = Image.fromarray(rgba)
    if mode == "P":
        picture = Image.fromarray((rgba[..., 3] > 0).astype(np.uint8), "P")
        picture.putpalette([0, 0, 0, 90, 90, 90])
        picture.info["transparency"] = 0
    picture.convert(mode).save(tmp_path / "picture.png")
    shown = np.asarray(read_rgb(tmp_path / "picture.png"))
    assert (shown[:, :4] == 255).all() and (shown[:, 4:] == 90).all()


@pytest.mark.parametrize(("mode", "form"), [("1", "PNG"), ("L", "BMP"), ("P", "GIF"), ("CMYK", "JPEG"), ("L", "JPEG")])
def test_other_modes_show_what_they_were_made_of(mode, form, scene, tmp_path) -> None:
    made = Image.fromarray(scene).convert(mode)
    made.save(tmp_path / "picture", form, **({"quality": 100, "subsampling": 0} if form == "JPEG" else {}))
    wanted = np.asarray(made.convert("RGB")).astype(int)
    assert np.abs(np.asarray(read_rgb(tmp_path / "picture")) - wanted).max() <= (4 if form == "JPEG" else 0)


# From linear light to XYZ under D50: rows of sRGB and of Display P3 (their primaries, adapted by Bradford's matrix).
SRGB = np.array([[0.4361, 0.3851, 0.1431], [0.2225, 0.7169, 0.0606], [0.0139, 0.0971, 0.7141]])
P3 = np.array([[0.5151, 0.2920, 0.1571], [0.2412, 0.6922, 0.0666], [-0.0011, 0.0419, 0.7841]])


def profile(matrix: np.ndarray, gamma: float) -> bytes:
    """An ICC profile of version 2: a matrix and one curve."""

    def fixed(*values: float) -> bytes:
        return b"".join(struct.pack(">i", round(65536 * value)) for value in values)

    def xyz(*values: float) -> bytes:
        return b"XYZ \0\0\0\0" + fixed(*values)

    curve = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(256 * gamma)) + b"\0\0"
    tags = [(b"wtpt", xyz(0.9642, 1, 0.8249))]
    tags += [(name, xyz(*matrix[:, i])) for i, name in enumerate((b"rXYZ", b"gXYZ", b"bXYZ"))]
    tags += [(name, curve) for name in (b"rTRC", b"gTRC", b"bTRC")]
    place, table, content = 128 + 4 + 12 * len(tags), b"", b""
    for name, data in tags:
        table += struct.pack(">4sII", name, place + len(content), len(data))
        content += data + bytes(-len(data) % 4)
    head = struct.pack(">I4sI4s4s4s", place + len(content), b"\0\0\0\0", 0x02400000, b"mntr", b"RGB ", b"XYZ ")
    head = (head + bytes(12) + b"acsp").ljust(68, b"\0") + fixed(0.9642, 1, 0.8249)
    return head.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + content


@pytest.mark.parametrize("form", ["PNG", "WEBP"])
def test_a_picture_with_a_color_profile_is_shown_in_srgb(form, tmp_path) -> None:
    stored = np.array([[[200, 40, 40], [60, 180, 60], [128, 128, 128]]], np.uint8)
    kept = Image.fromarray(stored).resize((48, 16), Image.Resampling.NEAREST)
    kept.save(tmp_path / "picture", form, icc_profile=profile(P3, 2.2), lossless=True)
    light = np.linalg.solve(SRGB, P3 @ ((stored[0] / 255) ** 2.2).T).T.clip(0, 1)
    wanted = 255 * np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    shown = np.asarray(read_rgb(tmp_path / "picture"))[8, [8, 24, 40]]
    assert np.abs(shown - wanted).max() <= 2 and np.abs(wanted[0] - stored[0, 0]).max() > 10


def test_a_damaged_color_profile_changes_nothing(scene, tmp_path) -> None:
    Image.fromarray(scene).save(tmp_path / "picture.png", icc_profile=profile(P3, 2.2)[:100])
    assert np.array_equal(read_rgb(tmp_path / "picture.png"), scene)


def frames(count: int) -> list[Image.Image]:
    """Each of another gray."""
    return [Image.new("RGB", (32, 24), (20 * number,) * 3) for number in range(count)]


@pytest.mark.parametrize(("form", "how"), MOVING)
def test_an_animation_is_its_pictures_and_how_long_each_is_shown(form, how, tmp_path) -> None:
    first, *others = frames(4)
    path = tmp_path / "moving"
    first.save(path, form, save_all=True, append_images=others, duration=[200, 10, 300, 120], **how)
    with path.open("rb") as file:
        shown = [(int(np.asarray(picture).mean().round()), lasts) for picture, lasts in read_pictures(file)]
    assert [lasts for _, lasts in shown] == [Fraction(each, 10) for each in (2, 1, 3, Fraction(12, 10))]
    assert np.abs(np.array([gray for gray, _ in shown]) - [0, 20, 40, 60]).max() <= 2
    with pytest.raises(ValueError, match="it is animated"):
        read_rgb(path)


def test_the_picture_for_viewers_that_show_no_motion_is_no_part_of_the_motion(tmp_path) -> None:
    still, *moving = frames(3)
    still.save(tmp_path / "moving.png", save_all=True, append_images=moving, duration=100, default_image=True)
    with (tmp_path / "moving.png").open("rb") as file:
        assert [np.asarray(picture).mean() for picture, _ in read_pictures(file)] == [20, 40]


def test_a_photograph_with_other_views_behind_it_is_a_still_picture(scene, tmp_path) -> None:
    Image.fromarray(scene).save(tmp_path / "photo.jpg", "MPO", save_all=True, append_images=frames(1), quality=100)
    with Image.open(tmp_path / "photo.jpg") as opened:
        assert opened.format == "MPO" and opened.n_frames == 2  # type: ignore[attr-defined]
    assert np.asarray(read_rgb(tmp_path / "photo.jpg")).shape == scene.shape


def test_what_is_read_elsewhere_alone_is_refused_by_its_name(scene, tmp_path) -> None:
    for brand in (b"heic", b"mif1", b"hevc"):
        head = b"\0\0\0\x18ftyp" + brand + bytes(12)
        (tmp_path / "picture.heic").write_bytes(head)
        assert is_picture(head)
        with pytest.raises(ValueError, match="HEIC is not read: export the picture as JPEG or PNG"):
            read_rgb(tmp_path / "picture.heic")
    Image.fromarray(scene).save(tmp_path / "picture.tiff")
    with pytest.raises(ValueError, match="it is no image of a known form: JPEG, PNG, BMP, WEBP, GIF, AVIF"):
        read_rgb(tmp_path / "picture.tiff")


def test_what_begins_like_no_picture_is_sound_or_video() -> None:
    for head in (b"RIFF\0\0\0\0WAVE", b"\0\0\0\x18ftypisom", b"\0\0\0\x18ftypqt  ", b"OggS\0\2\0\0\0\0\0\0", b""):
        assert not is_picture(head)
    for form in ("JPEG", "PNG", "BMP", "WEBP", "GIF"):
        stream = io.BytesIO()
        frames(1)[0].save(stream, form)
        assert is_picture(stream.getvalue()[:12])


def test_a_picture_without_end_is_refused(tmp_path: Path) -> None:
    first, *others = frames(3)
    first.save(tmp_path / "moving.webp", save_all=True, append_images=others, duration=[100, 4_000_000, 100])
    with (tmp_path / "moving.webp").open("rb") as file, pytest.raises(ValueError, match="is shown for 4,000 s"):
        list(read_pictures(file))
