"""uint8 images and int16 audio become what networks take: one crop, one scale, one spectrogram for all who need them.

Only numbers from the plan decide an augmentation; nothing here draws.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from avc.settings import PairData
from shards.format import FLOW_ZERO

CROP = 7 / 8  # 224 of 256 pixels: Objects that Sound 3.3, and how ImageNet's and Places' networks are tested
# Look, Listen and Learn, section 3: a window of 0.01 s at 48 kHz, hop of half of it, log of the spectrogram.
# A 512-point transform gives 257 bins.
N_FFT = 512
WINDOW = 480
HOP = 240
FLOOR = 1e-4  # about the magnitude of 16-bit rounding noise in one bin; the papers give no floor


def crop_origin(side: int, crop: int, fraction: float = 0.5) -> int:
    """The first of `crop` pixels out of `side`, where `fraction`, 0 to 1, of the places for it lie before.

    0.5 is the middle. Where the margin is odd, its larger half is before the crop.
    """
    return int(fraction * (side - crop + 1))


def middle(images: Tensor) -> Tensor:
    """(N, H, W, C) → (N, side, side, C), a view: the middle, 7/8 of the smallest side high and wide."""
    side = round(min(images.shape[1:3]) * CROP)
    top, left = (crop_origin(whole, side) for whole in images.shape[1:3])
    return images[:, top : top + side, left : left + side]


def center_crop(images: Tensor, size: int) -> Tensor:
    """uint8 (N, H, W, C) → uint8 (N, size, size, C): what a network sees of a picture in validation and ever after.

    The middle, scaled where it has another size: bilinear with antialiasing, rounded.
    """
    x = middle(images)
    if x.shape[1] == size:
        return x
    x = F.interpolate(x.permute(0, 3, 1, 2).float(), (size, size), mode="bilinear", antialias=True, align_corners=False)
    return x.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1)


def images_to_input(images: Tensor, numbers: Tensor | None, settings: PairData) -> Tensor:
    """uint8 (N, H, W, 3) crops → float32 (N, 3, image_size, image_size), 0.5 ± 0.5 brought to 0 ± 2, channels last.

    numbers: float32 (N, 5) in [0, 1) from the plan, or None for no augmentation; columns 2, 3 and 4 decide flip,
    brightness and saturation (Objects that Sound 3.3). Columns 0 and 1 were the crop, which the loader has made.
    Frames in a row, (N, T, H, W, 3), all have their row's numbers and give (N, 3, T, image_size, image_size). Channels
    past the third are optical flow (`shards.flow`), brought from ±20 pixels to ±2, and only flipped.
    """
    if images.shape[-1] > 3:
        frame = images_to_input(images[..., :3], numbers, settings)
        x = torch.cat([frame, _flow_to_input(images[..., 3:], numbers, settings)], dim=1)
        return x.contiguous(memory_format=torch.channels_last)
    if images.dim() == 5:
        frames = images.shape[1]
        repeated = None if numbers is None else numbers.repeat_interleave(frames, dim=0)
        rows = images_to_input(images.flatten(0, 1), repeated, settings)
        film = rows.reshape(-1, frames, *rows.shape[1:]).transpose(1, 2)
        return film.contiguous(memory_format=torch.channels_last_3d)
    x = _scaled(images.permute(0, 3, 1, 2).to(torch.float32) / 255, settings)
    if numbers is not None:
        flip, brightness, saturation = numbers[:, 2:5, None, None, None].unbind(dim=1)
        x = torch.where(flip < 0.5, x, x.flip(-1))
        x = x * (1 + settings.brightness * (2 * brightness - 1))
        gray = 0.299 * x[:, :1] + 0.587 * x[:, 1:2] + 0.114 * x[:, 2:]  # numbers, no tensor to copy to the device
        x = (gray + (x - gray) * (1 + settings.saturation * (2 * saturation - 1))).clamp(0, 1)
    return normalized(x)


def _flow_to_input(flow: Tensor, numbers: Tensor | None, settings: PairData) -> Tensor:
    """uint8 (N, H, W, 2 * steps), x and y of each step → float32 (N, 2 * steps, image_size, image_size)."""
    x = _scaled((flow.permute(0, 3, 1, 2).to(torch.float32) - FLOW_ZERO) / 64, settings)
    if numbers is None:
        return x
    mirrored = x.flip(-1)
    mirrored[:, ::2] *= -1  # what moved to the right moves to the left
    return torch.where(numbers[:, 2, None, None, None] < 0.5, x, mirrored)


def _scaled(x: Tensor, settings: PairData) -> Tensor:
    if x.shape[-1] == settings.image_size:
        return x
    size = (settings.image_size, settings.image_size)
    return F.interpolate(x, size, mode="bilinear", antialias=True, align_corners=False)


def normalized(x: Tensor) -> Tensor:
    """float32 (N, 3, H, W) in 0 to 1 → the same images with 0.5 ± 0.5 brought to 0 ± 2, channels last."""
    return ((x - 0.5) * 4).contiguous(memory_format=torch.channels_last)


def audio_to_input(sound: Tensor, numbers: Tensor | None, settings: PairData) -> Tensor:
    """int16 (N, 48000) → float32 (N, 1, 257, 199) log-spectrograms, at least 0; digital silence is 0.

    numbers: float32 (N, 1) in [0, 1) from the plan, or None; decides the volume, the same over the second.
    """
    x = sound.to(torch.float32) / 32768
    if numbers is not None:
        x = x * (1 + settings.volume * (2 * numbers - 1))
    # Channels last: strides that fit both layouts, as those of one channel may, are taken for channels first.
    return log_spectrogram(x).contiguous()[..., None].permute(0, 3, 1, 2)


def log_spectrogram(x: Tensor) -> Tensor:
    """float32 (N, 48000) in [-1, 1] → (N, 257, 199): log(1 + |STFT| / 1e-4), Hann window of 480 samples, hop 240.

    torch frames by the 512 points of the transform and centers the window in them: 16 more samples at both ends give
    the 199 windows that lie within one second.
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
    """What `normalized` gave, float32 (N, 3, H, W) → (N, H, W, 3), 0 to 255."""
    return ((x / 4 + 0.5) * 255).permute(0, 2, 3, 1)


def whole_cells(images: Tensor, *, side: float, stride: int) -> Tensor:
    """uint8 (N, H, W, 3) → float32 (N, 3, H', W') as a network takes it, sides multiples of `stride`, uncropped.

    side: pixels of the smallest side, before it is rounded.
    """
    x = images.permute(0, 3, 1, 2).float()
    scale = side / min(x.shape[2:])
    shape = [max(1, round(length * scale / stride)) * stride for length in x.shape[2:]]
    x = F.interpolate(x, shape, mode="bilinear", antialias=True, align_corners=False)
    return normalized(x.clamp(0, 255) / 255)
