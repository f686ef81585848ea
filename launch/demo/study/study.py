"""The study from end to end.

1. worlds    the demo's, and a smaller one with an artefact planted in its sound       launch.demo, launch.demo.world
2. audits    of both worlds, by the paper's rule and by the faulty one                 avc.evaluation.shortcut
3. runs      seed by seed, every row of the table: train, measure on held-out clips    launch.demo.study.runs
4. page      after each seed anew: findings and figures                                launch.demo.study.page

What is done lies in files and is never computed again, so that the same command goes on after any interruption.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from avc.config import load_config
from avc.evaluation.shortcut import Audit, Grid, audit
from avc.settings import PairConfig
from launch.demo.demo import CONFIG, PACKING, SHARDS, WORLD, prepare
from launch.demo.study import figures
from launch.demo.study.estimates import MOST_SEEDS
from launch.demo.study.examples import retrieved, scenes
from launch.demo.study.findings import DIRECTIONS, Finding, findings, retrieval
from launch.demo.study.page import Figure, write_page
from launch.demo.study.parts import once
from launch.demo.study.runs import RUNS, Measured, train_and_measure
from launch.demo.world.labels import Label
from launch.demo.world.render import VIDEOS
from launch.progress import progress
from launch.report.results import write_json
from shards.pack import pack
from shards.read import Shards

TICKING, FILM, PARTS, RUN_FOLDERS = "ticking", "film", "study/parts", "study/runs"
PAGE, RESULTS = "study.html", "study.json"

# What is audited under which rule: the plain world, and the one with the artefact.
AUDITS: tuple[tuple[str, Grid], ...] = (("plain", "frame"), ("ticking", "frame"), ("ticking", "free"))


@dataclass(frozen=True)
class Material:
    """Rendered videos, the shards that they were packed into, and their labels."""

    world: Path
    packed: Path
    labels: Mapping[str, Label]


def study(
    folder: Path, *, clips: int, kinds: int, seed: int, seeds: int, workers: int, say: Callable[[str], None]
) -> dict[str, Any]:
    """Conduct the study in `folder` with seeds `seed` to `seed + seeds - 1`; returns what it writes to study.json.

    Raises ValueError for too many seeds, and where the folder holds a study of other settings.
    """
    if seeds > MOST_SEEDS:
        raise ValueError(f"--seeds is {seeds}: intervals are known for up to {MOST_SEEDS}")
    begun = time.monotonic()
    materials = gather(folder, clips=clips, kinds=kinds, seed=seed, workers=workers, say=say)
    about = {"clips": clips, "kinds": kinds, "world": seed}
    audits = {
        (shards, grid): _audited(folder, materials[shards], shards, grid, about=about, say=say)
        for shards, grid in AUDITS
    }
    measured: dict[str, list[Measured]] = {run.key: [] for run in RUNS}
    about_runs = about | {"configuration": CONFIG.read_text(encoding="utf-8")}
    results: dict[str, Any] = {}
    for current in range(seed, seed + seeds):
        for run in RUNS:
            say(f"seed {current}: {run.name}")
            place = run_folder(folder, run.key, current)
            make = partial(train_and_measure, run, folder=place, seed=current, **vars(materials[run.shards]))
            made_of = about_runs | {"settings": run.settings, "seed": current}
            measured[run.key].append(once(folder / PARTS / f"{place.name}.json", Measured, made_of, make))
        judged = findings(measured, audits)
        results = {
            "findings": [asdict(one) for one in judged],
            "retrieval": {
                name: dict(zip(DIRECTIONS, map(asdict, scores), strict=True))
                for name, scores in retrieval(measured).items()
            },
            "runs": {key: [asdict(own) for own in owns] for key, owns in measured.items()},
            "audits": [asdict(one) | {"shards": shards, "verdict": one.verdict} for (shards, _), one in audits.items()],
            "clips": clips,
            "kinds": kinds,
            "seeds": list(range(seed, current + 1)),
            "seconds": time.monotonic() - begun,
        }
        write_json(folder / RESULTS, results)
        _write(folder, judged, measured, materials["plain"], clips=clips, kinds=kinds, seeds=results["seeds"])
        say(f"{folder / PAGE} has the findings of {len(results['seeds'])} of {seeds} seeds")
    return results


def gather(
    folder: Path, *, clips: int, kinds: int, seed: int, workers: int, say: Callable[[str], None]
) -> dict[str, Material]:
    """Everything that the runs learn from, by `Run.shards`; what is there is left as it is."""
    labels = prepare(folder, clips=clips, kinds=kinds, seed=seed, workers=workers, say=say)
    plain = Material(folder / WORLD, folder / SHARDS, labels)
    film = Material(plain.world, folder / FILM, labels)
    say(f"packing every picture of it into {film.packed}")
    with progress("packing", unit="videos") as report:
        pack([film.world / VIDEOS], film.packed, replace(PACKING, every=1), workers=workers, progress=report)
    ticking = folder / TICKING
    labels = prepare(
        ticking, clips=ticking_clips(clips), kinds=kinds, seed=seed, workers=workers, say=say, ticking=True
    )
    return {"plain": plain, "film": film, "ticking": Material(ticking / WORLD, ticking / SHARDS, labels)}


def ticking_clips(clips: int) -> int:
    """How many clips the world with the artefact has beside a plain one of so many."""
    return clips // 2


def run_folder(folder: Path, key: str, seed: int) -> Path:
    """Where a row of the table was trained with a seed."""
    return folder / RUN_FOLDERS / f"{key}-{seed}"


def _audited(
    folder: Path, material: Material, shards: str, grid: Grid, *, about: Mapping[str, int], say: Callable[[str], None]
) -> Audit:
    config = load_config(CONFIG)
    assert isinstance(config, PairConfig)
    misalignment = config.data.max_misalignment_ticks

    def make() -> Audit:
        say(f"avc audit shortcut {material.packed} --grid {grid} --max-misalignment-ticks {misalignment}")
        with progress("reading", unit="pairs") as report:
            return audit(Shards(material.packed), grid=grid, max_misalignment_ticks=misalignment, report=report)

    made_of = {"shards": shards, "grid": grid, "max_misalignment_ticks": misalignment, **about}
    return once(folder / PARTS / f"audit-{shards}-{grid}.json", Audit, made_of, make)


def _write(
    folder: Path,
    judged: tuple[Finding, ...],
    measured: Mapping[str, list[Measured]],
    plain: Material,
    *,
    clips: int,
    kinds: int,
    seeds: list[int],
) -> None:
    folders = {run.key: [run_folder(folder, run.key, seed) for seed in seeds] for run in RUNS}
    first = {key: places[0] for key, places in folders.items()}
    looked_at = scenes(first["avol"], plain.packed, plain.labels)
    shown = [
        Figure(
            "Telling pairs apart",
            "Accuracy on pairs of held-out clips. The ceiling is for those who know the kinds: off the grid, the "
            "artefact lets a network pass it.",
            figures.accuracies(measured),
        ),
        Figure(
            "Retrieval",
            "nDCG@30 on held-out clips: im-aud finds sounds for a frame. The rows on and off the grid are of the world "
            "with the artefact, which has fewer clips; AVE+MF has images of half the size.",
            figures.bars(retrieval(measured)),
        ),
        Figure("Learning", "Loss on the training pairs, a line for each seed.", figures.curves(folders)),
        Figure(
            "What makes this sound?",
            "AVOL-Net's map over the first held-out frames that show two objects, under their own sound, the sound "
            "that the silent object would make, a sound of neither, and silence.",
            figures.overlays(looked_at),
        )
        if looked_at
        else None,
        Figure(
            "Nearest neighbors",
            "AVE-Net: sounds (as spectrograms) and the held-out frames nearest to them; then frames and the nearest "
            "sounds. Green: of the same kind.",
            figures.neighbors(retrieved(first["ave"], plain.packed, plain.labels)),
        ),
    ]
    facts = {
        "the worlds": f"{clips} rendered videos of {kinds} kinds; and {ticking_clips(clips)} more with the artefact, a "
        "faint click at every 0.04 s; a quarter of either held out",
        "seeds": ", ".join(map(str, seeds)),
        "networks": "configs/demo.yaml: a quarter of the papers' width, pictures of 112",
    }
    write_page(
        folder / PAGE,
        findings=judged,
        retrieval=retrieval(measured),
        figures=[one for one in shown if one],
        facts=facts,
    )
