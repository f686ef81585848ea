"""The autoencoder learns to give back what it hears, SoundNet's baseline (Aytar, Vondrick and Torralba 2016)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Self

import torch
from torch import Tensor, nn

from avc.data.segments import SegmentBatch, SegmentReader
from avc.distributed.world import World
from avc.models.soundnet import Autoencoder
from avc.models.waveform import to_waveform
from avc.sound_settings import SegmentConfig
from avc.tasks.distillation import student_sampler
from avc.tasks.task import Losses, Validation, held_out_batches
from shards.format import TICKS_PER_SECOND
from shards.read import Shards


class Reconstruction:
    """Mean squared error of the waveform, which lies in [-256, 256]; an `avc.tasks.task.Task`.

    Metric: power, the waveform's mean square, which is the error of silence. Shorter rows are zero-padded, and the
    padding is part of the loss.
    """

    metrics: tuple[str, ...] = ("power",)
    inputs: Mapping[str, Path] = {}
    accumulates = True

    def __init__(self, config: SegmentConfig, reader: SegmentReader) -> None:
        self.config, self.reader = config, reader
        self.summary = f"{reader.sampler.longest_ticks / TICKS_PER_SECOND:g} s of sound a row"
        self.warnings: tuple[str, ...] = ()

    @classmethod
    def on(cls, config: SegmentConfig, shards: Shards) -> Self:
        """The task over all training clips."""
        return cls(config, SegmentReader(shards, student_sampler(config, shards, split="train")))

    def network(self) -> nn.Module:
        """The autoencoder with fresh weights from torch's global generator."""
        return Autoencoder(self.config.model)

    def loss(self, network: nn.Module, batch: SegmentBatch) -> Losses:
        """The squared errors, and the powers."""
        error, power = _error_and_power(network, batch, self.config)
        return Losses(error, power[None])

    @torch.no_grad()
    def validate(self, model: nn.Module, world: World) -> Validation:
        """The score is the share of the power that comes back right, 1 - error / power, on the validation split."""
        settings, shards = self.config.validation, self.reader.shards
        reader = SegmentReader(shards, student_sampler(self.config, shards, split=settings.split))
        total, size = settings.passes * reader.sampler.rows_per_epoch, settings.batch_pairs
        sums = torch.zeros(2, dtype=torch.float64, device=world.device)
        for _, batch in held_out_batches(
            model, reader, world, rows=total, size=size, num_workers=self.config.data.num_workers
        ):
            sums += torch.stack(_error_and_power(model, batch, self.config))
        error, power = world.sum(sums)
        score = max(0.0, 1 - error / power) if power > 0 else 0.0
        return Validation(score, {"score": score, "loss": error / total, "power": power / total})


def _error_and_power(network: nn.Module, batch: SegmentBatch, config: SegmentConfig) -> tuple[Tensor, Tensor]:
    autocast = torch.autocast(batch.steps.device.type, torch.bfloat16, enabled=config.training.precision == "bf16")
    waveform = to_waveform(batch.audio.to(torch.float32) / 32768)
    with autocast:
        given_back = network(waveform)
    error = (given_back.float() - waveform).square().mean(dim=1).sum()
    return error, waveform.square().mean(dim=1).sum()
