"""A tower of a trained network as one ONNX file, for programs without torch.

The audio tower takes seconds of sound, spectrogram included; the image tower crops. The short-time Fourier transform is
a product with a matrix in double precision: ONNX's own differs from runtime to runtime by what float32 rounds, which
the logarithm of silent bins makes large.
"""

from __future__ import annotations

import logging
import math
import warnings
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from avc.data.preprocessing import FLOOR, HOP, N_FFT, WINDOW
from avc.encoders.encoder import Encoder
from avc.encoders.towers import Spectrogram
from avc.encoders.trained import Trained
from avc.extras import require_package
from shards.atomic import written_aside

Takes = Literal["waveform", "image"]
INPUTS: dict[Takes, str] = {"waveform": "samples", "image": "images"}


class _Transform(nn.Module):
    """`avc.data.preprocessing.log_spectrogram`, by a matrix."""

    def __init__(self) -> None:
        super().__init__()
        margin = (N_FFT - WINDOW) // 2
        window = F.pad(torch.hann_window(WINDOW, dtype=torch.float64), (margin, margin))[:, None]
        bins = N_FFT // 2 + 1
        angles = 2 * math.pi / N_FFT * torch.outer(torch.arange(N_FFT).double(), torch.arange(bins).double())
        self.margin, self.bins = margin, bins
        self.matrix = nn.Buffer(torch.cat([angles.cos() * window, -angles.sin() * window], dim=1))
        self.places = nn.Buffer(torch.arange(0, 48_000 - WINDOW + 1, HOP)[:, None] + torch.arange(N_FFT))

    def forward(self, samples: Tensor) -> Tensor:
        """float32 (N, 48000) → (N, 1, 257, 199)."""
        spectrum = F.pad(samples, (self.margin, self.margin))[:, self.places].double() @ self.matrix
        real, imaginary = spectrum[..., : self.bins], spectrum[..., self.bins :]
        magnitude = (real.square() + imaginary.square()).sqrt().float()
        return torch.log1p(magnitude / FLOOR).transpose(1, 2)[:, None]


class _Tower(nn.Module):
    """An encoder's embedding, of the log-spectrogram by a matrix where it begins with one."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder
        self.frontend = _Transform() if isinstance(encoder.frontend, Spectrogram) else encoder.frontend

    def forward(self, x: Tensor) -> Tensor:
        embedded: Tensor = self.encoder.features(self.frontend(x), "embedding")
        return embedded


def export_onnx(network: Trained, path: Path, *, takes: Takes = "waveform") -> tuple[str, str, float]:
    """Write a tower of a network on the CPU, from input to embedding, for any batch size.

    Gives names and shapes of the input and of the output, and the largest difference of onnxruntime and torch on noise.

    takes: waveform, `samples` float32 (N, samples), a second each at the network's rate; image, `images` uint8 (N,
    size, size, 3), what `Trained.crop` gives. The output is `embedding`, float32 (N, D). Raises ValueError where the
    network has no such tower, where a package is missing, and where the file cannot be written.
    """
    sees, name = network.sees, network.name
    if takes == "image" and not (sees and sees.embeds_pictures):
        raise ValueError(f"{name} has no tower for single images: take --takes waveform")
    if takes != "image" and network.hears is None:
        raise ValueError(f"{name} only sees: take --takes image")
    try:
        with written_aside(path) as file:
            content, exported = _exported(network, takes)
            file.write(content)
    except OSError as error:
        raise ValueError(f"{path} cannot be written: {error}") from None
    return exported


def _exported(network: Trained, takes: Takes) -> tuple[bytes, tuple[str, str, float]]:
    purpose = "a network as an ONNX file"
    require_package("onnx", extra="onnx", purpose=purpose)
    require_package("onnxruntime", extra="onnx", purpose=purpose)
    require_package("onnxscript", extra="onnx", purpose=purpose)
    import onnx
    import onnxruntime

    encoder = network.image if takes == "image" else network.audio
    tower = _Tower(encoder)
    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)  # it warns of packages that nothing here uses
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # of torch's own code
            program: Any = torch.onnx.export(
                tower.eval(),
                (_noise(network, takes, rows=2),),
                input_names=[INPUTS[takes]],
                output_names=["embedding"],
                dynamic_shapes=({0: torch.export.Dim("batch")},),
                dynamo=True,
                verbose=False,
            )
    finally:
        log.setLevel(level)
    proto = program.model_proto
    rate = "" if takes == "image" else str(network.sample_rate_hz)
    onnx.helper.set_model_props(proto, {"network": network.name, "sample_rate_hz": rate})
    content = proto.SerializeToString()
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    x = _noise(network, takes, rows=3)
    with torch.no_grad():
        torchs = encoder(x, "embedding").numpy()
    difference = float(np.abs(session.run(None, {INPUTS[takes]: x.numpy()})[0] - torchs).max())
    taken, given = session.get_inputs()[0], session.get_outputs()[0]
    return content, (f"{taken.name} {taken.shape}", f"{given.name} {given.shape}", difference)


def _noise(network: Trained, takes: Takes, *, rows: int) -> Tensor:
    random = torch.Generator().manual_seed(0)
    if takes == "image":
        size = network.image.size
        return torch.randint(0, 256, (rows, size, size, 3), dtype=torch.uint8, generator=random)
    return torch.randn(rows, network.sample_rate_hz, generator=random) / 10
