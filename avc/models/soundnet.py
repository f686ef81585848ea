"""SoundNet: Aytar, Vondrick and Torralba, SoundNet: Learning Sound Representations from Unlabeled Video, NIPS 2016."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from avc.sound_settings import SoundNetModel

SAMPLE_RATE = 22_050
AMPLITUDE = 256.0
"""The waveform lies in [-AMPLITUDE, AMPLITUDE], without subtraction of its mean (the authors' released code)."""

OBJECTS = 1000
"""Outputs for the ImageNet teacher's classes."""
SCENES = 401
"""Outputs for the Places teacher's classes."""


@dataclass(frozen=True)
class Layer:
    """A convolution over time: filters, kernel, stride and zero padding in samples of its input; pool 0 is none."""

    name: str
    filters: int
    kernel: int
    stride: int
    padding: int
    pool: int = 0

    def output_length(self, length: int) -> int:
        """Steps that come out of `length` steps, pooling included; 0 where the kernel or the pool does not fit."""
        if length < 1:
            return 0
        length = max(0, (length + 2 * self.padding - self.kernel) // self.stride + 1)
        return length // self.pool if self.pool else length


# Tables 1 and 2 of the paper, paddings from the authors' released code. The last layer is the two teachers'.
SOUNDNET8 = (
    Layer("conv1", 16, 64, 2, 32, pool=8),
    Layer("conv2", 32, 32, 2, 16, pool=8),
    Layer("conv3", 64, 16, 2, 8),
    Layer("conv4", 128, 8, 2, 4),
    Layer("conv5", 256, 4, 2, 2, pool=4),
    Layer("conv6", 512, 4, 2, 2),
    Layer("conv7", 1024, 4, 2, 2),
    Layer("conv8", OBJECTS + SCENES, 8, 2, 0),
)
SOUNDNET5 = (
    Layer("conv1", 32, 64, 2, 32, pool=8),
    Layer("conv2", 64, 32, 2, 16, pool=8),
    Layer("conv3", 128, 16, 2, 8, pool=8),
    Layer("conv4", 256, 8, 2, 4),
    Layer("conv5", OBJECTS + SCENES, 16, 12, 4),
)
SOUNDNETS = {"soundnet8": SOUNDNET8, "soundnet5": SOUNDNET5}


def steps_of(table: tuple[Layer, ...], samples: NDArray[np.int64]) -> NDArray[np.int64]:
    """Output steps for so many samples at 22,050 Hz, 0 where they are too few; both int64 (N,)."""
    lengths, where = np.unique(samples, return_inverse=True)
    for layer in table:
        lengths = np.array([layer.output_length(int(length)) for length in lengths], dtype=np.int64)
    return lengths[where]


class SoundNet(nn.Module):
    """A fully convolutional student of two vision networks, on the raw waveform (the paper's tables 1 and 2).

    settings.name: soundnet8 or soundnet5. Every hidden convolution is followed by batch norm, ReLU and, where the table
    has one, a max pool. A convolution for each of `teachers` ends it, two in the paper. Weights start from N(0, 0.01),
    biases from 0.

    The waveform is float32 (N, samples), mono at 22,050 Hz in [-256, 256], of any length that reaches the layer asked
    for.
    """

    def __init__(self, settings: SoundNetModel) -> None:
        super().__init__()
        self.name, self.teachers = settings.name, tuple(settings.teachers)
        *hidden, last = SOUNDNETS[settings.name]
        narrowed = (replace(layer, filters=max(1, round(layer.filters * settings.width))) for layer in hidden)
        self.table = (*narrowed, replace(last, filters=sum(settings.teachers.values())))
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        channels = 1
        for layer in self.table[:-1]:
            number = layer.name.removeprefix("conv")
            layers[layer.name] = nn.Conv1d(channels, layer.filters, layer.kernel, layer.stride, layer.padding)
            layers[f"bn{number}"] = nn.BatchNorm1d(layer.filters)
            layers[f"relu{number}"] = nn.ReLU()
            if layer.pool:
                layers[f"pool{number}"] = nn.MaxPool1d(layer.pool)
            channels = layer.filters
        self.layers = nn.Sequential(layers)
        for name, classes in settings.teachers.items():
            self.add_module(name, nn.Conv1d(channels, classes, last.kernel, last.stride, last.padding))
        for module in self.modules():
            if isinstance(module, nn.Conv1d):
                nn.init.normal_(module.weight, std=0.01)
                assert module.bias is not None
                nn.init.zeros_(module.bias)

    @property
    def feature_layers(self) -> tuple[str, ...]:
        """What `features` can give: convN is taken after its batch norm and ReLU, poolN after the pool."""
        return tuple(name for name, _ in self.layers.named_children() if name.startswith(("conv", "pool")))

    def forward(self, waveform: Tensor) -> tuple[Tensor, ...]:
        """Logits (N, classes, steps) for each of `teachers`: 1000 objects and 401 scenes in the paper.

        20 s give 4 steps.

        Raises ValueError for a waveform too short for one step.
        """
        self._refuse_short(waveform, self.table[-1].name)
        x = self.layers(waveform[:, None])
        return tuple(self.get_submodule(name)(x) for name in self.teachers)

    def features(self, waveform: Tensor, layer: str) -> Tensor:
        """(N, filters, steps), at least 0, of one of `feature_layers`.

        Raises ValueError for another name and for a waveform too short for one step of that layer.
        """
        if layer not in self.feature_layers:
            raise ValueError(
                f"{self.name} has no layer {layer!r} to take; choose from {', '.join(self.feature_layers)}"
            )
        self._refuse_short(waveform, layer)
        x = waveform[:, None]
        last = layer.replace("conv", "relu")
        for name, module in self.layers.named_children():
            x = module(x)
            if name == last:
                break
        return x

    def output_steps(self, samples: int, layer: str | None = None) -> int:
        """Steps of a layer, the outputs by default, for so many samples; 0 is too short."""
        layer = layer or self.table[-1].name
        for row in self.table:
            if row.name.removeprefix("conv") == layer.removeprefix("conv").removeprefix("pool"):
                pool = row.pool if layer.startswith("pool") else 0
                return Layer(row.name, row.filters, row.kernel, row.stride, row.padding, pool).output_length(samples)
            samples = row.output_length(samples)
        raise ValueError(f"{self.name} has no layer {layer!r}")

    def shortest_input(self, layer: str | None = None) -> int:
        """Samples that a layer, the outputs by default, needs for one step."""
        low, high = 0, 1
        while self.output_steps(high, layer) < 1:
            high *= 2
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if self.output_steps(middle, layer) else (middle, high)
        return high

    def _refuse_short(self, waveform: Tensor, layer: str) -> None:
        samples = waveform.shape[-1]
        if not self.output_steps(samples, layer):
            needed = self.shortest_input(layer)
            raise ValueError(
                f"{samples:,} samples ({samples / SAMPLE_RATE:.2f} s) are too short for {layer} of {self.name}, which "
                f"needs {needed:,} ({needed / SAMPLE_RATE:.2f} s): give a longer sound or take an earlier layer"
            )


def to_waveform(sound: Tensor) -> Tensor:
    """float32 (N, samples) in [-1, 1] at 22,050 Hz → the range that SoundNet listens to, [-256, 256]."""
    return sound.to(torch.float32) * AMPLITUDE
