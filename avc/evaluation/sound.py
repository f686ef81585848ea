"""Audio features for a linear probe, each network's by the protocol of its own paper.

The rows of a recording are windows of it, of SoundNet windows of a layer's steps; its score is the mean of theirs.
"""

from __future__ import annotations

import math
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from avc.data.media import read_mono
from avc.encoders.encoder import AudioEncoder
from avc.evaluation.extraction import Inputs, Unreadable, file_identity

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


def recordings(encoder: AudioEncoder, layer: str, *, seconds: float = 1.0, whole: float = 10.0) -> Inputs[Path]:
    """Recordings as an encoder takes them.

    Windows of `seconds`, or of what it takes at once. For SoundNet the protocol of its released code (eval_esc50.lua,
    eval_dcase.lua), whose layer is pool5: the recording is repeated to `whole` seconds and goes through in one piece; a
    longer one in several. A row is as many adjacent steps of the layer as its share of `seconds` is, rounded up: 3 of
    pool5's 27 in 10 s. Rows begin one step apart. Raises ValueError where that is too short for the layer.
    """
    rate, seconds = encoder.sample_rate_hz, encoder.seconds or seconds
    if not encoder.whole:
        length = round(seconds * rate)
        encoder.places(layer, length)
        what = f"{encoder.describe(layer)}, windows of {seconds:g} s"
        return Inputs(what, lambda path: windows(read_sound(path, rate), length), file_identity)
    length = round(whole * rate)
    there = encoder.places(layer, length)
    steps = math.ceil(seconds * there / whole)

    def select(features: Tensor) -> Tensor:
        return features.view(len(features), -1, there).unfold(2, steps, 1).transpose(1, 2).flatten(2).flatten(0, 1)

    def load(path: Path) -> tuple[Tensor, bool]:
        return repeated(read_sound(path, rate), length), False

    return Inputs(f"{layer}, {steps} steps of {whole:g} s", load, file_identity, select)
