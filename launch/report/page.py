"""What excites units, as one HTML page with its images and sounds inside."""

from __future__ import annotations

import html
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray
from PIL import Image

from launch.report.html import data_url, write_html
from shards.format import SAMPLE_RATE_HZ

ImageArray = NDArray[np.uint8]

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 90rem; padding: 0 1rem; color: #222 }
h1 { font-size: 1.4rem } h2 { font-size: 1.15rem; margin-top: 2.5rem } h3 { font-size: 1rem; margin: 1.2rem 0 .3rem }
.row { display: flex; flex-wrap: wrap; gap: .8rem } figure { margin: 0; max-width: 30rem }
figure img { height: 11rem; max-width: 100%; display: block } .filters img { height: auto; image-rendering: pixelated }
figcaption { font-size: .75rem; color: #666; overflow-wrap: anywhere } audio { width: 100%; height: 2rem }
"""
CELL = 24  # pixels of a small filter's side; waves are drawn twice as wide
GAP = 3


@dataclass(frozen=True)
class Moment:
    """An image and what sounds with it. image: uint8 (H, W, 3). audio: int16 (samples,), mono, 48 kHz."""

    image: ImageArray
    caption: str
    audio: NDArray[np.int16]


@dataclass(frozen=True)
class Section:
    """Rows of moments, each under its name."""

    title: str
    about: str
    units: Sequence[tuple[str, Sequence[Moment]]]


def write_page(
    path: Path, *, title: str, about: str, filters: Mapping[str, ImageArray], sections: Sequence[Section]
) -> int:
    """Write the page, filters first, and return its size in bytes."""
    parts = [f"<p>{html.escape(about)}</p>", '<h2>First filters</h2><div class="row">']
    for name, image in filters.items():
        caption = f"<figcaption>{html.escape(name)}</figcaption>"
        parts.append(f'<figure class="filters"><img src="{_image_url(image, "png")}" alt="">{caption}</figure>')
    parts.append("</div>")
    parts += map(section_html, sections)
    return write_html(path, title=title, style=STYLE, body="".join(parts))


def section_html(section: Section) -> str:
    """The section as HTML, its images and sounds inside."""
    parts = [f"<h2>{html.escape(section.title)}</h2><p>{html.escape(section.about)}</p>"]
    for name, moments in section.units:
        parts.append(f'<h3>{html.escape(name)}</h3><div class="row">{"".join(map(_figure, moments))}</div>')
    return "".join(parts)


def filter_image(weights: NDArray[np.float32]) -> ImageArray:
    """A first layer's filters side by side: (F, C, h, w) as tiles, in color where C is 3; (F, samples) as waves."""
    tiles = list(map(_wave if weights.ndim == 2 else _tile, weights))
    columns = min(len(tiles), 16)
    height, width = tiles[0].shape[:2]
    rows = -(-len(tiles) // columns)
    sheet = np.full((rows * (height + GAP) + GAP, columns * (width + GAP) + GAP, 3), 255, dtype=np.uint8)
    for number, tile in enumerate(tiles):
        row, column = divmod(number, columns)
        top, left = GAP + row * (height + GAP), GAP + column * (width + GAP)
        sheet[top : top + height, left : left + width] = tile
    return sheet


def _tile(weights: NDArray[np.float32]) -> ImageArray:
    low, high = float(weights.min()), float(weights.max())
    shades = 255 * (weights - low) / max(high - low, 1e-12)
    tile = np.broadcast_to(shades.transpose(1, 2, 0), (*shades.shape[1:], 3)).round().astype(np.uint8)
    return np.asarray(Image.fromarray(tile).resize((CELL, CELL), Image.Resampling.NEAREST))


def _wave(weights: NDArray[np.float32]) -> ImageArray:
    """One column for each sample, from the middle to its value."""
    tile = np.full((2 * CELL, len(weights), 3), 238, dtype=np.uint8)
    heights = np.round(weights / max(float(np.abs(weights).max()), 1e-12) * (CELL - 1)).astype(int)
    for column, height in enumerate(heights.tolist()):
        low, high = sorted((CELL, CELL - height))
        tile[low : high + 1, column] = (40, 70, 160)
    return tile


def _figure(moment: Moment) -> str:
    flac = io.BytesIO()
    soundfile.write(flac, moment.audio, SAMPLE_RATE_HZ, format="FLAC", subtype="PCM_16")
    return (
        f'<figure><img src="{_image_url(moment.image, "jpeg")}" alt="">'
        f'<audio controls src="{data_url("audio/flac", flac.getvalue())}"></audio>'
        f"<figcaption>{html.escape(moment.caption)}</figcaption></figure>"
    )


def _image_url(image: ImageArray, kind: str) -> str:
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, kind, quality=88)
    return data_url(f"image/{kind}", stream.getvalue())
