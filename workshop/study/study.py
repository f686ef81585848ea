"""The study from end to end.

1. worlds    the demo's, and a smaller one with an artifact planted in its sound       workshop.demo
2. audits    of both worlds, by the paper's rule and by the faulty one                 avc.evaluation.shortcut
3. runs      seed by seed, every row of the table: train, measure on held-out clips    workshop.study.runs
4. page      after each seed anew: findings and figures                                workshop.study.page

What is done lies in files and is never computed again, so that the same command goes on after any interruption.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

from avc.config import load_config
from avc.evaluation.shortcut import Audit, Grid, audit
from avc.settings import PairConfig
from launch.progress import progress
from launch.report.results import write_json
from shards.pack import pack
from shards.read import Shards
from workshop.demo.demo import CONFIG, PACKING, SECONDS, SHARDS, WORLD, prepare
from workshop.demo.world.render import VIDEOS, World, read_labels
from workshop.study import figures
from workshop.study.examples import neighbors, scenes
from workshop.study.findings import DIRECTIONS, Finding, findings, retrieval
from workshop.study.page import Figure, write_page
from workshop.study.parts import once
from workshop.study.runs import RUNS, Material, Measured, train_and_measure

TICKING, EVERY_FRAME, LARGE = "ticking", "every-frame", "large"
LARGE_SIDE = 184  # of frames that are cropped to 160 pixels
PARTS, RUN_FOLDERS, FIGURES = "study/parts", "study/runs", "study/figures"
PAGE, RESULTS = "study.html", "study.json"

# What is audited under which rule: the plain world, and the one with the artifact.
AUDITS: tuple[tuple[str, Grid], ...] = (("plain", "frame"), ("ticking", "frame"), ("ticking", "free"))


def study(folder: Path, *, clips: int, kinds: int, seed: int, seeds: int, workers: int) -> dict[str, Any]:
    """Conduct the study in `folder` with seeds `seed` to `seed + seeds - 1`; returns what it writes to study.json.

    Raises ValueError where the folder holds a study of other settings.
    """
    begun = time.monotonic()
    world = World(clips=clips, seed=seed, seconds=SECONDS, kinds=kinds)
    materials = gather(folder, world, workers=workers)
    about = {"clips": clips, "kinds": kinds, "world": seed}
    audits = {(shards, grid): _audit(folder, materials[shards], shards, grid, about=about) for shards, grid in AUDITS}
    measured: dict[str, list[Measured]] = {run.key: [] for run in RUNS}
    about_runs = about | {"configuration": CONFIG.read_text(encoding="utf-8")}
    results: dict[str, Any] = {}
    for current in range(seed, seed + seeds):
        for run in RUNS:
            print(f"seed {current}: {run.name}", flush=True)
            run_folder = folder / RUN_FOLDERS / f"{run.key}-{current}"
            make = partial(train_and_measure, run, material=materials[run.shards], folder=run_folder, seed=current)
            made_of = about_runs | {"settings": run.settings, "seed": current}
            measured[run.key].append(once(folder / PARTS / f"{run_folder.name}.json", Measured, made_of, make))
        judged = findings(measured, audits)
        scores = {
            name: dict(zip(DIRECTIONS, map(asdict, row), strict=True)) for name, row in retrieval(measured).items()
        }
        done = range(seed, current + 1)
        results = {
            "findings": list(map(asdict, judged)),
            "retrieval": scores,
            "runs": {key: list(map(asdict, by_seed)) for key, by_seed in measured.items()},
            "audits": [
                asdict(result) | {"shards": shards, "verdict": result.verdict} for (shards, _), result in audits.items()
            ],
            "clips": clips,
            "kinds": kinds,
            "seeds": list(done),
            "seconds": time.monotonic() - begun,
        }
        write_json(folder / RESULTS, results)
        _write_page(folder, judged, measured, materials, world=world, seeds=done)
        print(f"{folder / PAGE} has the findings of {len(done)} of {seeds} seeds", flush=True)
    return results


def gather(folder: Path, world: World, *, workers: int) -> dict[str, Material]:
    """Everything that the runs learn from, by `Run.shards`; what is there is left as it is."""
    ticking = replace(world, clips=world.clips // 2, ticking=True)
    prepare(folder, world, workers=workers)
    prepare(folder / TICKING, ticking, workers=workers)
    for name, settings in ((EVERY_FRAME, replace(PACKING, every=1)), (LARGE, replace(PACKING, side=LARGE_SIDE))):
        with progress(f"packing {folder / name}", unit="videos") as report:
            pack([folder / WORLD / VIDEOS], folder / name, settings, workers=workers, progress=report)
    return {
        "plain": Material(folder / WORLD, folder / SHARDS),
        "large": Material(folder / WORLD, folder / LARGE),
        "every-frame": Material(folder / WORLD, folder / EVERY_FRAME),
        "ticking": Material(folder / TICKING / WORLD, folder / TICKING / SHARDS),
    }


def _audit(folder: Path, material: Material, shards: str, grid: Grid, *, about: Mapping[str, int]) -> Audit:
    config = load_config(CONFIG)
    assert isinstance(config, PairConfig)
    misalignment = config.data.max_misalignment_ticks

    def make() -> Audit:
        command = f"avc audit shortcut {material.packed} --grid {grid} --max-misalignment-ticks {misalignment}"
        print(command, flush=True)
        with progress("reading", unit="pairs") as report:
            return audit(Shards(material.packed), grid=grid, max_misalignment_ticks=misalignment, report=report)

    made_of = {"shards": shards, "grid": grid, "max_misalignment_ticks": misalignment, **about}
    return once(folder / PARTS / f"audit-{shards}-{grid}.json", Audit, made_of, make)


def _write_page(
    folder: Path,
    judged: Sequence[Finding],
    measured: Mapping[str, list[Measured]],
    materials: Mapping[str, Material],
    *,
    world: World,
    seeds: Sequence[int],
) -> None:
    runs = {run.key: [folder / RUN_FOLDERS / f"{run.key}-{seed}" for seed in seeds] for run in RUNS}
    plain = materials["plain"]
    labels = read_labels(plain.world)
    (folder / FIGURES).mkdir(parents=True, exist_ok=True)
    maps_of = {run.key: materials[run.shards].packed for run in RUNS if run.key.startswith("avol")}
    names = ("accuracies", "retrieval", "curves", *maps_of, "neighbors")
    png = {name: folder / FIGURES / f"{name}.png" for name in names}
    figures.accuracies(png["accuracies"], measured)
    figures.bars(png["retrieval"], retrieval(measured))
    figures.curves(png["curves"], runs)
    for key, packed in maps_of.items():
        if maps := scenes(runs[key][0], packed, labels):
            figures.examples(png[key], maps, inches=2.3)
    figures.examples(png["neighbors"], neighbors(runs["ave"][0], plain.packed, labels), inches=1.45)
    shown = (
        Figure(
            "Telling pairs apart",
            "Accuracy on pairs of held-out clips. The ceiling is for those who know the kinds: off the grid, the "
            "artifact lets a network pass it.",
            png["accuracies"],
        ),
        Figure(
            "Retrieval",
            "nDCG@30 on held-out clips: im-aud finds sounds for a frame. The rows on and off the grid are of the world "
            "with the artifact, which has fewer clips; AVE+MF has images of half the size.",
            png["retrieval"],
        ),
        Figure("Learning", "Loss on the training pairs, a line for each seed.", png["curves"]),
        Figure(
            "What makes this sound?",
            "AVOL-Net's map over the first held-out frames that show two objects, under their own sound, the sound "
            "that the silent object would make, a sound of neither, and silence.",
            png["avol"],
        ),
        Figure(
            "The same with log-mean-exp instead of the maximum",
            "All places learn, and the map has no reason to lie beside the object. The same frames and sounds.",
            png["avol_logmeanexp"],
        ),
        Figure(
            "With larger images as well",
            "Cropped to 160 pixels instead of 112: a place of the map sees 83 % of the image's side, not all of it.",
            png["avol_large"],
        ),
        Figure(
            "Nearest neighbors",
            "AVE-Net: sounds (as spectrograms) and the held-out frames nearest to them; then frames and the nearest "
            "sounds. Green: of the same kind.",
            png["neighbors"],
        ),
    )
    facts = {
        "the worlds": f"{world.clips} rendered videos of {world.kinds} kinds; and {world.clips // 2} more with the "
        "artifact, a faint click at every 0.04 s; a quarter of either held out",
        "seeds": ", ".join(map(str, seeds)),
        "networks": "configs/demo.yaml, the papers' spectrogram: a quarter of the width, images of 112 pixels or 160",
    }
    existing = [figure for figure in shown if figure.png.exists()]
    write_page(folder / PAGE, findings=judged, retrieval=retrieval(measured), figures=existing, facts=facts)
