"""The training step on noise: a batch as the loader gives it, and an optimiser step as the loop takes it.

Without the imports that read media, so that it runs where only torch, numpy and the settings' libraries are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from avc.config import Config
from avc.data.transforms import pictures_to_input, sound_to_input
from avc.models import MODELS, build, to_channels_last
from avc.training.optim import build_optimiser

STORED_CROP = 224  # 7/8 of the 256 pixels that `avc pack` stores

Precision = Literal["fp32", "bf16"]
PRECISIONS: tuple[Precision, ...] = ("fp32", "bf16")


@dataclass(frozen=True)
class Way:
    """One way of running the step."""

    precision: Precision
    channels_last: bool
    compile: bool


@dataclass(frozen=True)
class Synthetic:
    """A batch as the loader gives it (`avc.data.loader.Batch`), of noise."""

    pictures: Tensor
    sounds: Tensor
    frame_numbers: Tensor
    sound_numbers: Tensor
    pair_frame: Tensor
    pair_sound: Tensor
    label: Tensor


def synthetic(config: Config, pairs: int, device: torch.device) -> Synthetic:
    """A batch of `pairs` pairs, always the same, on the device."""
    generator = torch.Generator().manual_seed(0)
    size = config.data.image_size
    crop = next((STORED_CROP // reduce for reduce in (8, 4, 2, 1) if STORED_CROP // reduce >= size), size)
    shared = config.negatives.source == "shared"
    views = pairs // 2 if shared else pairs
    view, pair = torch.arange(views), torch.arange(pairs)
    batch = (
        torch.randint(
            256, (views, *MODELS[config.model.name].sight.shape(crop)), dtype=torch.uint8, generator=generator
        ),
        torch.randint(-(2**15), 2**15, (views, 48_000), dtype=torch.int16, generator=generator),
        torch.rand((views, 5), generator=generator),
        torch.rand((views, 1), generator=generator),
        torch.cat([view, view]) if shared else view,
        torch.cat([view, view.roll(1)]) if shared else view,
        (pair < views if shared else pair % 2 == 0).long(),
    )
    return Synthetic(*(tensor.to(device) for tensor in batch))


def step_on(config: Config, way: Way, device: torch.device, batch: Synthetic) -> Callable[[], None]:
    """A whole optimiser step of one micro-batch, as `avc.training.loop.train` takes it in a world of one."""
    torch.manual_seed(config.run.seed)
    model: nn.Module = build(config.model).to(device)
    if way.channels_last:
        to_channels_last(model)
    optimiser = build_optimiser(model, config.optim)
    model.train()
    network = torch.compile(model) if way.compile else model

    def step() -> None:
        optimiser.zero_grad(set_to_none=True)
        loss = F.cross_entropy(forward(network, batch, config, way), batch.label, reduction="sum")
        (loss / len(batch.label)).backward()  # type: ignore[no-untyped-call]
        if not torch.isfinite(loss).item():  # the loop waits for the device here, too
            raise RuntimeError("the loss of noise is not finite")
        optimiser.step()

    return step


def forward(network: Callable[..., Tensor], batch: Synthetic, config: Config, way: Way) -> Tensor:
    """float32 (P, 2) logits: what `avc.evaluation.correspondence.judge` computes, without its imports."""
    pictures = pictures_to_input(batch.pictures, batch.frame_numbers, config.data)
    spectrograms = sound_to_input(batch.sounds, batch.sound_numbers, config.data)
    with torch.autocast(batch.label.device.type, torch.bfloat16, enabled=way.precision == "bf16"):
        logits = network(pictures, spectrograms, batch.pair_frame, batch.pair_sound)
    return logits.float()


def flop_of(config: Config, pairs: int) -> int:
    """Floating-point operations of one forward and backward pass, counted on shapes alone."""
    size = config.data.image_size
    views = pairs // 2 if config.negatives.source == "shared" else pairs
    counter = FlopCounterMode(display=False)
    with torch.device("meta"), counter:
        model = build(config.model)
        pair = torch.arange(pairs) % views
        seen = torch.empty((views, *model.sight.shape(size)), dtype=torch.uint8)
        logits = model(pictures_to_input(seen, None, config.data), torch.empty(views, 1, 257, 199), pair, pair)
        logits.sum().backward()
    return int(counter.get_total_flops())
