"""Hand-made features of audio."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from avc.encoders.encoder import AudioEncoder
from avc.extras import require_package
from avc.models.waveform import SAMPLE_RATE

COEFFICIENTS = 20


class MFCC(AudioEncoder):
    """Mean and deviation over a sound of 20 mel-frequency cepstral coefficients. Raises ValueError without librosa."""

    sample_rate_hz = SAMPLE_RATE
    seconds = None

    def __init__(self) -> None:
        super().__init__("MFCC")
        require_package("librosa", extra="librosa", purpose="MFCC, the hand-made features beside the networks,")

    def describe(self, layer: str) -> str:
        """As tables call it."""
        return "mean and deviation"

    def features(self, x: Tensor, layer: str) -> Tensor:
        """float32 (N, samples) → (N, 40)."""
        import librosa

        # Row by row: librosa cuts what is quieter than 80 dB below the loudest of all that it is given.
        mfcc = np.stack([librosa.feature.mfcc(y=row, sr=SAMPLE_RATE, n_mfcc=COEFFICIENTS) for row in x.cpu().numpy()])
        return torch.from_numpy(np.concatenate([mfcc.mean(axis=2), mfcc.std(axis=2)], axis=1))
