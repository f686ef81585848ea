"""The whole line on a small rendered world, by the same code that `avc pack`, `train` and `eval` call.

1. render   a world of sounding objects, as video files            workshop.demo.world
2. pack     them into shards                                       shards.pack
3. train    AVE-Net, L3-Net, AVOL-Net, AVE-Net on shuffled sound   launch.train, configs/demo.yaml
4. measure  AVC accuracy on held-out clips, beside its ceiling     avc.evaluation.correspondence
5. show     results, retrieval that plays, units, an explorer      workshop.demo.page
"""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from threadpoolctl import threadpool_limits

from avc.config import load_config
from avc.distributed.join import bf16_speedup
from avc.evaluation.correspondence import judge_pairs
from avc.runs.attempt import METRICS, place
from avc.settings import PairConfig
from avc.tasks.held_out import evaluation_sampler
from launch.progress import progress
from launch.report.figures import drawn
from launch.report.results import write_json
from launch.train import CONFIGS
from launch.train import run as train
from shards.format import PackSettings
from shards.pack import pack
from shards.read import Shards
from workshop.demo.page import write_demo_page
from workshop.demo.world.contact_sheet import contact_sheet
from workshop.demo.world.render import VIDEOS, Label, World, ceiling, description, render, stored_world

CONFIG = CONFIGS / "demo.yaml"
# Frames of 128 pixels are enough for the demo's network, and every other one of them.
PACKING = PackSettings(side=128, every=2, split=(0.75, 0.25, 0.0))
SECONDS = 2.6  # of a clip
WORLD, SHARDS = "world", "shards"  # in the demo's folder
PASSES = 4  # each held-out clip is judged so often in each role


@dataclass(frozen=True)
class Run:
    """A network to train. key: its folder's name; name: in tables; settings: what differs from configs/demo.yaml."""

    key: str
    name: str
    settings: tuple[str, ...]

    def train(self, packed: Path, folder: Path, *, seed: int) -> None:
        """Train it on packed videos, or go on with it, in `folder`."""
        settings = [*run_settings(packed, folder), f"run.seed={seed}", *self.settings]
        if bf16_speedup() > 1:
            settings.append("training.precision=bf16")
        print(f"training {self.name}: {shlex.join(['avc', 'train', str(CONFIG), *settings])}", flush=True)
        train(str(CONFIG), settings)


# Fewer steps than Adam needs, with a rate that falls with each pass over the clips, 22 steps.
MUON = ("optim.optimizer=muon", "optim.lr_decay_epochs=1")
QUICK = (*MUON, "optim.lr=8e-3", "optim.lr_decay=0.6")
SLOWER = (*MUON, "optim.lr=4e-3", "optim.lr_decay=0.75", "training.steps=240")
# On a quarter of the spectrogram AVOL-Net needs more steps than on the whole one, where 240 do.
SLOWEST = (*MUON, "optim.lr=4e-3", "optim.lr_decay=0.78", "training.steps=286")
RUNS = (
    Run("ave", "AVE-Net", ("model.name=ave", *QUICK, "training.steps=130")),
    Run("l3", "L3-Net", ("model.name=l3", *SLOWER)),
    # Log-mean-exp finds the middle of an object more often than the paper's maximum does (docs/study.md).
    Run("avol", "AVOL-Net", ("model.name=avol", "model.pooling=logmeanexp", *SLOWEST)),
    Run("shuffled", "AVE-Net, sound shuffled between videos", (*QUICK, "training.steps=40", "data.shuffle_sound=true")),
)


def demo(folder: Path, *, clips: int, kinds: int, seed: int, workers: int) -> dict[str, Any]:
    """Render, pack, train and measure in `folder`; returns what it writes to results.json there.

    Started again in the same folder, it goes on where it was. Raises ValueError where the folder holds something else.
    """
    begun = time.monotonic()
    packed = folder / SHARDS
    labels = prepare(folder, World(clips=clips, seed=seed, seconds=SECONDS, kinds=kinds), workers=workers)
    limit = ceiling_of_split(packed, seed=seed, labels=labels)
    rows = []
    for run in RUNS:
        run_folder = folder / "runs" / run.key
        run.train(packed, run_folder, seed=seed)
        with progress("judging", unit="pairs") as report:
            accuracy = judge_pairs(run_folder, Shards(packed), passes=PASSES, report=report)
        result = asdict(accuracy) | {"chance": 0.5}
        share = {"share_of_ceiling": result["accuracy"] / limit}
        rows.append({"name": run.name, "run": str(run_folder)} | result | share)
    about = {"ceiling": limit, "rows": rows, "clips": clips, "kinds": kinds, "seed": seed}
    results = about | {"seconds": time.monotonic() - begun}
    write_json(folder / "results.json", results)
    draw(results, folder / "results.png")
    with threadpool_limits(1):  # on so few clips threads wait for each other for longer than they compute
        write_demo_page(folder, results, packed, labels, ave=folder / "runs" / "ave", avol=folder / "runs" / "avol")
    return results


def prepare(folder: Path, world: World, *, workers: int) -> dict[str, Label]:
    """Render a world into `folder` and pack it there; returns its labels by file name. What is done is left as it is.

    Raises ValueError where the folder holds another world.
    """
    videos, packed = folder / WORLD / VIDEOS, folder / SHARDS
    wanted = description(world)
    stored = stored_world(folder / WORLD) or wanted
    other = [
        f"{name} {stored.get(name)} and not {value}" for name, value in wanted.items() if stored.get(name) != value
    ]
    if other:
        raise ValueError(f"{folder} holds another world, of {', '.join(other)}; give another --folder")
    print(f"rendering {world.clips} videos of sounding objects into {folder / WORLD}", flush=True)
    with progress("rendering", unit="videos") as report:
        labels = render(folder / WORLD, world, workers=workers, progress=lambda n, of: report(n, of, ""))
    contact_sheet(folder / WORLD, folder / "world.png")
    shares = ",".join(f"{share:g}" for share in PACKING.split)
    options = f"--side {PACKING.side} --every {PACKING.every} --split {shares}"
    command = f"{shlex.join(['avc', 'pack', str(videos), '--out', str(packed)])} {options}"
    print(f"{folder / 'world.png'} shows them. Packing: {command}", flush=True)
    with progress("packing", unit="videos") as report:
        pack([videos], packed, PACKING, workers=workers, progress=report)
    return labels


def run_settings(packed: Path, run: Path) -> list[str]:
    """The settings that name a training's shards and its run's folder, whatever characters are in the names."""
    return [f"data.shards={json.dumps(str(packed))}", f"run.dir={json.dumps(str(run))}"]


def ceiling_of_split(packed: Path, *, seed: int, labels: Mapping[str, Label]) -> float:
    """The best accuracy possible on the very negatives that the networks are judged on."""
    shards = Shards(packed)
    config = load_config(CONFIG, [f"run.seed={seed}"])
    assert isinstance(config, PairConfig)
    sampler = evaluation_sampler(config, shards, split="validation")
    rows = sampler.rows(0, PASSES * sampler.rows_per_epoch)
    name = {clip: shards.info(clip)["name"] for clip in sampler.clips.tolist()}
    negatives = rows.label == 0
    pairs = zip(rows.frame_clip[negatives].tolist(), rows.audio_clip[negatives].tolist(), strict=True)
    return ceiling(((name[frame], name[audio]) for frame, audio in pairs), labels)


def training_curve(run: Path, metric: str) -> tuple[list[int], list[float]]:
    """Steps and a metric at each of them, from a run's log."""
    lines = [json.loads(line) for line in place(run, METRICS).read_text(encoding="utf-8").splitlines()]
    lines = [line for line in lines if line["kind"] == "train"]
    return [line["step"] for line in lines], [line[metric] for line in lines]


def draw(results: dict[str, Any], png: Path) -> None:
    """Accuracy while training, and on held-out clips beside ceiling and chance."""
    rows = results["rows"]
    with drawn(png, size=(11, 4), columns=2) as (_, [[curves, bars]]):
        for number, row in enumerate(rows):
            curves.plot(*training_curve(Path(row["run"]), "accuracy"), color=f"C{number}")
            low, high = row["interval_95"]
            bars.barh(number, row["accuracy"], color=f"C{number}")
            bars.errorbar((low + high) / 2, number, xerr=(high - low) / 2, color="black", capsize=3)
        curves.set(title="while training", xlabel="step", ylabel="AVC accuracy", ylim=(0.4, 1))
        bars.set(title="on held-out clips", xlabel="AVC accuracy", xlim=(0.4, 1))
        bars.set_yticks(range(len(rows)), [row["name"].replace(", ", ",\n") for row in rows])
        bars.invert_yaxis()
        for line in (curves.axhline, bars.axvline):
            line(results["ceiling"], color="black", linestyle="--", linewidth=1, label="ceiling")
            line(0.5, color="gray", linestyle=":", linewidth=1, label="chance")
        curves.legend(loc="upper left")
