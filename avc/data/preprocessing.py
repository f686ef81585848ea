"""Converts uint8 images and int16 audio to network inputs: crop, scaling, augmentation, log-spectrogram.

Augmentations are determined by the draws of the plan; nothing here is random.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from avc.settings import PairData
from shards.format import FLOW_ZERO

CROP = 7 / 8  # 224 of 256 pixels: Objects that Sound 3.3, and the usual test of ImageNet's and Places' networks
# Look, Listen and Learn, section 3: a window of 0.01 s at 48 kHz, hop of half of it, log of the spectrogram.
# A 512-point transform gives 257 bins.
N_FFT = 512
WINDOW = 480
HOP = 240
FLOOR = 1e-4  # about the magnitude of 16-bit rounding noise in one bin; the papers give no floor


def crop_origin(side: int, crop: int, fraction: float = 0.5) -> int:
    """The first of `crop` pixels out of `side`, at `fraction`, 0 to 1, of the possible origins.

    0.5 is the center. If the margin is odd, its larger half is before the crop.
    """
    return int(fraction * (side - crop + 1))


def middle(images: Tensor) -> Tensor:
    """(N, H, W, C) → (N, side, side, C), a view: the center square, 7/8 of the smallest side."""
    side = round(min(images.shape[1:3]) * CROP)
    top, left = (crop_origin(length, side) for length in images.shape[1:3])
    return images[:, top : top + side, left : left + side]


def center_crop(images: Tensor, size: int) -> Tensor:
    """uint8 (N, H, W, C) → uint8 (N, size, size, C): the center crop of validation, evaluation and inference.

    Scaled where it has another size: bilinear with antialiasing, rounded.
    """
    x = middle(images)
    if x.shape[1] == size:
        return x
    x = F.interpolate(x.permute(0, 3, 1, 2).float(), (size, size), mode="bilinear", antialias=True, align_corners=False)
    return x.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1)


def images_to_input(images: Tensor, draws: Tensor | None, settings: PairData) -> Tensor:
    """uint8 (N, H, W, 3) crops → float32 (N, 3, image_size, image_size), 0.5 ± 0.5 scaled to 0 ± 2, channels last.

    draws: float32 (N, 5) in [0, 1) from the plan, or None for no augmentation; columns 2, 3 and 4 determine flip,
    brightness and saturation (Objects that Sound 3.3), columns 0 and 1 the crop, made by the loader. The frames of a
    clip, (N, T, H, W, 3), share their row's draws and become (N, 3, T, image_size, image_size). Channels past the third
    are optical flow (`shards.flow`), scaled from ±20 pixels to ±2, and only flipped.
    """
    if images.shape[-1] > 3:
        frame = images_to_input(images[..., :3], draws, settings)
        x = torch.cat([frame, _flow_to_input(images[..., 3:], draws, settings)], dim=1)
        return x.contiguous(memory_format=torch.channels_last)
    if images.dim() == 5:
        frames = images.shape[1]
        repeated = None if draws is None else draws.repeat_interleave(frames, dim=0)
        rows = images_to_input(images.flatten(0, 1), repeated, settings)
        clips = rows.reshape(-1, frames, *rows.shape[1:]).transpose(1, 2)
        return clips.contiguous(memory_format=torch.channels_last_3d)
    x = _resize(images.permute(0, 3, 1, 2).to(torch.float32) / 255, settings)
    if draws is not None:
        flip, brightness, saturation = draws[:, 2:5, None, None, None].unbind(dim=1)
        x = torch.where(flip < 0.5, x, x.flip(-1))
        x = x * (1 + settings.brightness * (2 * brightness - 1))
        gray = 0.299 * x[:, :1] + 0.587 * x[:, 1:2] + 0.114 * x[:, 2:]  # scalars: no copy to the device
        x = (gray + (x - gray) * (1 + settings.saturation * (2 * saturation - 1))).clamp(0, 1)
    return normalize(x)


def _flow_to_input(flow: Tensor, draws: Tensor | None, settings: PairData) -> Tensor:
    """uint8 (N, H, W, 2 * steps), x and y of each step → float32 (N, 2 * steps, image_size, image_size)."""
    x = _resize((flow.permute(0, 3, 1, 2).to(torch.float32) - FLOW_ZERO) / 64, settings)
    if draws is None:
        return x
    mirrored = x.flip(-1)
    mirrored[:, ::2] *= -1  # horizontal motion changes its sign
    return torch.where(draws[:, 2, None, None, None] < 0.5, x, mirrored)


def _resize(x: Tensor, settings: PairData) -> Tensor:
    if x.shape[-1] == settings.image_size:
        return x
    size = (settings.image_size, settings.image_size)
    return F.interpolate(x, size, mode="bilinear", antialias=True, align_corners=False)


def normalize(x: Tensor) -> Tensor:
    """float32 (N, 3, H, W) in [0, 1] → the same images with 0.5 ± 0.5 scaled to 0 ± 2, channels last."""
    return ((x - 0.5) * 4).contiguous(memory_format=torch.channels_last)


def audio_to_input(sound: Tensor, draws: Tensor | None, settings: PairData) -> Tensor:
    """int16 (N, 48000) → float32 (N, 1, 257, 199) log-spectrograms, at least 0; digital silence is 0.

    draws: float32 (N, 1) in [0, 1) from the plan, or None; determines the volume, constant over the second.
    """
    x = sound.to(torch.float32) / 32768
    if draws is not None:
        x = x * (1 + settings.volume * (2 * draws - 1))
    return log_spectrogram(x)[:, None]


def log_spectrogram(x: Tensor) -> Tensor:
    """float32 (N, 48000) in [-1, 1] → (N, 257, 199): log(1 + |STFT| / 1e-4), Hann window of 480 samples, hop 240.

    torch's frames have the 512 samples of the transform with the window at their center: padding by 16 samples at both
    ends gives the 199 windows within one second.
    """
    margin = (N_FFT - WINDOW) // 2
    spectrum = torch.stft(
        F.pad(x, (margin, margin)),
        n_fft=N_FFT,
        hop_length=HOP,
        win_length=WINDOW,
        window=torch.hann_window(WINDOW, device=x.device),
        center=False,
        return_complex=True,
    )
    # The bits of `abs`, which CUDA compiles for complex numbers at its first use, and Inductor fuses with nothing.
    return torch.log1p(torch.hypot(spectrum.real, spectrum.imag) / FLOOR)


def pixels(x: Tensor) -> Tensor:
    """Inverse of `normalize`: float32 (N, 3, H, W) → (N, H, W, 3), 0 to 255."""
    return ((x / 4 + 0.5) * 255).permute(0, 2, 3, 1)


def resize_to_stride(images: Tensor, *, side: float, stride: int) -> Tensor:
    """uint8 (N, H, W, 3) → float32 (N, 3, H', W'), an uncropped network input.

    side: smallest side, pixels; both sides are rounded to multiples of `stride`.
    """
    x = images.permute(0, 3, 1, 2).float()
    scale = side / min(x.shape[2:])
    shape = [max(1, round(length * scale / stride)) * stride for length in x.shape[2:]]
    x = F.interpolate(x, shape, mode="bilinear", antialias=True, align_corners=False)
    return normalize(x.clamp(0, 255) / 255)
