"""The study's figures, each written to a PNG file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.patches import Rectangle

from launch.report.figures import drawn
from workshop.demo.demo import training_curve
from workshop.study.estimates import Estimate, over_seeds
from workshop.study.examples import Panel
from workshop.study.findings import DIRECTIONS, Measurements
from workshop.study.runs import RUNS

COLORS = {run.key: f"C{number}" for number, run in enumerate(RUNS)}


def curves(png: Path, folders: Mapping[str, Sequence[Path]]) -> None:
    """Training loss of every run by its key, one thin line for each seed."""
    with drawn(png, size=(11, 3.8), columns=2, sharey=True) as (_, [panels]):
        for run in RUNS:
            for number, folder in enumerate(folders[run.key]):
                steps, losses = training_curve(folder, "loss")
                label = None if number else run.name
                panels[int(run.shards == "ticking")].plot(
                    steps, losses, color=COLORS[run.key], linewidth=1, label=label
                )
        for axes, title in zip(panels, ("the plain world", "the world with the artifact"), strict=True):
            axes.axhline(np.log(2), color="gray", linestyle=":", linewidth=1)
            axes.set(title=title, xlabel="step", ylim=(0, 1))
            axes.legend(loc="upper right", fontsize="small")
        panels[0].set_ylabel("loss (dotted: chance)")


def bars(png: Path, rows: Mapping[str, Sequence[Estimate]]) -> None:
    """nDCG@30 of each row in DIRECTIONS, mean and 95 % interval over seeds."""
    width = 0.8 / len(rows)
    with drawn(png, size=(11, 3.8)) as (_, [[axes]]):
        for number, (name, scores) in enumerate(rows.items()):
            axes.bar(
                np.arange(len(DIRECTIONS)) + (number - (len(rows) - 1) / 2) * width,
                [score.mean for score in scores],
                width * 0.92,
                yerr=[score.half for score in scores],
                error_kw={"capsize": 2, "linewidth": 1},
                label=name,
                color=f"C{number}" if number else "gray",
            )
        axes.set_xticks(range(len(DIRECTIONS)), [direction.replace("_", "-") for direction in DIRECTIONS])
        axes.set(ylabel="nDCG@30", ylim=(0, 1))
        axes.legend(fontsize="small", ncols=3, loc="upper left")


def accuracies(png: Path, measured: Measurements) -> None:
    """AVC accuracy on held-out clips, mean and 95 % interval over seeds, beside chance and ceiling."""
    with drawn(png, size=(11, 0.6 + 0.42 * len(RUNS))) as (_, [[axes]]):
        for number, run in enumerate(RUNS):
            accuracy = over_seeds(seed.accuracy for seed in measured[run.key])
            ceiling = over_seeds(seed.ceiling for seed in measured[run.key]).mean
            style = {"capsize": 3, "linewidth": 1}
            axes.barh(number, accuracy.mean, xerr=accuracy.half, error_kw=style, color=COLORS[run.key])
            axes.plot([ceiling, ceiling], [number - 0.45, number + 0.45], color="black", linestyle="--", linewidth=1)
        axes.axvline(0.5, color="gray", linestyle=":", linewidth=1)
        axes.set_yticks(range(len(RUNS)), [run.name for run in RUNS])
        axes.set(xlabel="AVC accuracy (dashed: ceiling by kinds; dotted: chance)", xlim=(0.4, 1))
        axes.invert_yaxis()


def examples(png: Path, rows: Sequence[Sequence[Panel]], *, inches: float) -> None:
    """Rows of panels, each so many inches wide, in the frames of their colors."""
    columns = len(rows[0])
    with drawn(png, size=(inches * columns, 1.1 * inches * len(rows)), rows=len(rows), columns=columns) as (_, grid):
        for axes, panel in zip(grid.flat, [panel for row in rows for panel in row], strict=True):
            height, width = panel.image.shape[:2]
            axes.imshow(panel.image)
            axes.set_title(panel.title, fontsize="x-small", color=panel.color)
            axes.set(xticks=[], yticks=[])
            for spine in axes.spines.values():
                spine.set(color=panel.color, linewidth=2.5)
            for (left, top, right, bottom), style in panel.boxes:
                corner, size = (left * width, top * height), ((right - left) * width, (bottom - top) * height)
                axes.add_patch(Rectangle(corner, *size, fill=False, edgecolor="white", linestyle=style, linewidth=1.5))
