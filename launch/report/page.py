"""HTML pages from templates; those of page.html need nothing but themselves: no other file and no network."""

from __future__ import annotations

import base64
import io
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from jinja2 import Environment
from numpy.typing import NDArray
from PIL import Image

from shards.atomic import write_whole
from shards.format import SAMPLE_RATE_HZ

ImageArray = NDArray[np.uint8]


@dataclass(frozen=True)
class Moment:
    """An image and what sounds with it. image: uint8 (H, W, 3). audio: int16 (samples,), mono, 48 kHz."""

    image: ImageArray
    caption: str
    audio: NDArray[np.int16]

    @property
    def image_url(self) -> str:
        """The image within the page."""
        return image_url(self.image, "jpeg")

    @property
    def audio_url(self) -> str:
        """The sound within the page, whole."""
        flac = io.BytesIO()
        soundfile.write(flac, self.audio, SAMPLE_RATE_HZ, format="FLAC", subtype="PCM_16")
        return data_url("audio/flac", flac.getvalue())


@dataclass(frozen=True)
class Part:
    """Of a page, from top to bottom: whatever there is of it.

    link: address, its words, what follows. facts: names and values. header, cells: a table; cells that are `marked`
    are in color. picture: an address of `data_url`, with a caption. filters: names and addresses of images. rows: of
    moments, each under its name.
    """

    heading: str = ""
    text: str = ""
    link: tuple[str, str, str] | None = None
    facts: Iterable[tuple[str, str]] = ()
    header: Sequence[str] = ()
    cells: Iterable[Sequence[str]] = ()
    marked: Collection[str] = ()
    picture: str = ""
    caption: str = ""
    filters: Sequence[tuple[str, str]] = ()
    rows: Iterable[tuple[str, Sequence[Moment]]] = ()


def write_page(path: Path, title: str, parts: Iterable[Part]) -> int:
    """Write a page, aside first, so that an older one stays whole until the new one is; returns its size in bytes."""
    # The page's policy has the browser itself refuse whatever is not in it.
    page = rendered("launch.report", "page.html", title=title, parts=parts)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, page)
    return len(page)


def rendered(package: str, name: str, **values: Any) -> bytes:
    """A package's template, filled in; names in the values write no markup into it."""
    template = Environment(autoescape=True).from_string(files(package).joinpath(name).read_text("utf-8"))
    return template.render(values).encode(errors="backslashreplace")  # names that are not UTF-8 hold lone surrogates


def data_url(kind: str, content: bytes) -> str:
    """The content, of a media type such as image/png, as an address within the page."""
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


def image_url(image: ImageArray, kind: str) -> str:
    """uint8 (H, W, 3), as png or jpeg."""
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, kind, quality=88)
    return data_url(f"image/{kind}", stream.getvalue())
