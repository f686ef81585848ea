"""SoundNet and the autoencoder that it is compared with.

Aytar, Vondrick and Torralba, SoundNet: Learning Sound Representations from Unlabeled Video, NIPS 2016.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import replace

from torch import Tensor, nn

from avc.models.waveform import ConvLayer, WaveformNetwork
from avc.settings import ModelSettings
from avc.sound_settings import SoundNetModel

OBJECTS = 1000
"""Outputs for the ImageNet teacher's classes."""
SCENES = 401
"""Outputs for the Places teacher's classes."""


# Tables 1 and 2 of the paper, paddings from the authors' released code. The last layer is the two teachers'.
SOUNDNET8 = (
    ConvLayer("conv1", 16, 64, 2, 32, pool=8),
    ConvLayer("conv2", 32, 32, 2, 16, pool=8),
    ConvLayer("conv3", 64, 16, 2, 8),
    ConvLayer("conv4", 128, 8, 2, 4),
    ConvLayer("conv5", 256, 4, 2, 2, pool=4),
    ConvLayer("conv6", 512, 4, 2, 2),
    ConvLayer("conv7", 1024, 4, 2, 2),
    ConvLayer("conv8", OBJECTS + SCENES, 8, 2, 0),
)
SOUNDNET5 = (
    ConvLayer("conv1", 32, 64, 2, 32, pool=8),
    ConvLayer("conv2", 64, 32, 2, 16, pool=8),
    ConvLayer("conv3", 128, 16, 2, 8, pool=8),
    ConvLayer("conv4", 256, 8, 2, 4),
    ConvLayer("conv5", OBJECTS + SCENES, 16, 12, 4),
)
SOUNDNETS = {"soundnet8": SOUNDNET8, "soundnet5": SOUNDNET5}


def narrowed(layers: Iterable[ConvLayer], width: float) -> tuple[ConvLayer, ...]:
    """The layers with so many times the filters."""
    return tuple(replace(layer, filters=max(1, round(layer.filters * width))) for layer in layers)


def hidden_layers(table: Iterable[ConvLayer]) -> nn.Sequential:
    """conv1, bn1, relu1 and, where the table has one, pool1, and so on."""
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    channels = 1
    for number, layer in enumerate(table, start=1):
        layers[layer.name] = nn.Conv1d(channels, layer.filters, layer.kernel, layer.stride, layer.padding)
        layers[f"bn{number}"] = nn.BatchNorm1d(layer.filters)
        layers[f"relu{number}"] = nn.ReLU()
        if layer.pool:
            layers[f"pool{number}"] = nn.MaxPool1d(layer.pool)
        channels = layer.filters
    return nn.Sequential(layers)


class SoundNet(WaveformNetwork):
    """A fully convolutional student of two vision networks, on the raw waveform (the paper's tables 1 and 2).

    settings.name: soundnet8 or soundnet5. Every hidden convolution is followed by batch norm, ReLU and, where the table
    has one, a max pool. A convolution for each of `teachers` ends it, two in the paper. Weights start from N(0, 0.01),
    biases from 0.

    The waveform is as in `WaveformNetwork`.
    """

    heard_whole = True

    def __init__(self, settings: SoundNetModel) -> None:
        super().__init__()
        self.name, self.settings, self.teachers = settings.name, settings, tuple(settings.teachers)
        *hidden, last = SOUNDNETS[settings.name]
        self.table = (*narrowed(hidden, settings.width), replace(last, filters=sum(settings.teachers.values())))
        self.layers = hidden_layers(self.table[:-1])
        for name, classes in settings.teachers.items():
            self.add_module(name, nn.Conv1d(self.table[-2].filters, classes, last.kernel, last.stride, last.padding))
        for module in self.modules():
            if isinstance(module, nn.Conv1d):
                nn.init.normal_(module.weight, std=0.01)
                assert module.bias is not None
                nn.init.zeros_(module.bias)

    @property
    def hidden(self) -> nn.Sequential:
        """All layers but the outputs."""
        return self.layers

    def forward(self, waveform: Tensor) -> tuple[Tensor, ...]:
        """Logits (N, classes, steps) for each of `teachers`: 1000 objects and 401 scenes in the paper.

        20 s give 4 steps.

        Raises ValueError for a waveform too short for one step.
        """
        self.refuse_short(waveform, self.table[-1].name)
        x = self.layers(waveform[:, None])
        return tuple(self.get_submodule(name)(x) for name in self.teachers)


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
        self.name, self.table = settings.name, narrowed(ENCODER, settings.width)
        self.encoder = hidden_layers(self.table)
        decoder: OrderedDict[str, nn.Module] = OrderedDict()
        for number in range(len(self.table), 0, -1):
            layer, made = self.table[number - 1], self.table[number - 2].filters if number > 1 else 1
            stride = layer.stride * max(1, layer.pool)
            # So padded, as many strides come out as steps went in.
            padding = (layer.kernel - stride) // 2
            decoder[f"deconv{number}"] = nn.ConvTranspose1d(layer.filters, made, layer.kernel, stride, padding)
            if number > 1:
                decoder[f"debn{number}"] = nn.BatchNorm1d(made)
                decoder[f"derelu{number}"] = nn.ReLU()
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
