"""The study's figures, each as a PNG in memory."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib import pyplot
from matplotlib.patches import Rectangle

from avc.runs.attempt import METRICS
from launch.demo.study.estimates import Estimate, over_seeds
from launch.demo.study.examples import NEIGHBORS, Item, Retrieved, Scene
from launch.demo.study.findings import DIRECTIONS, Measurements
from launch.demo.study.runs import RUNS

matplotlib.use("Agg")

RIGHT, WRONG = "#2a9d4a", "#c0392b"
_DPI = 110


def curves(folders: Mapping[str, Sequence[Path]]) -> bytes:
    """Training loss of every run by its key, one thin line for each seed."""
    figure, panels = pyplot.subplots(1, 2, figsize=(11, 3.8), sharey=True, layout="constrained")
    for run in RUNS:
        axes = panels[int(run.shards == "ticking")]
        color = f"C{[other.key for other in RUNS].index(run.key)}"
        for number, folder in enumerate(folders.get(run.key, ())):
            lines = [json.loads(line) for line in (folder / METRICS).read_text(encoding="utf-8").splitlines()]
            lines = [line for line in lines if line["kind"] == "train"]
            steps, losses = [line["step"] for line in lines], [line["loss"] for line in lines]
            axes.plot(steps, losses, color=color, linewidth=1, label=None if number else run.name)
    for axes, title in zip(panels, ("the plain world", "the world with the artefact"), strict=True):
        axes.axhline(np.log(2), color="gray", linestyle=":", linewidth=1)
        axes.set(title=title, xlabel="step", ylim=(0, 1))
        axes.legend(loc="upper right", fontsize="small")
    panels[0].set_ylabel("loss (dotted: chance)")
    return _png(figure)


def bars(rows: Mapping[str, Sequence[Estimate]]) -> bytes:
    """nDCG@30 of each row in DIRECTIONS, mean and 95 % interval over seeds."""
    figure, axes = pyplot.subplots(figsize=(11, 3.8), layout="constrained")
    width = 0.8 / len(rows)
    for number, (name, each) in enumerate(rows.items()):
        places = np.arange(len(DIRECTIONS)) + (number - (len(rows) - 1) / 2) * width
        axes.bar(
            places, [one.mean for one in each], width * 0.92, label=name, color="gray" if not number else f"C{number}"
        )
        _whiskers(axes, places, each)
    axes.set_xticks(range(len(DIRECTIONS)), [direction.replace("_", "-") for direction in DIRECTIONS])
    axes.set(ylabel="nDCG@30", ylim=(0, 1))
    axes.legend(fontsize="small", ncols=3, loc="upper left")
    return _png(figure)


def accuracies(measured: Measurements) -> bytes:
    """AVC accuracy on held-out clips, mean and 95 % interval over seeds, beside chance and ceiling."""
    runs = [run for run in RUNS if run.key in measured]
    figure, axes = pyplot.subplots(figsize=(11, 0.6 + 0.42 * len(runs)), layout="constrained")
    for number, run in enumerate(runs):
        one = over_seeds(own.accuracy for own in measured[run.key])
        axes.barh(number, one.mean, color=f"C{number}")
        limit = over_seeds(own.ceiling for own in measured[run.key]).mean
        axes.plot([limit, limit], [number - 0.45, number + 0.45], color="black", linestyle="--", linewidth=1)
        if one.interval_95 is not None:
            half = one.interval_95[1] - one.mean
            axes.errorbar(one.mean, number, xerr=half, color="black", capsize=3, linewidth=1)
    axes.axvline(0.5, color="gray", linestyle=":", linewidth=1)
    axes.set_yticks(range(len(runs)), [run.name for run in runs])
    axes.set(xlabel="AVC accuracy (dashed: ceiling by kinds; dotted: chance)", xlim=(0.4, 1))
    axes.invert_yaxis()
    return _png(figure)


def overlays(scenes: Sequence[Scene]) -> bytes:
    """Scenes down, sounds across: the map under each, with its highest value."""
    columns = 1 + len(scenes[0].heard)
    figure, panels = pyplot.subplots(
        len(scenes), columns, figsize=(2.3 * columns, 2.3 * len(scenes)), squeeze=False, layout="constrained"
    )
    for line, scene in zip(panels, scenes, strict=True):
        height, width = scene.picture.shape[:2]
        line[0].imshow(scene.picture)
        for box, style in ((scene.sounding, "-"), (scene.silent, ":")):
            left, top, right, bottom = box
            place, size = (left * width, top * height), ((right - left) * width, (bottom - top) * height)
            line[0].add_patch(Rectangle(place, *size, fill=False, edgecolor="white", linestyle=style, linewidth=1.5))
        line[0].set_title("sounds (solid), silent (dotted)", fontsize="x-small")
        for axes, heard in zip(line[1:], scene.heard, strict=True):
            axes.imshow(heard.picture)
            axes.set_title(f"{heard.sound}; max {heard.highest:.2f}", fontsize="x-small")
    _bare(panels)
    return _png(figure)


def neighbors(rows: Sequence[Retrieved]) -> bytes:
    """A query in the first column and what was found for it, framed in green where the kind is right."""
    figure, panels = pyplot.subplots(
        len(rows),
        1 + NEIGHBORS,
        figsize=(1.45 * (1 + NEIGHBORS), 1.6 * len(rows)),
        squeeze=False,
        layout="constrained",
    )
    for line, row in zip(panels, rows, strict=True):
        _show(line[0], row.query, title=f"query: {row.query.kind}", color="black")
        for axes, item in zip(line[1:], row.found, strict=False):
            _show(axes, item, title=item.kind, color=RIGHT if item.kind == row.query.kind else WRONG)
    _bare(panels)
    return _png(figure)


def _show(axes: Any, item: Item, *, title: str, color: str) -> None:
    axes.imshow(item.picture, cmap="magma", aspect="auto" if item.picture.ndim == 2 else "equal")
    axes.set_title(title, fontsize="x-small", color=color)
    for spine in axes.spines.values():
        spine.set(color=color, linewidth=2.5)


def _bare(panels: Any) -> None:
    for axes in panels.flat:
        axes.set(xticks=[], yticks=[])


def _whiskers(axes: Any, places: Any, each: Sequence[Estimate]) -> None:
    for place, one in zip(places, each, strict=True):
        if one.interval_95 is not None:
            half = one.interval_95[1] - one.mean
            axes.errorbar(place, one.mean, yerr=half, color="black", capsize=2, linewidth=1)


def _png(figure: Any) -> bytes:
    data = io.BytesIO()
    figure.savefig(data, format="png", dpi=_DPI)
    pyplot.close(figure)
    return data.getvalue()
