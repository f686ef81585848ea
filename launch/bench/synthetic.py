"""The training step on noise: the task's own loss, a batch as the reader gives it, the loop's optimizer step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from avc.data.batch import Batch
from avc.models import build, model_class, to_channels_last
from avc.models.pair import PairNetwork
from avc.settings import PairConfig
from avc.tasks.correspondence import pair_loss
from avc.tasks.task import Losses
from avc.training.optimizer import build_optimizer

STORED_CROP = 224  # 7/8 of the 256 pixels that `avc pack` stores

Precision = Literal["fp32", "bf16"]
PRECISIONS: tuple[Precision, ...] = ("fp32", "bf16")


@dataclass(frozen=True)
class Way:
    """One way of running the step."""

    precision: Precision
    channels_last: bool
    compile: bool


def synthetic(config: PairConfig, pairs: int, device: torch.device | str) -> Batch:
    """A batch of `pairs` pairs, always the same, on the device."""
    generator = torch.Generator().manual_seed(0)
    size = config.data.image_size
    crop = next((STORED_CROP // reduce for reduce in (8, 4, 2, 1) if STORED_CROP // reduce >= size), size)
    shared = config.negatives.source != "independent"
    views = pairs // 2 if shared else pairs
    view, pair = torch.arange(views), torch.arange(pairs)
    shape = model_class(config.model.name).visual_input.shape(crop)
    return Batch(
        pictures=torch.randint(256, (views, *shape), dtype=torch.uint8, generator=generator),
        sounds=torch.randint(-(2**15), 2**15, (views, 48_000), dtype=torch.int16, generator=generator),
        image_draws=torch.rand((views, 5), generator=generator),
        audio_draws=torch.rand((views, 1), generator=generator),
        frame_clip=view,
        audio_clip=view,
        pair_frame=torch.cat([view, view]) if shared else view,
        pair_audio=torch.cat([view, view.roll(1)]) if shared else view,
        label=(pair < views if shared else pair % 2 == 0).long(),
        digest=torch.tensor(0),
    ).to(torch.device(device))


class _Step(nn.Module):
    """As `avc.tasks.task.TrainingStep`, of a task without shards."""

    def __init__(self, network: PairNetwork, config: PairConfig) -> None:
        super().__init__()
        self.network, self.config = network, config

    def forward(self, batch: Batch, step: int) -> Losses:
        return pair_loss(self.network, batch, self.config, step=step)


def step_on(config: PairConfig, way: Way, device: torch.device, batch: Batch) -> Callable[[], None]:
    """A whole optimizer step of one micro-batch, as `avc.training.loop.train` takes it in a world of one."""
    torch.manual_seed(config.run.seed)
    training = config.training.model_copy(update={"precision": way.precision})
    config = config.model_copy(update={"training": training})
    model: PairNetwork = build(config.model).to(device)
    if way.channels_last:
        to_channels_last(model)
    optimizer = build_optimizer(model, config.optim)
    model.train()
    network: Any = _Step(model, config)
    if way.compile:
        network = torch.compile(network)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        loss = network(batch, 0).total
        (loss / len(batch.label)).backward()
        if not torch.isfinite(loss).item():  # the loop waits for the device here, too
            raise RuntimeError("the loss of noise is not finite")
        optimizer.step()

    return step


def flop_of(config: PairConfig, pairs: int) -> int:
    """Floating-point operations of one forward and backward pass, counted on shapes alone."""
    counter = FlopCounterMode(display=False)
    batch = Batch(*(torch.empty_like(tensor, device="meta") for tensor in synthetic(config, pairs, "cpu")))
    with torch.device("meta"):
        model = build(config.model)
    with counter:
        pair_loss(model, batch, config, step=0).total.backward()  # type: ignore[no-untyped-call]
    return int(counter.get_total_flops())
