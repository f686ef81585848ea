"""What the networks that take a waveform have in common: named layers over time, any of which can be taken."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

SAMPLE_RATE = 22_050
AMPLITUDE = 256.0
"""The waveform lies in [-AMPLITUDE, AMPLITUDE], without subtraction of its mean (SoundNet's released code)."""


@dataclass(frozen=True)
class ConvLayer:
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


def steps_of(table: tuple[ConvLayer, ...], samples: NDArray[np.int64]) -> NDArray[np.int64]:
    """Output steps for so many samples at 22,050 Hz, 0 where they are too few; both int64 (N,)."""
    lengths, where = np.unique(samples, return_inverse=True)
    for layer in table:
        lengths = np.array([layer.output_length(int(length)) for length in lengths], dtype=np.int64)
    return lengths[where]


class WaveformNetwork(nn.Module):
    """Convolutions over time, from the raw waveform to a map of steps.

    The waveform is float32 (N, samples), mono at 22,050 Hz in [-256, 256], of any length that reaches the layer asked
    for. name: as in `avc.networks`. table: a row for each convolution, in their order. hidden: all but outputs,
    named conv1, bn1, relu1 and, where the table has a pool, pool1, and so on. probe_layer: what
    is taken where no layer is named, if there is one of that name; else the last one. heard_whole: its features are of
    steps of a whole recording, and not of windows of it.
    """

    probe_layer: ClassVar[str] = "pool5"  # SoundNet's, section 5
    heard_whole: ClassVar[bool] = False
    name: str
    table: tuple[ConvLayer, ...]

    @property
    def hidden(self) -> nn.Sequential:
        """The hidden layers."""
        raise NotImplementedError

    @property
    def feature_layers(self) -> tuple[str, ...]:
        """What `features` can give: convN is taken after its batch norm and ReLU, poolN after the pool."""
        return tuple(name for name, _ in self.hidden.named_children() if name.startswith(("conv", "pool")))

    def features(self, waveform: Tensor, layer: str | None = None) -> Tensor:
        """(N, filters, steps), at least 0, of one of `feature_layers`; of `probe_layer` where none is named.

        Raises ValueError for another name and for a waveform too short for one step of that layer.
        """
        layer = self.named_layer(layer)
        self.refuse_short(waveform, layer)
        x = waveform[:, None]
        last = layer.replace("conv", "relu")
        for name, module in self.hidden.named_children():
            x = module(x)
            if name == last:
                break
        return x

    def named_layer(self, layer: str | None) -> str:
        """The layer that `features` takes. Raises ValueError for one that there is not."""
        layers = self.feature_layers
        if layer is None:
            return self.probe_layer if self.probe_layer in layers else layers[-1]
        if layer not in layers:
            raise ValueError(f"{self.name} has no layer {layer!r} to take; choose from {', '.join(layers)}")
        return layer

    def output_steps(self, samples: int, layer: str | None = None) -> int:
        """Steps of a layer, the outputs by default, for so many samples; 0 is too short."""
        layer = layer or self.table[-1].name
        for row in self.table:
            if row.name.removeprefix("conv") == layer.removeprefix("conv").removeprefix("pool"):
                pool = row.pool if layer.startswith("pool") else 0
                return replace(row, pool=pool).output_length(samples)
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

    def refuse_short(self, waveform: Tensor, layer: str) -> None:
        """Raise ValueError where a waveform gives no step of a layer."""
        samples = waveform.shape[-1]
        if not self.output_steps(samples, layer):
            needed = self.shortest_input(layer)
            raise ValueError(
                f"{samples:,} samples ({samples / SAMPLE_RATE:.2f} s) are too short for {layer} of {self.name}, which "
                f"needs {needed:,} ({needed / SAMPLE_RATE:.2f} s): give a longer sound or take an earlier layer"
            )


def to_waveform(sound: Tensor) -> Tensor:
    """float32 (N, samples) in [-1, 1] at 22,050 Hz → the range that these networks take, [-256, 256]."""
    return sound.to(torch.float32) * AMPLITUDE
