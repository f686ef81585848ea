"""The world on one page: for each kind a row of its looks and the sound of two of them."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
from matplotlib.axes import Axes
from matplotlib.mlab import specgram
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from launch.report.figures import drawn
from shards.format import TICKS_PER_SECOND
from workshop.demo.world.render import VIDEOS, Label, read_labels
from workshop.demo.world.scene import KINDS, Image

LOOKS, SOUNDS = 6, 2


def contact_sheet(folder: Path, png: Path) -> None:
    """Draw a rendered world's kinds into an image file, from its video files: what a decoder gives, not what was meant.

    The sounding object is framed, a silent one in dots; a kind without enough clips leaves places empty.
    """
    labels = list(read_labels(folder).values())
    kinds = [kind for kind in KINDS if any(label.kind == kind for label in labels)]
    size, widths = (12, 1.16 * len(kinds) + 0.4), [1] * LOOKS + [1.5] * SOUNDS
    with drawn(png, size=size, rows=len(kinds), columns=LOOKS + SOUNDS, width_ratios=widths) as (_, grid):
        for row, kind in zip(grid, kinds, strict=True):
            for axes in row:
                axes.set(xticks=[], yticks=[], frame_on=False)
            row[0].set_ylabel(kind, rotation=0, ha="right", va="center", fontsize=12)
            of_kind = [label for label in labels if label.kind == kind]
            for axes, label in zip(row, of_kind[:LOOKS], strict=False):
                _draw_look(axes, folder, label)
            for axes, label in zip(row[LOOKS:], of_kind[:SOUNDS], strict=False):
                _draw_sound(axes, folder / VIDEOS / label.file)
        grid[0][0].set_title("in a frame: sounds; dotted: silent", fontsize=10, loc="left")
        grid[0][LOOKS].set_title("1 s, 60 Hz to 12 kHz", fontsize=10, loc="left")


def _draw_look(axes: Axes, folder: Path, label: Label) -> None:
    tick = len(label.boxes) // 2
    axes.imshow(_frame(folder / VIDEOS / label.file, tick), interpolation="bicubic")
    for boxes, style in ((label.boxes, "-"), (label.silent_boxes, ":")):
        for left, top, right, bottom in boxes[tick : tick + 1]:
            corner = (left * label.width - 0.5, top * label.height - 0.5)
            size = ((right - left) * label.width, (bottom - top) * label.height)
            axes.add_patch(Rectangle(corner, *size, fill=False, edgecolor="white", linewidth=1, linestyle=style))


def _draw_sound(axes: Axes, path: Path) -> None:
    wave, rate = _audio(path)
    power, frequencies, times = specgram(wave[rate : 2 * rate], NFFT=1024, Fs=rate, noverlap=1024 - 256)
    decibels = 10 * np.log10(np.maximum(np.asarray(power), 1e-14))
    loudest = float(decibels.max())
    axes.pcolormesh(times, frequencies, decibels, vmin=loudest - 60, vmax=loudest, cmap="magma", rasterized=True)
    axes.set(yscale="log", ylim=(60, 12_000), yticks=[])
    axes.minorticks_off()


def _frame(path: Path, tick: int) -> Image:
    """The frame shown at a tick, by the file's own time stamps."""
    with av.open(path) as container:
        frames = [frame for frame in container.decode(video=0) if frame.time is not None]
        shown = [frame for frame in frames if frame.time * TICKS_PER_SECOND < tick + 0.01]
        return shown[-1].to_ndarray(format="rgb24").astype(np.uint8, copy=False)


def _audio(path: Path) -> tuple[NDArray[np.float32], int]:
    with av.open(path) as container:
        rate = container.streams.audio[0].rate
        return np.concatenate([frame.to_ndarray()[0] for frame in container.decode(audio=0)]), rate
