"""Undo a constant displacement of AVOL-Net's map, without labels. Ours: no paper has it.

The network's loss is the same for every map that is shifted by a constant (the trunk is equivariant to translation, and
the maximum is taken over all places), so nothing in training ties a place of the map to the same place of the image.
What a place has looked at its gradient tells: the maximum is displaced from there.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from avc.data.sampler import Integers
from avc.encoders.sources import middles
from avc.encoders.trained import Trained
from shards import Report
from shards.format import second_start
from shards.read import Shards

FRAMES = 256


@dataclass(frozen=True)
class Registration:
    """By how much the map lies beside what it looks at: right and down, in pixels of the network's input.

    pixels: the mean over frames. std_pixels: its standard deviation. side: pixels of the input's smallest side.
    """

    frames: int
    pixels: tuple[float, float]
    std_pixels: tuple[float, float]
    side: float

    def __str__(self) -> str:
        right, down = (
            f"{mean:+.1f} ± {std:.1f} pixels {where}"
            for mean, std, where in zip(self.pixels, self.std_pixels, ("right", "down"), strict=True)
        )
        return (
            f"registered on {self.frames:,} training frames: maps lie {right} and {down} of what they look at, in "
            f"images of {self.side:.0f} pixels, and are shifted back"
        )


def register(
    network: Trained, shards: Shards, clips: Integers, *, frames: int = FRAMES, report: Report | None = None
) -> tuple[Trained, Registration]:
    """A network whose maps are shifted back, and by how much.

    Measured on the middle frame, and its second of audio, of `frames` of the clips, evenly spread: training clips, so
    that held-out ones stay so. No labels are looked at. Raises ValueError where the network is not AVOL-Net or there
    are no clips.
    """
    if not len(clips):
        raise ValueError(f"{shards.folder} has no training clips, on which the map's displacement is measured")
    chosen = clips[np.linspace(0, len(clips) - 1, min(frames, len(clips))).round().astype(np.int64)]
    offsets = np.empty((len(chosen), 2))
    for i, clip in enumerate(chosen.tolist()):
        ticks = middles(shards.index[clip])
        tick = ticks[len(ticks) // 2]
        image, audio = shards.picture(clip, tick), shards.sound(clip, second_start(tick))
        offsets[i] = offset(network, torch.from_numpy(image)[None], torch.from_numpy(audio)[None])
        if report is not None:
            report(i + 1, len(chosen), "")
    (right, down), (std_right, std_down) = offsets.mean(axis=0).tolist(), offsets.std(axis=0).tolist()
    measured = Registration(len(chosen), (right, down), (std_right, std_down), side=network.map_side)
    return replace(network, map_shift=measured.pixels), measured


def offset(network: Trained, image: Tensor, second: Tensor) -> NDArray[np.float64]:
    """Pixels right and down, float64 (2,), from the centroid of the gradient's magnitude to the map's maximum.

    The gradient is that of the maximum by the network's input; its magnitude at a pixel is the norm over the channels.
    image: uint8 (1, H, W, 3). second: int16 (1, 48000).
    """
    x = network.map_input(image).requires_grad_()
    audio = network.embed_seconds(second).to(network.device)
    map_ = network.localizer().localize(network.model.embed_image(x), audio)[0]
    (gradient,) = torch.autograd.grad(map_.max(), x)
    magnitude = gradient[0].double().norm(dim=0).cpu()
    row, column = divmod(int(map_.argmax()), map_.shape[1])
    stride = network.model.vision.stride
    height, width = magnitude.shape
    total = magnitude.sum().clamp(min=torch.finfo(torch.float64).tiny)
    x_centroid = (magnitude.sum(dim=0) * (torch.arange(width) + 0.5)).sum() / total
    y_centroid = (magnitude.sum(dim=1) * (torch.arange(height) + 0.5)).sum() / total
    return np.array([(column + 0.5) * stride - float(x_centroid), (row + 0.5) * stride - float(y_centroid)])
