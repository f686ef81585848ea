"""The networks of openl3 (Cramer et al., Look, Listen and Learn More, ICASSP 2019) and EdgeL3 (Srivastava et al. 2019).

L3-Net's towers as openl3's weights have them: a batch norm before the first convolution, biases, no ReLU before the
last pool. The spectrogram is part of the audio network; it is that of kapre, Keras' audio layers.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from avc.data.preprocessing import normalize
from avc.encoders.encoder import AudioEncoder, ImageEncoder
from avc.extras import require_package

CHANNELS = (64, 128, 256, 512)
EPSILON = 1e-3  # of Keras' batch norm
QUIETEST_DB = -80.0  # below the loudest of a second: kapre's dynamic range
SMALLEST = 1e-10


@dataclass(frozen=True)
class Form:
    """What a file of weights is of.

    frontend: a row of FRONTENDS, None of images. kapre: whose mel-spectrogram it is, 0.3, openl3 0.4's, or 0.1, that of
    older openl3 and of EdgeL3. grid: embed as the last map's maxima over a grid, 4x3 of audio (6144 numbers) and 4x4 of
    images (8192), or else over the whole map (512). width multiplies the channels of every convolution; narrowing
    divides those of the fourth block in addition: EdgeL3's 64 numbers are width 0.5, narrowing 4.
    """

    frontend: Literal["linear", "mel128", "mel256", "mel64"] | None
    kapre: Literal["0.1", "0.3"] = "0.3"
    grid: bool = True
    width: float = 1.0
    narrowing: int = 1


@dataclass(frozen=True)
class Frontend:
    """A spectrogram of one second. mels: bands, or None. padding: valid none, end to a whole hop, same as Keras'."""

    sample_rate_hz: int
    n_fft: int
    hop: int
    mels: int | None
    padding: Literal["valid", "end", "same"]


FRONTENDS = {  # openl3/models.py and edgel3/models.py
    "linear": Frontend(48_000, 512, 242, None, "valid"),
    "mel128": Frontend(48_000, 2048, 242, 128, "end"),
    "mel256": Frontend(48_000, 2048, 242, 256, "end"),
    "mel64": Frontend(8_000, 1024, 160, 64, "same"),
}


class Spectrogram(nn.Module):
    """Waveforms (N, samples) of one second → (N, 1, bins, steps) in decibels below the loudest, -80 to 0.

    kapre 0.3 (openl3 0.4) takes mel bands of the magnitude, on Slaney's scale. kapre 0.1 (EdgeL3 and older openl3)
    takes the root of mel bands of the power, on HTK's scale, and pads both ends. Decibels are ten times the logarithm
    of the amplitude in both. Where there are bands, filters is (n_fft / 2 + 1, mels).
    """

    def __init__(self, form: Frontend, *, kapre: str) -> None:
        super().__init__()
        self.form = form
        self.of_power = form.mels is not None and kapre == "0.1"
        self.padding = "same" if self.of_power else self.form.padding
        self.window: Tensor
        self.filters: Tensor
        self.kernels: Tensor
        if self.of_power:
            self.register_buffer("kernels", dft_kernels(self.form.n_fft), persistent=False)
        else:
            self.register_buffer("window", torch.hann_window(self.form.n_fft), persistent=False)
        if self.form.mels is not None:
            self.register_buffer("filters", mel_filters(self.form, htk=self.of_power))

    def forward(self, x: Tensor) -> Tensor:
        """float (N, samples) → float32 (N, 1, bins, steps)."""
        n_fft, hop = self.form.n_fft, self.form.hop
        if self.padding != "valid":
            steps = -(-self.form.sample_rate_hz // hop)
            missing = (steps - 1) * hop + n_fft - self.form.sample_rate_hz
            before = missing // 2 if self.padding == "same" else 0
            x = F.pad(x, (before, missing - before))
        if self.of_power:
            # As kapre does it, not by a fast transform: 80 dB of ten times the logarithm of an amplitude go down to
            # where float32 rounds, and what that leaves of a pure tone in other bands moves embeddings by 0.03.
            real, imaginary = F.conv1d(x.float()[:, None], self.kernels, stride=hop).chunk(2, dim=1)
            magnitude = ((real.square() + imaginary.square()).transpose(1, 2) @ self.filters).sqrt()
        else:
            magnitude = torch.fft.rfft(x.float().unfold(1, n_fft, hop) * self.window).abs()  # (N, steps, bins)
            if self.form.mels is not None:
                magnitude = magnitude @ self.filters
        decibels = 10 * magnitude.clamp(min=SMALLEST).log10()
        decibels = (decibels - decibels.amax(dim=(1, 2), keepdim=True)).clamp(min=QUIETEST_DB)
        bins: Tensor = decibels.transpose(1, 2).unsqueeze(1)
        return bins


def dft_kernels(n_fft: int) -> Tensor:
    """float32 (2 · (n_fft / 2 + 1), 1, n_fft): windowed cosines, then sines, in the precision of kapre 0.1's."""
    angles = 2 * math.pi / n_fft * torch.outer(torch.arange(n_fft // 2 + 1), torch.arange(n_fft)).double()
    window = torch.hann_window(n_fft, dtype=torch.float64).float().double()
    return torch.cat([angles.cos() * window, -angles.sin() * window]).float()[:, None]


def mel_filters(form: Frontend, *, htk: bool) -> Tensor:
    """float32 (n_fft / 2 + 1, mels), triangles of equal area."""
    require_package("librosa", extra="librosa", purpose="the mel spectrogram of openl3's networks")
    from librosa.filters import mel

    filters = mel(sr=form.sample_rate_hz, n_fft=form.n_fft, n_mels=form.mels, htk=htk, norm="slaney")
    return torch.from_numpy(filters.T.copy())


class OpenL3Audio(AudioEncoder):
    """A second of mono sound, float32 (N, sample_rate_hz) in [-1, 1]; EdgeL3's small networks ("SEA") where `form` has
    their spectrogram, 64 mel bands at 8 kHz, with batch norm and ReLU before the last pool."""

    def __init__(self, form: Form) -> None:
        assert form.frontend is not None
        spectrogram = FRONTENDS[form.frontend]
        is_edge = form.frontend == "mel64"
        name = "EdgeL3" if is_edge else f"OpenL3, {form.frontend}"
        super().__init__(name, Spectrogram(spectrogram, kapre=form.kapre))
        self.form, self.sample_rate_hz = form, spectrogram.sample_rate_hz
        self.convolutions = _tower(1, form, ends_in_relu=is_edge)
        self.pool = ((4 if spectrogram.mels == 128 else 8), 8) if form.grid else None

    def extra_repr(self) -> str:
        """For people and for `key`."""
        return f"{super().extra_repr()}, {self.form}"

    def features(self, x: Tensor, layer: str) -> Tensor:
        """Spectrograms, float32 (N, 1, bins, steps) → float32 (N, D); a grid's in Keras' order."""
        return _pooled(self.convolutions(x), self.pool)


class OpenL3Image(ImageEncoder):
    """Takes uint8 (N, 224, 224, 3); to the network they are openl3's -1 to 1."""

    def __init__(self, form: Form) -> None:
        super().__init__("OpenL3, image")
        self.form = form
        self.convolutions = _tower(3, form, ends_in_relu=False)
        self.pool = (7, 7) if form.grid else None

    def extra_repr(self) -> str:
        """For people and for `key`."""
        return f"{super().extra_repr()}, {self.form}"

    def features(self, x: Tensor, layer: str) -> Tensor:
        """uint8 (N, 224, 224, 3) → float32 (N, D); a grid's numbers are in Keras' order, channels last."""
        return _pooled(self.convolutions(normalize(x.permute(0, 3, 1, 2).float() / 255) / 2), self.pool)


def _tower(in_channels: int, form: Form, *, ends_in_relu: bool) -> nn.Sequential:
    layers: OrderedDict[str, nn.Module] = OrderedDict(bn0=nn.BatchNorm2d(in_channels, eps=EPSILON))
    images = in_channels == 3
    for block, channels in enumerate(CHANNELS, start=1):
        out = max(1, round(channels * form.width) // (form.narrowing if block == 4 else 1))
        for number in (1, 2):
            name = f"{block}_{number}"
            layers[f"conv{name}"] = nn.Conv2d(in_channels, out, kernel_size=3, padding=1)
            in_channels = out
            if name == "4_2" and not ends_in_relu:
                return nn.Sequential(layers)
            norm = nn.BatchNorm2d(out, eps=EPSILON)
            if images and name == "1_2":  # this one layer of openl3's image network has them the other way around
                layers[f"relu{name}"], layers[f"bn{name}"] = nn.ReLU(), norm
            else:
                layers[f"bn{name}"], layers[f"relu{name}"] = norm, nn.ReLU()
        if block < len(CHANNELS):
            layers[f"pool{block}"] = nn.MaxPool2d(2)
    return nn.Sequential(layers)


def _pooled(maps: Tensor, pool: tuple[int, int] | None) -> Tensor:
    if pool is None:
        return maps.amax(dim=(2, 3))
    return F.max_pool2d(maps, pool).permute(0, 2, 3, 1).flatten(1)
