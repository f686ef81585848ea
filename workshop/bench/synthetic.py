"""The training step on noise: the task's own loss, a batch as the reader gives it, the loop's optimizer step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from avc.data.reader import Batch
from avc.distributed.compiled import compile_network
from avc.models import build, model_class, to_channels_last
from avc.models.pair import PairNetwork
from avc.networks import network_of, resolve
from avc.settings import PairConfig
from avc.tasks.correspondence import Correspondence
from avc.training.loop import TrainingStep
from avc.training.metrics import StepSums
from avc.training.optimizer import build_optimizer

STORED_CROP = 224  # 7/8 of the 256 pixels that `avc pack` stores

Precision = Literal["fp32", "bf16"]
PRECISIONS: tuple[Precision, ...] = ("fp32", "bf16")
# Op by op; transforms, network and loss as one compiled graph; the same as CUDA graphs, which cost no launches.
Mode = Literal["eager", "compiled", "graphs"]
MODES: tuple[Mode, ...] = ("eager", "compiled", "graphs")


@dataclass(frozen=True)
class Way:
    """One way of running the step."""

    precision: Precision
    channels_last: bool
    mode: Mode


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
        images=torch.randint(256, (views, *shape), dtype=torch.uint8, generator=generator),
        audio=torch.randint(-(2**15), 2**15, (views, 48_000), dtype=torch.int16, generator=generator),
        image_draws=torch.rand((views, 5), generator=generator),
        audio_draws=torch.rand((views, 1), generator=generator),
        frame_clip=view,
        audio_clip=view,
        pair_frame=torch.cat([view, view]) if shared else view,
        pair_audio=torch.cat([view, view.roll(1)]) if shared else view,
        label=(pair < views if shared else pair % 2 == 0).long(),
        digest=torch.tensor(0),
    ).to(torch.device(device))


def task_on_noise(config: PairConfig) -> Correspondence:
    """The network's own task, whose batches `synthetic` makes."""
    task: Correspondence = resolve(str(network_of(config.model.name).task))(config, reader=None)
    return task


def optimizer_step(
    network: nn.Module, optimizer: torch.optim.Optimizer, device: torch.device, *, metrics: tuple[str, ...]
) -> Callable[[Batch], None]:
    """A whole optimizer step of one micro-batch, as `avc.training.loop.train` takes it in a world of one."""

    def step(batch: Batch) -> None:
        optimizer.zero_grad(set_to_none=True)
        losses = network(batch)
        (losses.total / len(batch.label)).backward()
        sums = StepSums(metrics=metrics, device=device)
        sums.add(losses, digest=batch.digest)
        optimizer.found_inf = sums.not_finite  # type: ignore[attr-defined]
        optimizer.step()
        sums.to_host()

    return step


def step_on(config: PairConfig, way: Way, device: torch.device, batch: Batch) -> Callable[[], None]:
    """The optimizer step on one batch, again and again."""
    torch.manual_seed(config.run.seed)
    training = config.training.model_copy(update={"precision": way.precision})
    config = config.model_copy(update={"training": training})
    model: PairNetwork = build(config.model).to(device)
    if way.channels_last:
        to_channels_last(model)
    optimizer = build_optimizer(model, config.optim)
    model.train()
    task = task_on_noise(config)
    network: nn.Module = TrainingStep(task, model)
    if way.mode != "eager":
        network = compile_network(network, graphs=way.mode == "graphs")
    return partial(optimizer_step(network, optimizer, device, metrics=task.metrics), batch)


class BytesCounter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts what the operators inside of the block read and write, each by itself. total: bytes."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if not func.is_view:
            self.total += sum(x.nbytes for x in tree_leaves((args, kwargs, out)) if isinstance(x, Tensor))
        return out


def flop_of(config: PairConfig, pairs: int) -> int:
    """Floating-point operations of one forward and backward pass, counted on shapes alone."""
    counter = FlopCounterMode(display=False)
    batch = Batch(*(torch.empty_like(tensor, device="meta") for tensor in synthetic(config, pairs, "cpu")))
    with torch.device("meta"):
        model = build(config.model)
    with counter:
        task_on_noise(config).loss(model, batch).total.backward()  # type: ignore[no-untyped-call]
    return int(counter.get_total_flops())
