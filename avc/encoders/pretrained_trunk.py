"""Encoders with released weights in the place of trunks: what they make of an image, and of a second of audio.

    image, or second of audio  ── encoder ──►  a row of features  ── standardized ──►  what a network's head takes

Rows can be computed once, and then stand in place of images and audio (`avc.tasks.features`).
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from avc.data.preprocessing import pixels
from avc.encoders.encoder import TOWER, AudioEncoder, Encoder, ImageEncoder
from avc.encoders.load import load_any
from avc.models.trunks import Trunk
from avc.settings import AVOLModel, PairModel

REPEATED = 6  # a second, for encoders of any length, of whose last layers it is too short a part
LEAST_DEVIATION = 1e-2  # of a feature, in mean deviations of all: one that hardly varies is not blown up


class PooledImage(ImageEncoder):
    """An encoder's layer for towers, mean and maximum over its places; or the map that it ends in.

    Raises ValueError for an encoder of motion, and for one without a map where that is asked for.
    """

    def __init__(self, encoder: ImageEncoder, *, as_map: bool) -> None:
        super().__init__(encoder.name)
        encoder.require_single_frames()
        if as_map and not encoder.unit_layers:
            raise ValueError(
                f"model.image: {encoder.name} has no map of an image, in which a sound could have its place"
            )
        self.encoder, self.size, self.as_map = encoder, encoder.size, as_map

    def extra_repr(self) -> str:
        """For people and for `key`."""
        return f"{super().extra_repr()}, {'map' if self.as_map else _layer(self.encoder)}"

    def features(self, x: Tensor, layer: str) -> Tensor:
        """(N, size, size, 3), uint8 or float of 0 to 255 → (N, D)."""
        if self.as_map:
            return self.maps(x, layer).flatten(1)
        name = _layer(self.encoder)
        return _pooled(self.encoder(x, name), self.encoder.places(name))

    def maps(self, x: Tensor, layer: str) -> Tensor:
        """The same, of any size → (N, C, H', W')."""
        return self.encoder.maps(x, self.encoder.unit_layer(None))


class PooledAudio(AudioEncoder):
    """As PooledImage, of one second. Raises ValueError for an encoder that takes another length."""

    def __init__(self, encoder: AudioEncoder) -> None:
        super().__init__(encoder.name)
        if encoder.seconds not in (None, 1.0):
            raise ValueError(
                f"model.audio: {encoder.name} hears {encoder.seconds:g} s at once, and a pair has one second"
            )
        self.encoder, self.sample_rate_hz = encoder, encoder.sample_rate_hz
        self.repeated = REPEATED if encoder.seconds is None else 1

    def extra_repr(self) -> str:
        """For people and for `key`."""
        return f"{super().extra_repr()}, {_layer(self.encoder)}, {self.repeated} times"

    def features(self, x: Tensor, layer: str) -> Tensor:
        """float32 (N, samples) → (N, D)."""
        x = x.repeat(1, self.repeated)
        name = _layer(self.encoder)
        return _pooled(self.encoder(x, name), self.encoder.places(name, x.shape[1]))


def _layer(encoder: Encoder) -> str:
    return encoder.named_layer(TOWER if TOWER in encoder.layers else None)


def _pooled(rows: Tensor, places: int) -> Tensor:
    maps = rows.view(len(rows), -1, places)
    return rows if places == 1 else torch.cat([maps.mean(dim=2), maps.amax(dim=2)], dim=1)


class PretrainedTrunk(Trunk):
    """An encoder; its features are standardized by their mean and deviation over training clips (`standardize`).

    classes: of the features, those that say which of ImageNet's classes it finds; empty where none do.
    """

    encodes = True
    encoder: PooledImage | PooledAudio
    mean: Tensor
    deviation: Tensor

    def __init__(self, encoder: PooledImage | PooledAudio) -> None:
        super().__init__()
        self.encoder = encoder.eval()
        shape = self._shape(encoder)
        self.out_channels, self.map_shape = shape[0], shape[1:]
        self.stride = encoder.size // shape[1] if isinstance(encoder, PooledImage) else 1
        classes = encoder.encoder.tower_classes if self.map_shape == (1, 1) else 0
        self.classes = slice(shape[0] - classes, shape[0])
        self.register_buffer("mean", torch.zeros(shape[0], 1, 1))
        self.register_buffer("deviation", torch.ones(shape[0], 1, 1))

    @staticmethod
    @torch.no_grad()
    def _shape(encoder: PooledImage | PooledAudio) -> tuple[int, int, int]:
        if isinstance(encoder, PooledAudio):
            return encoder(torch.zeros(1, encoder.sample_rate_hz), "embedding").shape[1], 1, 1
        image = torch.zeros(1, encoder.size, encoder.size, 3, dtype=torch.uint8)
        if encoder.as_map:
            channels, height, width = encoder.maps(image, "embedding").shape[1:]
            return channels, height, width
        return encoder(image, "embedding").shape[1], 1, 1

    def encode(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) normalized images, (N, 1, samples) audio → rows (N, D); rows as they are."""
        if x.dim() == 2:
            return x
        return self.encoder(pixels(x) if x.dim() == 4 else x[:, 0], "embedding")

    def features(self, x: Tensor) -> Tensor:
        """What `encode` takes → (N, C, H', W'), of both signs; images of any size where they give a map."""
        if x.dim() == 4 and self.map_shape != (1, 1):
            maps = self.encoder.maps(pixels(x), "embedding")
        else:
            maps = self.encode(x).view(len(x), self.out_channels, *self.map_shape)
        return (maps - self.mean) / self.deviation

    def forward(self, x: Tensor) -> Tensor:
        """As `features`."""
        return self.features(x)

    def standardize(self, rows: NDArray[np.float32]) -> None:
        """Take mean and deviation from rows (V, D)."""
        places = self.map_shape[0] * self.map_shape[1]
        sums = np.zeros((2, self.out_channels))
        for start in range(0, len(rows), 256):
            part = np.asarray(rows[start : start + 256], np.float64).reshape(-1, self.out_channels, places)
            sums += part.sum(axis=(0, 2)), (part**2).sum(axis=(0, 2))
        mean, square = sums / (len(rows) * places)
        deviation = np.sqrt(np.maximum(square - mean**2, 0))
        deviation = np.maximum(deviation, LEAST_DEVIATION * deviation.mean() + 1e-12)
        for buffer, value in ((self.mean, mean), (self.deviation, deviation)):
            buffer.copy_(torch.from_numpy(value).float()[:, None, None])

    def thinned(self, rows: Tensor, draws: Tensor, share: float) -> Tensor:
        """Dropout by the plan: a share of each row's features at their mean, the others farther from it; as nn.Dropout.

        rows: (N, D); draws: (N,) in [0, 1), which alone decide, so that it is the same on any number of ranks.
        """
        mixed = (draws * 2.0**24).long()[:, None] * 0x9E3779B1 + torch.arange(self.out_channels, device=rows.device)
        for factor in (0x2C1B3C6D, 0x297A2D39):
            mixed = ((mixed ^ (mixed >> 15)) * factor) & 0x7FFFFFFF
        kept = (mixed >> 8) >= share * 2.0**23
        maps, mean = rows.view(len(rows), self.out_channels, -1), self.mean[:, :, 0]
        return (mean + (maps - mean) * (kept / (1 - share))[:, :, None]).flatten(1)


def pretrained_trunks(settings: PairModel) -> tuple[PretrainedTrunk, PretrainedTrunk]:
    """The trunks that `model.image` and `model.audio` name, frozen unless they are trained.

    Raises ValueError for what is no encoder of that kind.
    """
    assert settings.image is not None and settings.audio is not None
    image = PooledImage(load_any(settings.image, as_tower=True).image, as_map=isinstance(settings, AVOLModel))
    trunks = PretrainedTrunk(image), PretrainedTrunk(PooledAudio(load_any(settings.audio, as_tower=True).audio))
    for trunk in trunks:
        if not settings.train_towers:
            trunk.freeze()
    return trunks
