"""Does AVOL-Net's map find the sounding object, and is it low where another sound is played?

Objects that Sound 4: is the map's maximum inside the annotated region? Beside it consensus IoU (Senocak et al., CVPR
2018), and the sanity that arXiv 2410.01020 asks for: the same frames under another sound, under silence and noise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from avc.data.labels import names_of
from avc.data.sampler import PairSampler
from avc.embedding import Integers, Report, views_of
from avc.evaluation.boxes import RASTER, Box, Truth, region
from avc.inference import Network
from avc.intervals import clustered_interval
from shards.format import SAMPLE_RATE_HZ, TICKS_PER_SECOND, centers_of, second_start
from shards.read import Shards

Map = NDArray[np.float64]

NOISE_RMS = 3277  # of white noise: -20 dBFS
_BATCH = 64


@dataclass(frozen=True)
class Hits:
    """Share of frames with a point in the annotated region: the map's maximum, the center, a random point (exactly).

    interval_95: of the maximum's share, where the clips are a sample of more. displacement_pixels: from the center of
    the nearest box to the map's maximum, right and down, in pixels of the frame, the mean over frames;
    displacement_std_pixels: its standard deviation. A map that is displaced by a constant has a mean far from 0.
    """

    frames: int
    maximum: float
    interval_95: tuple[float, float]
    center: float
    random: float
    displacement_pixels: tuple[float, float]
    displacement_std_pixels: tuple[float, float]


@dataclass(frozen=True)
class Overlap:
    """Consensus IoU of the region that a rule cuts out of the map.

    success: share of frames above 0.5; auc: area under the share of frames at or above 0, 0.05, ... 1. `center` is what
    the same rule makes of a map that falls from the picture's center.
    """

    rule: str
    success: float
    auc: float
    center_success: float
    center_auc: float


@dataclass(frozen=True)
class Sanity:
    """The same frames under a wrong sound.

    falls: share whose maximum is below that under the right sound. auc: probability that one threshold for all frames
    ranks a right sound above a wrong one, 0.5 for chance. mean: of the maxima, 0 to 1.
    """

    sound: str
    falls: float
    auc: float
    mean: float


@dataclass(frozen=True)
class Localization:
    """All that is measured. unknown: clips of the split without boxes; mean: of the maxima under the right sounds."""

    all: Hits
    with_silent_object: Hits | None
    overlaps: tuple[Overlap, ...]
    mean: float
    sanity: tuple[Sanity, ...]
    unknown: int


@dataclass(frozen=True)
class _Frame:
    clip: int
    tick: int
    boxes: tuple[Box, ...]
    truth: Truth

    @property
    def region(self) -> Map:
        return region(self.boxes, annotators=self.truth.annotators)


def evaluate_localization(
    network: Network,
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
    audio = _embed_sounds(network, [*sounds, np.zeros_like(noise), noise])
    maps: list[Map] = []
    displaced = np.empty((len(frames), 2))
    maxima = np.empty((len(frames), 4))
    for i, frame in enumerate(frames):
        image = shards.picture(frame.clip, frame.tick)
        image_map = network.embed_image_map(torch.from_numpy(image)[None])
        sounds_of = [i, foreign[i], len(frames), len(frames) + 1]
        probability = network.compare_maps(image_map.expand(4, -1, -1, -1), audio[sounds_of]).double().numpy()
        maps.append(probability[0])
        displaced[i] = displacement(probability[0], frame.boxes, height=image.shape[0], width=image.shape[1])
        maxima[i] = probability.max(axis=(1, 2))
        if report is not None:
            report(i + 1, len(frames), "")
    regions = [frame.region for frame in frames]
    of_clip = np.array([frame.clip for frame in frames])
    two = [i for i, frame in enumerate(frames) if len(frame.truth.kinds) > 1]
    names = ("of another kind" if frames[0].truth.kinds else "of another clip", "silence", "white noise")
    return Localization(
        all=hits(maps, regions, displaced, of_clip),
        with_silent_object=hits([maps[i] for i in two], [regions[i] for i in two], displaced[two], of_clip[two])
        if two
        else None,
        overlaps=tuple(overlap(rule, maps, regions) for rule in RULES),
        mean=float(maxima[:, 0].mean()),
        sanity=tuple(sanity(name, maxima[:, 0], wrong) for name, wrong in zip(names, maxima[:, 1:].T, strict=True)),
        unknown=unknown,
    )


def hits(maps: list[Map], regions: list[Map], displaced: NDArray[np.float64], of_clip: Integers) -> Hits:
    """How often the center of the map's highest cell lies in the region.

    displaced: float64 (frames, 2), the `displacement` of each frame. of_clip: int64, the clip of each frame.
    """
    hit = []
    for map_, weights in zip(maps, regions, strict=True):
        x, y = _maximum(map_)
        hit.append(weights[int(y * RASTER), int(x * RASTER)] > 0)
    return Hits(
        frames=len(maps),
        maximum=float(np.mean(hit)),
        interval_95=clustered_interval(np.array(hit), of_clip),
        center=float(np.mean([weights[RASTER // 2, RASTER // 2] > 0 for weights in regions])),
        random=float(np.mean([(weights > 0).mean() for weights in regions])),
        displacement_pixels=tuple(displaced.mean(axis=0).tolist()),
        displacement_std_pixels=tuple(displaced.std(axis=0).tolist()),
    )


def displacement(map_: Map, boxes: Sequence[Box], *, height: int, width: int) -> NDArray[np.float64]:
    """Pixels right and down, float64 (2,), from the center of the nearest box to that of the map's highest cell.

    height, width: of the frame, in pixels.
    """
    centers = np.array([((left + right) / 2, (top + bottom) / 2) for left, top, right, bottom in boxes])
    offsets = (_maximum(map_) - centers) * (width, height)
    nearest: NDArray[np.float64] = offsets[np.hypot(*offsets.T).argmin()]
    return nearest


def _maximum(map_: Map) -> tuple[float, float]:
    """x and y of the center of the map's highest cell, as fractions of width and height."""
    row, column = np.unravel_index(map_.argmax(), map_.shape)
    return (float(column) + 0.5) / map_.shape[1], (float(row) + 0.5) / map_.shape[0]


RULES = {
    "above half of the map's own range": lambda map_: map_ > (map_.min() + map_.max()) / 2,
    "the higher half of the picture": lambda map_: map_ > np.median(map_),
}


def overlap(rule: str, maps: list[Map], regions: list[Map]) -> Overlap:
    """Consensus IoU under one of RULES, with its area under the curve."""
    y, x = np.mgrid[:RASTER, :RASTER]
    centered = -np.hypot(y - (RASTER - 1) / 2, x - (RASTER - 1) / 2)
    ious = [consensus_iou(RULES[rule](_smooth(map_)), weights) for map_, weights in zip(maps, regions, strict=True)]
    baseline = [consensus_iou(RULES[rule](centered), weights) for weights in regions]
    return Overlap(rule, *_success(ious), *_success(baseline))


def consensus_iou(predicted: NDArray[np.bool_], weights: Map) -> float:
    """Weight of the region inside the prediction, over that of the whole region and of what it predicts outside."""
    return float(weights[predicted].sum() / (weights.sum() + (predicted & (weights == 0)).sum()))


def sanity(sound: str, right: NDArray[np.float64], wrong: NDArray[np.float64]) -> Sanity:
    """Compare the maxima of the same frames under their own sound and under a wrong one."""
    labels = np.repeat([1, 0], len(right))
    auc = float(roc_auc_score(labels, np.concatenate([right, wrong])))
    return Sanity(sound, falls=float((wrong < right).mean()), auc=auc, mean=float(wrong.mean()))


def _success(ious: list[float]) -> tuple[float, float]:
    thresholds = np.linspace(0, 1, 21)
    curve = (np.array(ious)[:, None] >= thresholds).mean(axis=0)
    return float((np.array(ious) > 0.5).mean()), float(np.trapezoid(curve, thresholds))


def _smooth(map_: Map) -> Map:
    upsampled = F.interpolate(torch.from_numpy(map_)[None, None], (RASTER, RASTER), mode="bilinear")
    smooth: Map = upsampled[0, 0].numpy()
    return smooth


def _frames(
    network: Network, shards: Shards, clips: Integers, truths: Mapping[str, Truth], passes: int
) -> tuple[list[_Frame], int]:
    names = [PurePosixPath(name).stem for name in names_of(shards, clips)]
    known = [i for i, name in enumerate(names) if name in truths and any(truths[name].boxes)]
    if len(known) < 2:
        raise ValueError(
            f"{len(known)} of the {len(names)} clips have boxes, and at least 2 are needed: one clip's sound meets the "
            f"other's image. Boxes go by the video's file name{f', such as {names[0]}' if names else ''}"
        )
    truth_of = {int(clips[i]): truths[names[i]] for i in known}
    sampler = PairSampler(
        shards.index, np.array(sorted(truth_of)), seed=network.config.run.seed, max_misalignment_ticks=0
    )
    rows = views_of(sampler, 0, passes * len(known))
    began = round(shards.manifest.settings.start_seconds * TICKS_PER_SECOND)  # boxes count from the video's beginning
    frames = {}
    for clip, drawn in sorted(zip(rows.frame_clip.tolist(), rows.frame_tick.tolist(), strict=True)):
        truth = truth_of[clip]
        each_tick = len(truth.boxes) > 1
        tick = drawn if each_tick else _middle(shards, clip)
        at = began + tick if each_tick else 0
        if at >= len(truth.boxes):
            raise ValueError(
                f"{shards.info(clip)['name']} has boxes for {len(truth.boxes)} ticks of 0.04 s, and its clip goes on "
                f"to tick {at}"
            )
        frames[clip, tick] = _Frame(clip, tick, truth.boxes[at], truth)
    return list(frames.values()), len(names) - len(known)


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


def _embed_sounds(network: Network, sounds: list[NDArray[np.int16]]) -> torch.Tensor:
    pieces = [np.stack(sounds[start : start + _BATCH]) for start in range(0, len(sounds), _BATCH)]
    return torch.cat([network.embed_audio(torch.from_numpy(piece)) for piece in pieces])
