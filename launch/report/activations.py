"""The moments that excite units, as pictures: frames and spectrograms, plain and under the unit's heat."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image

from avc.data.preprocessing import CROP
from avc.data.transforms import log_spectrogram
from avc.evaluation.activations import Activation, Heat, Unit, middle
from launch.report.overlay import blend
from launch.report.page import Moment, Picture, Section
from shards.format import SAMPLE_RATE_HZ, SAMPLES_PER_TICK, TICKS_PER_SECOND, second_start
from shards.read import Shards

SHOWN_TICKS = 5 * TICKS_PER_SECOND  # of a SoundNet's stretch, around its peak
WIDEST = 500  # columns of a spectrogram
GAP = 4  # pixels between pictures


def frames(shards: Shards, units: Sequence[Unit]) -> Section:
    """Each frame beside itself under its heat, with the second of sound around it."""

    def moment(activation: Activation) -> Moment:
        picture = _picture(shards, activation.clip, activation.tick)
        crop = round(min(picture.shape[:2]) * CROP)
        picture = middle(picture, crop)
        both = beside(picture, heated(picture, activation.heat))
        return Moment(both, _caption(shards, activation), _second(shards, activation), SAMPLE_RATE_HZ)

    return Section(
        "What vision units see",
        "Channels of the map that the vision trunk ends in. Left the frame, right the same under the channel's heat; "
        "the sound is its own, which the unit does not hear.",
        [(f"vision {unit.number}", [moment(activation) for activation in unit.top]) for unit in units],
    )


def seconds(shards: Shards, units: Sequence[Unit]) -> Section:
    """Each second of sound: the frame in its middle, its spectrogram, and that under its heat."""

    def moment(activation: Activation) -> Moment:
        second = _second(shards, activation)
        plain = spectrogram(second)
        picture = fitted(_picture(shards, activation.clip, activation.tick), height=len(plain))
        both = beside(picture, plain, heated(plain, activation.heat[::-1]))
        return Moment(both, _caption(shards, activation), second, SAMPLE_RATE_HZ)

    return Section(
        "What audio units hear",
        "Channels of the map that the audio trunk ends in. The frame, which the unit does not see; the spectrogram of "
        "the second, low pitches below; the same under the channel's heat.",
        [(f"audio {unit.number}", [moment(activation) for activation in unit.top]) for unit in units],
    )


def stretches(shards: Shards, units: Sequence[Unit], layer: str, ticks_of: Mapping[int, int]) -> Section:
    """The seconds around the peak of each stretch, with the layer's steps as heat over time."""

    def moment(activation: Activation) -> Moment:
        ticks = ticks_of[activation.clip]
        heat = np.repeat(activation.heat[0], ticks)[:: activation.heat.shape[1]]  # a value for each tick
        peak = int(heat.argmax())
        shown = min(ticks, SHOWN_TICKS)
        start = min(max(0, peak - shown // 2), ticks - shown)
        first = activation.tick + start
        sound = shards.sound(activation.clip, first * SAMPLES_PER_TICK, shown * SAMPLES_PER_TICK)
        plain = spectrogram(sound)
        picture = fitted(_picture(shards, activation.clip, activation.tick + peak), height=len(plain))
        both = beside(picture, plain, heated(plain, heat[None, start : start + shown]))
        at = replace(activation, tick=activation.tick + peak)
        return Moment(both, _caption(shards, at), sound, SAMPLE_RATE_HZ)

    return Section(
        f"What units of {layer} hear",
        "The frame at the peak, which the unit does not see; the spectrogram of the seconds around it, low pitches "
        "below; the same under the unit's heat over time.",
        [(f"{layer} {unit.number}", [moment(activation) for activation in unit.top]) for unit in units],
    )


def beside(*pictures: Picture) -> Picture:
    """Pictures of one height next to each other, a white line between them."""
    line = np.full((len(pictures[0]), GAP, 3), 255, dtype=np.uint8)
    return np.concatenate([part for picture in pictures for part in (picture, line)][:-1], axis=1)


def heated(picture: Picture, heat: Heat) -> Picture:
    """The picture under a map of any size, 0 to its own maximum."""
    top = float(heat.max())
    scaled = torch.from_numpy(np.ascontiguousarray(heat)) / (top if top > 0 else 1.0)
    covered: Picture = blend(picture[None], scaled[None])[0]
    return covered


def spectrogram(sound: NDArray[np.int16]) -> Picture:
    """A sound at 48 kHz as a gray picture, uint8 (257, W, 3): low pitches below, 199 columns for a second."""
    log = log_spectrogram(torch.from_numpy(sound).float()[None] / 32768)
    columns = min(log.shape[2], WIDEST)
    gray = F.adaptive_avg_pool2d(log, (log.shape[1], columns))[0].flip(0)
    gray = (255 * gray / gray.max().clamp(min=1e-6)).to(torch.uint8)
    return np.repeat(gray.numpy()[..., None], 3, axis=2)


def fitted(picture: Picture, *, height: int) -> Picture:
    """The picture scaled to a height."""
    width = round(picture.shape[1] * height / picture.shape[0])
    return np.asarray(Image.fromarray(picture).resize((width, height)))


def _picture(shards: Shards, clip: int, tick: int) -> Picture:
    every = int(shards.index[clip]["every"])
    picture: Picture = shards.picture(clip, tick // every * every)
    return picture


def _second(shards: Shards, activation: Activation) -> NDArray[np.int16]:
    return shards.sound(activation.clip, second_start(activation.tick), SAMPLE_RATE_HZ)


def _caption(shards: Shards, activation: Activation) -> str:
    name = shards.info(activation.clip)["name"]
    return f"{name} at {activation.tick / TICKS_PER_SECOND:.2f} s: {activation.value:.2f}"
