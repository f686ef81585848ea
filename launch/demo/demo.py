"""`avc demo`: the whole line on a small rendered world, by the same code that `avc pack`, `train` and `eval` call.

1. render   a world of sounding objects, as video files            launch.demo.world
2. pack     them into shards                                       shards.pack
3. train    L3-Net, AVE-Net, and AVE-Net on shuffled sound         launch.train, configs/demo.yaml
4. measure  AVC accuracy on held-out clips, beside its ceiling     launch.report.results
"""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from avc.config import load_config
from avc.runs.attempt import METRICS
from avc.settings import PairConfig
from avc.tasks.correspondence import evaluation_sampler
from launch.config_file import CONFIGS
from launch.demo.world.contact_sheet import contact_sheet
from launch.demo.world.labels import Label, ceiling
from launch.demo.world.render import VIDEOS, held_in, render
from launch.progress import progress
from launch.report.results import as_json, correspondence, write_json
from launch.train import run as train
from shards.format import PackSettings
from shards.pack import pack
from shards.read import Shards

CONFIG = CONFIGS / "demo.yaml"
# Pictures of 128 pixels are enough for the demo's network, and every other one of them.
PACKING = PackSettings(side=128, every=2, split=(0.75, 0.25, 0.0))
SECONDS = 2.6  # of a clip
WORLD, SHARDS = "world", "shards"  # in the demo's folder
PASSES = 4  # each held-out clip is judged so often in each role


@dataclass(frozen=True)
class Candidate:
    """A network to train: its name in the table, its run's folder, the settings that differ from configs/demo.yaml."""

    name: str
    run: str
    settings: tuple[str, ...]


CANDIDATES = (
    Candidate("AVE-Net", "ave", ("model.name=ave",)),
    Candidate("L3-Net", "l3", ("model.name=l3", "training.steps=600")),
    Candidate("AVE-Net, sound shuffled between videos", "shuffled", ("training.steps=200", "data.shuffle_sound=true")),
)


def demo(
    folder: Path, *, clips: int, kinds: int, seed: int, workers: int, say: Callable[[str], None]
) -> dict[str, Any]:
    """Render, pack, train and measure in `folder`; returns what it writes to results.json there.

    Started again in the same folder, it goes on where it was. Raises ValueError where the folder holds something else.
    """
    begun = time.monotonic()
    packed, runs = folder / SHARDS, folder / "runs"
    labels = prepare(folder, clips=clips, kinds=kinds, seed=seed, workers=workers, say=say)
    rows = []
    for candidate in CANDIDATES:
        run = runs / candidate.run
        settings = [*places(packed, run), f"run.seed={seed}", *candidate.settings]
        say(f"training {candidate.name}: {shlex.join(['avc', 'train', str(CONFIG), *settings])}")
        train(str(CONFIG), settings)
        with progress("judging", unit="pairs") as report:
            result = correspondence(run, passes=PASSES, report=report)
        rows.append({"name": candidate.name, "run": str(run)} | as_json(result))
    limit = ceiling_of_split(packed, seed=seed, labels=labels)
    results = {
        "ceiling": limit,
        "rows": [row | {"share_of_ceiling": row["accuracy"] / limit} for row in rows],
        "clips": clips,
        "kinds": kinds,
        "seed": seed,
        "seconds": time.monotonic() - begun,
    }
    write_json(folder / "results.json", results)
    draw(results, folder / "results.png")
    return results


def prepare(
    folder: Path,
    *,
    clips: int,
    kinds: int,
    seed: int,
    workers: int,
    say: Callable[[str], None],
    ticking: bool = False,
) -> dict[str, Label]:
    """Render a world into `folder` and pack it there; returns its labels by file name. What is done is left as it is.

    `ticking` is `launch.demo.world.render.render`'s. Raises ValueError where the folder holds another world.
    """
    world, packed = folder / WORLD, folder / SHARDS
    wanted = {"clips": clips, "kinds": kinds, "seed": seed, "ticking": ticking}
    if held := held_in(world):
        held |= {"kinds": len(held["kinds"])}
    other = [f"{name} {held[name]} and not {value}" for name, value in wanted.items() if held and held[name] != value]
    if other:
        raise ValueError(f"{folder} holds another world, of {', '.join(other)}; give another --folder")
    say(f"rendering {clips} videos of sounding objects into {world}")
    with progress("rendering", unit="videos") as report:
        labels = render(
            world,
            clips=clips,
            seed=seed,
            seconds=SECONDS,
            kinds=kinds,
            workers=workers,
            ticking=ticking,
            progress=lambda n, of: report(n, of, ""),
        )
    contact_sheet(world, folder / "world.png")
    options = (
        f"--side {PACKING.side} --every {PACKING.every} --split {','.join(f'{share:g}' for share in PACKING.split)}"
    )
    command = f"{shlex.join(['avc', 'pack', str(world / VIDEOS), '--out', str(packed)])} {options}"
    say(f"{folder / 'world.png'} shows them. Packing: {command}")
    with progress("packing", unit="videos") as report:
        pack([world / VIDEOS], packed, PACKING, workers=workers, progress=report)
    return labels


def places(packed: Path, run: Path) -> list[str]:
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
    return ceiling(((name[frame], name[sound]) for frame, sound in pairs), labels)


def draw(results: dict[str, Any], png: Path) -> None:
    """Accuracy while training, and on held-out clips beside ceiling and chance."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (curves, bars) = pyplot.subplots(1, 2, figsize=(11, 4), layout="constrained")
    for number, row in enumerate(results["rows"]):
        lines = [json.loads(line) for line in (Path(row["run"]) / METRICS).read_text().splitlines()]
        lines = [line for line in lines if line["kind"] == "train"]
        color = f"C{number}"
        curves.plot([line["step"] for line in lines], [line["accuracy"] for line in lines], color=color)
        low, high = row["interval_95"]
        bars.barh(number, row["accuracy"], color=color)
        bars.errorbar((low + high) / 2, number, xerr=(high - low) / 2, color="black", capsize=3)
    curves.set(title="while training", xlabel="step", ylabel="AVC accuracy", ylim=(0.4, 1))
    bars.set(title="on held-out clips", xlabel="AVC accuracy", xlim=(0.4, 1))
    bars.set_yticks(range(len(results["rows"])), [row["name"].replace(", ", ",\n") for row in results["rows"]])
    bars.invert_yaxis()
    for axes, line in ((curves, "axhline"), (bars, "axvline")):
        getattr(axes, line)(results["ceiling"], color="black", linestyle="--", linewidth=1, label="ceiling")
        getattr(axes, line)(0.5, color="gray", linestyle=":", linewidth=1, label="chance")
    curves.legend(loc="upper left")
    figure.savefig(png, dpi=110)
    pyplot.close(figure)
