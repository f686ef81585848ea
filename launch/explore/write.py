"""The explorer's folder: a page that opens from the disk, and its data in scripts, pictures and sounds.

    index.html, *.js, style.css      the page, as in this package
    data/about.js                    names, labels, the map and what was made from what
    data/vectors-R-KIND-K.js         int8 embeddings of run R, 4,096 moments a file
    data/heat-R-K.js                 AVOL-Net's maps, as frames-K.webp
    data/frames-K.webp ...           thumbnails, spectrograms and sounds of 64 clips each: WebP, and Opus in WebM

A page from the disk may not read files, but may load scripts, pictures and sounds beside it: each script calls
`explorer.take(NAME, VALUE)`.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
from collections.abc import Iterable, Sequence
from concurrent.futures import as_completed
from fractions import Fraction
from importlib.resources import files
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from matplotlib import colormaps
from numpy.typing import NDArray
from PIL import Image

from avc.encoders.sources import Floats
from launch.explore.moments import Embedder, Moments, along, embed, heats, map_of, other, second
from launch.progress import progress
from launch.report.page import ImageArray, rendered
from launch.report.units import spectrogram
from shards import Report
from shards.atomic import refuse_special, write_whole
from shards.format import SAMPLE_RATE_HZ, TICKS_PER_SECOND
from shards.processes import Threads
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
        write_whole(out / name, files("launch.explore").joinpath(name).read_bytes())
    write_whole(out / "index.html", page(title))
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
    policy = POLICY.format(connect="'self'" if token else "'none'")
    return rendered("launch.explore", "index.html", title=title, policy=policy, token=token)


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
    about["heat"] = embedder.network.localizes
    if about["heat"]:
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


COLUMNS = 8
PER_FILE = COLUMNS * COLUMNS  # 100,000 clips are 4,689 files
LARGEST = (240, 180)  # pixels of a thumbnail at most, which keeps its shape
SPECTROGRAM = (120, 90)
QUALITY = 72  # of WebP
BIT_RATE = 32_000  # of Opus, which takes less where there is less to hear
SLOT_SAMPLES = SAMPLE_RATE_HZ * 3 // 2  # a second of sound and half a second of silence, in which a player may stop


def fitted(width: int, height: int) -> tuple[int, int]:
    """Size of the thumbnail of a picture: within LARGEST, of the same shape, never enlarged."""
    scale = min(LARGEST[0] / width, LARGEST[1] / height, 1)
    return max(1, round(width * scale)), max(1, round(height * scale))


def write_media(folder: Path, shards: Shards, moments: Moments, sizes: NDArray[np.int64], report: Report) -> None:
    """Write frames-K.webp, spectrograms-K.webp and sounds-K.webm for the moments 64 K to 64 K + 63.

    sizes: of each thumbnail, int64 (N, 2). A sheet has 8 columns of cells as large as the largest of all thumbnails.
    """
    cell = (int(sizes[:, 0].max()), int(sizes[:, 1].max()))

    def write(number: int) -> int:
        part = range(number * PER_FILE, min((number + 1) * PER_FILE, len(moments)))
        sounds = [second(shards, moments, i) for i in part]
        frames = (_thumbnail(shards, int(moments.clip[i]), int(moments.tick[i]), *sizes[i].tolist()) for i in part)
        _sheet(folder / f"frames-{number}.webp", frames, cell, len(part))
        _sheet(folder / f"spectrograms-{number}.webp", map(_colored, sounds), SPECTROGRAM, len(part))
        write_sounds(folder / f"sounds-{number}.webm", sounds)
        return len(part)

    done = 0
    # Threads: the decoders and encoders, which take the time, let go of Python's lock.
    with Threads(len(os.sched_getaffinity(0))) as pool:
        for future in as_completed([pool.submit(write, n) for n in range(-(-len(moments) // PER_FILE))]):
            done += future.result()
            report(done, len(moments), "")


def write_sounds(path: Path, sounds: list[NDArray[np.int16]]) -> None:
    """Write seconds of mono sound at 48 kHz one after another, each in a slot of 1.5 s, as Opus in WebM."""
    samples = np.zeros((len(sounds), SLOT_SAMPLES), dtype=np.int16)
    samples[:, :SAMPLE_RATE_HZ] = sounds
    # Absolute, or what stands before a colon would be taken for a protocol.
    with av.open(path.absolute(), "w", format="webm", options={"fflags": "+bitexact"}) as container:
        stream = container.add_stream("libopus", rate=SAMPLE_RATE_HZ, layout="mono")
        stream.bit_rate = BIT_RATE
        for start, slot in enumerate(samples):
            frame = av.AudioFrame.from_ndarray(slot[None], format="s16", layout="mono")
            frame.sample_rate, frame.pts = SAMPLE_RATE_HZ, start * SLOT_SAMPLES
            frame.time_base = Fraction(1, SAMPLE_RATE_HZ)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def _thumbnail(shards: Shards, clip: int, tick: int, width: int, height: int) -> ImageArray:
    side = int(shards.row(clip)["width"])
    reduce = max(reduce for reduce in (1, 2, 4, 8) if reduce == 1 or side // reduce >= width)
    image = Image.fromarray(shards.picture(clip, tick, reduce=reduce))
    return np.asarray(image.resize((width, height), Image.Resampling.LANCZOS))


def _colored(sound: NDArray[np.int16]) -> ImageArray:
    gray = Image.fromarray(spectrogram(sound)[..., 0]).resize(SPECTROGRAM, Image.Resampling.BOX)
    colored: ImageArray = colormaps["magma"](np.asarray(gray), bytes=True)[..., :3]
    return colored


def _sheet(path: Path, images: Iterable[ImageArray], cell: tuple[int, int], count: int) -> None:
    width, height = cell
    rows = -(-count // COLUMNS)
    sheet = np.zeros((rows * height, COLUMNS * width, 3), dtype=np.uint8)
    for number, image in enumerate(images):
        row, column = divmod(number, COLUMNS)
        top = row * height + (height - image.shape[0]) // 2
        left = column * width + (width - image.shape[1]) // 2
        sheet[top : top + image.shape[0], left : left + image.shape[1]] = image
    Image.fromarray(sheet).save(path, "WEBP", quality=QUALITY, method=3)
