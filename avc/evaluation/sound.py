"""Audio features for a linear probe, each network's by the protocol of its own paper.

The rows of a recording are windows of it, of SoundNet windows of a layer's steps; its score is the mean of theirs.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from avc.data.media import read_mono
from avc.data.transforms import log_spectrogram, waveform_to_input
from avc.evaluation.extraction import Extractor, Unreadable
from avc.extras import require_package
from avc.models.autoencoder import Autoencoder
from avc.models.pair import PairNetwork
from avc.models.trunks import Trunk
from avc.models.waveform import SAMPLE_RATE, WaveformNetwork, to_waveform
from shards.format import SAMPLE_RATE_HZ

MFCC_COEFFICIENTS = 20
SLIGHT = 0.001


def read_sound(path: Path, sample_rate: int) -> Tensor:
    """A recording of one channel at `sample_rate`, float32 (samples,), 1 or more, in [-1, 1].

    Raises Unreadable for what `avc.data.media.read_mono` refuses, and for what is too short for a sample at that rate.
    """
    try:
        sound = torch.from_numpy(read_mono(path, sample_rate))
    except ValueError as error:
        raise Unreadable(str(error)) from None
    if not len(sound):
        raise Unreadable(f"it is too short: no sample of it is left at {sample_rate:,} Hz")
    return sound


def windows(sound: Tensor, length: int) -> tuple[Tensor, bool]:
    """(samples,) → (windows, length), each half a window after the last, and whether it was shorter than one.

    A recording shorter than a window is padded with silence at its end. So is one that lacks less than a thousandth of
    a window to its next one, as encoders drop a few samples; that alone does not count as shorter.
    """
    hop = length // 2
    missing = length - len(sound) if len(sound) < length else -(len(sound) - length) % hop
    short = len(sound) < (1 - SLIGHT) * length
    if len(sound) < length or missing < SLIGHT * length:
        sound = F.pad(sound, (0, missing))
    return sound.unfold(0, length, hop), short


def repeated(sound: Tensor, length: int) -> Tensor:
    """(samples,) → (pieces, length): the recording over and over, until the last piece is full.

    No piece begins for what is less than a thousandth of one: it is cut off.
    """
    pieces = max(1, math.ceil(len(sound) / length - SLIGHT))
    return sound.repeat(-(-pieces * length // len(sound)))[: pieces * length].view(pieces, length)


def pool_audio(trunk: Trunk, spectrograms: Tensor) -> Tensor:
    """(N, 1, 257, 199) → the trunk's map before its last ReLU, max-pooled to 4×3: (N, 12 · channels)."""
    return F.adaptive_max_pool2d(trunk.features(spectrograms), (4, 3)).flatten(1)


def trunk_features(model: PairNetwork, *, name: str) -> Extractor[Path]:
    """L3-Net's protocol: the audio trunk's map before its last ReLU, max-pooled to 4×3×512, from windows of 1 s."""
    return _extractor(
        name,
        "trunk before ReLU",
        model.audio,
        lambda trunk, audio: pool_audio(trunk, log_spectrogram(audio)[:, None]),
        rate=SAMPLE_RATE_HZ,
        seconds=1.0,
    )


def embedding_features(model: PairNetwork, *, name: str) -> Extractor[Path]:
    """What the audio tower ends in (AVE-Net: 128 numbers of length 1; L3-Net: its 512 pooled ones), windows of 1 s."""
    return _extractor(
        name,
        "embedding",
        model,
        lambda network, audio: network.embed_audio(waveform_to_input(audio, network.audio_input)),
        rate=model.audio_input.sample_rate_hz,
        seconds=1.0,
    )


def soundnet_features(
    model: WaveformNetwork, *, name: str, layer: str | None = None, seconds: float = 1.0, whole: float = 10.0
) -> Extractor[Path]:
    """The protocol of SoundNet's released code (eval_esc50.lua, eval_dcase.lua); the paper's layer is pool5.

    The recording is repeated to `whole` seconds and goes through the network in one piece; a longer one in several.
    A row is as many adjacent steps of the layer as its share of `seconds` is, rounded up: 3 of pool5's 27 in 10 s. Rows
    begin one step apart. layer: None is its usual one. Raises ValueError for a layer that there is not or that
    `whole` is too short for.
    """
    layer, length = model.named_layer(layer), round(whole * SAMPLE_RATE)
    steps = math.ceil(seconds * model.eval().features(torch.zeros(1, length), layer).shape[2] / whole)

    def load(path: Path) -> tuple[Tensor, bool]:
        return repeated(read_sound(path, SAMPLE_RATE), length), False

    def compute(network: WaveformNetwork, audio: Tensor) -> Tensor:
        return network.features(to_waveform(audio), layer).unfold(2, steps, 1).transpose(1, 2).flatten(2).flatten(0, 1)

    return Extractor(name, f"{layer}, {steps} steps of {whole:g} s", model, load, compute)


def autoencoder_features(model: Autoencoder, *, name: str, seconds: float) -> Extractor[Path]:
    """conv4 of the autoencoder, all its steps side by side. Raises ValueError for windows too short for one."""
    model.eval().features(torch.zeros(1, round(seconds * SAMPLE_RATE)))
    return _extractor(
        name,
        "conv4",
        model,
        lambda network, audio: network.features(to_waveform(audio)).flatten(1),
        rate=SAMPLE_RATE,
        seconds=seconds,
    )


def mfcc_features(*, seconds: float) -> Extractor[Path]:
    """Hand-made features: mean and deviation over a window of 20 mel-frequency cepstral coefficients."""
    require_package("librosa", extra="librosa", purpose="MFCC, the hand-made features beside the networks,")
    import librosa

    def compute(_: nn.Module, audio: Tensor) -> Tensor:
        # Row by row: librosa cuts what is quieter than 80 dB below the loudest of all that it is given.
        mfcc = np.stack(
            [librosa.feature.mfcc(y=row, sr=SAMPLE_RATE, n_mfcc=MFCC_COEFFICIENTS) for row in audio.cpu().numpy()]
        )
        return torch.from_numpy(np.concatenate([mfcc.mean(axis=2), mfcc.std(axis=2)], axis=1))

    return _extractor("MFCC", "mean and deviation", nn.Identity(), compute, rate=SAMPLE_RATE, seconds=seconds)


def _extractor(
    owner: str, layer: str, model: nn.Module, compute: Callable[[Any, Tensor], Tensor], *, rate: int, seconds: float
) -> Extractor[Path]:
    def load(path: Path) -> tuple[Tensor, bool]:
        return windows(read_sound(path, rate), round(seconds * rate))

    return Extractor(owner, f"{layer}, windows of {seconds:g} s", model.eval(), load, compute)
