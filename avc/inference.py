"""The public face of a trained network: load a run, embed images and audio.

network = avc.load("runs/ave")
embedding, seconds = network.embed_audio(samples, sample_rate=44100)   # of a recording: one every 0.1 s
image = network.embed_image(images)    # uint8 (N, H, W, 3)   → float32 (N, 128)
audio = network.embed_audio(seconds)   # int16 (N, 48000)     → float32 (N, 128), a second in each row

network = avc.load("runs/avol")
maps = network.localize(images, seconds)    # float32 (N, H', W'), 0 to 1: what makes this sound?
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, overload

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from torch import Tensor

from avc.config import load_config
from avc.data.preprocessing import CROP, center_crop, shifted_back, whole_cells
from avc.data.windows import hop_in_samples, mono, windows_of
from avc.devices import named_device
from avc.encoders.encoder import AudioEncoder, ImageEncoder
from avc.encoders.load import Encoders, encoders_of, named_encoder
from avc.models import build
from avc.models.keras_file import imported_config
from avc.models.pair import Localizer
from avc.models.released import load_soundnet
from avc.networks import NETWORKS
from avc.pretrained import located, write_pretrained
from avc.runs import weights as weights_file
from avc.runs.attempt import CONFIG, WEIGHTS, place
from avc.settings import Config, ModelSettings, PairConfig
from avc.sound_settings import SoundNetConfig

ROWS_AT_ONCE = 64
Timed = tuple[NDArray[np.float32], NDArray[np.float64]]  # embeddings (T, D) and their times (T,), seconds


@dataclass(frozen=True)
class Network:
    """A trained network in evaluation mode, with the settings that it was trained under.

    map_shift: how far AVOL-Net's map lies right of and below what it looks at, in pixels of its input, as
    `avc.evaluation.registration` measures it; `compare_maps` shifts it back by as much.
    weights: the file that they come from, where there is one.
    """

    model: Any
    config: Any
    device: torch.device
    map_shift: tuple[float, float] = (0.0, 0.0)
    weights: Path | None = None

    @cached_property
    def encoders(self) -> Encoders:
        """Of its audio and of its images."""
        return encoders_of(self.config.model.name, self.model, self.config)

    @property
    def title(self) -> str:
        """As figures and tables call it."""
        name = self.config.model.name
        return NETWORKS[name].title if name in NETWORKS else name

    @property
    def audio(self) -> AudioEncoder:
        """The encoder of audio. Raises ValueError where it only sees."""
        if self.encoders.audio is None:
            raise ValueError(f"{self.encoders.name} only sees, it has no audio tower; give another run")
        return self.encoders.audio

    @property
    def image(self) -> ImageEncoder:
        """The encoder of images. Raises ValueError where it only hears."""
        if self.encoders.image is None:
            raise ValueError(f"{self.encoders.name} only hears, it has no vision tower; give another run")
        return self.encoders.image

    @property
    def one_space(self) -> bool:
        """Whether embeddings of images and of audio, where it has both, can be compared by their distance."""
        return None in (self.encoders.audio, self.encoders.image) or bool(self.model.one_space)

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

    @torch.no_grad()
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
        wish = f"(N, {'' if visual.frames == 1 else f'{visual.frames}, '}H, W, {visual.channels})"
        dimensions = 4 if visual.frames == 1 else 5
        _expect(images, torch.uint8, dimensions, f"images must be uint8 {wish}", last=visual.channels)
        x = center_crop(images.to(self.device).flatten(0, -4), self.image.size)
        return x.reshape(*images.shape[:-3], *x.shape[1:])

    @torch.no_grad()
    def embed_crops(self, crops: Tensor) -> Tensor:
        """What `crop` gave → float32 (N, D) on the CPU."""
        return self.image(crops.to(self.device), "embedding").float().cpu()

    @torch.no_grad()
    def embed_windows(self, windows: Tensor) -> Tensor:
        """One second of mono sound at `sample_rate_hz` a row → float32 (N, D) on the CPU.

        windows: int16, or floats in [-1, 1], (N, 48000); of openl3's networks (N, sample_rate_hz).
        """
        rate = self.sample_rate_hz
        kind = torch.float32 if windows.dtype == torch.float32 else torch.int16
        _expect(windows, kind, 2, f"sound must be int16 or float32 (N, {rate})", last=rate)
        x = windows.to(self.device, torch.float32)
        return self.audio(x / 32768 if kind == torch.int16 else x, "embedding").float().cpu()

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
        return self.model.embed_image(self.map_input(images)).float().cpu()  # type: ignore[no-any-return]

    def map_input(self, images: Tensor) -> Tensor:
        """uint8 (N, H, W, 3) RGB images of any size → float32 (N, 3, H, W), what the network takes for a map of them.

        Sides are multiples of the trunk's stride. Raises ValueError where the network is not AVOL-Net.
        """
        _expect(images, torch.uint8, 4, "images must be uint8 (N, H, W, 3)", last=3)
        self.localizer()
        return whole_cells(images.to(self.device), side=self.map_side, stride=self.model.vision.stride)

    @property
    def map_side(self) -> float:
        """Pixels of the smallest side that an image is scaled to for a map, before it is rounded to whole cells."""
        return self.image.size / CROP

    @torch.no_grad()
    def compare_maps(self, image_maps: Tensor, audio: Tensor) -> Tensor:
        """What `embed_image_map` and `embed_audio` gave, row by row → float32 (N, H', W'), 0 to 1, on the CPU."""
        logits = self.localizer().localize(image_maps.to(self.device), audio.to(self.device))
        if self.map_shift != (0.0, 0.0):
            logits = shifted_back(logits, [pixels / self.model.vision.stride for pixels in self.map_shift])
        return torch.sigmoid(logits).cpu()

    def localize(self, images: Tensor, seconds: Tensor) -> Tensor:
        """uint8 (N, H, W, 3) images and int16 (N, 48000) sound → float32 (N, H', W'), what makes the sound: 0 to 1.

        Raises ValueError where the network is not AVOL-Net.
        """
        return self.compare_maps(self.embed_image_map(images), self.embed_audio(seconds))

    def localizer(self) -> Localizer:
        """The network, where it is AVOL-Net. Raises ValueError where it is not."""
        if not self.localizes:
            raise ValueError(f"this run trained model.name={self.config.model.name}, and only avol says where sound is")
        return self.model  # type: ignore[no-any-return]


def read_run(run: str | Path) -> tuple[Config, Path]:
    """The settings of a run and the file of its best weights. Raises ValueError where the folder holds none."""
    folder = Path(run).expanduser()
    settings, weights = place(folder, CONFIG), place(folder, WEIGHTS)
    if not settings.is_file():
        raise ValueError(f"{folder} is not the folder of a run: it has no {CONFIG}. Give the run.dir of `avc train`")
    config = load_config(settings)
    if not weights.is_file():
        awaited = "first validation" if config.validation.every_steps else "next checkpoint"
        raise ValueError(
            f"{folder} has no {WEIGHTS} yet: its {awaited} is still to come, and the same `avc train` command goes on"
        )
    return config, weights


def load(run: str | Path, *, device: str = "cpu") -> Network:
    """A network: the best weights of a run's folder, what `save_pretrained` wrote, or a file of `avc import`.

    Raises ValueError where there are no finished weights, weights that do not fit their settings, or those of a network
    that only takes audio, which `load_any` loads. Nothing in the files is executed but that of FILE.py:NAME.
    """
    loaded = load_any(run, device=device)
    if loaded.encoders.audio is not None and "embedding" not in loaded.encoders.audio.layers:
        raise ValueError(f"{loaded.title} only hears; what is asked for needs a pair of towers")
    return loaded


def load_any(source: str | Path, *, device: str = "cpu") -> Network:
    """As `load`, and networks that only take audio as well.

    Also what `avc.encoders.load.named_encoder` takes. An owner/name that is no path here is taken from the Hugging Face
    hub, where huggingface_hub is installed. device: as of `named_device`. Raises ValueError as `load` does.
    """
    where = named_device(device)
    encoder = named_encoder(str(source))
    if encoder is not None:
        return Network(encoder.eval().to(where), Config(model=ModelSettings(name=encoder.name)), where)
    weights = located(source)
    config: Config | None
    if weights.suffix == ".safetensors" and not (weights.name == WEIGHTS and (weights.parent / CONFIG).is_file()):
        config = imported_config(weights)
        if config is None:
            released = load_soundnet(weights)
            return Network(released.to(where), SoundNetConfig(model=released.settings), where)
    else:
        config, weights = read_run(weights.parent if weights.suffix == ".safetensors" else weights)
    model = build(config.model)
    try:
        model.load_state_dict(weights_file.read(weights))
    except (RuntimeError, SafetensorError) as error:
        raise ValueError(f"{weights} does not hold the weights of {config.model.name}: {error}") from None
    return Network(model.eval().to(where), config, where, weights=weights)


def shards_of(config: Config, source: str | Path) -> Path:
    """The shards that a run was trained on. Raises ValueError for imported weights, which come without any."""
    if config.data.shards == Config().data.shards:
        raise ValueError(f"{source} does not say which shards it was trained on: give --shards")
    return config.data.shards


def _expect(x: Tensor, dtype: torch.dtype, dimensions: int, wish: str, *, last: int) -> None:
    if x.dtype != dtype or x.dim() != dimensions or x.shape[-1] != last:
        raise ValueError(f"{wish}, not {x.dtype} {tuple(x.shape)}")
