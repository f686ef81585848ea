"""Does AVOL-Net's map find the sounding object, and does it follow the sound?

Objects that Sound 4: is the map's maximum inside the annotated region? Beside it consensus IoU (`map_metrics`), and
what arXiv 2410.01020 and 2407.13676 ask for: the same frames under other sounds, silence and noise.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from avc.data.labels import names_of
from avc.data.sampler import Integers
from avc.encoders.load import load
from avc.encoders.sources import drawn_views
from avc.encoders.trained import Trained
from avc.evaluation import map_metrics, options
from avc.evaluation.boxes import Box, Truth, read_boxes, region
from avc.evaluation.map_metrics import Map
from avc.evaluation.measures import Request, Result
from shards import Report
from shards.format import SAMPLE_RATE_HZ, TICKS_PER_SECOND, centers_of, second_start
from shards.read import Shards
from shards.text import name_forms

WRONG = ("foreign", "silence", "noise")  # sounds
NOISE_RMS = 3277  # of white noise: -20 dBFS


@dataclass(frozen=True)
class Localization:
    """All that is measured. unknown: clips of the split without boxes; mean: of the maxima under the right sounds.

    names: of videos that have boxes; met: those that are of clips of the split.

    interaction: None where the silent object has no boxes, or nothing else sounds like it.
    """

    all: map_metrics.Hits
    with_silent_object: map_metrics.Hits | None
    overlaps: tuple[map_metrics.Overlap, ...]
    mean: float
    sanity: tuple[map_metrics.Sanity, ...]
    unknown: int
    names: int = 0
    met: int = 0
    thresholds: tuple[map_metrics.UniversalThreshold, ...] = ()
    interaction: map_metrics.Interaction | None = None


@dataclass(frozen=True)
class _Frame:
    clip: int
    tick: int
    boxes: tuple[Box, ...]
    silent_boxes: tuple[Box, ...]
    truth: Truth

    @property
    def region(self) -> Map:
        return region(self.boxes, annotators=self.truth.annotators)


def evaluate_localization(
    network: Trained,
    shards: Shards,
    clips: Integers,
    truths: Mapping[str, Truth],
    *,
    passes: int = 1,
    report: Report | None = None,
) -> Localization:
    """Measure one frame of each clip, or `passes` where boxes are known for every tick; the run's seed draws them.

    Raises ValueError where the network is not AVOL-Net, fewer than two clips have boxes, or a clip goes on where its
    boxes have ended.
    """
    frames, unknown = _frames(network, shards, clips, truths, passes)
    rng = np.random.default_rng(network.config.run.seed)
    foreign = _foreign(frames, rng)
    sounds = [shards.sound(frame.clip, second_start(frame.tick)) for frame in frames]
    noise = (NOISE_RMS * rng.standard_normal(SAMPLE_RATE_HZ)).clip(-32768, 32767).astype(np.int16)
    silent = _like_the_silent(frames, rng)
    audio = network.embed_seconds(torch.from_numpy(np.stack([*sounds, np.zeros_like(noise), noise])))
    maps: list[list[Map]] = []  # of each frame: under the right sound, the wrong ones, and that of the silent object
    displaced = np.empty((len(frames), 2))
    for i, frame in enumerate(frames):
        image = shards.picture(frame.clip, frame.tick)
        sounds_of = [i, foreign[i], len(frames), len(frames) + 1, *([silent[i]] if i in silent else [])]
        image_map = network.embed_image_map(torch.from_numpy(image)[None]).expand(len(sounds_of), -1, -1, -1)
        maps.append(list(network.compare_maps(image_map, audio[sounds_of]).double().numpy()))
        displaced[i] = map_metrics.displacement(maps[i][0], frame.boxes, height=image.shape[0], width=image.shape[1])
        if report is not None:
            report(i + 1, len(frames), "")
    regions = [frame.region for frame in frames]
    of_clip = np.array([frame.clip for frame in frames])
    two = [i for i, frame in enumerate(frames) if len(frame.truth.kinds) > 1]
    right = [of_frame[0] for of_frame in maps]
    wrong = {key: [of_frame[1 + number] for of_frame in maps] for number, key in enumerate(WRONG)}
    maxima = {name: np.array([map_.max() for map_ in under]) for name, under in {"": right, **wrong}.items()}
    of_two = [right[i] for i in two], [regions[i] for i in two], displaced[two], of_clip[two]
    return Localization(
        all=map_metrics.hits(right, regions, displaced, of_clip),
        with_silent_object=map_metrics.hits(*of_two) if two else None,
        overlaps=tuple(map_metrics.overlap(key, right, regions) for key in map_metrics.RULES),
        mean=float(maxima[""].mean()),
        sanity=tuple(map_metrics.sanity(key, maxima[""], maxima[key]) for key in WRONG),
        unknown=unknown,
        names=len(truths),
        met=len(truths.keys() & {form for name in names_of(shards, clips) for form in name_forms(name)}),
        thresholds=tuple(
            map_metrics.universal_threshold(key, threshold, right, regions, wrong)
            for key, threshold in map_metrics.universal_thresholds(wrong).items()
        ),
        interaction=map_metrics.interaction(
            [(maps[i][0], maps[i][-1]) for i in silent],
            [(regions[i], region(frames[i].silent_boxes, annotators=False)) for i in silent],
        )
        if silent
        else None,
    )


def localization(request: Request, chosen: options.Localization) -> Result:
    """The measure of that name."""
    network = load(request.source, device=request.device)
    data, split = request.data(network.config, request.source)
    truths = read_boxes(chosen.boxes)
    notes = []
    with request.progress("localizing", unit="frames") as report:
        result = evaluate_localization(network, data, data.clips(split), truths, passes=chosen.passes, report=report)
    without_area = [name for name, truth in truths.items() for _ in range(truth.without_area)]
    if without_area:
        names = ", ".join(without_area[:3])
        notes.append(f"{chosen.boxes}: {len(without_area):,} boxes have no area and are left out ({names} ...)")
    notes.append(f"{chosen.boxes}: {result.met:,} of {result.names:,} names are of clips of the {split} split")
    about: dict[str, Any] = {"run": str(request.source), "split": split, "boxes_without_area": without_area}
    about |= request.judged(f"the {split} split")
    content = about | asdict(result) | {"notes": notes}
    parts = {"all": "all", "with_silent_object": "with a silent object"}
    content["hits"] = [{"key": key, "name": name, **content[key]} for key, name in parts.items() if content[key]]
    return Result(content)


def _frames(
    network: Trained, shards: Shards, clips: Integers, truths: Mapping[str, Truth], passes: int
) -> tuple[list[_Frame], int]:
    names = [name_forms(name)[-1] for name in names_of(shards, clips)]
    with_boxes = [i for i, name in enumerate(names) if name in truths and any(truths[name].boxes)]
    if len(with_boxes) < 2:
        raise ValueError(
            f"{len(with_boxes)} of the {len(names)} clips have boxes, and at least 2 are needed: one clip's sound "
            f"meets the other's image. Boxes go by the video's file name{f', such as {names[0]}' if names else ''}; "
            f"there are boxes for {len(truths):,} names{f', such as {next(iter(truths))}' if truths else ''}"
        )
    truth_of = {int(clips[i]): truths[names[i]] for i in with_boxes}
    views = drawn_views(network, shards, np.array(sorted(truth_of)), passes=passes)
    began = round(shards.manifest.settings.start_seconds * TICKS_PER_SECOND)  # boxes count from the video's beginning
    frames = {}
    for clip, drawn in sorted(zip(*(column.tolist() for column in views), strict=True)):
        truth = truth_of[clip]
        each_tick = len(truth.boxes) > 1
        tick = drawn if each_tick else _middle(shards, clip)
        at = began + tick if each_tick else 0
        if at >= len(truth.boxes):
            raise ValueError(
                f"{shards.info(clip)['name']} has boxes for {len(truth.boxes)} ticks of 0.04 s, and its clip goes on "
                f"to tick {at}"
            )
        silent_boxes = truth.silent_boxes[at] if truth.silent_boxes else ()
        frames[clip, tick] = _Frame(clip, tick, truth.boxes[at], silent_boxes, truth)
    return list(frames.values()), len(names) - len(with_boxes)


def _middle(shards: Shards, clip: int) -> int:
    """The tick nearest to the clip's middle that has a frame and a second of audio around it."""
    row = shards.index[clip]
    ticks, every = int(row["ticks"]), int(row["every"])
    return min((tick for tick in centers_of(row) if tick % every == 0), key=lambda tick: abs(2 * tick - ticks))


def _foreign(frames: list[_Frame], rng: np.random.Generator) -> list[int]:
    """For each frame another one whose sound is of no kind that is in view."""
    chosen = []
    for frame in frames:
        others = [
            i
            for i, other in enumerate(frames)
            if other.clip != frame.clip and (not other.truth.kinds or other.truth.kinds[0] not in frame.truth.kinds)
        ]
        if not others:
            raise ValueError(
                f"every clip with boxes sounds like {frame.truth.kinds[0]}: sanity needs sounds of two kinds"
            )
        chosen.append(int(rng.choice(others)))
    return chosen


def _like_the_silent(frames: list[_Frame], rng: np.random.Generator) -> dict[int, int]:
    """For each frame whose silent object has a box, one of another clip that sounds like it, where there is one."""
    chosen = {}
    for i, frame in enumerate(frames):
        alike = [
            other
            for other, heard in enumerate(frames)
            if frame.silent_boxes and heard.clip != frame.clip and heard.truth.kinds[:1] == frame.truth.kinds[1:2]
        ]
        if alike:
            chosen[i] = int(rng.choice(alike))
    return chosen
