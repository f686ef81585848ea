"""How a network does on pairs of held-out clips: its accuracy, and examples to look at and listen to.

The plan chooses the pairs. The examples have a seed of their own: they are the same at each validation, on every number
of ranks, and in all runs on the same shards, whatever those runs' seeds.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from avc.data.preprocessing import audio_to_input
from avc.data.reader import Batch, PairReader
from avc.data.sampler import PairSampler
from avc.distributed.world import World
from avc.intervals import clustered_interval
from avc.models import model_class
from avc.models.pair import Embeddings, Localizer, PairNetwork
from avc.settings import PairConfig
from avc.tasks.correspondence import forward, has_features
from avc.tasks.evaluators import Views, evaluate_embeddings
from avc.tasks.task import Examples, Pictured, Validation, held_out_batches
from shards import Report
from shards.format import SAMPLE_RATE_HZ, TICKS_PER_SECOND
from shards.read import Shards

MOST_PAIRS = 64
SEED = 0


@dataclass(frozen=True)
class PairAccuracy:
    """pairs: how many were judged, half of them positives. accuracy and its parts: 0 to 1. loss: nats per pair.

    interval_95: of the accuracy, where the clips are a sample of more; each is in several pairs.
    """

    pairs: int
    accuracy: float
    positives_accuracy: float
    negatives_accuracy: float
    loss: float
    interval_95: tuple[float, float]


def evaluation_sampler(
    config: PairConfig, shards: Shards, *, split: str, grid: Literal["frame", "free"] = "frame"
) -> PairSampler:
    """The fixed plan of a split: the papers' independent pairs on the grid, centered, whatever the training drew.

    `grid="free"` takes negatives off it, as Objects that Sound 3.3 did when it measured what the shortcut is worth.
    Raises ValueError where the split has too few clips.
    """
    clips = shards.clips(split)
    if len(clips) < 2:
        raise ValueError(
            f"{shards.folder} has {len(clips)} clips in its {split} split, and pairs need at least 2; "
            "choose another split or pack with other shares (`avc pack --split`)"
        )
    return PairSampler(shards.index, clips, seed=config.run.seed, grid=grid, max_misalignment_ticks=0)


def evaluate(
    model: nn.Module,
    shards: Shards,
    config: PairConfig,
    world: World,
    *,
    split: str,
    passes: int,
    grid: Literal["frame", "free"] = "frame",
    report: Report | None = None,
) -> PairAccuracy:
    """Judge every clip of the split `passes` times in each role, once over all ranks. Every rank must call it.

    The network is put into evaluation mode for the while, so its batch statistics stay as they are. `report`, if
    given, is told how many pairs of this rank are done, of how many.
    """
    tally = _PairTally(world)
    sampler = evaluation_sampler(config, shards, split=split, grid=grid)
    for _, batch, _, logits in _judged(model, shards, sampler, config, world, passes=passes, report=report):
        tally.add(batch, logits)
    return tally.accuracy()


class HeldOutPairs:
    """Validates on a split of the shards; reads its examples, the first 64 pairs of the plan, at their first use."""

    def __init__(self, config: PairConfig, shards: Shards) -> None:
        self._config, self._shards = config, shards

    def validate(self, model: PairNetwork, world: World) -> Validation:
        """Accuracy on the pairs, what the other evaluators say of its positives, and examples; as `Task.validate`."""
        config, settings, shards = self._config, self._config.validation, self._shards
        sampler = evaluation_sampler(config, shards, split=settings.split)
        tally, views = _PairTally(world), Views(sampler.clips, len(shards))
        for row, batch, (image, audio), logits in _judged(
            model, shards, sampler, config, world, passes=settings.passes
        ):
            tally.add(batch, logits)
            # The positives of the first pass, in which each clip is one.
            first_pass = torch.arange(row, row + len(batch.label), device=world.device) < sampler.rows_per_epoch
            rows = ((batch.label == 1) & first_pass).nonzero()[:, 0]
            frame, sound = batch.pair_frame[rows], batch.pair_audio[rows]
            views.add(batch.frame_clip[frame], image[frame], audio[sound])
        result = tally.accuracy()
        metrics = {"accuracy": result.accuracy, "loss": result.loss, "pairs": float(result.pairs)}
        metrics |= evaluate_embeddings(views, world, network=model, shards=shards, settings=settings)
        shown = world.is_main and config.log.media and config.log.wandb != "disabled"
        return Validation(result.accuracy, metrics, self._examples(model, world.device) if shown else None)

    @cached_property
    def _read(self) -> tuple[list[Batch], Pictured]:
        settings, index = self._config, self._shards.index
        clips = self._shards.clips(settings.validation.split)
        sampler = PairSampler(index, clips, seed=SEED, max_misalignment_ticks=0)
        visual_input = model_class(settings.model.name).visual_input
        size = settings.data.image_size
        reader = PairReader(self._shards, sampler, image_size=size, augment=False, visual_input=visual_input)
        most = min(settings.validation.batch_pairs, MOST_PAIRS)
        batches = [reader[start, min(start + most, MOST_PAIRS)] for start in range(0, MOST_PAIRS, most)]
        rows = sampler.rows(0, MOST_PAIRS)
        images, audio = (torch.cat([batch[part] for batch in batches]) for part in (0, 1))
        images = (images if images.dim() == 4 else images[:, images.shape[1] // 2])[..., :3]
        seconds = rows.frame_tick / TICKS_PER_SECOND, rows.audio_center / SAMPLE_RATE_HZ
        frame, sound = (
            [f"{index['key'][clip].decode()} {at:.2f} s" for clip, at in zip(clips, times, strict=True)]
            for clips, times in zip((rows.frame_clip, rows.audio_clip), seconds, strict=True)
        )
        spectrograms = audio_to_input(audio, None, settings.data)[:, 0]
        return batches, Pictured(frame, sound, images.numpy(), audio.numpy(), spectrograms.numpy(), rows.label)

    @torch.no_grad()
    def _examples(self, model: Any, device: torch.device) -> Examples:
        batches, pairs = self._read
        scores, maps = [], []
        was_training = model.training
        model.eval()
        try:
            for batch in batches:
                embedded, logits = forward(model, batch.to(device), self._config, augment=False)
                scores.append(logits.softmax(dim=1)[:, 1].cpu())
                if isinstance(model, Localizer):
                    maps.append(model.localize(*embedded).sigmoid().cpu())
        finally:
            model.train(was_training)
        return Examples(pairs, torch.cat(scores).numpy(), torch.cat(maps).numpy() if maps else None)


class _PairTally:
    """The pairs of this rank that were judged, from which the accuracy over all ranks follows."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._loss = torch.zeros(1, dtype=torch.float64, device=world.device)
        self._judged: list[Tensor] = []  # of each pair: clips of frame and audio, label, and 1 if it was right

    def add(self, batch: Batch, logits: Tensor) -> None:
        """Count the pairs of a batch: (P, 2) logits of "no" and "yes"."""
        clips = batch.frame_clip[batch.pair_frame], batch.audio_clip[batch.pair_audio]
        right = (logits.argmax(dim=1) == batch.label).long()
        self._judged.append(torch.stack([*clips, batch.label, right], dim=1).cpu())
        self._loss += F.cross_entropy(logits, batch.label, reduction="sum")

    def accuracy(self) -> PairAccuracy:
        """Over all ranks; every rank must call it."""
        [loss] = self._world.sum(self._loss)
        of_ranks = self._world.gather_objects(self._judged)
        judged = torch.cat([part for of_rank in of_ranks for part in of_rank]).numpy()
        positive, right = judged[:, 2] == 1, judged[:, 3] == 1
        return PairAccuracy(
            pairs=len(right),
            accuracy=float(right.mean()),
            positives_accuracy=float(right[positive].mean()),
            negatives_accuracy=float(right[~positive].mean()),
            loss=loss / len(right),
            interval_95=clustered_interval(right, judged[:, :2]),
        )


def _judged(
    model: Any,
    shards: Shards,
    sampler: PairSampler,
    config: PairConfig,
    world: World,
    *,
    passes: int,
    report: Report | None = None,
) -> Iterator[tuple[int, Batch, Embeddings, Tensor]]:
    """This rank's batches of the plan, each with its first row and what the network makes of it in evaluation mode."""
    if has_features(config.model):
        from avc.tasks.features import FeatureReader, encoders

        reader: PairReader = FeatureReader(shards, sampler, partial(encoders, model), device=config.training.device)
    else:
        visual, size = model_class(config.model.name).visual_input, config.data.image_size
        reader = PairReader(shards, sampler, image_size=size, augment=False, visual_input=visual)
    rows, size = passes * sampler.rows_per_epoch, config.validation.batch_pairs
    for row, batch in held_out_batches(
        model, reader, world, rows=rows, size=size, num_workers=config.data.num_workers, report=report
    ):
        with torch.no_grad():
            embeddings, logits = forward(model, batch, config, augment=False)
        yield row, batch, embeddings, logits
