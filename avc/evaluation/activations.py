"""What excites single units of a trained network most, among the frames and sounds of many clips.

Look, Listen and Learn, figures 3 to 6: a unit is a channel of the map that a trunk ends in, by its maximum, and the map
says where in the frame or the spectrogram. SoundNet, section 5.2 and figure 4: units of a hidden layer, whose map has
time alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from avc.data.preprocessing import audio_to_input, center_crop, images_to_input
from avc.data.reader import PairReader
from avc.data.sampler import PairSampler
from avc.data.segments import SegmentSampler, student_sound
from avc.embedding import Integers, Report, views_of
from avc.inference import Network
from avc.models.pair import PairNetwork, VisualInput, global_max_pool
from avc.models.waveform import WaveformNetwork, to_waveform
from shards.format import SAMPLES_PER_TICK, second_start
from shards.read import Shards

Heat = NDArray[np.float32]

_BATCH = 32


@dataclass(frozen=True)
class Activation:
    """Where a clip excites a unit most.

    tick: of the frame, or of the middle of the second of audio; of a waveform the first of a segment. value: the heat's
    maximum. heat: float32, at least 0: (H', W') of a frame, (bins, windows) of a spectrogram or (1, steps) of a
    segment.
    """

    clip: int
    tick: int
    value: float
    heat: Heat


@dataclass(frozen=True)
class Unit:
    """number: the channel. top: its strongest activations, descending, each of another clip."""

    number: int
    top: tuple[Activation, ...]


@dataclass(frozen=True)
class Maxima:
    """Every unit's maximum in one view of each of V clips: float32 (V, C)."""

    clip: Integers
    tick: Integers
    values: NDArray[np.float32]


def choose_units(values: NDArray[np.float32], count: int, top: int) -> list[int]:
    """The units whose `top` strongest values stand out most from their usual ones, in deviations; ascending."""
    strongest = np.sort(values, axis=0)[-top:].mean(axis=0)
    stands_out = (strongest - values.mean(axis=0)) / (values.std(axis=0) + 1e-6)
    stands_out[strongest <= 0] = -1  # never active
    return sorted(np.argsort(-stands_out, kind="stable")[:count].tolist())


@torch.no_grad()
def trunk_units(
    network: Network,
    shards: Shards,
    clips: Integers,
    *,
    units: Sequence[int],
    count: int,
    top: int,
    report: Report | None = None,
) -> tuple[tuple[Unit, ...], tuple[Unit, ...]]:
    """Channels of the maps that the vision and the audio trunk end in, with the frames and the seconds of audio.

    units: which ones, or none for the `count` that stand out. A random view of each clip is looked at, and the `top`
    activations are kept. Raises ValueError for units that there are not, fewer than two clips and too small frames.
    """
    settings = network.config.data
    sampler = PairSampler(shards.index, clips, seed=network.config.run.seed, max_misalignment_ticks=0)
    reader = PairReader(shards, sampler, image_size=settings.image_size, augment=False)
    vision, audio = network.model.vision, network.model.audio
    if network.model.visual_input != VisualInput():
        raise ValueError(f"{network.config.model.name} sees more than a frame at once, and heat is shown over one")

    def image_maps(images: Tensor) -> Tensor:
        return vision(images_to_input(images.to(network.device), None, settings))  # type: ignore[no-any-return]

    def audio_maps(seconds: Tensor) -> Tensor:
        return audio(audio_to_input(seconds.to(network.device), None, settings))  # type: ignore[no-any-return]

    image_maxima, audio_maxima, frame_ticks, audio_ticks, clips_seen = [], [], [], [], []
    for start in range(0, len(clips), _BATCH):
        rows = views_of(sampler, start, min(start + _BATCH, len(clips)))
        batch = reader.read(rows)
        image_maxima.append(global_max_pool(image_maps(batch.images)).float().cpu())
        audio_maxima.append(global_max_pool(audio_maps(batch.audio)).float().cpu())
        clips_seen.append(rows.frame_clip)
        frame_ticks.append(rows.frame_tick)
        audio_ticks.append(rows.audio_center // SAMPLES_PER_TICK)
        if report is not None:
            report(start + len(rows.frame_clip), len(clips), "")

    def heat_of_frame(clip: int, tick: int) -> Tensor:
        frame = torch.from_numpy(shards.picture(clip, tick))[None]
        return image_maps(center_crop(frame, settings.image_size))

    def heat_of_second(clip: int, tick: int) -> Tensor:
        return audio_maps(torch.from_numpy(shards.sound(clip, second_start(tick)))[None])

    of_clip = np.concatenate(clips_seen)
    images = Maxima(of_clip, np.concatenate(frame_ticks), torch.cat(image_maxima).numpy())
    sounds = Maxima(of_clip, np.concatenate(audio_ticks), torch.cat(audio_maxima).numpy())
    return (
        _units(images, heat_of_frame, units=units, count=count, top=top),
        _units(sounds, heat_of_second, units=units, count=count, top=top),
    )


@torch.no_grad()
def waveform_units(
    network: Network,
    shards: Shards,
    clips: Integers,
    *,
    layer: str,
    units: Sequence[int],
    count: int,
    top: int,
    report: Report | None = None,
) -> tuple[tuple[Unit, ...], dict[int, int]]:
    """Units of a hidden layer with the segments of audio that excite them, as `trunk_units` does.

    Also gives the ticks of each clip's segment.
    Raises ValueError for a layer or units that there are not, and for a clip that is too short for a step of the layer.
    """
    model, config = network.model, network.config
    sampler = SegmentSampler(
        shards.index,
        clips,
        student=config.model.name,
        sound_seconds=config.data.sound_seconds,
        seed=config.run.seed,
        repeat=True,  # so that none is too short for the outputs, which are not looked at
    )
    rows = sampler.rows(0, sampler.rows_per_epoch)
    ticks_of = dict(zip(rows.clip.tolist(), rows.ticks.tolist(), strict=True))

    def heat_of(clip: int, first_tick: int) -> Tensor:
        sound = torch.from_numpy(student_sound(shards, clip, first_tick, ticks_of[clip]))
        waveform = to_waveform(sound.to(network.device, torch.float32) / 32768)[None]
        steps: Tensor = model.features(waveform, layer)
        return steps[:, :, None]

    values = []
    for done, (clip, first) in enumerate(zip(rows.clip.tolist(), rows.first_tick.tolist(), strict=True), start=1):
        values.append(heat_of(clip, first).amax(dim=(0, 2, 3)).float().cpu().numpy())
        if report is not None:
            report(done, len(rows.clip), "")
    maxima = Maxima(rows.clip, rows.first_tick, np.stack(values))
    return _units(maxima, heat_of, units=units, count=count, top=top), ticks_of


def first_filters(model: PairNetwork | WaveformNetwork) -> dict[str, NDArray[np.float32]]:
    """The first layers' filters: vision (F, 3, h, w) and audio (F, 1, h, w), or of the waveform, sound (F, 64)."""

    def filters(conv: nn.Module) -> NDArray[np.float32]:
        return conv.get_parameter("weight").detach().cpu().numpy()

    if isinstance(model, WaveformNetwork):
        return {"sound": filters(model.hidden[0])[:, 0]}
    return {"vision": filters(model.vision.stem), "audio": filters(model.audio.stem)}


def _units(
    maxima: Maxima, heat_of: Callable[[int, int], Tensor], *, units: Sequence[int], count: int, top: int
) -> tuple[Unit, ...]:
    channels = maxima.values.shape[1]
    for unit in units:
        if not 0 <= unit < channels:
            raise ValueError(f"there is no unit {unit}: the layer has {channels}, from 0 to {channels - 1}")

    def activation(view: int, unit: int) -> Activation:
        clip, tick = int(maxima.clip[view]), int(maxima.tick[view])
        heat = heat_of(clip, tick)[0, unit].float().cpu().numpy()
        return Activation(clip, tick, float(heat.max()), heat)

    strongest = np.argsort(-maxima.values, axis=0, kind="stable")[:top]
    return tuple(
        Unit(unit, tuple(activation(view, unit) for view in strongest[:, unit].tolist()))
        for unit in units or choose_units(maxima.values, count, top)
    )
