"""A trained network for use: its encoders, what it embeds, and, of AVOL-Net, where a sound is.

network = avc.load("runs/ave")
embedding, seconds = network.embed_audio(samples, sample_rate=44100)   # of a recording: one every 0.1 s
image = network.embed_image(images)    # uint8 (N, H, W, 3)   → float32 (N, 128)
audio = network.embed_audio(seconds)   # int16 (N, 48000)     → float32 (N, 128), a second in each row

network = avc.load("runs/avol")
maps = network.localize(images, seconds)    # float32 (N, H', W'), 0 to 1: what makes this sound?
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from avc.data.preprocessing import CROP, center_crop, resize_to_stride
from avc.data.windows import hop_in_samples, mono, resample, windows_of
from avc.encoders.encoder import AudioEncoder, ImageEncoder
from avc.encoders.towers import AudioTower, ImageTower
from avc.encoders.waveform import Waveform
from avc.memory import keep_freed_memory
from avc.models import to_channels_last
from avc.models.pair import Localizer, PairNetwork
from avc.models.waveform import WaveformNetwork
from avc.networks import NETWORKS
from avc.pretrained import write_pretrained
from avc.settings import PairConfig

ROWS_AT_ONCE = 64
ROWS_ON_CPU = 16  # seconds of sound: their spectrograms stay in the processor's caches
Timed = tuple[NDArray[np.float32], NDArray[np.float64]]  # embeddings (T, D) and their times (T,), seconds


@dataclass(frozen=True)
class Trained:
    """A trained network in evaluation mode, with the settings that it was trained under.

    name: in tables. hears, sees: the encoders of its audio and of its images, None where it has none; `audio` and
    `image` refuse instead. weights: the file that they come from, where there is one.
    """

    name: str
    model: Any
    config: Any
    hears: AudioEncoder | None
    sees: ImageEncoder | None
    device: torch.device
    weights: Path | None = None

    @property
    def key(self) -> tuple[str, ...]:
        """The name, and the encoders' keys."""
        return (self.name, *(encoder.key for encoder in (self.hears, self.sees) if encoder is not None))

    @property
    def title(self) -> str:
        """As figures and tables call it."""
        name = self.config.model.name
        return NETWORKS[name].title if name in NETWORKS else name

    @property
    def audio(self) -> AudioEncoder:
        """The encoder of audio. Raises ValueError where it only sees."""
        if self.hears is None:
            raise ValueError(f"{self.name} only sees, it has no audio tower; give another run")
        return self.hears

    @property
    def image(self) -> ImageEncoder:
        """The encoder of images. Raises ValueError where it only hears."""
        if self.sees is None:
            raise ValueError(f"{self.name} only hears, it has no vision tower; give another run")
        return self.sees

    @property
    def one_space(self) -> bool:
        """Whether embeddings of images and of audio, where it has both, can be compared by their distance."""
        return None in (self.hears, self.sees) or bool(self.model.one_space)

    @property
    def localizes(self) -> bool:
        """Whether it compares audio with every place of an image."""
        return hasattr(self.model, "localize")

    @property
    def pair_config(self) -> PairConfig:
        """The settings of a training on pairs. Raises ValueError for weights that were imported."""
        if not isinstance(self.config, PairConfig):
            raise ValueError(
                f"{self.config.model.name} was imported, and what is asked for needs a run of this project"
            )
        return self.config

    @property
    def sample_rate_hz(self) -> int:
        """Of the sound that the audio tower takes, a second at a time."""
        return self.audio.sample_rate_hz

    @overload
    def embed_audio(self, samples: Tensor) -> Tensor: ...

    @overload
    def embed_audio(
        self, samples: NDArray[Any] | Tensor, *, sample_rate: float, hop_size: float = ..., center: bool = ...
    ) -> Timed: ...

    def embed_audio(
        self,
        samples: NDArray[Any] | Tensor,
        *,
        sample_rate: float | None = None,
        hop_size: float = 0.1,
        center: bool = True,
    ) -> Tensor | Timed:
        """A recording → embeddings float32 (T, D), one every `hop_size` seconds, and their times float64 (T,), seconds.

        Without `sample_rate`, a batch of single seconds → float32 (N, D), as `embed_windows` does.

        samples: (samples,) or (samples, channels), floats in [-1, 1], int16 or int32; channels are averaged. With
        `center`, an embedding is of the second around its time, and silence lies before and after the recording; else
        of the second that begins there. `avc embed` gives the same numbers for files. Raises ValueError for other
        samples, and for rates and hops that cannot be.
        """
        if sample_rate is None:
            return self.embed_windows(torch.as_tensor(samples))
        if not 1_000 <= sample_rate <= 1_000_000:
            raise ValueError(f"sample_rate is {sample_rate:g} Hz and must be from 1,000 to 1,000,000")
        rate = self.sample_rate_hz
        hop = hop_in_samples(hop_size, rate)
        sound = mono(samples.numpy() if isinstance(samples, Tensor) else np.asarray(samples))
        rows = [
            self.embed_windows(torch.from_numpy(windows[start : start + ROWS_AT_ONCE].copy()))
            for windows in windows_of(sound, sample_rate, target=rate, hop=hop, center=center)
            for start in range(0, len(windows), ROWS_AT_ONCE)
        ]
        embedding = torch.cat(rows).numpy()
        return embedding, np.arange(len(embedding)) * hop / rate

    def embed_image(self, images: Tensor) -> Tensor:
        """uint8 (N, H, W, 3) RGB images of any size → float32 (N, D) on the CPU; (N, D, H', W') with AVOL-Net.

        AVE+MF takes (N, 25, H, W, 3), frames 0.04 s apart; AVE+OF (N, H, W, 23), a frame and 10 steps of flow as
        `shards.read.Shards.flow` gives them. As in validation, by `avc.data.preprocessing.center_crop`: the middle 7/8
        of the smallest side, scaled to the network's size.
        """
        return self.embed_crops(self.crop(images))

    def crop(self, images: Tensor) -> Tensor:
        """uint8 (N, H, W, 3) images of any size → uint8 (N, size, size, 3), what the network sees of them."""
        visual = self.image.visual_input
        several = visual.frames > 1
        wish = f"images must be uint8 (N, {f'{visual.frames}, ' if several else ''}H, W, {visual.channels})"
        _expect(images, torch.uint8, 4 + several, wish, last=visual.channels)
        x = center_crop(images.to(self.device).flatten(0, -4), self.image.size)
        return x.reshape(*images.shape[:-3], *x.shape[1:])

    @torch.no_grad()
    def embed_crops(self, crops: Tensor) -> Tensor:
        """What `crop` gave → float32 (N, D) on the CPU."""
        return self.image(crops.to(self.device), "embedding").float().cpu()

    @torch.no_grad()
    def embed_windows(self, windows: Tensor) -> Tensor:
        """One second of mono sound at `sample_rate_hz` a row → float32 (N, D) on the CPU.

        windows: int16, or floats in [-1, 1], (N, sample_rate_hz).
        """
        rate = self.sample_rate_hz
        kind = torch.float32 if windows.dtype == torch.float32 else torch.int16
        _expect(windows, kind, 2, f"sound must be int16 or float32 (N, {rate})", last=rate)
        x = windows.to(self.device, torch.float32)
        x = x / 32768 if kind == torch.int16 else x
        some = torch.split(x, ROWS_ON_CPU) if self.device.type == "cpu" else [x]
        return torch.cat([self.audio(rows, "embedding").float() for rows in some]).cpu()

    def embed_seconds(self, seconds: Tensor) -> Tensor:
        """int16 (N, 48000), as they are packed → float32 (N, D) on the CPU, at whatever rate the tower hears."""
        rows = []
        for some in torch.split(seconds, ROWS_AT_ONCE):
            sounds = [resample(mono(sound), self.sample_rate_hz) for sound in some.numpy()]
            rows.append(self.embed_windows(torch.from_numpy(np.stack(sounds))))
        return torch.cat(rows)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write weights, settings and a model card to a folder that `load` reads: what is given to others.

        The paths of this machine are left out of the settings. Raises ValueError where the folder cannot be written.
        """
        write_pretrained(Path(folder).expanduser(), self.model.state_dict(), self.config, origin=self.weights)

    @torch.no_grad()
    def embed_image_map(self, images: Tensor) -> Tensor:
        """uint8 (N, H, W, 3) RGB images of any size → float32 (N, 128, H', W') on the CPU, one for each cell.

        The smallest side is scaled to 8/7 of the network's size, as in training, and nothing is cropped: cells divide
        the whole image evenly. Raises ValueError where the network is not AVOL-Net.
        """
        _expect(images, torch.uint8, 4, "images must be uint8 (N, H, W, 3)", last=3)
        self.localizer()
        whole = resize_to_stride(images.to(self.device), side=self.image.size / CROP, stride=self.model.vision.stride)
        return self.model.embed_image(whole).float().cpu()  # type: ignore[no-any-return]

    @torch.no_grad()
    def compare_maps(self, image_maps: Tensor, audio: Tensor) -> Tensor:
        """What `embed_image_map` and `embed_audio` gave, row by row → float32 (N, H', W'), 0 to 1, on the CPU."""
        logits = self.localizer().localize(image_maps.to(self.device), audio.to(self.device))
        return torch.sigmoid(logits).cpu()

    def localize(self, images: Tensor, seconds: Tensor) -> Tensor:
        """uint8 (N, H, W, 3) images and int16 (N, 48000) sound → float32 (N, H', W'), what makes the sound: 0 to 1.

        Raises ValueError where the network is not AVOL-Net.
        """
        return self.compare_maps(self.embed_image_map(images), self.embed_seconds(seconds))

    def localizer(self) -> Localizer:
        """The network, where it is AVOL-Net. Raises ValueError where it is not."""
        if not self.localizes:
            raise ValueError(f"this run trained model.name={self.config.model.name}, and only avol says where sound is")
        return self.model  # type: ignore[no-any-return]


def trained(
    model: nn.Module,
    config: Any,
    *,
    name: str = "",
    device: torch.device | None = None,
    weights: Path | None = None,
) -> Trained:
    """A network with its encoders by its family, in evaluation mode; name: that of its settings if it is not given."""
    device = device or torch.device("cpu")
    model = model.eval().to(device)
    name = name or config.model.name
    if isinstance(model, PairNetwork | WaveformNetwork):
        to_channels_last(model)  # as it is trained: a third less time on a CPU
    if device.type == "cpu":
        keep_freed_memory()
    hears: AudioEncoder | None = None
    sees: ImageEncoder | None = None
    if isinstance(model, AudioEncoder):
        name, hears = model.name, model
    elif isinstance(model, ImageEncoder):
        name, sees = model.name, model
    elif isinstance(model, WaveformNetwork):
        hears = Waveform(name, model)
    else:
        assert isinstance(model, PairNetwork), model
        hears, sees = AudioTower(name, model), ImageTower(name, model, config.data)
    for encoder in (hears, sees):
        if encoder is not None:
            encoder.eval()
    return Trained(name, model, config, hears, sees, device, weights=weights)


def _expect(x: Tensor, dtype: torch.dtype, dimensions: int, wish: str, *, last: int) -> None:
    if x.dtype != dtype or x.dim() != dimensions or x.shape[-1] != last:
        raise ValueError(f"{wish}, not {x.dtype} {tuple(x.shape)}")
