"""The convolutional autoencoder that SoundNet is compared with (Aytar, Vondrick and Torralba, NIPS 2016)."""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor, nn

from avc.models.soundnet import SOUNDNET8
from avc.models.waveform import WaveformNetwork
from avc.settings import ModelSettings

ENCODER = SOUNDNET8[:4]
LOUDNESS = 32.0
"""What comes out is multiplied by this, about as loud as a recording is in [-256, 256]. With 1 it would take thousands
of steps to become so loud; with 256 the first thing that is learnt is silence, which is slow to leave again."""


class Autoencoder(WaveformNetwork):
    """SoundNet-8's first four layers, and four fractionally strided convolutions back to the waveform.

    Each layer back undoes one: its filters in reverse, its kernel, and its stride times its pool as the stride. Batch
    norm and ReLU follow all but the last. The paper gives no more than the number of layers; the rest is ours.
    """

    def __init__(self, settings: ModelSettings) -> None:
        super().__init__()
        self.name, self.table = settings.name, ENCODER
        filters = [max(1, round(layer.filters * settings.width)) for layer in ENCODER]
        encoder: OrderedDict[str, nn.Module] = OrderedDict()
        decoder: OrderedDict[str, nn.Module] = OrderedDict()
        channels = 1
        for number, layer in enumerate(ENCODER, start=1):
            made = filters[number - 1]
            encoder[layer.name] = nn.Conv1d(channels, made, layer.kernel, layer.stride, layer.padding)
            encoder[f"bn{number}"] = nn.BatchNorm1d(made)
            encoder[f"relu{number}"] = nn.ReLU()
            if layer.pool:
                encoder[f"pool{number}"] = nn.MaxPool1d(layer.pool)
            channels = made
        for number, layer in reversed(list(enumerate(ENCODER, start=1))):
            made = filters[number - 2] if number > 1 else 1
            stride = layer.stride * max(1, layer.pool)
            # So padded, as many strides come out as steps went in.
            padding = (layer.kernel - stride) // 2
            decoder[f"deconv{number}"] = nn.ConvTranspose1d(channels, made, layer.kernel, stride, padding)
            if number > 1:
                decoder[f"debn{number}"] = nn.BatchNorm1d(made)
                decoder[f"derelu{number}"] = nn.ReLU()
            channels = made
        self.encoder = nn.Sequential(encoder)
        self.decoder = nn.Sequential(decoder)

    @property
    def hidden(self) -> nn.Sequential:
        """The encoder; conv4 ends it, and is what is taken where no layer is named."""
        return self.encoder

    def forward(self, waveform: Tensor) -> Tensor:
        """float32 (N, samples) at 22,050 Hz in [-256, 256] → the same again as well as it can, (N, samples)."""
        made = self.decoder(self.features(waveform, ENCODER[-1].name))
        assert made.shape[2] >= waveform.shape[1]
        return LOUDNESS * made[:, 0, : waveform.shape[1]]  # type: ignore[no-any-return]
