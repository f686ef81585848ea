"""The moments that excite units, as images: frames and spectrograms, plain and under the unit's heat."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image

from avc.data.preprocessing import log_spectrogram, middle
from avc.evaluation.activations import Activation, Heat, Unit
from launch.report.overlay import blend
from launch.report.page import ImageArray, Moment, Section
from shards.format import SAMPLE_RATE_HZ, SAMPLES_PER_TICK, TICKS_PER_SECOND, second_start
from shards.read import Shards

SHOWN_TICKS = 5 * TICKS_PER_SECOND  # of a SoundNet's segment, around its peak
WIDEST = 500  # columns of a spectrogram
GAP = 4  # pixels between images


def vision_section(shards: Shards, units: Sequence[Unit]) -> Section:
    """Each frame beside itself under its heat, with the second of audio around it."""

    def moment(activation: Activation) -> Moment:
        frame = _frame(shards, activation)
        frame = middle(torch.from_numpy(frame)[None])[0].contiguous().numpy()
        image = beside(frame, heated(frame, activation.heat))
        return Moment(image, _caption(shards, activation), _second(shards, activation))

    about = (
        "Channels of the map that the vision trunk ends in. Left the frame, right the same under the channel's heat; "
        "the audio is its own, which the unit does not take. The heat may lie beside what excites a unit, by the same "
        "way in every frame: training takes the map's maximum, wherever that is, where a place's field of view is as "
        "large as the image."
    )
    return _section("What vision units respond to", about, "vision", units, moment)


def audio_section(shards: Shards, units: Sequence[Unit]) -> Section:
    """Each second of audio: the frame in its middle, its spectrogram, and that under its heat."""

    def moment(activation: Activation) -> Moment:
        audio = _second(shards, activation)
        image = _with_spectrogram(_frame(shards, activation), audio, activation.heat[::-1])
        return Moment(image, _caption(shards, activation), audio)

    about = (
        "Channels of the map that the audio trunk ends in. The frame, which the unit does not take; the spectrogram of "
        "the second, low pitches below; the same under the channel's heat."
    )
    return _section("What audio units respond to", about, "audio", units, moment)


def waveform_section(shards: Shards, units: Sequence[Unit], layer: str, ticks_of: Mapping[int, int]) -> Section:
    """The seconds around the peak of each segment, with the layer's steps as heat over time."""

    def moment(activation: Activation) -> Moment:
        ticks = ticks_of[activation.clip]
        heat = np.repeat(activation.heat[0], ticks)[:: activation.heat.shape[1]]  # a value for each tick
        peak = int(heat.argmax())
        shown = min(ticks, SHOWN_TICKS)
        start = min(max(0, peak - shown // 2), ticks - shown)
        first = activation.tick + start
        audio = shards.sound(activation.clip, first * SAMPLES_PER_TICK, shown * SAMPLES_PER_TICK)
        at_peak = replace(activation, tick=activation.tick + peak)
        image = _with_spectrogram(_frame(shards, at_peak), audio, heat[None, start : start + shown])
        return Moment(image, _caption(shards, at_peak), audio)

    about = (
        "The frame at the peak, which the unit does not take; the spectrogram of the seconds around it, low pitches "
        "below; the same under the unit's heat over time."
    )
    return _section(f"What units of {layer} respond to", about, layer, units, moment)


def beside(*images: ImageArray) -> ImageArray:
    """Images of one height next to each other, a white line between them."""
    line = np.full((len(images[0]), GAP, 3), 255, dtype=np.uint8)
    return np.concatenate([part for image in images for part in (image, line)][:-1], axis=1)


def heated(image: ImageArray, heat: Heat) -> ImageArray:
    """The image under a map of any size, 0 to its own maximum."""
    scaled = torch.from_numpy(np.ascontiguousarray(heat)) / (float(heat.max()) or 1.0)
    covered: ImageArray = blend(image[None], scaled[None])[0]
    return covered


def spectrogram(audio: NDArray[np.int16]) -> ImageArray:
    """Audio at 48 kHz as a gray image, uint8 (257, W, 3): low pitches below, 199 columns for a second."""
    log = log_spectrogram(torch.from_numpy(audio).float()[None] / 32768)
    columns = min(log.shape[2], WIDEST)
    gray = F.adaptive_avg_pool2d(log, (log.shape[1], columns))[0].flip(0)
    gray = (255 * gray / gray.max().clamp(min=1e-6)).to(torch.uint8)
    return np.repeat(gray.numpy()[..., None], 3, axis=2)


def _section(
    title: str, about: str, trunk: str, units: Sequence[Unit], moment: Callable[[Activation], Moment]
) -> Section:
    return Section(title, about, [(f"{trunk} {unit.number}", list(map(moment, unit.top))) for unit in units])


def _with_spectrogram(frame: ImageArray, audio: NDArray[np.int16], heat: Heat) -> ImageArray:
    plain = spectrogram(audio)
    width = round(frame.shape[1] * len(plain) / frame.shape[0])
    fitted = np.asarray(Image.fromarray(frame).resize((width, len(plain))))
    return beside(fitted, plain, heated(plain, heat))


def _frame(shards: Shards, activation: Activation) -> ImageArray:
    every = int(shards.index[activation.clip]["every"])
    frame: ImageArray = shards.picture(activation.clip, activation.tick // every * every)
    return frame


def _second(shards: Shards, activation: Activation) -> NDArray[np.int16]:
    return shards.sound(activation.clip, second_start(activation.tick), SAMPLE_RATE_HZ)


def _caption(shards: Shards, activation: Activation) -> str:
    name = shards.info(activation.clip)["name"]
    return f"{name} at {activation.tick / TICKS_PER_SECOND:.2f} s: {activation.value:.2f}"
