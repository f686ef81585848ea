"""The laptop speedrun: `python -m records NAME` trains a record again, once for each seed, and judges it.

A record is a folder with a script, train.py, whose `train(shards, seed, clock)` returns a network and the settings that
it is judged with. What counts is processor time, of this process and those that it starts, times the rate at which the
same processor multiplies matrices during the same training: the products that would have been done in that time.
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import runpy
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from avc.data.labels import labeled, read_labels
from avc.data.ontology import flat_relevance
from avc.distributed.join import join
from avc.encoders.trained import trained
from avc.evaluation.retrieval import evaluate_retrieval
from avc.models.pair import PairNetwork
from avc.settings import PairConfig
from avc.tasks.held_out import evaluate
from shards.read import Shards
from workshop.demo.demo import PASSES, SECONDS, SHARDS, WORLD, ceiling_of_split, prepare
from workshop.demo.world.render import LABELS, Label, World

HERE = Path(__file__).parent
SEED = 1  # of the world, and of the pairs and moments that are judged, whatever the training's
ACCURACY, NDCG = 0.85, 0.80
SIDE = 1024  # of the matrices
PIECES = 16  # of a training, between which the rate is measured


class Clock:
    """Counts processor seconds while a network is trained, and takes the rate of matrix products in between.

    seconds: of processor time so far. rates: GFLOP/s of fp32 products on one thread, by processor time.
    """

    def __init__(self) -> None:
        self.seconds, self.rates = 0.0, list[float]()
        self._since: float | None = None

    def start(self) -> None:
        """Count from now on."""
        self._since = processor_seconds()

    def stop(self) -> None:
        """Count no further, and measure the rate."""
        assert self._since is not None, "start() comes first"
        self.seconds += processor_seconds() - self._since
        self.rates.append(matrix_rate())

    def at(self, step: int, steps: int) -> None:
        """Call after each step: it interrupts the count a few times for the rate."""
        if step < steps and step * PIECES // steps != (step - 1) * PIECES // steps:
            self.stop()
            self.start()

    def steps(self, count: int) -> Iterator[int]:
        """range(count), with `at` after each."""
        for step in range(count):
            yield step
            self.at(step + 1, count)

    @property
    def work(self) -> float:
        """Processor time times rate, in TFLOP."""
        return self.seconds * statistics.median(self.rates) / 1e3


def processor_seconds() -> float:
    """User and system, of this process and of the children that it has waited for."""
    both = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return sum(usage.ru_utime + usage.ru_stime for usage in both)


def matrix_rate(*, products: int = 12) -> float:
    """GFLOP/s of fp32 products on one thread, by processor time."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    a = torch.ones(SIDE, SIDE)
    a @ a
    since = time.thread_time()
    for _ in range(products):
        a @ a
    seconds = time.thread_time() - since
    torch.set_num_threads(threads)
    return products * 2 * SIDE**3 / seconds / 1e9


Train = Callable[[Shards, int, Clock], tuple[PairNetwork, PairConfig]]


@dataclass(frozen=True)
class Run:
    """One seed's: accuracy of correspondence and nDCG@30 from image to sound, 0 to 1, and what it took."""

    seed: int
    accuracy: float
    ndcg: float
    clock: Clock

    @property
    def reached(self) -> bool:
        """Both targets."""
        return self.accuracy >= ACCURACY and self.ndcg >= NDCG

    def __str__(self) -> str:
        rates = self.clock.rates
        return (
            f"seed {self.seed}: accuracy {self.accuracy:.1%}, nDCG@30 {self.ndcg:.3f}, "
            f"{self.clock.seconds:.1f} s at {statistics.median(rates):.1f} ({min(rates):.1f} to {max(rates):.1f}) "
            f"GFLOP/s: {self.clock.work:.2f} TFLOP{'' if self.reached else ', not reached'}"
        )


def run(train: Train, shards: Shards, *, seed: int, labels: Path) -> Run:
    """Train with a seed, and judge on the held-out clips."""
    clock = Clock()
    clock.start()
    network, config = train(shards, seed, clock)
    clock.stop()
    accuracy, ndcg = judge(network, config, shards, labels)
    return Run(seed, accuracy, ndcg, clock)


def judge(network: PairNetwork, config: PairConfig, shards: Shards, labels: Path) -> tuple[float, float]:
    """Accuracy on the demo's pairs, and nDCG@30 from image to sound: the same pairs and moments for every network."""
    settings = config.run.model_copy(update={"seed": SEED})
    config = config.model_copy(update={"run": settings})
    clips = shards.clips("validation")
    with join(config.training) as world:
        accuracy = evaluate(network.eval(), shards, config, world, split="validation", passes=PASSES).accuracy
    known = labeled(shards, clips, read_labels(labels))
    relevance = flat_relevance(len(known.classes))
    rows = evaluate_retrieval(trained(network, config), shards, known, relevance=relevance, gain="exponential")
    assert rows[0].im_aud is not None, rows[0]
    return accuracy, rows[0].im_aud.mean


def prepared(folder: Path) -> dict[str, Label]:
    """Render and pack the demo's world in a folder, or find it there; its labels."""
    return prepare(folder, World(clips=960, seed=SEED, seconds=SECONDS, kinds=8), workers=len(os.sched_getaffinity(0)))


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser("python -m records", description=__doc__)
    parser.add_argument("name", choices=sorted(path.parent.name for path in HERE.glob("*/train.py")))
    parser.add_argument("--folder", type=Path, default=Path("demo-world"), help="Of `make demo`; made if it lacks.")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3], help="Of the trainings.")
    asked = parser.parse_args(arguments)
    labels = prepared(asked.folder)
    shards = Shards(asked.folder / SHARDS)
    print(f"{asked.name}: torch {torch.__version__}, Python {platform.python_version()}, {os.cpu_count()} cores")
    print(
        f"ceiling of the accuracy {ceiling_of_split(asked.folder / SHARDS, seed=SEED, labels=labels):.1%}", flush=True
    )
    train: Train = runpy.run_path(str(HERE / asked.name / "train.py"))["train"]
    runs = []
    for seed in asked.seeds:
        runs.append(run(train, shards, seed=seed, labels=asked.folder / WORLD / LABELS))
        print(runs[-1], flush=True)
    mean = statistics.mean(each.clock.work for each in runs)
    print(f"mean {mean:.2f} TFLOP, {'both targets in each' if all(each.reached for each in runs) else 'not reached'}")
    if not all(each.reached for each in runs):
        sys.exit(1)


if __name__ == "__main__":
    main()
