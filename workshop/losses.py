"""Trains two versions of the project at a fixed seed and says whether their numbers are equal, or where they part.

    python -m workshop.losses v0.1.0                     # this working tree beside that commit
    python -m workshop.losses v0.1.0 HEAD --configs l3 ave

Every configuration of configs/ takes a few steps at a small width on one rendered world, which the first version packs,
in one thread on the CPU. Losses, digests of the pairs, and all numbers of validation are compared as they stand in
metrics.jsonl, to the last digit. Exit status 1 where one differs, or one version has a number that the other lacks.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from launch.user_errors import user_errors

ROOT = Path(__file__).resolve().parents[1]
OBJECTS, SCENES = 8, 4  # classes of the teachers
MEASURED = ("speed/", "system/", "data/wait")  # groups of metrics that depend on the machine
COMMON: dict[str, Any] = {
    **{"training.device": "cpu", "training.compile": "false", "data.num_workers": 0, "model.width": 0.0625},
    **{"validation.every_steps": 10, "checkpoint.every_steps": 1000, "log.every_steps": 1, "log.wandb": "disabled"},
}
PAIRS: dict[str, Any] = {
    "optim.batch_pairs": 32,
    "optim.micro_batch_pairs": 16,
    "data.image_size": 40,
    "validation.batch_pairs": 16,
}
SEGMENTS: dict[str, Any] = {"optim.batch_pairs": 4, "optim.micro_batch_pairs": 2, "validation.batch_pairs": 2}
BLOCKS: dict[str, Any] = {"negatives.block": 8}  # where negatives are shared
OWN: dict[str, dict[str, Any]] = {
    "autoencoder": {**SEGMENTS, "validation.batch_pairs": None},
    "demo_soundnet": SEGMENTS,
    "soundnet5": {**SEGMENTS, "model.objects": OBJECTS, "model.scenes": SCENES},
    "soundnet8": {**SEGMENTS, "model.objects": OBJECTS, "model.scenes": SCENES},
    **dict.fromkeys(("ave_fast", "ave_fast_one_gpu", "demo", "l3_fast_one_gpu", "small"), PAIRS | BLOCKS),
    "ave_nce": PAIRS | BLOCKS | {"optim.micro_batch_pairs": 32},  # its loss compares all pairs of a step
}
WORLD = """
import sys
from pathlib import Path
from workshop.demo.world.render import World, render
render(Path(sys.argv[1]), World(clips=48, seed=1, seconds=2.6, kinds=8), workers=2)
"""

Line = dict[str, Any]


def overrides(config: str, folder: Path, *, steps: int) -> list[str]:
    """Settings by which a configuration trains for a moment on the world in `folder`."""
    settings = COMMON | OWN.get(config, PAIRS) | {"training.steps": steps, "data.shards": folder / "shards"}
    if "soundnet" in config:
        settings["data.teachers"] = folder / "teachers"
    if config == "supervised":
        settings |= {"model.num_classes": OBJECTS, "data.labels": folder / "world" / "labels.jsonl"}
    return [f"{name}={value}" for name, value in settings.items() if value is not None]


def call(version: Path, *command: str | Path) -> None:
    """Run a Python program of a version in one thread. Raises RuntimeError, with what it printed, where it fails."""
    environment = os.environ | {"PYTHONPATH": str(version), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [sys.executable, *map(str, command)],
        cwd=version,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if done.returncode:
        raise RuntimeError(f"{version}: {' '.join(map(str, command))} ended with {done.returncode}:\n{done.stdout}")


def check_out(commit: str, folder: Path) -> Path:
    """The files of a commit, in a new folder; the working tree itself for ".". Raises ValueError for no commit."""
    if commit == ".":
        return ROOT
    archive = subprocess.run(["git", "-C", ROOT, "archive", commit], capture_output=True)
    if archive.returncode:
        raise ValueError(f"{commit} is no commit here: {archive.stderr.decode(errors='replace').strip()}")
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as tar:
        tar.extractall(folder, filter="data")
    return folder


def make_world(version: Path, folder: Path) -> None:
    """A rendered world, its shards with optical flow, and teachers' soft labels made of random numbers."""
    call(ROOT, "-c", WORLD, folder / "world")  # by this tool: versions differ in where their renderer is
    pack = ("pack", folder / "world" / "videos", "--out", folder / "shards", "--side", "64", "--flow", "--workers", "2")
    call(version, "-m", "launch.cli", *pack)
    rows = sum(1 for _ in (folder / "world" / "videos").iterdir())
    rng = np.random.default_rng(0)
    teach: list[str | Path] = ["teach", folder / "shards", "--out", folder / "teachers", "--workers", "1"]
    for name, classes in (("objects", OBJECTS), ("scenes", SCENES)):
        np.save(folder / f"{name}.npy", rng.dirichlet(np.ones(classes), size=rows).astype(np.float32))
        teach += ["--teacher", folder / f"{name}.npy"]
    call(version, "-m", "launch.cli", *teach)


def numbers(run: Path) -> list[Line]:
    """The lines of a run's metrics by their names today, without what depends on the machine."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if not name.startswith(MEASURED)} for line in lines]


def parting(first: list[Line], second: list[Line]) -> str:
    """Where two runs' numbers part first, in words; empty where they are equal."""
    for one, other in zip(first, second, strict=False):
        for name in [*one, *(name for name in other if name not in one)]:
            if one.get(name) != other.get(name):
                return f"step {one['step']}, {one['kind']} {name}: {one.get(name)} and {other.get(name)}"
    return "" if len(first) == len(second) else f"{len(first)} and {len(second)} lines of metrics"


def compare(versions: tuple[Path, Path], folder: Path, configs: list[str], *, steps: int) -> bool:
    """Train both versions on one world, print a line for each configuration; whether all are equal."""
    make_world(versions[0], folder)
    all_equal = True
    for config in configs:
        runs = []
        for number, version in enumerate(versions):
            run = folder / f"{config}-{number}"
            settings = [*overrides(config, folder, steps=steps), f"run.dir={run}"]
            call(version, "-m", "launch.train", f"configs/{config}.yaml", *settings)
            runs.append(numbers(run))
        where = parting(*runs)
        last = next(line["loss"] for line in reversed(runs[0]) if line["kind"] == "train")
        print(f"{config:20} {f'PARTS at {where}' if where else f'equal: loss {last!r} at {steps}'}", flush=True)
        all_equal &= not where
    return all_equal


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("first", help="A commit, or . for the working tree.")
    parser.add_argument("second", nargs="?", default=".", help="The same; the working tree where it is left out.")
    # All but `few`, whose towers are weights that others released.
    names = sorted(path.stem for path in (ROOT / "configs").glob("*.yaml") if path.stem != "few")
    parser.add_argument("--configs", nargs="+", choices=names, default=names, help="Of configs/; all by default.")
    parser.add_argument("--steps", type=int, default=20)
    arguments = parser.parse_args()
    with user_errors("workshop.losses"), tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        versions = check_out(arguments.first, folder / "first"), check_out(arguments.second, folder / "second")
        sys.exit(not compare(versions, folder, arguments.configs, steps=arguments.steps))


if __name__ == "__main__":
    main()
