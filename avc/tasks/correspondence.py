"""Audio-visual correspondence: which frame and which second of audio belong together?

L3-Net, AVE-Net and AVOL-Net learn it by cross-entropy over pairs, of which half are positives; accuracy on pairs of
held-out clips is what they are judged by. Chance is one half.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from avc.data.partitions import partitioned
from avc.data.preprocessing import audio_to_input, images_to_input
from avc.data.reader import Batch, PairReader
from avc.data.sampler import PairSampler
from avc.distributed.world import World
from avc.models import build, model_class
from avc.models.pair import Embeddings, PairNetwork
from avc.settings import PairConfig, TowerSettings
from avc.tasks.task import Losses, Validation
from shards.read import Shards


class Correspondence:
    """Cross-entropy over pairs; an `avc.tasks.task.Task`.

    reader: of the training clips; the loss of a given batch needs none.
    """

    metrics: tuple[str, ...] = ("accuracy",)
    inputs: Mapping[str, Path] = {}
    accumulates = True

    def __init__(self, config: PairConfig, reader: PairReader, *, warnings: Iterable[str] = ()) -> None:
        self.config, self.reader, self.warnings = config, reader, tuple(warnings)
        self.summary = f"negatives {config.negatives.source}"

    @classmethod
    def on(cls, config: PairConfig, shards: Shards) -> Self:
        """The task over all training clips. Raises ValueError as `training_reader` does."""
        reader = training_reader(config, shards)
        return cls(config, reader, warnings=unusual(config, reader))

    def network(self) -> PairNetwork:
        """The network that the settings name, with fresh weights over what its towers begin with."""
        model: PairNetwork = build(self.config.model)
        if getattr(self.config.model, "image", None) is not None:
            from avc.tasks.features import begin, files_of

            self.inputs = {**self.inputs, **files_of(self.config.model)}
            self.warnings += begin(model, self.config, self.reader)
        return model

    def loss(self, network: Any, batch: Batch) -> Losses:
        """Cross-entropy, and how many pairs were judged rightly."""
        _, logits = forward(network, batch, self.config, augment=True)
        right = (logits.detach().argmax(dim=1) == batch.label).sum()
        return Losses(F.cross_entropy(logits, batch.label, reduction="sum"), right[None])

    def validate(self, model: PairNetwork, world: World) -> Validation:
        """Accuracy on pairs of the validation split, what the other evaluators say of its positives, and examples."""
        return self._held_out.validate(model, world)  # type: ignore[no-any-return]

    @cached_property
    def _held_out(self) -> Any:
        from avc.tasks.held_out import HeldOutPairs  # which a rank that never validates needs not load

        return HeldOutPairs(self.config, self.reader.shards)


def forward(network: PairNetwork, batch: Batch, config: PairConfig, *, augment: bool) -> tuple[Embeddings, Tensor]:
    """Embeddings of a batch's frames and seconds of audio, and float32 (P, 2) logits of "no" and "yes" for its pairs.

    The batch is on the network's device. The transforms are in fp32 whatever the precision of the network.
    """
    if network.vision.encodes:
        from avc.tasks.features import features_of

        images, spectrograms = features_of(network, batch, config, augment=augment)
    else:
        images = images_to_input(batch.images, batch.image_draws if augment else None, config.data)
        spectrograms = audio_to_input(batch.audio, batch.audio_draws if augment else None, config.data)
    with autocast(batch.label.device, config):
        image, audio = network(images, spectrograms)
        logits = network.compare(image[batch.pair_frame], audio[batch.pair_audio]).float()
    return Embeddings(image, audio), logits


def has_features(settings: TowerSettings) -> bool:
    """Whether what the towers begin with stays as it is, so that its features are read in place of images and audio."""
    return getattr(settings, "image", None) is not None and not getattr(settings, "train_towers", False)


def autocast(device: torch.device, config: PairConfig) -> torch.autocast:
    """bf16 where `training.precision` says so."""
    kind = "cpu" if device.type == "meta" else device.type  # shapes alone have no precision
    return torch.autocast(kind, torch.bfloat16, enabled=config.training.precision == "bf16")


def training_sampler(config: PairConfig, shards: Shards, *, clips: NDArray[np.int64] | None = None) -> PairSampler:
    """The plan over the training clips, or some of them. Raises ValueError where there are too few."""
    return partitioned(
        shards.index,
        shards.clips("train") if clips is None else clips,
        partitions=config.data.partitions,
        shuffle_shards=config.data.shuffle_shards,
        visits=config.data.visits,
        sets=shards.sets,
        batch_pairs=config.optim.batch_pairs,
        seed=config.run.seed,
        max_misalignment_ticks=config.data.max_misalignment_ticks,
        shuffle_sound=config.data.shuffle_sound,
        **dict(config.negatives),
    )


def training_reader(config: PairConfig, shards: Shards, *, clips: NDArray[np.int64] | None = None) -> PairReader:
    """Reads the rows of `training_sampler`.

    Raises ValueError where there are too few clips, too small images, or settings that the network cannot have.
    """
    network = model_class(config.model.name)
    sampler, size = training_sampler(config, shards, clips=clips), config.data.image_size
    if has_features(config.model):
        from avc.tasks.features import FeatureReader, encoders_of

        towers, device = partial(encoders_of, config), config.training.device
        return FeatureReader(shards, sampler, towers, device=device)
    return PairReader(shards, sampler, image_size=size, augment=True, visual_input=network.visual_input)


def unusual(config: PairConfig, reader: PairReader) -> list[str]:
    """Lines on what is unusual about settings and clips. Raises ValueError where validation.labels fit no clip."""
    warnings = [reader.shards.about] if reader.shards.sets else []
    if config.validation.labels is not None:
        from avc.tasks.evaluators import label_warnings

        warnings += label_warnings(reader.shards, config.validation)
    if config.negatives.grid == "free":
        warnings.append("negatives.grid is free: audio off the 0.04 s grid gives negatives away; an ablation")
    if config.data.shuffle_sound:
        warnings.append("data.shuffle_sound is on: positives get another clip's audio, so nothing can be learnt")
    if reader.sampler.too_short:
        warnings.append(
            f"{reader.sampler.too_short} clips are left out: too short for two frames {config.negatives.min_ticks} "
            "ticks apart (negatives.min_ticks)"
        )
    return warnings
