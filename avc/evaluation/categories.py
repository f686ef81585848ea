"""What a SoundNet says that it hears: the classes of its teachers, by its own outputs and without a classifier."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch import Tensor

from avc.evaluation.sound import read_sound
from avc.inference import load_any
from avc.models.soundnet import SoundNet
from avc.models.waveform import SAMPLE_RATE, to_waveform
from avc.sound_settings import SoundNetConfig

LEAST_SECONDS = 10.0  # a shorter recording is repeated, as in the released extract_predictions.lua


@torch.no_grad()
def posteriors(model: SoundNet, path: Path) -> dict[str, Tensor]:
    """The mean over the output steps of each teacher's posterior, as the student hears it: float32 (classes,).

    The recording goes through the network whole; one of less than 10 s is repeated until it lasts as long. Raises
    avc.evaluation.extraction.Unreadable for what is no recording.
    """
    sound = read_sound(path, SAMPLE_RATE)
    sound = sound.repeat(max(1, math.ceil(LEAST_SECONDS * SAMPLE_RATE / len(sound))))
    outputs = model.eval()(to_waveform(sound[None].to(next(model.parameters()).device)))
    means = (logits[0].float().softmax(dim=0).mean(dim=1).cpu() for logits in outputs)
    return dict(zip(model.teachers, means, strict=True))


def load_student(run: str | Path, *, device: str = "cpu") -> tuple[SoundNet, SoundNetConfig]:
    """The best weights of a SoundNet, in evaluation mode, and its settings. device: as of `named_device`.

    Raises ValueError where the folder holds no finished weights or those of another network.
    """
    loaded = load_any(run, device=device)
    if not isinstance(loaded.model, SoundNet) or not isinstance(loaded.config, SoundNetConfig):
        name = loaded.config.model.name
        raise ValueError(f"{run} trained model.name={name}, which had no teachers; give a SoundNet's run")
    return loaded.model, loaded.config
