"""Does a sampling rule leave a shortcut: can positives be told from negatives by one modality alone?

Objects that Sound 3.3 found one. If the audio of a positive is centered on a frame and that of a negative is not,
traces of coding and resampling give the label away, and the network learns these instead of what the audio means.

1. exact    every draw that the plan can make for a clip, enumerated: are each modality's own times distributed alike
            under both labels?
2. learnt   a linear probe that hears only the sound, and one that sees only the frame, are fitted on pairs of half of
            the clips and guess the labels of pairs of the other half; if wanted, so does a small convolutional network
            that hears the sound (avc.evaluation.sound_probe).

The rule is that of independent pairs. With `negatives.source: shared` and `sync` every frame and every second of sound
serves once under either label, so that one modality alone cannot tell anything.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from avc.data.preprocessing import CROP
from avc.data.reader import PairReader
from avc.data.sampler import Integers, PairSampler
from avc.encoders.sources import Floats
from avc.evaluation.sound_probe import judged_by_convolution
from avc.intervals import clustered_interval
from shards import Report
from shards.format import SAMPLES_PER_TICK
from shards.read import Shards

Grid = Literal["frame", "free"]
GRIDS: tuple[Grid, ...] = ("frame", "free")
Modality = Literal["sound", "frame"]
Kind = Literal["linear", "conv"]
KINDS: tuple[Kind, ...] = ("linear", "conv")

# Whose draws are enumerated, of different length or sound: on nothing else do the distributions depend.
ENUMERATED_CLIPS = 200
PROBE_PAIRS = 4096  # fitted on, and judged: several views of each clip where there are fewer clips, and at least one
PROBE_CLIPS = 2048  # at most, in each half
PROBE_STRENGTH = 0.01  # logistic regression's C: features are many and clips few
EQUAL = 1e-9  # two distributions that differ by less are the same but for rounding

_WINDOW, _HOP = 128, 120  # samples: 2.7 ms, and 16 phases of a tick
_PHASES = SAMPLES_PER_TICK // _HOP
_BANDS = 8  # of 3 kHz
_FAINT = 0.01  # spread over the phases, in nats, below which a pattern is rounding
_SIDE = 16  # of the small gray image
_BLOCK = 8  # pixels: JPEG's and the video coders' blocks
_ROWS = 128


@dataclass(frozen=True)
class Distribution:
    """One kind of time. difference: greatest total variation distance, 0 (equal) to 1 (disjoint), between its
    distributions among a clip's positives and among its negatives."""

    of: str
    difference: float

    @property
    def same(self) -> bool:
        """Whether both labels have one distribution."""
        return self.difference < EQUAL


@dataclass(frozen=True)
class Probe:
    """What a probe of one modality scores on `pairs` pairs of `clips` held-out clips, with `clustered_interval`."""

    modality: Modality
    pairs: int
    clips: int
    accuracy: float
    interval_95: tuple[float, float]
    kind: Kind = "linear"

    @property
    def name(self) -> str:
        """What it judges by, in words."""
        return f"{self.modality} alone" + (", by convolution" if self.kind == "conv" else "")


@dataclass(frozen=True)
class Audit:
    """Both parts. enumerated_clips: how many clips the distributions were enumerated for."""

    grid: Grid
    distributions: tuple[Distribution, ...]
    enumerated_clips: int
    probes: tuple[Probe, ...]

    @property
    def verdict(self) -> str:
        """One sentence."""
        telling = [f"the {probe.name} ({probe.accuracy:.1%})" for probe in self.probes if probe.interval_95[0] > 0.5]
        unequal = [distribution.of for distribution in self.distributions if not distribution.same]
        if telling:
            return f"A shortcut: {' and '.join(telling)} tells positives from negatives."
        if unequal:
            return f"No probe found a shortcut here, but the rule leaves room for one: {', '.join(unequal)} differs."
        return (
            "No shortcut: the distributions are equal, and neither the sound nor the frame alone gives the label away."
        )


def audit(
    shards: Shards,
    *,
    grid: Grid = "frame",
    max_misalignment_ticks: int = 25,
    kind: Kind = "linear",
    seed: int = 0,
    report: Report | None = None,
) -> Audit:
    """Audit a sampling rule on the clips of all splits. `report`, if given, is told how many pairs have been read.

    kind: `conv` adds the convolutional probe of sound, which holds 96 kB a pair in memory and takes a minute or more.
    Raises ValueError where there are too few clips to hold half of them out, shards.read.BadRecord for damaged shards.
    """
    if len(shards) < 8:
        raise ValueError(f"{shards.folder} has {len(shards)} clips, and an audit that holds half of them out needs 8")

    def sampler_of(clips: Integers) -> PairSampler:
        return PairSampler(shards.index, clips, seed=seed, grid=grid, max_misalignment_ticks=max_misalignment_ticks)

    different = clips_of_different_times(shards)
    distributions = exact_distributions(shards, sampler_of(different))
    order = np.random.default_rng(seed).permutation(len(shards))[: 2 * PROBE_CLIPS]
    samplers = [sampler_of(np.sort(half)) for half in (order[::2], order[1::2])]
    rows = [math.ceil(PROBE_PAIRS / sampler.rows_per_epoch) * sampler.rows_per_epoch for sampler in samplers]

    def reported(before: int) -> Report | None:
        return None if report is None else lambda done, _, note: report(before + done, sum(rows), note)

    convolutional = kind == "conv"
    fitted = _table(shards, samplers[0], rows[0], keep=convolutional, report=reported(0))
    held_out = _table(shards, samplers[1], rows[1], keep=convolutional, report=reported(rows[0]))
    # Not each half in turn: what is alike by chance in both would count twice, and the interval would be too short.
    probes = [
        _scored("sound", _guesses(fitted.sound, fitted.label, held_out.sound), held_out.label, held_out.audio_clip),
        _scored("frame", _guesses(fitted.frame, fitted.label, held_out.frame), held_out.label, held_out.frame_clip),
    ]
    if fitted.raw is not None and held_out.raw is not None:
        guesses = judged_by_convolution(fitted.raw, fitted.label, held_out.raw, seed=seed)
        probes.append(_scored("sound", guesses, held_out.label, held_out.audio_clip, kind="conv"))
    return Audit(grid, distributions, len(different), tuple(probes))


def clips_of_different_times(shards: Shards) -> Integers:
    """Clips of which no two have the same times to draw from, int64; at least two, at most ENUMERATED_CLIPS."""
    facts = np.stack([shards.index[name].astype(np.int64) for name in ("ticks", "every", "sound_from", "sound_to")])
    _, first = np.unique(facts, axis=1, return_index=True)
    clips: Integers = np.sort(first)[:ENUMERATED_CLIPS]
    return clips if len(clips) > 1 else np.arange(2)


def exact_distributions(shards: Shards, sampler: PairSampler) -> tuple[Distribution, ...]:
    """Enumerate what the plan can draw for each of its clips under either label."""
    epoch = sampler.rows(0, sampler.rows_per_epoch)
    worst = np.zeros(3)
    for clip in sampler.clips.tolist():
        ticks = int(shards.index[clip]["ticks"])
        of_label = []
        for label in (0, 1):
            showing, sounding = (
                int(np.flatnonzero((who == clip) & (epoch.label == label))[0])
                for who in (epoch.frame_clip, epoch.audio_clip)
            )
            of_label.append(distributions_of_rows(sampler, showing, sounding, ticks=ticks))
        apart = [  # total variation distance
            0.5 * sum(abs(one.get(value, 0.0) - other.get(value, 0.0)) for value in one.keys() | other.keys())
            for one, other in zip(*of_label, strict=True)
        ]
        worst = np.maximum(worst, apart)
    names = ("the frame's tick", "the sound's tick", "the sound's offset from the grid")
    return tuple(Distribution(name, float(value)) for name, value in zip(names, worst, strict=True))


def distributions_of_rows(
    sampler: PairSampler, showing: int, sounding: int, *, ticks: int
) -> tuple[dict[int, float], ...]:
    """Laws of the frame's tick in row `showing`, and of the sound's tick and offset (samples) in row `sounding`.

    Each is value → probability. `ticks`: of the clip that both rows use. The plan takes its words modulo the number of
    choices, so that counting upwards meets every choice.
    """
    frame_ticks = np.unique(sampler.row_from_words(showing, _words(range(ticks), [0])).frame_tick).tolist()
    choices = range(len(frame_ticks))
    shifts = range(2 * sampler.max_misalignment_ticks + 1)
    centers = sampler.row_from_words(sounding, _words(choices, shifts)).audio_center.reshape(len(choices), len(shifts))
    sound_distribution: dict[int, float] = {}
    for reachable in map(set, (centers // SAMPLES_PER_TICK).tolist()):
        for tick in reachable:
            sound_distribution[tick] = sound_distribution.get(tick, 0.0) + 1 / (len(choices) * len(reachable))
    middle = _words([len(choices) // 2], [0], range(SAMPLES_PER_TICK))
    offsets = sampler.row_from_words(sounding, middle).audio_center % SAMPLES_PER_TICK
    values, counts = np.unique(offsets, return_counts=True)
    offset_distribution = dict(zip(values.tolist(), (counts / SAMPLES_PER_TICK).tolist(), strict=True))
    return dict.fromkeys(frame_ticks, 1 / len(frame_ticks)), sound_distribution, offset_distribution


def _words(views: Iterable[int], shifts: Iterable[int], offsets: Iterable[int] = (0,)) -> NDArray[np.uint64]:
    """Every combination of a frame, a misalignment and an offset, as the words that draw it for either label."""
    drawn = np.stack(np.meshgrid(list(views), list(shifts), list(offsets), indexing="ij"), axis=-1).reshape(-1, 3)
    words = np.zeros((len(drawn), PairSampler.WORDS_PER_ROW), dtype=np.uint64)
    words[:, [0, 2]], words[:, [1, 3]], words[:, 4] = drawn[:, :1], drawn[:, 1:2], drawn[:, 2]
    return words


@dataclass(frozen=True)
class _Table:
    sound: Floats
    frame: Floats
    label: Integers
    audio_clip: Integers
    frame_clip: Integers
    raw: torch.Tensor | None


def _table(shards: Shards, sampler: PairSampler, rows: int, *, keep: bool, report: Report | None) -> _Table:
    index = shards.index[sampler.clips]
    side = round(int(np.minimum(index["width"], index["height"]).min()) * CROP)
    reader = PairReader(shards, sampler, image_size=side, augment=False)
    sound, frame, raw = [], [], []
    for start in range(0, rows, _ROWS):
        stop = min(start + _ROWS, rows)
        batch = reader[start, stop]
        sound.append(sound_features(batch.audio))
        frame.append(frame_features(batch.images))
        if keep:
            raw.append(batch.audio)
        if report is not None:
            report(stop, rows, "")
    drawn = sampler.rows(0, rows)
    kept = torch.cat(raw) if keep else None
    return _Table(np.concatenate(sound), np.concatenate(frame), drawn.label, drawn.audio_clip, drawn.frame_clip, kept)


def sound_features(sounds: torch.Tensor) -> Floats:
    """int16 (N, 48000) → float32 (N, 136): loudness in 8 bands, and its pattern over 16 phases of a tick.

    Whatever the coding of sound has to do with the frame grid repeats with every tick, and adds up over the 24 of them.
    """
    window = torch.hann_window(_WINDOW)
    spectrum = torch.stft(
        sounds.float() / 32768, _WINDOW, hop_length=_HOP, window=window, center=False, return_complex=True
    )
    loudness = torch.log1p(spectrum.abs()[:, 1:] / 1e-4)
    bands = loudness.reshape(len(sounds), _BANDS, -1, loudness.shape[-1]).mean(dim=2)
    whole = bands.shape[-1] // _PHASES * _PHASES
    phases = bands[..., :whole].reshape(len(sounds), _BANDS, -1, _PHASES).mean(dim=2)
    level = phases.mean(dim=2, keepdim=True)
    # In units of its own spread, so that a pattern counts alike in loud recordings and in quiet ones.
    pattern = (phases - level) / (phases.std(dim=2, keepdim=True) + _FAINT)
    features: Floats = torch.cat([pattern, level], dim=2).flatten(1).numpy()
    return features


def frame_features(images: torch.Tensor) -> Floats:
    """uint8 (N, side, side, 3) → float32 (N, 275): a small gray image, mean colors, and edges by phase of 8 pixels.

    The last show how strongly, and how finely, an image was coded.
    """
    x = images.permute(0, 3, 1, 2).float() / 255
    gray = x.mean(dim=1, keepdim=True)
    small = F.adaptive_avg_pool2d(gray, _SIDE).flatten(1)
    edges = []
    for dimension in (2, 3):
        steps = gray.diff(dim=dimension).abs().mean(dim=(1, 5 - dimension))
        whole = steps.shape[1] // _BLOCK * _BLOCK
        edges.append(torch.log(steps[:, :whole].reshape(len(x), -1, _BLOCK).mean(dim=1) + 1e-4))
    features: Floats = torch.cat([small, x.mean(dim=(2, 3)), *edges], dim=1).numpy()
    return features


def _guesses(fitted: Floats, label: Integers, held_out: Floats) -> Integers:
    probe = make_pipeline(StandardScaler(), LogisticRegression(C=PROBE_STRENGTH, max_iter=1000))
    guesses: Integers = probe.fit(fitted, label).predict(held_out)
    return guesses


def _scored(modality: Modality, guesses: Integers, truth: Integers, clip: Integers, *, kind: Kind = "linear") -> Probe:
    right = guesses == truth
    return Probe(modality, len(right), len(np.unique(clip)), float(right.mean()), clustered_interval(right, clip), kind)
