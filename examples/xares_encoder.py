"""A trained network as an encoder of X-ARES: a run, imported weights, or a network of your own.

    AVC_NETWORK=runs/ave PYTHONPATH=examples python -m xares.run xares_encoder.py src/tasks/esc50_task.py

AVC_LAYER takes another layer than the usual one. Made for xares 0.1.3, which is not needed to import this file.
"""

from __future__ import annotations

import os

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from avc.encoders.load import load_any

HOP_SECONDS = 0.5  # of windows, where a network takes a second at a time


class AvcEncoder(nn.Module):
    """float32 (N, samples) in [-1, 1] at `sampling_rate` → float32 (N, T, output_dim), one every `hop_size_in_ms`.

    Raises ValueError where AVC_NETWORK names no network that hears, or AVC_LAYER no layer of it.
    """

    def __init__(self) -> None:
        super().__init__()
        if "AVC_NETWORK" not in os.environ:
            raise ValueError(
                "AVC_NETWORK names no network: set it to a run's folder, to imported weights or FILE.py:NAME"
            )
        self.hears = load_any(os.environ["AVC_NETWORK"]).audio
        self.layer = self.hears.named_layer(os.environ.get("AVC_LAYER"))
        self.sampling_rate = self.hears.sample_rate_hz
        rows = self(torch.zeros(1, 10 * self.sampling_rate))
        self.output_dim = rows.shape[2]
        self.hop_size_in_ms = 10_000 / rows.shape[1] if self.hears.seconds is None else 1000 * HOP_SECONDS
        # X-ARES keeps embeddings and scores by the name of the class, so that each network needs its own.
        self.__class__ = type(f"Avc{self.hears.key[:12]}_{self.layer}Encoder", (AvcEncoder,), {})

    @torch.no_grad()
    def forward(self, audio: Tensor) -> Tensor:
        """float32 (N, samples) → float32 (N, T, output_dim). Sound shorter than a window is followed by silence."""
        if self.hears.seconds is None:
            steps = self.hears.places(self.layer, audio.shape[1])
            return self.hears(audio, self.layer).reshape(len(audio), -1, steps).transpose(1, 2)
        length = round(self.hears.seconds * self.sampling_rate)
        padded = F.pad(audio, (0, max(0, length - audio.shape[1])))
        windows = padded.unfold(1, length, round(HOP_SECONDS * self.sampling_rate))  # (N, T, length)
        rows = [self.hears(windows[:, step].contiguous(), self.layer) for step in range(windows.shape[1])]
        return torch.stack(rows, dim=1).float()
