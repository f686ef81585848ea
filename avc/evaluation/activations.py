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
from torch import Tensor

from avc.data.preprocessing import center_crop
from avc.data.sampler import Integers, PairSampler
from avc.data.segments import SegmentSampler, student_sound
from avc.encoders.encoder import AudioEncoder, Encoder, ImageEncoder
from avc.encoders.load import load_any
from avc.encoders.sources import views_of
from avc.encoders.trained import Trained
from avc.evaluation import options
from avc.evaluation.measures import Request, Result
from shards import Report
from shards.format import SAMPLES_PER_TICK, TICKS_PER_SECOND, second_start
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
class Views:
    """One view of each of V clips, int64 (V,), and what an encoder takes of it, by clip and tick.

    ticks: how long a view is, where that differs, so that inputs cannot be stacked.
    """

    clip: Integers
    tick: Integers
    load: Callable[[int, int], Tensor]
    ticks: Integers | None = None


def choose_units(values: NDArray[np.float32], count: int, top: int) -> list[int]:
    """The units whose `top` strongest values stand out most from their usual ones, in deviations; ascending."""
    strongest = np.sort(values, axis=0)[-top:].mean(axis=0)
    stands_out = (strongest - values.mean(axis=0)) / (values.std(axis=0) + 1e-6)
    stands_out[strongest <= 0] = -1  # never active
    return sorted(np.argsort(-stands_out, kind="stable")[:count].tolist())


@torch.no_grad()
def excited(
    encoder: Encoder, layer: str, views: Views, *, units: Sequence[int], count: int, top: int, report: Report
) -> dict[int, list[Activation]]:
    """Numbers of channels of an encoder's maps, each with its `top` strongest activations, descending.

    units: which ones, or none for the `count` that stand out. Raises ValueError for units that there are not.
    """
    device = next(encoder.parameters()).device

    def maps(rows: Sequence[int]) -> Tensor:
        inputs = [views.load(int(views.clip[row]), int(views.tick[row])) for row in rows]
        return encoder.maps(torch.stack(inputs).to(device), layer).float().cpu()

    step = _BATCH if views.ticks is None else 1
    values = []
    for start in range(0, len(views.clip), step):
        stop = min(start + step, len(views.clip))
        values.append(maps(range(start, stop)).amax(dim=(2, 3)).numpy())
        report(stop, len(views.clip), "")
    maxima = np.concatenate(values)
    channels = maxima.shape[1]
    for unit in units:
        if not 0 <= unit < channels:
            raise ValueError(f"there is no unit {unit}: the layer has {channels}, from 0 to {channels - 1}")

    def activation(row: int, unit: int) -> Activation:
        heat = maps([row])[0, unit].numpy()
        return Activation(int(views.clip[row]), int(views.tick[row]), float(heat.max()), heat)

    strongest = np.argsort(-maxima, axis=0, kind="stable")[:top]
    chosen = units or choose_units(maxima, count, top)
    return {unit: [activation(row, unit) for row in strongest[:, unit].tolist()] for unit in chosen}


def views_for(network: Trained, encoder: Encoder, shards: Shards, clips: Integers) -> Views:
    """A random view of each clip, as a training takes it: a frame, a second of audio, or a segment of a waveform."""
    if isinstance(encoder, AudioEncoder) and encoder.seconds is None:
        config = network.config
        segments = SegmentSampler(
            shards.index,
            clips,
            student=config.model.name,
            sound_seconds=config.data.sound_seconds,
            seed=config.run.seed,
            repeat=True,  # so that none is too short for the outputs, which are not looked at
        )
        rows = segments.rows(0, segments.rows_per_epoch)
        ticks = dict(zip(rows.clip.tolist(), rows.ticks.tolist(), strict=True))
        return Views(
            rows.clip,
            rows.first_tick,
            lambda clip, tick: torch.from_numpy(student_sound(shards, clip, tick, ticks[clip])).float() / 32768,
            rows.ticks,
        )
    sampler = PairSampler(shards.index, clips, seed=network.config.run.seed, max_misalignment_ticks=0)
    drawn = views_of(sampler, 0, len(clips))
    if isinstance(encoder, ImageEncoder):
        encoder.require_single_frames()
        size = encoder.size
        return Views(
            drawn.frame_clip,
            drawn.frame_tick,
            lambda clip, tick: center_crop(torch.from_numpy(shards.picture(clip, tick))[None], size)[0],
        )
    return Views(
        drawn.audio_clip,
        drawn.audio_center // SAMPLES_PER_TICK,
        lambda clip, tick: torch.from_numpy(shards.sound(clip, second_start(tick))).float() / 32768,
    )


@dataclass(frozen=True)
class Excited:
    """Units of an encoder's layer, and the views that they were chosen from."""

    encoder: Encoder
    layer: str
    views: Views
    units: dict[int, list[Activation]]


def encoders_of(network: Trained) -> list[Encoder]:
    """Those that have units: vision, then audio. Raises ValueError where there are none."""
    encoders: list[Encoder] = [each for each in (network.sees, network.hears) if each and each.unit_layers]
    if not encoders:
        raise ValueError(f"{network.title} has no units to show here: give a pair of towers or SoundNet")
    return encoders


def units_of(
    network: Trained, shards: Shards, clips: Integers, chosen: options.Units, request: Request
) -> list[Excited]:
    """Units of each encoder that has them: vision, then audio. Raises ValueError for fewer than two clips."""
    if len(clips) < 2:
        raise ValueError(f"{shards.folder} has {len(clips)} clips in that split, and at least 2 are needed")
    result = []
    for encoder in encoders_of(network):
        layer = encoder.unit_layer(chosen.layer)
        views = views_for(network, encoder, shards, clips)
        with request.progress(f"measuring units of {layer}", unit="clips") as report:
            numbers = _numbers(chosen.units)
            units = excited(encoder, layer, views, units=numbers, count=chosen.count, top=chosen.top, report=report)
        result.append(Excited(encoder, layer, views, units))
    return result


def units(request: Request, chosen: options.Units) -> Result:
    """The measure of that name."""
    _numbers(chosen.units)
    network = load_any(request.source, device=request.device)
    encoders_of(network)  # refused before anything is read
    data, split = request.data(network.config, request.source)
    clips = data.clips(split)
    if len(clips):
        clips = clips[np.linspace(0, len(clips) - 1, min(chosen.clips, len(clips))).round().astype(np.int64)]
    parts = units_of(network, data, clips, chosen, request)

    def told(each: Activation) -> dict[str, object]:
        name = data.info(each.clip)["name"]
        return {"clip": data.key(each.clip), "name": name, "seconds": each.tick / TICKS_PER_SECOND, "value": each.value}

    rows = [
        {"key": f"{name} {number}", "number": number, "top": list(map(told, top))}
        for part in parts
        for name in [part.encoder.unit_name(part.layer)]
        for number, top in part.units.items()
    ]
    about = f"{request.source}, {len(clips):,} clips of the {split} split of {data.folder}"
    content = {"run": str(request.source), "split": split, "units": rows, "notes": [about]}
    title = f"{network.config.model.name}: what excites its units"
    return Result(content, {"out": (title, about, data, parts)})


def _numbers(text: str) -> list[int]:
    try:
        return [int(number) for number in text.split(",") if number.strip()]
    except ValueError:
        raise ValueError(f"units is {text!r} and must be numbers with commas between them, as 3,17,200") from None
