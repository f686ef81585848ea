"""Audio-visual correspondence: which frame and which second of audio belong together?

L3-Net, AVE-Net and AVOL-Net learn it by cross-entropy over pairs, of which half are positives; accuracy on pairs of
held-out clips is what they are judged by. Chance is one half.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from avc.data.batch import Batch
from avc.data.prefetch import load
from avc.data.reader import PairReader
from avc.data.sampler import Integers, PairSampler
from avc.data.transforms import audio_to_input, images_to_input
from avc.distributed.world import World
from avc.intervals import clustered_interval
from avc.models import build, model_class
from avc.models.pair import Embeddings, PairNetwork
from avc.settings import PairConfig
from avc.tasks.evaluators import Views, evaluate_embeddings, label_warnings
from avc.tasks.examples import Curve, HeldOutPairs
from avc.tasks.hard_negatives import hard_negatives
from avc.tasks.task import Losses, Validation, autocast
from shards.read import Shards


class Correspondence:
    """Cross-entropy over pairs; an `avc.tasks.task.Task`.

    clips: rows of the index to draw from, int64; by default all training clips.
    Raises ValueError where there are too few clips, too small images, or settings that the network cannot have.
    """

    metrics: tuple[str, ...] = ("accuracy",)
    accumulates = True

    def __init__(self, config: PairConfig, shards: Shards, *, clips: Integers | None = None) -> None:
        self.config, self.shards = config, shards
        self.hard_from_step = config.negatives.hard_from_step
        network = model_class(config.model.name)
        if config.negatives.hard_from_step and not network.one_space:
            raise ValueError(
                "negatives.hard_from_step needs image and audio embeddings in one space, as those of AVE-Net; "
                f"{config.model.name} has two"
            )
        self.sampler = training_sampler(config, shards, clips=clips)
        self.reader = PairReader(
            shards, self.sampler, image_size=config.data.image_size, augment=True, visual_input=network.visual_input
        )
        self.summary = f"negatives {self.sampler.source}"
        self._held_out = HeldOutPairs(config, shards)
        warnings = label_warnings(shards, config.validation)
        if self.sampler.grid == "free":
            warnings.append("negatives.grid is free: audio off the 0.04 s grid gives negatives away; an ablation")
        if self.sampler.shuffle_sound:
            warnings.append("data.shuffle_sound is on: positives get another clip's audio, so nothing can be learnt")
        if self.sampler.too_short:
            warnings.append(
                f"{self.sampler.too_short} clips are left out: too short for two frames {config.negatives.min_ticks} "
                "ticks apart (negatives.min_ticks)"
            )
        self.warnings = tuple(warnings)

    def network(self) -> PairNetwork:
        """The network that the settings name, with fresh weights or the trunks of another run."""
        model: PairNetwork = build(self.config.model)
        if self.config.model.frozen_trunks is not None:
            _take_trunks(model, self.config.model.frozen_trunks)
        return model

    def loss(self, network: PairNetwork, batch: Batch, *, hard: bool = False) -> Losses:
        """Cross-entropy, and how many pairs were judged rightly."""
        return pair_loss(network, batch, self.config, hard=hard)

    def validate(self, model: PairNetwork, world: World) -> Validation:
        """Accuracy on pairs of the validation split, what the other evaluators say of its positives, and examples."""
        config, settings = self.config, self.config.validation
        views = Views(evaluation_sampler(config, self.shards, split=settings.split).clips, len(self.shards))
        curve = Curve() if config.log.media and config.log.wandb != "disabled" else None
        result = evaluate(
            model, self.shards, config, world, split=settings.split, passes=settings.passes, views=views, curve=curve
        )
        metrics = {"accuracy": result.accuracy, "loss": result.loss, "pairs": float(result.pairs)}
        metrics |= evaluate_embeddings(views, world, network=model, shards=self.shards, settings=settings)
        examples = None
        if curve is not None and world.is_main:
            examples = self._held_out.judge(model, partial(judge, config=config), curve, world.device)
        return Validation(result.accuracy, metrics, examples)


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


def training_sampler(config: PairConfig, shards: Shards, *, clips: Integers | None = None) -> PairSampler:
    """The plan over the training clips, or some of them. Raises ValueError where there are too few."""
    return PairSampler(
        shards.index,
        shards.clips("train") if clips is None else clips,
        seed=config.run.seed,
        source=config.negatives.source,
        grid=config.negatives.grid,
        block=config.negatives.block,
        min_ticks=config.negatives.min_ticks,
        max_ticks=config.negatives.max_ticks,
        max_misalignment_ticks=config.data.max_misalignment_ticks,
        shuffle_sound=config.data.shuffle_sound,
    )


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


def forward(network: Any, batch: Batch, config: PairConfig, *, augment: bool) -> Embeddings:
    """Embeddings of a batch's frames and seconds of audio; the batch is on the network's device.

    The transforms are in fp32 whatever the precision of the network.
    """
    images = images_to_input(batch.images, batch.image_draws if augment else None, config.data)
    spectrograms = audio_to_input(batch.audio, batch.audio_draws if augment else None, config.data)
    with autocast(batch.label.device, config):
        embeddings: Embeddings = network(images, spectrograms)
    return embeddings


def pair_logits(network: PairNetwork, batch: Batch, config: PairConfig, *, augment: bool, hard: bool = False) -> Tensor:
    """float32 (P, 2) logits of "no" and "yes" for the pairs of a batch.

    hard: the network chooses the audio of the negatives (`avc.tasks.hard_negatives`).
    """
    image, audio = forward(network, batch, config, augment=augment)
    pair_audio = hard_negatives(image, audio, batch, block=config.negatives.block) if hard else batch.pair_audio
    with autocast(batch.label.device, config):
        return network.compare(image[batch.pair_frame], audio[pair_audio]).float()


@torch.no_grad()
def judge(network: PairNetwork, batch: Batch, config: PairConfig) -> tuple[Embeddings, Tensor]:
    """Embeddings, and float32 (P, 2) logits of "no" and "yes", without augmentation; the network is in eval mode."""
    image, audio = forward(network, batch, config, augment=False)
    with autocast(batch.label.device, config):
        logits = network.compare(image[batch.pair_frame], audio[batch.pair_audio]).float()
    return Embeddings(image, audio), logits


def pair_loss(network: PairNetwork, batch: Batch, config: PairConfig, *, hard: bool = False) -> Losses:
    """Cross-entropy over the pairs of a batch, and how many were judged rightly; in training, with augmentation."""
    logits = pair_logits(network, batch, config, augment=True, hard=hard)
    right = (logits.detach().argmax(dim=1) == batch.label).sum()
    return Losses(F.cross_entropy(logits, batch.label, reduction="sum"), right[None])


def evaluate(
    model: nn.Module,
    shards: Shards,
    config: PairConfig,
    world: World,
    *,
    split: str,
    passes: int,
    grid: Literal["frame", "free"] = "frame",
    report: Callable[[int, int, str], None] | None = None,
    views: Views | None = None,
    curve: Curve | None = None,
) -> PairAccuracy:
    """Judge every clip of the split `passes` times in each role, once over all ranks. Every rank must call it.

    The network is put into evaluation mode for the while, so its batch statistics stay as they are. `report`, if
    given, is told how many pairs of this rank are done, of how many. `views`, if given, receives the embeddings of this
    rank's positives of the first pass, in which each clip is one; `curve`, the scores of all pairs of all ranks.
    """
    sampler = evaluation_sampler(config, shards, split=split, grid=grid)
    visual_input = model_class(config.model.name).visual_input
    reader = PairReader(shards, sampler, image_size=config.data.image_size, augment=False, visual_input=visual_input)
    rows, size = passes * sampler.rows_per_epoch, config.validation.batch_pairs
    row_ranges = list(_row_ranges(rows, size, world))
    batches = load(reader, iter(row_ranges), num_workers=config.data.num_workers, pin=world.device.type == "cuda")
    was_training = model.training
    model.eval()
    judged: list[Tensor] = []
    try:
        batches = world.until_stopped(batches, most=math.ceil(rows / (size * world.world_size)))
        counted = _counted(batches, row_ranges, report)
        totals = world.sum(
            _totals(model, counted, config, world.device, views, judged, curve, most=sampler.rows_per_epoch)
        )
        if curve is not None:
            curve.over_ranks(world)
    finally:
        model.train(was_training)
    clips = torch.cat([part for of_rank in world.gather_objects(judged) for part in of_rank]).numpy()
    pairs, positives, right_positives, right_negatives, loss = totals
    return PairAccuracy(
        pairs=int(pairs),
        accuracy=(right_positives + right_negatives) / pairs,
        positives_accuracy=right_positives / positives,
        negatives_accuracy=right_negatives / (pairs - positives),
        loss=loss / pairs,
        interval_95=clustered_interval(clips[:, 2] == 1, clips[:, :2]),
    )


@torch.no_grad()
def _totals(
    model: Any,
    batches: Iterable[tuple[int, Batch]],
    config: PairConfig,
    device: torch.device,
    views: Views | None,
    judged: list[Tensor],
    curve: Curve | None,
    *,
    most: int,
) -> Tensor:
    """Sums over the pairs; `judged` receives each pair's clips, of frame and of audio, and 1 if it was right."""
    totals = torch.zeros(5, dtype=torch.float64, device=device)
    for row, batch in batches:
        batch = batch.to(device)
        (image, audio), logits = judge(model, batch, config)
        if curve is not None:
            curve.add(logits, batch.label)
        if views is not None:
            first_pass = torch.arange(row, row + len(batch.label), device=device) < most
            rows = ((batch.label == 1) & first_pass).nonzero()[:, 0]
            frame, sound = batch.pair_frame[rows], batch.pair_audio[rows]
            views.add(batch.frame_clip[frame], image[frame], audio[sound])
        right = logits.argmax(dim=1) == batch.label
        clips = batch.frame_clip[batch.pair_frame], batch.audio_clip[batch.pair_audio]
        judged.append(torch.stack([*clips, right.long()], dim=1).cpu())
        positive = batch.label == 1
        loss = F.cross_entropy(logits, batch.label, reduction="sum")
        count = torch.full((), len(right), device=device)
        totals += torch.stack([count, positive.sum(), (right & positive).sum(), (right & ~positive).sum(), loss])
    return totals


def _counted(
    batches: Iterable[Batch], row_ranges: list[tuple[int, int]], report: Callable[[int, int, str], None] | None
) -> Iterator[tuple[int, Batch]]:
    """The first row of each batch, and the batch."""
    done, total = 0, sum(stop - start for start, stop in row_ranges)
    for batch, (start, stop) in zip(batches, row_ranges, strict=True):
        yield start, batch
        done += stop - start
        if report is not None:
            report(done, total, "")


def _row_ranges(rows: int, size: int, world: World) -> Iterator[tuple[int, int]]:
    """This rank's share of the rows in even pieces: every world_size-th piece, so that each row is judged once."""
    for number, start in enumerate(range(0, rows, size)):
        if number % world.world_size == world.rank:
            yield start, min(start + size, rows)


def _take_trunks(model: PairNetwork, run: Path) -> None:
    from avc.encoders.load import load  # readers of foreign weights among it, which few trainings need

    taken = load(run).model
    for own, other in ((model.vision, taken.vision), (model.audio, taken.audio)):
        try:
            own.load_state_dict(other.state_dict())
        except RuntimeError:
            raise ValueError(
                f"model.frozen_trunks: the trunks of {run} have other shapes; model.trunk, model.width and "
                "model.stride must be that run's"
            ) from None
        own.freeze()
