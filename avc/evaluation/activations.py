"""What single units of a trained network answer to: the frames and sounds of many clips that excite them most.

Look, Listen and Learn, figures 3 to 6: the units are pool4's, each the maximum over the map of one conv4_2 channel, and
the map says where in the frame or the spectrogram. SoundNet, section 5.2 and figure 4: units of a hidden layer, whose
map has time alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from avc.data.preprocessing import crop_origin
from avc.data.reader import PairReader
from avc.data.sampler import PairSampler
from avc.data.segments import SegmentSampler, student_sound
from avc.data.transforms import audio_to_input, images_to_input
from avc.embedding import views_of
from avc.inference import Network
from avc.models.inputs import VisualInput
from avc.models.soundnet import SoundNet, to_waveform
from avc.models.trunks import Trunk, global_max_pool
from avc.settings import SoundNetConfig
from shards.format import HALF_SECOND_SAMPLES, SAMPLES_PER_TICK
from shards.read import Shards

Report = Callable[[int, int, str], None]
Heat = NDArray[np.float32]

_BATCH = 32


@dataclass(frozen=True)
class Activation:
    """One moment that excites a unit: a clip, a tick of it, how much, and where.

    tick: of the frame, or of the middle of the second of sound; with SoundNet the first of a segment. heat: float32
    (H', W') of a frame, (bins, windows) of a spectrogram or (1, steps) of a segment; at least 0 and at most `value`.
    """

    clip: int
    tick: int
    value: float
    heat: Heat


@dataclass(frozen=True)
class Unit:
    """number: the channel. moments: most exciting first, each of another clip."""

    number: int
    moments: tuple[Activation, ...]


@dataclass(frozen=True)
class Moments:
    """V moments, one of each clip, and what every unit's maximum is in them: float32 (V, C)."""

    clip: NDArray[np.int64]
    tick: NDArray[np.int64]
    values: NDArray[np.float32]


def choose(values: NDArray[np.float32], count: int, top: int) -> list[int]:
    """The units whose `top` strongest answers stand out most from their usual ones, in deviations; ascending."""
    strongest = np.sort(values, axis=0)[-top:].mean(axis=0)
    stands_out = (strongest - values.mean(axis=0)) / (values.std(axis=0) + 1e-6)
    stands_out[strongest <= 0] = -1  # never answers
    return sorted(np.argsort(-stands_out, kind="stable")[:count].tolist())


def check_units(units: Sequence[int], channels: int) -> None:
    """Raise ValueError for a unit that there is not."""
    for unit in units:
        if not 0 <= unit < channels:
            raise ValueError(f"there is no unit {unit}: the layer has {channels}, from 0 to {channels - 1}")


@torch.no_grad()
def trunk_units(
    network: Network,
    shards: Shards,
    clips: NDArray[np.int64],
    *,
    units: Sequence[int],
    count: int,
    top: int,
    report: Report | None = None,
) -> tuple[tuple[Unit, ...], tuple[Unit, ...]]:
    """Units of pool4: those of the vision trunk with their frames, those of the audio trunk with their seconds.

    units: which ones, or none for the `count` that stand out. A random view of each clip is looked at, and `top`
    moments are kept. Raises ValueError for units that there are not, fewer than two clips and too small pictures.
    """
    settings = network.config.data
    sampler = PairSampler(shards.index, clips, seed=network.config.run.seed, max_misalignment_ticks=0)
    reader = PairReader(shards, sampler, image_size=settings.image_size, augment=False)
    vision, audio = network.model.vision, network.model.audio
    if network.model.visual_input != VisualInput():
        raise ValueError(f"{network.config.model.name} sees more than a frame at once, and heat is shown over one")
    pooled: tuple[list[Tensor], list[Tensor]] = ([], [])
    clip, frame_tick, sound_tick = [], [], []
    for start in range(0, len(clips), _BATCH):
        rows = views_of(sampler, start, min(start + _BATCH, len(clips)))
        batch = reader.read(rows).to(network.device)
        pooled[0].append(global_max_pool(vision(images_to_input(batch.pictures, None, settings))).float().cpu())
        pooled[1].append(global_max_pool(audio(audio_to_input(batch.sounds, None, settings))).float().cpu())
        clip.append(rows.frame_clip)
        frame_tick.append(rows.frame_tick)
        sound_tick.append(rows.audio_center // SAMPLES_PER_TICK)
        if report is not None:
            report(start + len(rows.frame_clip), len(clips), "")

    def heat_of_frame(clip: int, tick: int) -> Tensor:
        picture = torch.from_numpy(middle(shards.picture(clip, tick, reduce=reader.reduce), reader.crop))[None]
        return vision(images_to_input(picture.to(network.device), None, settings))  # type: ignore[no-any-return]

    def heat_of_second(clip: int, tick: int) -> Tensor:
        second = torch.from_numpy(shards.sound(clip, first_of_second(tick)))[None]
        return audio(audio_to_input(second.to(network.device), None, settings))  # type: ignore[no-any-return]

    clip_, ticks = np.concatenate(clip), (np.concatenate(frame_tick), np.concatenate(sound_tick))
    seen = Moments(clip_, ticks[0], torch.cat(pooled[0]).numpy())
    heard = Moments(clip_, ticks[1], torch.cat(pooled[1]).numpy())
    return (
        _units(seen, heat_of_frame, units=units, count=count, top=top),
        _units(heard, heat_of_second, units=units, count=count, top=top),
    )


@torch.no_grad()
def soundnet_units(
    model: SoundNet,
    config: SoundNetConfig,
    shards: Shards,
    clips: NDArray[np.int64],
    *,
    layer: str,
    units: Sequence[int],
    count: int,
    top: int,
    report: Report | None = None,
) -> tuple[tuple[Unit, ...], dict[int, int]]:
    """Units of a hidden layer of SoundNet with the segments of audio that excite them, as `trunk_units` does.

    Also gives the ticks of each clip's segment.
    Raises ValueError for a layer or units that there are not, and where no clip is long enough for one output step.
    """
    sampler = SegmentSampler(
        shards.index,
        clips,
        student=config.model.name,
        sound_seconds=config.data.sound_seconds,
        seed=config.run.seed,
    )
    device = next(model.parameters()).device
    rows = sampler.rows(0, sampler.rows_per_epoch)
    ticks_of = dict(zip(rows.clip.tolist(), rows.ticks.tolist(), strict=True))

    def heat_of(clip: int, first_tick: int) -> Tensor:
        sound = torch.from_numpy(student_sound(shards, clip, first_tick, ticks_of[clip]))
        waveform = to_waveform(sound.to(device, torch.float32) / 32768)[None]
        return model.features(waveform, layer)[:, :, None]

    def strongest() -> Iterator[NDArray[np.float32]]:
        for done, (clip, first) in enumerate(zip(rows.clip.tolist(), rows.first_tick.tolist(), strict=True), start=1):
            yield heat_of(clip, first).amax(dim=(0, 2, 3)).float().cpu().numpy()
            if report is not None:
                report(done, len(rows.clip), "")

    moments = Moments(rows.clip, rows.first_tick, np.stack(list(strongest())))
    return _units(moments, heat_of, units=units, count=count, top=top), ticks_of


def middle(picture: NDArray[np.uint8], crop: int) -> NDArray[np.uint8]:
    """The middle of a picture, as the network is shown it in evaluation: uint8 (crop, crop, 3)."""
    top, left = crop_origin(picture.shape[0], crop), crop_origin(picture.shape[1], crop)
    return np.ascontiguousarray(picture[top : top + crop, left : left + crop])


def first_of_second(tick: int) -> int:
    """The first sample of the second of sound whose middle is at a tick."""
    return tick * SAMPLES_PER_TICK - HALF_SECOND_SAMPLES


def first_filters(model: nn.Module) -> dict[str, NDArray[np.float32]]:
    """The first layers' filters by the trunk's name.

    L3-Net and its kin: vision (F, 3, 3, 3) as channels, rows, columns; audio (F, 1, 3, 3). SoundNet: sound (F, 64).
    """
    if isinstance(model, SoundNet):
        conv = model.layers.get_submodule("conv1")
        return {"sound": conv.get_parameter("weight").detach()[:, 0].cpu().numpy()}
    found = {}
    for name in ("vision", "audio"):
        trunk = model.get_submodule(name)
        assert isinstance(trunk, Trunk)
        found[name] = trunk.stem.get_parameter("weight").detach().cpu().numpy()
    return found


def _units(
    moments: Moments, heat_of: Callable[[int, int], Tensor], *, units: Sequence[int], count: int, top: int
) -> tuple[Unit, ...]:
    check_units(units, moments.values.shape[1])
    found = []
    for unit in units or choose(moments.values, count, top):
        order = np.argsort(-moments.values[:, unit], kind="stable")[:top].tolist()
        excitations = []
        for moment in order:
            clip, tick = int(moments.clip[moment]), int(moments.tick[moment])
            heat = heat_of(clip, tick)[0, unit].float().cpu().numpy()
            excitations.append(Activation(clip, tick, float(heat.max()), heat))
        found.append(Unit(unit, tuple(excitations)))
    return tuple(found)
