"""The public face of a trained network: load a run, embed pictures and sound.

network = load("runs/ave")
images = network.embed_image(pictures)    # uint8 (N, H, W, 3)   → float32 (N, 128)
sounds = network.embed_audio(seconds)     # int16 (N, 48000)     → float32 (N, 128)
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from avc.config import Config, load_config
from avc.data.loader import CROP
from avc.data.transforms import pictures_to_input, sound_to_input
from avc.models import build
from avc.models.ave import AVENet
from avc.models.l3 import L3Net
from avc.training.attempt import CONFIG, WEIGHTS


@dataclass(frozen=True)
class Network:
    """A trained network in evaluation mode, with the settings that it was trained under."""

    model: L3Net | AVENet
    config: Config
    device: torch.device

    @torch.no_grad()
    def embed_image(self, pictures: Tensor) -> Tensor:
        """uint8 (N, H, W, 3) RGB pictures of any size → float32 (N, D) on the CPU.

        As in validation: the smallest side is scaled to 8/7 of the network's size, the middle is cropped.
        """
        _expect(pictures, torch.uint8, 4, "pictures must be uint8 (N, H, W, 3)", last=3)
        size = self.config.data.image_size
        x = pictures.to(self.device).permute(0, 3, 1, 2).float()
        scale = size / CROP / min(x.shape[2:])
        shape = [max(size, round(side * scale)) for side in x.shape[2:]]
        x = F.interpolate(x, shape, mode="bilinear", antialias=True, align_corners=False)
        top, left = ((side - size) // 2 for side in shape)
        x = x[:, :, top : top + size, left : left + size].round().clamp(0, 255).to(torch.uint8)
        x = pictures_to_input(x.permute(0, 2, 3, 1), None, self.config.data)
        return self.model.embed_image(x).float().cpu()

    @torch.no_grad()
    def embed_audio(self, seconds: Tensor) -> Tensor:
        """int16 (N, 48000), one second of mono sound at 48 kHz each → float32 (N, D) on the CPU."""
        _expect(seconds, torch.int16, 2, "sound must be int16 (N, 48000)", last=48_000)
        return self.model.embed_audio(sound_to_input(seconds.to(self.device), None, self.config.data)).float().cpu()


def load(run: str | Path, *, device: str = "cpu") -> Network:
    """The best weights of a run's folder.

    Raises ValueError where the folder holds no finished weights, or weights that do not fit its configuration. Nothing
    in the folder is executed.
    """
    folder = Path(run).expanduser()
    if not (folder / CONFIG).is_file():
        raise ValueError(f"{folder} is not the folder of a run: it has no {CONFIG}. Give the run.dir of `avc train`")
    if not (folder / WEIGHTS).is_file():
        raise ValueError(f"{folder} has no {WEIGHTS} yet: its first validation is still to come")
    config = load_config(folder / CONFIG)
    model = build(config.model)
    try:
        model.load_state_dict(load_file(folder / WEIGHTS))
    except (RuntimeError, SafetensorError) as error:
        raise ValueError(f"{folder / WEIGHTS} does not hold the weights of {config.model.name}: {error}") from None
    model.eval().to(device)
    return Network(model, config, torch.device(device))


def _expect(x: Tensor, dtype: torch.dtype, dimensions: int, wish: str, *, last: int) -> None:
    if x.dtype != dtype or x.dim() != dimensions or x.shape[-1] != last:
        raise ValueError(f"{wish}, not {x.dtype} {tuple(x.shape)}")
