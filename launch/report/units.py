"""The moments that excite units, as a page: frames and spectrograms, plain and under the unit's heat."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image

from avc.data.preprocessing import log_spectrogram, middle
from avc.encoders.encoder import ImageEncoder
from avc.evaluation.activations import Activation, Excited, Heat
from launch.report.overlay import blend
from launch.report.page import ImageArray, Moment, Part, image_url, write_page
from shards.format import SAMPLES_PER_TICK, TICKS_PER_SECOND, second_start
from shards.read import Shards

SHOWN_TICKS = 5 * TICKS_PER_SECOND  # of a SoundNet's segment, around its peak
WIDEST = 500  # columns of a spectrogram
GAP = 4  # pixels between images
BORDER = 3  # pixels between filters
CELL = 24  # pixels of a small filter's side; waves are drawn twice as wide
ABOUT = {
    "vision": "Channels of the map that the vision trunk ends in. Left the frame, right the same under the channel's "
    "heat; the audio is its own, which the unit does not take. The heat may lie beside what excites a unit, by the "
    "same way in every frame: training takes the map's maximum, wherever that is, where a place's field of view is as "
    "large as the image.",
    "audio": "Channels of the map that the audio trunk ends in. The frame, which the unit does not take; the "
    "spectrogram of the second, low pitches below; the same under the channel's heat.",
    "waveform": "The frame at the peak, which the unit does not take; the spectrogram of the seconds around it, low "
    "pitches below; the same under the unit's heat over time.",
}


def write_units(folder: Path, title: str, about: str, shards: Shards, parts: Sequence[Excited]) -> None:
    """Write FOLDER/index.html, first filters first, and print its size."""
    called = [part.encoder.unit_name(part.layer) if part.views.ticks is None else "sound" for part in parts]
    filters = [
        (name, image_url(filter_image(part.encoder.first_filters), "png"))
        for name, part in zip(called, parts, strict=True)
    ]
    path = folder.expanduser() / "index.html"
    size = write_page(
        path,
        title,
        [Part(text=about), Part("First filters", filters=filters), *(section(shards, part) for part in parts)],
    )
    print(f"{path}: {sum(len(part.units) for part in parts)} units, {size / 1e6:.1f} MB")


def section(shards: Shards, part: Excited) -> Part:
    """A row of moments for each unit."""
    kind = "vision" if isinstance(part.encoder, ImageEncoder) else "audio" if part.views.ticks is None else "waveform"
    lengths = part.views.ticks if part.views.ticks is not None else part.views.tick
    ticks = dict(zip(part.views.clip.tolist(), lengths.tolist(), strict=True))

    def moment(activation: Activation) -> Moment:
        if kind == "vision":
            frame = _frame(shards, activation)
            frame = middle(torch.from_numpy(frame)[None])[0].contiguous().numpy()
            image = beside(frame, heated(frame, activation.heat))
            audio = shards.sound(activation.clip, second_start(activation.tick))
        elif kind == "audio":
            audio = shards.sound(activation.clip, second_start(activation.tick))
            image = _with_spectrogram(_frame(shards, activation), audio, activation.heat[::-1])
        else:
            image, audio, activation = _stretch(shards, activation, ticks[activation.clip])
        name = shards.info(activation.clip)["name"]
        return Moment(image, f"{name} at {activation.tick / TICKS_PER_SECOND:.2f} s: {activation.value:.2f}", audio)

    name = part.encoder.unit_name(part.layer)
    rows = [(f"{name} {number}", list(map(moment, top))) for number, top in part.units.items()]
    heading = f"What units of {name} respond to" if kind == "waveform" else f"What {name} units respond to"
    return Part(heading, ABOUT[kind], rows=rows)


def _stretch(shards: Shards, activation: Activation, ticks: int) -> tuple[ImageArray, NDArray[np.int16], Activation]:
    """The seconds around a segment's peak under their heat over time, their sound, and the activation at the peak."""
    heat = np.repeat(activation.heat[0], ticks)[:: activation.heat.shape[1]]  # a value for each tick
    peak = int(heat.argmax())
    shown = min(ticks, SHOWN_TICKS)
    start = min(max(0, peak - shown // 2), ticks - shown)
    audio = shards.sound(activation.clip, (activation.tick + start) * SAMPLES_PER_TICK, shown * SAMPLES_PER_TICK)
    at_peak = replace(activation, tick=activation.tick + peak)
    return _with_spectrogram(_frame(shards, at_peak), audio, heat[None, start : start + shown]), audio, at_peak


def beside(*images: ImageArray) -> ImageArray:
    """Images of one height next to each other, a white line between them."""
    line = np.full((len(images[0]), GAP, 3), 255, dtype=np.uint8)
    return np.concatenate([part for image in images for part in (image, line)][:-1], axis=1)


def heated(image: ImageArray, heat: Heat) -> ImageArray:
    """The image under a map of any size, 0 to its own maximum."""
    scaled = torch.from_numpy(np.ascontiguousarray(heat)) / (float(heat.max()) or 1.0)
    covered: ImageArray = blend(image[None], scaled[None])[0]
    return covered


def spectrogram(audio: NDArray[np.int16]) -> ImageArray:
    """Audio at 48 kHz as a gray image, uint8 (257, W, 3): low pitches below, 199 columns for a second."""
    log = log_spectrogram(torch.from_numpy(audio).float()[None] / 32768)
    columns = min(log.shape[2], WIDEST)
    gray = F.adaptive_avg_pool2d(log, (log.shape[1], columns))[0].flip(0)
    gray = (255 * gray / gray.max().clamp(min=1e-6)).to(torch.uint8)
    return np.repeat(gray.numpy()[..., None], 3, axis=2)


def filter_image(weights: torch.Tensor) -> ImageArray:
    """A first layer's filters side by side: (F, C, h, w) as tiles, in color where C is 3; (F, samples) as waves."""
    tiles = list(map(_wave if weights.dim() == 2 else _tile, weights.detach().cpu().numpy()))
    columns = min(len(tiles), 16)
    height, width = tiles[0].shape[:2]
    rows = -(-len(tiles) // columns)
    sheet = np.full((rows * (height + BORDER) + BORDER, columns * (width + BORDER) + BORDER, 3), 255, dtype=np.uint8)
    for number, tile in enumerate(tiles):
        row, column = divmod(number, columns)
        top, left = BORDER + row * (height + BORDER), BORDER + column * (width + BORDER)
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


def _with_spectrogram(frame: ImageArray, audio: NDArray[np.int16], heat: Heat) -> ImageArray:
    plain = spectrogram(audio)
    width = round(frame.shape[1] * len(plain) / frame.shape[0])
    fitted = np.asarray(Image.fromarray(frame).resize((width, len(plain))))
    return beside(fitted, plain, heated(plain, heat))


def _frame(shards: Shards, activation: Activation) -> ImageArray:
    every = int(shards.index[activation.clip]["every"])
    frame: ImageArray = shards.picture(activation.clip, activation.tick // every * every)
    return frame
