"""AVC accuracy: how often a network tells pairs that belong together from pairs that do not. Chance is one half."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from avc.config import Config
from avc.data.hard import hard_negatives
from avc.data.loader import Batch, PairReader
from avc.data.plan import Plan
from avc.data.prefetch import load
from avc.data.transforms import pictures_to_input, sound_to_input
from avc.evaluation.intervals import wilson_interval
from avc.models import MODELS
from avc.training.distributed import World
from shards.read import Shards


@dataclass(frozen=True)
class Correspondence:
    """pairs: how many were judged, half of them positives. accuracy and its parts: 0 to 1. loss: nats per pair."""

    pairs: int
    accuracy: float
    positives_accuracy: float
    negatives_accuracy: float
    loss: float

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's 95 % interval of the accuracy, as if the pairs were independent."""
        return wilson_interval(self.accuracy, self.pairs)


def evaluation_plan(config: Config, shards: Shards, *, split: str, grid: Literal["frame", "free"] = "frame") -> Plan:
    """The fixed plan of a split: the papers' independent pairs on the grid, centred, whatever the training drew.

    `grid="free"` takes negatives off it, as Objects that Sound 3.3 did when it measured what the shortcut is worth.
    Raises ValueError where the split has too few clips.
    """
    clips = shards.clips(split)
    if len(clips) < 2:
        raise ValueError(
            f"{shards.folder} has {len(clips)} clips in its {split} split, and pairs need at least 2; "
            "choose another split or pack with other shares (`avc pack --split`)"
        )
    return Plan(shards.index, clips, seed=config.run.seed, grid=grid, max_misalignment_ticks=0)


def evaluate(
    model: nn.Module,
    shards: Shards,
    config: Config,
    world: World,
    *,
    split: str,
    passes: int,
    grid: Literal["frame", "free"] = "frame",
    report: Callable[[int, int, str], None] | None = None,
) -> Correspondence:
    """Judge every clip of the split `passes` times in each role, once over all ranks. Every rank must call it.

    The network is put into evaluation mode for the while, so its batch statistics stay as they are. `report`, if
    given, is told how many pairs of this rank are done, of how many.
    """
    plan = evaluation_plan(config, shards, split=split, grid=grid)
    sight = MODELS[config.model.name].sight
    reader = PairReader(shards, plan, image_size=config.data.image_size, augment=False, sight=sight)
    stretches = list(_stretches(passes * plan.rows_per_epoch, config.validation.batch_pairs, world))
    batches = load(reader, iter(stretches), num_workers=config.data.num_workers, pin=world.device.type == "cuda")
    was_training = model.training
    model.eval()
    try:
        totals = world.sum(_totals(model, _counted(batches, stretches, report), config, world.device))
    finally:
        model.train(was_training)
    pairs, positives, right_positives, right_negatives, loss = totals
    return Correspondence(
        pairs=int(pairs),
        accuracy=(right_positives + right_negatives) / pairs,
        positives_accuracy=right_positives / positives,
        negatives_accuracy=right_negatives / (pairs - positives),
        loss=loss / pairs,
    )


def judge(model: nn.Module, batch: Batch, config: Config, *, augment: bool, hard: bool = False) -> Tensor:
    """float32 (P, 2) logits for the pairs of a batch that is on the network's device.

    hard: the network chooses the sounds of the negatives (`avc.data.hard`).
    """
    choose = (partial(hard_negatives, batch=batch, block=config.negatives.block),) if hard else ()
    return answer(model, batch, config, *choose, augment=augment).float()  # type: ignore[no-any-return]


def answer(model: nn.Module, batch: Batch, config: Config, *more: object, augment: bool) -> Any:
    """What the network makes of a batch that is on its device, and of `more`: logits, as a rule (P, 2)."""
    autocast = torch.autocast(batch.label.device.type, torch.bfloat16, enabled=config.training.precision == "bf16")
    pictures = pictures_to_input(batch.pictures, batch.frame_numbers if augment else None, config.data)
    spectrograms = sound_to_input(batch.sounds, batch.sound_numbers if augment else None, config.data)
    with autocast:
        return model(pictures, spectrograms, batch.pair_frame, batch.pair_sound, *more)


@torch.no_grad()
def _totals(model: nn.Module, batches: Iterable[Batch], config: Config, device: torch.device) -> Tensor:
    totals = torch.zeros(5, dtype=torch.float64, device=device)
    for batch in batches:
        batch = batch.to(device)
        logits = judge(model, batch, config, augment=False)
        right = logits.argmax(dim=1) == batch.label
        positive = batch.label == 1
        loss = F.cross_entropy(logits, batch.label, reduction="sum")
        totals += torch.stack(
            [
                torch.tensor(len(right), device=device),
                positive.sum(),
                (right & positive).sum(),
                (right & ~positive).sum(),
                loss,
            ]
        )
    return totals


def _counted(
    batches: Iterable[Batch], stretches: list[tuple[int, int]], report: Callable[[int, int, str], None] | None
) -> Iterator[Batch]:
    done, total = 0, sum(stop - start for start, stop in stretches)
    for batch, (start, stop) in zip(batches, stretches, strict=True):
        yield batch
        done += stop - start
        if report is not None:
            report(done, total, "")


def _stretches(rows: int, size: int, world: World) -> Iterator[tuple[int, int]]:
    """This rank's share of the rows in even pieces: every world_size-th piece, so that each row is judged once."""
    for number, start in enumerate(range(0, rows, size)):
        if number % world.world_size == world.rank:
            yield start, min(start + size, rows)
