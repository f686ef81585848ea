"""A small convolutional network that guesses a pair's label from its second of sound alone.

It sees what a spectrogram of milliseconds blurs. A resampler repeats within 160 or 320 samples of 48 kHz, which divide
a tick: how strong a second difference is, sample by sample, shows the phase. The strides divide a tick too, the last
layer reads each phase of it by weights of its own, and the mean over the second's 25 ticks is the answer.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from shards.format import SAMPLES_PER_TICK

_CHANNELS = 16
_PHASES = SAMPLES_PER_TICK // (8 * 4)  # of a tick, after the strides of two convolutions
_EPOCHS, _BATCH, _LR, _WEIGHT_DECAY = 6, 64, 3e-3, 1e-2


class SoundProbe(nn.Module):
    """int16 (N, 48000) → float32 (N,), the logit that the second is a positive's."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv1d(1, _CHANNELS, 32, stride=8, padding=12),
            nn.BatchNorm1d(_CHANNELS),
            nn.ReLU(),
            nn.Conv1d(_CHANNELS, _CHANNELS, 8, stride=4, padding=2),
            nn.BatchNorm1d(_CHANNELS),
            nn.ReLU(),
            nn.Conv1d(_CHANNELS, 1, _PHASES, stride=_PHASES),
        )

    def forward(self, sounds: Tensor) -> Tensor:
        """Logits. The level is taken out, so that only the course of the sound remains."""
        strength = torch.log(sounds.float().diff(n=2).abs() + 1)  # 1: the last bit
        x = F.pad(strength - strength.mean(dim=1, keepdim=True), (2, 0))
        logits: Tensor = self.layers(x[:, None])
        return logits.mean(dim=(1, 2))


def judged_by_convolution(
    fitted: Tensor, label: NDArray[np.int64], held_out: Tensor, *, seed: int
) -> NDArray[np.int64]:
    """Labels, int64 (M,), that a `SoundProbe` fitted on int16 (N, 48000) and int64 (N,) gives int16 (M, 48000).

    Batches of 64, so N is at least that.
    """
    target = torch.from_numpy(label).float()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        probe = SoundProbe()
        optimizer = torch.optim.AdamW(probe.parameters(), lr=_LR, weight_decay=_WEIGHT_DECAY)
        batches = len(fitted) // _BATCH
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _LR, total_steps=_EPOCHS * batches)
        for _ in range(_EPOCHS):
            for rows in torch.randperm(len(fitted))[: batches * _BATCH].reshape(batches, _BATCH):
                optimizer.zero_grad()
                loss = F.binary_cross_entropy_with_logits(probe(fitted[rows]), target[rows])
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                schedule.step()
    probe.eval()
    with torch.no_grad():
        logits = torch.cat([probe(held_out[i : i + _BATCH]) for i in range(0, len(held_out), _BATCH)])
    guesses: NDArray[np.int64] = (logits > 0).long().numpy()
    return guesses
