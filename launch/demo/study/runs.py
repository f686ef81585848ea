"""The networks that the study trains, one row each, and what is measured of every one of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from avc.data.labels import flat_relevance, labeled, read_labels
from avc.evaluation.boxes import read_boxes
from avc.evaluation.localization import Localization, evaluate_localization
from avc.evaluation.retrieval import Row, evaluate_retrieval
from avc.evaluation.shortcut import Grid
from avc.inference import load
from avc.models.pair import Localizer
from launch.demo.demo import CONFIG, PASSES, ceiling_of_split, places
from launch.demo.world.labels import LABELS, Label
from launch.progress import progress
from launch.report.results import correspondence
from launch.train import run as train
from shards.read import Shards

FRAMES = 4  # of each held-out clip in which the object is looked for: boxes are known at every tick
SPLIT = "validation"


@dataclass(frozen=True)
class Run:
    """One network. settings: what differs from configs/demo.yaml. shards: plain; ticking, of the world with the
    artefact; or film, the plain world with all of its pictures. grid: of the negatives that it is judged on."""

    key: str
    name: str
    settings: tuple[str, ...]
    shards: Literal["plain", "ticking", "film"] = "plain"
    grid: Grid = "frame"


_ABLATION = ("model.name=ave", "negatives.source=independent", "training.steps=300")

RUNS = (
    Run("l3", "L3-Net", ("model.name=l3", "training.steps=600")),
    Run("ave", "AVE-Net", ("model.name=ave", "training.steps=450")),
    # As many pairs a step, and each frame and second of audio read once in either: as many passes of the trunks.
    Run("ave_nce", "AVE-Net, contrastive", ("model.name=ave_nce", "training.steps=450")),
    Run("avol", "AVOL-Net", ("model.name=avol", "training.steps=500", "optim.lr=5e-4")),
    Run("ave_mf", "AVE+MF", ("model.name=ave_mf", "data.image_size=56", "training.steps=300"), shards="film"),
    Run("frame", "AVE-Net, on the grid", _ABLATION, shards="ticking"),
    Run("free", "AVE-Net, off the grid", (*_ABLATION, "negatives.grid=free"), shards="ticking", grid="free"),
)


@dataclass(frozen=True)
class Measured:
    """One run on held-out clips. accuracy and ceiling: of correspondence, 0 to 1, `ceiling` by kinds alone. retrieval:
    nDCG@30, none for AVOL-Net; localization: AVOL-Net's alone."""

    accuracy: float
    ceiling: float
    pairs: int
    retrieval: tuple[Row, ...]
    localization: Localization | None


def train_and_measure(
    run: Run, *, world: Path, packed: Path, folder: Path, seed: int, labels: Mapping[str, Label]
) -> Measured:
    """Train a row of the table, or go on with it, in `folder`; then measure it on held-out clips.

    world: rendered videos with their labels, which `packed` holds as shards.
    """
    train(str(CONFIG), [*places(packed, folder), f"run.seed={seed}", *run.settings])
    with progress(f"judging {run.name}", unit="pairs") as report:
        judged = correspondence(folder, passes=PASSES, grid=run.grid, report=report)
    network = load(folder)
    data = Shards(packed)
    held_out = data.clips(SPLIT)
    truth = world / LABELS
    rows: tuple[Row, ...] = ()
    found = None
    if isinstance(network.model, Localizer):
        with progress(f"localizing by {run.name}", unit="frames") as report:
            found = evaluate_localization(network, data, held_out, read_boxes(truth), passes=FRAMES, report=report)
    else:
        known = labeled(data, held_out, read_labels(truth))
        relevance = flat_relevance(len(known.classes))
        with progress(f"embedding by {run.name}", unit="views") as report:
            rows = evaluate_retrieval(network, data, known, relevance=relevance, gain="exponential", report=report)
    return Measured(
        accuracy=judged.accuracy,
        ceiling=ceiling_of_split(packed, seed=seed, labels=labels),
        pairs=judged.pairs,
        retrieval=rows,
        localization=found,
    )
