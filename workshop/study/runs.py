"""The networks that the study trains, one row each, and what is measured of every one of them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from avc.data.labels import labeled
from avc.data.labels import read_labels as read_classes
from avc.data.ontology import flat_relevance
from avc.encoders.load import load
from avc.evaluation.boxes import read_boxes
from avc.evaluation.correspondence import judge_pairs
from avc.evaluation.localization import Localization, evaluate_localization
from avc.evaluation.retrieval import Row, evaluate_retrieval
from avc.evaluation.shortcut import Grid
from launch.progress import progress
from shards.read import Shards
from workshop.demo import demo
from workshop.demo.world.render import LABELS, read_labels

FRAMES = 4  # of each held-out clip in which the object is looked for: boxes are known at every tick
SPLIT = "validation"


@dataclass(frozen=True)
class Run(demo.Run):
    """One network.

    shards: plain; large, the plain world in larger images, of which a place of a map sees less; ticking, of the world
    with the artifact; or every-frame, the plain world with all of its frames.
    grid: of the negatives that it is judged on.
    """

    shards: Literal["plain", "large", "ticking", "every-frame"] = "plain"
    grid: Grid = "frame"


# All but AVOL-Net by Muon in as many steps: in 240 its map finds less, 64 % by the maximum instead of 87.
_AVOL = ("model.name=avol", "training.steps=1000", "optim.lr=5e-4")
_LOGMEANEXP = (*_AVOL, "model.pooling=logmeanexp")
# Of half as many clips, so a pass over them takes half as many steps.
_ABLATION = ("model.name=ave", "negatives.source=independent", *demo.SLOWER, "optim.lr_decay_epochs=2")

RUNS = (
    Run("l3", "L3-Net", ("model.name=l3", *demo.SLOWER)),
    Run("ave", "AVE-Net", ("model.name=ave", *demo.SLOWER)),
    # As many pairs a step, and each frame and second of audio read once in either: as many passes of the trunks.
    Run("ave_nce", "AVE-Net, contrastive", ("model.name=ave_nce", *demo.SLOWER)),
    Run("avol", "AVOL-Net", _AVOL),
    Run("avol_logmeanexp", "AVOL-Net, log-mean-exp", _LOGMEANEXP),
    Run("avol_large", "AVOL-Net, log-mean-exp, larger images", (*_LOGMEANEXP, "data.image_size=160"), shards="large"),
    Run("ave_mf", "AVE+MF", ("model.name=ave_mf", "data.image_size=56", *demo.SLOWER), shards="every-frame"),
    Run("frame", "AVE-Net, on the grid", _ABLATION, shards="ticking"),
    Run("free", "AVE-Net, off the grid", (*_ABLATION, "negatives.grid=free"), shards="ticking", grid="free"),
)


@dataclass(frozen=True)
class Material:
    """The folder of a rendered world, with its labels, and of the shards that it was packed into."""

    world: Path
    packed: Path


@dataclass(frozen=True)
class Measured:
    """One run on held-out clips. accuracy and ceiling: of correspondence, 0 to 1, `ceiling` by kinds alone. retrieval:
    nDCG@30, none for AVOL-Net; localization: AVOL-Net's alone."""

    accuracy: float
    ceiling: float
    pairs: int
    retrieval: tuple[Row, ...]
    localization: Localization | None


def train_and_measure(run: Run, *, material: Material, folder: Path, seed: int) -> Measured:
    """Train a row of the table, or go on with it, in `folder`; then measure it on held-out clips."""
    run = replace(run, settings=("model.spectrogram_pool=1", *run.settings))  # the papers' spectrogram
    run.train(material.packed, folder, seed=seed)
    shards = Shards(material.packed)
    with progress(f"judging {run.name}", unit="pairs") as report:
        accuracy = judge_pairs(folder, shards, passes=demo.PASSES, grid=run.grid, report=report)
    network = load(folder)
    held_out, truth = shards.clips(SPLIT), material.world / LABELS
    rows: tuple[Row, ...] = ()
    localization = None
    if network.localizes:
        with progress(f"localizing by {run.name}", unit="frames") as report:
            boxes = read_boxes(truth)
            localization = evaluate_localization(network, shards, held_out, boxes, passes=FRAMES, report=report)
    else:
        known = labeled(shards, held_out, read_classes(truth))
        relevance = flat_relevance(len(known.classes))
        with progress(f"embedding by {run.name}", unit="views") as report:
            rows = evaluate_retrieval(network, shards, known, relevance=relevance, gain="exponential", report=report)
    ceiling = demo.ceiling_of_split(material.packed, seed=seed, labels=read_labels(material.world))
    return Measured(accuracy.accuracy, ceiling, accuracy.pairs, retrieval=rows, localization=localization)
