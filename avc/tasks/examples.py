"""Held-out pairs to look at and listen to, and the curve of all of them.

The plan chooses the pairs, under a seed of its own: they are the same at each validation, on every number of ranks, and
in all runs on the same shards, whatever those runs' seeds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from avc.data.preprocessing import audio_to_input
from avc.data.reader import Batch, PairReader
from avc.data.sampler import PairSampler
from avc.distributed.world import World
from avc.models import model_class
from avc.models.pair import Embeddings, Localizer
from avc.settings import PairConfig
from shards.format import SAMPLE_RATE_HZ, TICKS_PER_SECOND
from shards.read import Shards

MOST_PAIRS = 64
SEED = 0
BINS = 100  # of the curve: scores a hundredth apart count as equal

Judge = Callable[[Any, Batch], tuple[Embeddings, Tensor]]  # network and batch → embeddings, (P, 2) logits


class Pictured(NamedTuple):
    """The pairs themselves, which stay as they are.

    frame, sound: names of P clips and where in them, in seconds. images: uint8 (P, H, W, 3). audio: int16 (P, 48000).
    spectrograms: float32 (P, 257, 199), at least 0. label: int64 (P,), 1 where both are of one moment.
    """

    frame: list[str]
    sound: list[str]
    images: NDArray[np.uint8]
    audio: NDArray[np.int16]
    spectrograms: NDArray[np.float32]
    label: NDArray[np.int64]


@dataclass(frozen=True)
class Examples:
    """What a network makes of the pairs at one validation.

    score: float32 (P,), probability that they belong together. maps: float32 (P, H', W'), 0 to 1, of a network that
    localizes. curve: recall and precision on all validation pairs, float64 (BINS, 2), from the highest threshold down.
    """

    pairs: Pictured
    score: NDArray[np.float32]
    maps: NDArray[np.float32] | None
    curve: NDArray[np.float64]


class HeldOutPairs:
    """The first 64 pairs of the plan over a split, centered, half of them positives; read at their first use."""

    def __init__(self, config: PairConfig, shards: Shards) -> None:
        self._config, self._shards = config, shards

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
    def judge(self, model: Any, judge: Judge, curve: Curve, device: torch.device) -> Examples:
        """What the network makes of them; one rank calls it. curve: of all pairs, summed over the ranks."""
        batches, pairs = self._read
        scores, maps = [], []
        was_training = model.training
        model.eval()
        try:
            for batch in batches:
                embedded, logits = judge(model, batch.to(device))
                scores.append(logits.softmax(dim=1)[:, 1].cpu())
                if isinstance(model, Localizer):
                    maps.append(model.localize(*embedded).sigmoid().cpu())
        finally:
            model.train(was_training)
        return Examples(pairs, torch.cat(scores).numpy(), torch.cat(maps).numpy() if maps else None, curve.points())


class Curve:
    """Counts of scores, by label and hundredth: what precision and recall need, in the same space for any number."""

    def __init__(self) -> None:
        self._counts = torch.zeros(2, BINS, dtype=torch.float64)

    def add(self, logits: Tensor, label: Tensor) -> None:
        """Count pairs: (P, 2) logits of "no" and "yes", int64 (P,) labels."""
        bins = (logits.float().softmax(dim=1)[:, 1] * BINS).long().clamp(0, BINS - 1)
        places = (label * BINS + bins).cpu()
        self._counts += torch.bincount(places, minlength=2 * BINS).reshape(2, BINS)

    def over_ranks(self, world: World) -> None:
        """Add up over the ranks; every rank must call it."""
        sums = world.sum(self._counts.flatten().to(world.device))
        self._counts = torch.tensor(sums, dtype=torch.float64).reshape(2, BINS)

    def points(self) -> NDArray[np.float64]:
        """Recall and precision, (BINS, 2); precision is 1 where nothing is said to belong together."""
        negatives, positives = self._counts.flip(1).cumsum(dim=1).numpy()
        said = negatives + positives
        precision = np.divide(positives, said, out=np.ones(BINS), where=said > 0)
        return np.stack([positives / max(positives[-1], 1), precision], axis=1)
