"""The public face of a trained network: load a run, embed images and audio.

network = load("runs/ave")
image = network.embed_image(images)    # uint8 (N, H, W, 3)   → float32 (N, 128)
audio = network.embed_audio(seconds)   # int16 (N, 48000)     → float32 (N, 128)

network = load("runs/avol")
maps = network.localize(images, seconds)    # float32 (N, H', W'), 0 to 1: what makes this sound?
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from avc.config import load_config
from avc.data.preprocessing import CROP, scaled_center
from avc.data.transforms import audio_to_input, images_to_input, normalized
from avc.models import build
from avc.models.pair import Localizer, PairNetwork
from avc.models.released import load_soundnet
from avc.models.soundnet import SoundNet
from avc.models.waveform import WaveformNetwork
from avc.networks import network_of
from avc.runs.attempt import CONFIG, WEIGHTS
from avc.settings import Config, PairConfig
from avc.sound_settings import SegmentConfig, SoundNetConfig


@dataclass(frozen=True)
class Network:
    """A trained network in evaluation mode, with the settings that it was trained under.

    map_shift: how far AVOL-Net's map lies right of and below what it looks at, in pixels of its input, as
    `avc.evaluation.registration` measures it; `compare_maps` shifts it back by as much.
    """

    model: PairNetwork
    config: PairConfig
    device: torch.device
    map_shift: tuple[float, float] = (0.0, 0.0)

    @torch.no_grad()
    def embed_image(self, images: Tensor) -> Tensor:
        """uint8 (N, H, W, 3) RGB images of any size → float32 (N, D) on the CPU; (N, D, H', W') with AVOL-Net.

        AVE+MF takes (N, 25, H, W, 3), frames 0.04 s apart; AVE+OF (N, H, W, 23), a frame and 10 steps of flow as
        `shards.read.Shards.flow` gives them. As in validation: the smallest side is scaled to 8/7 of the network's
        size, the middle is cropped.
        """
        visual = self.model.visual_input
        wish = f"(N, {'' if visual.frames == 1 else f'{visual.frames}, '}H, W, {visual.channels})"
        dimensions = 4 if visual.frames == 1 else 5
        _expect(images, torch.uint8, dimensions, f"images must be uint8 {wish}", last=visual.channels)
        size = self.config.data.image_size
        x = images.to(self.device).flatten(0, -4).permute(0, 3, 1, 2).float()
        x = scaled_center(x, size).round().clamp(0, 255).to(torch.uint8)
        x = x.permute(0, 2, 3, 1).reshape(*images.shape[:-3], size, size, -1)
        x = images_to_input(x, None, self.config.data)
        return self.model.embed_image(x).float().cpu()

    @torch.no_grad()
    def embed_audio(self, seconds: Tensor) -> Tensor:
        """int16 (N, 48000), one second of mono sound at 48 kHz each → float32 (N, D) on the CPU."""
        _expect(seconds, torch.int16, 2, "sound must be int16 (N, 48000)", last=48_000)
        return self.model.embed_audio(audio_to_input(seconds.to(self.device), None, self.config.data)).float().cpu()

    @torch.no_grad()
    def embed_image_map(self, images: Tensor) -> Tensor:
        """uint8 (N, H, W, 3) RGB images of any size → float32 (N, 128, H', W') on the CPU, one for each cell.

        The smallest side is scaled to 8/7 of the network's size, as in training, and nothing is cropped: cells divide
        the whole image evenly. Raises ValueError where the network is not AVOL-Net.
        """
        _expect(images, torch.uint8, 4, "images must be uint8 (N, H, W, 3)", last=3)
        return self.model.embed_image(self.map_input(images)).float().cpu()

    def map_input(self, images: Tensor) -> Tensor:
        """uint8 (N, H, W, 3) RGB images of any size → float32 (N, 3, H, W), what the network takes for a map of them.

        Sides are multiples of the trunk's stride. Raises ValueError where the network is not AVOL-Net.
        """
        _expect(images, torch.uint8, 4, "images must be uint8 (N, H, W, 3)", last=3)
        self.localizer()
        x = images.to(self.device).permute(0, 3, 1, 2).float()
        stride = self.model.vision.stride
        scale = self.map_side / min(x.shape[2:])
        shape = [max(1, round(side * scale / stride)) * stride for side in x.shape[2:]]
        x = F.interpolate(x, shape, mode="bilinear", antialias=True, align_corners=False)
        return normalized(x.clamp(0, 255) / 255)

    @property
    def map_side(self) -> float:
        """Pixels of the smallest side that an image is scaled to for a map, before it is rounded to whole cells."""
        return self.config.data.image_size / CROP

    @torch.no_grad()
    def compare_maps(self, image_maps: Tensor, audio: Tensor) -> Tensor:
        """What `embed_image_map` and `embed_audio` gave, row by row → float32 (N, H', W'), 0 to 1, on the CPU."""
        logits = self.localizer().localize(image_maps.to(self.device), audio.to(self.device))
        if self.map_shift != (0.0, 0.0):
            logits = _shifted_back(logits, [pixels / self.model.vision.stride for pixels in self.map_shift])
        return torch.sigmoid(logits).cpu()

    def localize(self, images: Tensor, seconds: Tensor) -> Tensor:
        """uint8 (N, H, W, 3) images and int16 (N, 48000) sound → float32 (N, H', W'), what makes the sound: 0 to 1.

        Raises ValueError where the network is not AVOL-Net.
        """
        return self.compare_maps(self.embed_image_map(images), self.embed_audio(seconds))

    def localizer(self) -> Localizer:
        """The network, where it is AVOL-Net. Raises ValueError where it is not."""
        if not isinstance(self.model, Localizer):
            raise ValueError(f"this run trained model.name={self.config.model.name}, and only avol says where sound is")
        return self.model


@dataclass(frozen=True)
class SoundNetwork:
    """A trained network that only takes audio, as a waveform, in evaluation mode; with the settings of its training."""

    model: WaveformNetwork
    config: SegmentConfig
    device: torch.device


def read_run(run: str | Path) -> tuple[Config, Path]:
    """The settings of a run and the file of its best weights. Raises ValueError where the folder holds none."""
    folder = Path(run).expanduser()
    if not (folder / CONFIG).is_file():
        raise ValueError(f"{folder} is not the folder of a run: it has no {CONFIG}. Give the run.dir of `avc train`")
    if not (folder / WEIGHTS).is_file():
        raise ValueError(f"{folder} has no {WEIGHTS} yet: its first validation is still to come")
    return load_config(folder / CONFIG), folder / WEIGHTS


def load(run: str | Path, *, device: str = "cpu") -> Network:
    """The best weights of a run's folder. device: as of `named_device`.

    Raises ValueError where the folder holds no finished weights, weights that do not fit its configuration, or those of
    a network that only takes audio, which `load_any` loads. Nothing in the folder is executed.
    """
    loaded = load_any(run, device=device)
    if not isinstance(loaded, Network):
        title = network_of(loaded.config.model.name).title
        raise ValueError(f"{title} only hears; what is asked for needs a pair of towers")
    return loaded


def load_any(source: str | Path, *, device: str = "cpu") -> Network | SoundNetwork:
    """The best weights of a run's folder, or those of a .safetensors file that `avc import` wrote.

    device: as of `named_device`. Raises ValueError as `load` does.
    """
    where = named_device(device)
    if Path(source).suffix == ".safetensors":
        released = load_soundnet(Path(source).expanduser())
        return SoundNetwork(released.to(where), SoundNetConfig(model=released.settings), where)
    config, weights = read_run(source)
    model = build(config.model)
    try:
        model.load_state_dict(load_file(weights))
    except (RuntimeError, SafetensorError) as error:
        raise ValueError(f"{weights} does not hold the weights of {config.model.name}: {error}") from None
    model = model.eval().to(where)
    if isinstance(config, SegmentConfig):
        return SoundNetwork(model, config, where)
    assert isinstance(config, PairConfig)
    return Network(model, config, where)


def shards_of(config: Config, source: str | Path) -> Path:
    """The shards that a run was trained on. Raises ValueError for imported weights, which come without any."""
    if config.data.shards == Config().data.shards:
        raise ValueError(f"{source} does not say which shards it was trained on: give --shards")
    return config.data.shards


def load_student(run: str | Path, *, device: str = "cpu") -> tuple[SoundNet, SoundNetConfig]:
    """The best weights of a SoundNet, in evaluation mode, and its settings. device: as of `named_device`.

    Raises ValueError where the folder holds no finished weights or those of another network.
    """
    loaded = load_any(run, device=device)
    if not isinstance(loaded.model, SoundNet) or not isinstance(loaded.config, SoundNetConfig):
        name = loaded.config.model.name
        raise ValueError(f"{run} trained model.name={name}, which had no teachers; give a SoundNet's run")
    return loaded.model, loaded.config


def named_device(name: str, *, option: str = "--device") -> torch.device:
    """auto (a GPU where there is one), cpu, cuda or one of several, as cuda:1. Raises ValueError for any other."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ValueError(f"{option} is {name!r} and must name a device, such as cpu, cuda or cuda:1") from None
    if device.type not in ("cpu", "cuda"):
        raise ValueError(f"{option} names {device}, and networks run on cpu and cuda alone")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(f"{option} names {device}, and there are {torch.cuda.device_count()} GPUs here")
    return device


def _shifted_back(maps: Tensor, cells: Sequence[float]) -> Tensor:
    """float32 (N, H', W'): what lies `cells` right of and below each place, bilinearly; beyond its edge a map goes on.

    affine_grid counts in halves of a side.
    """
    height, width = maps.shape[1:]
    shift = [[1, 0, 2 * cells[0] / width], [0, 1, 2 * cells[1] / height]]
    theta = torch.tensor(shift, device=maps.device).expand(len(maps), 2, 3)
    grid = F.affine_grid(theta, [len(maps), 1, height, width], align_corners=False)
    return F.grid_sample(maps[:, None], grid, padding_mode="border", align_corners=False)[:, 0]


def _expect(x: Tensor, dtype: torch.dtype, dimensions: int, wish: str, *, last: int) -> None:
    if x.dtype != dtype or x.dim() != dimensions or x.shape[-1] != last:
        raise ValueError(f"{wish}, not {x.dtype} {tuple(x.shape)}")


def named_devices(names: str) -> list[torch.device]:
    """The devices of a list such as cuda:0,cuda:1; `auto` is every GPU, or else the CPU.

    Raises ValueError for what is no device, or not here.
    """
    if names == "auto":
        count = torch.cuda.device_count()
        return [torch.device("cuda", number) for number in range(count)] or [torch.device("cpu")]
    return [named_device(name, option="--devices") for name in names.split(",")]
