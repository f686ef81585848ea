"""The explorer's folder: a page that opens from the disk, and its data in scripts, pictures and sounds.

    index.html, *.js, style.css      the page, as in this package
    data/about.js                    names, labels, the map and what was made from what
    data/vectors-R-KIND-K.js         int8 embeddings of run R, 4,096 moments a file
    data/heat-R-K.js                 AVOL-Net's maps, as frames-K.webp
    data/frames-K.webp ...           see launch.explore.media

A page from the disk may not read files, but may load scripts, pictures and sounds beside it: each script calls
`explorer.take(NAME, VALUE)`.
"""

from __future__ import annotations

import base64
import html
import json
import shutil
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
import torch
from matplotlib import colormaps
from numpy.typing import NDArray

from avc.encoders.sources import Floats
from launch.explore.media import COLUMNS, PER_FILE, SLOT_SAMPLES, SPECTROGRAM, fitted, write_media
from launch.explore.moments import Embedder, Moments, along, embed, heats, map_of, other
from launch.progress import progress
from shards.atomic import refuse_special, written_aside
from shards.format import SAMPLE_RATE_HZ, TICKS_PER_SECOND
from shards.read import Shards

PAGE = ("app.js", "map.js", "own.js", "parts.js", "search.js", "style.css")
VECTORS_PER_FILE = 4096
DATA, ABOUT = "data", "about.js"
# The browser refuses whatever is not beside the page: scripts within it, other addresses, forms.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; media-src 'self' blob:; "
    "connect-src {connect}; base-uri 'none'; form-action 'none'"
)


def write_explorer(
    out: Path,
    embedders: Sequence[Embedder],
    shards: Shards,
    clips: NDArray[np.int64],
    *,
    labels: dict[str, tuple[str, ...]] | None,
    title: str,
    about: str,
    embedded: tuple[Moments, list[tuple[Floats, Floats]]] | None = None,
) -> int:
    """Write the folder, its data aside first; returns its size in bytes.

    embedded: what `embed` gives of all that, where it is there already.
    Raises ValueError where `out` holds other data, or fewer than two clips are given; BadRecord for damaged shards.
    """
    data = out / DATA
    if data.exists() and not (data / ABOUT).is_file():
        raise ValueError(f"{data} is there and is not an explorer's: give another --out")
    part = out / f"{DATA}.part"
    refuse_special(part / ABOUT)
    shutil.rmtree(part, ignore_errors=True)  # left by a kill
    part.mkdir(parents=True)
    if embedded is None:
        with progress("embedding", unit="moments") as report:
            embedded = embed(embedders, shards, clips, labels, report)
    moments, vectors = embedded
    points = map_of(*vectors[0])
    order = along(points)
    moments = moments.taken(order)
    vectors = [(image[order], audio[order]) for image, audio in vectors]
    maps = [points[order], *(map_of(*pair) for pair in vectors[1:])]
    rows = shards.index[moments.clip]
    sizes = np.array([fitted(*size) for size in zip(rows["width"].tolist(), rows["height"].tolist(), strict=True)])
    with progress("writing frames and sounds", unit="moments") as report:
        write_media(part, shards, moments, sizes, report)
    runs = [
        _run(part, number, each, pair, points, shards, moments)
        for number, (each, pair, points) in enumerate(zip(embedders, vectors, maps, strict=True))
    ]
    facts = {"title": title, "about": about, "runs": runs} | _about(moments, sizes)
    write_script(part / ABOUT, "about", facts)
    shutil.rmtree(data, ignore_errors=True)
    part.rename(data)
    for name in PAGE:
        with written_aside(out / name) as file:
            file.write(files("launch.explore").joinpath(name).read_bytes())
    with written_aside(out / "index.html") as file:
        file.write(page(title))
    return sum(path.stat().st_size for path in page_files(out))


def _about(moments: Moments, sizes: NDArray[np.int64]) -> dict[str, Any]:
    """Of the moments, and of how the page's files are laid out."""
    return {
        "names": moments.names,
        "seconds": (moments.tick / TICKS_PER_SECOND).tolist(),
        "sizes": _base64(sizes.astype(np.uint8)),
        "cell": sizes.max(axis=0).tolist(),
        "classes": moments.classes,
        "labels": moments.labels,
        "columns": COLUMNS,
        "spectrogram": SPECTROGRAM,
        "perFile": PER_FILE,
        "slotSeconds": SLOT_SAMPLES / SAMPLE_RATE_HZ,
        "vectorsPerFile": VECTORS_PER_FILE,
        "heatColors": _base64((255 * colormaps["inferno"](np.arange(256))[:, :3]).astype(np.uint8)),
    }


def page_files(out: Path) -> list[Path]:
    """The files of an explorer, and not what else may lie in its folder."""
    return [out / "index.html", *(out / name for name in PAGE), *(out / DATA).iterdir()]


def page(title: str, *, token: str = "") -> bytes:
    """index.html under a title; with a token, the served one, which may send uploads to its own origin."""
    template = Template(files("launch.explore").joinpath("index.html").read_text(encoding="utf-8"))
    policy = POLICY.format(connect="'self'" if token else "'none'")
    content = template.substitute(title=html.escape(title), policy=policy, token=html.escape(token))
    return content.encode(errors="backslashreplace")  # names that are not UTF-8 hold lone surrogates


def write_script(path: Path, name: str, value: Any) -> None:
    """Write a value where a page from the disk can load it."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    path.write_text(f"explorer.take({json.dumps(name)},{text})\n", encoding="ascii")


def quantized(vectors: Floats) -> tuple[NDArray[np.int8], NDArray[np.float32], float]:
    """Vectors, float32 (N, D) → int8 (N, D), their mean (D,) and the scale: mean + scale * int8 is near to them.

    Without the mean, a product with a query orders the vectors as before, and the steps are as fine as they can be.
    """
    mean = vectors.mean(axis=0)
    centered = vectors - mean
    scale = max(float(np.abs(centered).max(initial=0)) / 127, 1e-9)
    return np.round(centered / scale).astype(np.int8), mean, scale


def _run(
    folder: Path,
    number: int,
    embedder: Embedder,
    vectors: tuple[Floats, Floats],
    points: Floats,
    shards: Shards,
    moments: Moments,
) -> dict[str, Any]:
    about: dict[str, Any] = {"title": embedder.title, "run": embedder.run, "about": embedder.about}
    for kind, rows in zip(("image", "audio"), vectors, strict=True):
        small, mean, scale = quantized(rows)
        about[kind] = {"mean": [round(float(x), 6) for x in mean], "scale": scale}
        for start in range(0, len(small), VECTORS_PER_FILE):
            name = f"vectors-{number}-{kind}-{start // VECTORS_PER_FILE}"
            write_script(folder / f"{name}.js", name, _base64(small[start : start + VECTORS_PER_FILE]))
    about["map"] = _base64((points * 65535).round().astype("<u2"))
    about["heat"] = embedder.localizes
    if embedder.localizes:
        with progress("localizing", unit="frames") as report:
            maps = heats(embedder.network, shards, moments, report)
        about["others"] = [other(i, len(moments)) for i in range(len(moments))]
        for start in range(0, len(maps), PER_FILE):
            name = f"heat-{number}-{start // PER_FILE}"
            write_script(folder / f"{name}.js", name, [_heat(map_) for map_ in maps[start : start + PER_FILE]])
    return about


def _heat(maps: torch.Tensor) -> dict[str, Any]:
    """Three maps as bytes, and the maximum of each."""
    height, width = maps.shape[1:]
    maxima = [round(float(map_.max()), 3) for map_ in maps]
    return {"size": [width, height], "most": maxima, "maps": _base64((255 * maps).round().to(torch.uint8).numpy())}


def _base64(array: NDArray[Any]) -> str:
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode("ascii")
