"""SoundNet and the autoencoder, which take a waveform of any length, as an encoder."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from avc.encoders.encoder import TOWER, AudioEncoder, first_weights
from avc.models.soundnet import SoundNet
from avc.models.waveform import SAMPLE_RATE, WaveformNetwork, to_waveform


class Waveform(AudioEncoder):
    """Any layer, all its steps side by side: (N, filters · steps).

    tower: of the last hidden layer, mean and maximum over the steps; then the logits of SoundNet's classes, had that
    layer its mean at every step: a sound need not be so long as the outputs.
    """

    sample_rate_hz = SAMPLE_RATE
    seconds = None

    def __init__(self, name: str, network: WaveformNetwork) -> None:
        super().__init__(name)
        usual = network.named_layer(None)
        self.network = network
        self.unit_layers = tuple(network.feature_layers)
        teachers = network.settings.teachers if isinstance(network, SoundNet) else {}
        self._outputs = sorted(teachers, reverse=True)  # scenes, then objects
        self.tower_classes = teachers.get("objects", 0)
        self.layers = (usual, *(layer for layer in network.feature_layers if layer != usual), TOWER)
        self.whole = network.heard_whole

    def features(self, x: Tensor, layer: str) -> Tensor:
        """float32 (N, samples) → (N, filters · steps), at least 0; of `tower` (N, D)."""
        if layer != TOWER:
            return self.network.features(to_waveform(x), layer).flatten(1)
        steps = self.network.features(to_waveform(x), self.unit_layers[-1])
        mean = steps.mean(dim=2)
        outputs: list[Any] = [self.network.get_submodule(name) for name in self._outputs]
        return torch.cat(
            [mean, steps.amax(dim=2), *(F.linear(mean, o.weight.sum(dim=2), o.bias) for o in outputs)], dim=1
        )

    def maps(self, x: Tensor, layer: str) -> Tensor:
        """float32 (N, samples) → (N, filters, 1, steps)."""
        return self.network.features(to_waveform(x), layer)[:, :, None]

    @property
    def first_filters(self) -> Tensor:
        """(F, 64), waves."""
        return first_weights(self.network)[:, 0]

    def places(self, layer: str, samples: int) -> int:
        """Steps of the layer. Raises ValueError where a sound is too short for one."""
        self.network.refuse_short(torch.empty(samples), self.unit_layers[-1] if layer == TOWER else layer)
        if layer == TOWER:
            return 1
        return self.network.output_steps(samples, layer)
