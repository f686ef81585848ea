"""A network that several ranks train: batch norm over all of them, DDP, and the compiler around both."""

from __future__ import annotations

import warnings

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.nn.functional import all_reduce
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from avc.distributed.world import World
from avc.settings import TrainingSettings


def convert_sync_batchnorm(model: nn.Module, world: World) -> nn.Module:
    """Replace each batch norm by one that normalizes over the micro-batches of all ranks."""
    if world.world_size == 1:
        return model
    if world.device.type == "cuda":
        return nn.SyncBatchNorm.convert_sync_batchnorm(model)  # type: ignore[no-any-return, no-untyped-call]
    for name, child in model.named_children():
        if isinstance(child, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d):
            setattr(model, name, _SyncBatchNormOnCPU(child))
        else:
            convert_sync_batchnorm(child, world)
    return model


def wrap(model: nn.Module, world: World, settings: TrainingSettings) -> nn.Module:
    """DDP around it where there are other ranks, and compiled where the settings say so."""
    if world.world_size > 1:
        # Its successor of torch 2.13 is not there in the lowest version that this runs on.
        warnings.filterwarnings("ignore", message="`broadcast_buffers` is deprecated")
        with world.waiting():
            model = parallel = DistributedDataParallel(
                model,
                device_ids=[world.device] if world.device.type == "cuda" else None,
                broadcast_buffers=False,  # running statistics do not enter a training step; rank 0's count
                gradient_as_bucket_view=True,
            )
        if settings.gradients == "bf16":
            parallel.register_comm_hook(None, _sent_in_bf16)
    if not (world.device.type == "cuda" if settings.compile == "auto" else settings.compile):
        return model
    from avc.distributed.compiled import compile_network  # with seconds of importing behind it

    return compile_network(model)


def share_statistics(model: nn.Module, world: World) -> None:
    """Give every rank the running statistics of rank 0, which are the ones that are saved."""
    if world.world_size > 1:
        with world.waiting():
            for buffer in model.buffers():
                dist.broadcast(buffer, src=0)


def _sent_in_bf16(_: None, bucket):  # type: ignore[no-untyped-def]  # DDP reads annotations, and not as strings
    """What torch's `bf16_compress_hook` does, which refuses gloo."""
    sent = bucket.buffer().bfloat16().div_(dist.get_world_size())
    return dist.all_reduce(sent, async_op=True).get_future().then(lambda mean: bucket.buffer().copy_(mean.value()[0]))


class _SyncBatchNormOnCPU(_BatchNorm):
    """torch's SyncBatchNorm refuses the CPU; this one is for gloo ranks. Same parameters, same running statistics."""

    def __init__(self, plain: nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d) -> None:
        super().__init__(plain.num_features, eps=plain.eps, momentum=plain.momentum)
        self.load_state_dict(plain.state_dict())

    def _check_input_dim(self, x: Tensor) -> None:
        assert x.dim() in (3, 4, 5), x.shape

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        assert self.running_mean is not None and self.running_var is not None
        assert self.num_batches_tracked is not None and self.momentum is not None
        wide = x.float()
        per_rank = x.numel() / x.shape[1]
        all_but_channels = (0, *range(2, x.dim()))
        one_each = (-1, *[1] * (x.dim() - 2))
        total = _sum(wide.new_tensor(per_rank))
        mean = _sum(wide.sum(dim=all_but_channels)) / total
        centered = wide - mean.view(one_each)
        variance = _sum(centered.square().sum(dim=all_but_channels)) / total
        with torch.no_grad():
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * total / (total - 1).clamp(min=1), self.momentum)  # of one value: 0
        scale = self.weight * (variance + self.eps).rsqrt()
        normalized: Tensor = centered * scale.view(one_each) + self.bias.view(one_each)
        return normalized.to(x.dtype)


def _sum(x: Tensor) -> Tensor:
    return all_reduce(x)  # type: ignore[no-any-return, no-untyped-call]
