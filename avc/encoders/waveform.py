"""SoundNet and the autoencoder, which take a waveform of any length, as an encoder."""

from __future__ import annotations

import torch
from torch import Tensor

from avc.encoders.encoder import AudioEncoder
from avc.models.waveform import SAMPLE_RATE, WaveformNetwork, to_waveform


class Waveform(AudioEncoder):
    """Any layer, all its steps side by side: (N, filters · steps)."""

    sample_rate_hz = SAMPLE_RATE
    seconds = None

    def __init__(self, name: str, network: WaveformNetwork) -> None:
        super().__init__(name)
        usual = network.named_layer(None)
        self.network = network
        self.layers = (usual, *(layer for layer in network.feature_layers if layer != usual))
        self.unit_layers = tuple(network.feature_layers)
        self.whole = network.heard_whole

    def features(self, x: Tensor, layer: str) -> Tensor:
        """float32 (N, samples) → (N, filters · steps), at least 0."""
        return self.network.features(to_waveform(x), layer).flatten(1)

    def maps(self, x: Tensor, layer: str) -> Tensor:
        """float32 (N, samples) → (N, filters, 1, steps)."""
        return self.network.features(to_waveform(x), layer)[:, :, None]

    @property
    def first_filters(self) -> Tensor:
        """(F, 64), waves."""
        return self.network.hidden[0].get_parameter("weight")[:, 0]

    def places(self, layer: str, samples: int) -> int:
        """Steps of the layer. Raises ValueError where a sound is too short for one."""
        self.network.refuse_short(torch.empty(samples), layer)
        return self.network.output_steps(samples, layer)
