"""What Objects that Sound found, beside what was measured here: does it agree?

A claim is put as a difference between figures of the same seed and the range in which it must lie. It "agrees" where
the whole 95 % interval over seeds lies in the range, "agrees on average" where only the mean does (with one seed there
is no interval), and is "not here" otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from avc.evaluation.measures import TITLES
from avc.evaluation.shortcut import Audit, Grid, Probe
from workshop.study.estimates import Estimate, Verdict, over_seeds, worst
from workshop.study.runs import RUNS, Measured

Direction = Literal["im_im", "im_aud", "aud_im", "aud_aud"]
Measurements = Mapping[str, Sequence[Measured]]  # by the key of a run, in the order of the seeds
Audits = Mapping[tuple[str, Grid], Audit]  # by the kind of shards, and the rule

CROSS: tuple[Direction, ...] = ("im_aud", "aud_im")
WITHIN: tuple[Direction, ...] = ("im_im", "aud_aud")
DIRECTIONS: tuple[Direction, ...] = ("im_im", *CROSS, "aud_aud")
# Run and key of the features that are compared.
AVE, L3, L3_CCA, RANDOM = ("ave", "network"), ("l3", "network"), ("l3", "network_cca"), ("l3", "random")


@dataclass(frozen=True)
class Finding:
    """One claim. published: the paper's figures; asked: the range that makes it true here; measured: ours, in words."""

    claim: str
    published: str
    asked: str
    measured: str
    verdict: Verdict


def findings(measured: Measurements, audits: Audits) -> tuple[Finding, ...]:
    """Every claim of the paper, judged by all of RUNS."""
    parts = (
        _accuracies(measured),
        _retrieval(measured),
        *(_localization(measured[run.key], run.name) for run in RUNS if run.key.startswith("avol")),
        _ablation(measured),
        _audits(audits),
    )
    return tuple(finding for part in parts for finding in part)


def retrieval(measured: Measurements) -> dict[str, tuple[Estimate, ...]]:
    """nDCG@30 over seeds in each of DIRECTIONS, by the name of the features: random, then the networks' own."""
    rows = {"random": RANDOM, "L3-Net": L3, "L3-Net + CCA": L3_CCA}
    rows |= {run.name: (run.key, "network") for run in RUNS[1:] if measured[run.key][0].retrieval}
    return {name: tuple(over_seeds(_ndcg(measured, row, to)) for to in DIRECTIONS) for name, row in rows.items()}


def _ndcg(measured: Measurements, row: tuple[str, str], direction: Direction) -> NDArray[np.float64]:
    """Mean nDCG@30 of each seed."""
    run, key = row
    rows = [next(features for features in seed.retrieval if features.key == key) for seed in measured[run]]
    return np.array([getattr(features, direction).mean for features in rows])


def _accuracy(measured: Measurements, run: str) -> NDArray[np.float64]:
    return np.array([seed.accuracy for seed in measured[run]])


def _judged(
    claim: str,
    estimates: Mapping[str, Estimate],
    *,
    published: str,
    asked: str,
    low: float = -math.inf,
    high: float = math.inf,
    beside: str = "",
    percent: bool = False,
) -> Finding:
    """A claim that every estimate lies between `low` and `high`: the worst of them decides."""
    words = "; ".join(f"{name} {each.text(percent=percent, sign=True)}" for name, each in estimates.items())
    verdict = worst(each.within(low, high) for each in estimates.values())
    return Finding(claim, published, asked, measured=beside + words, verdict=verdict)


# Claim, the paper's figures, the run that is compared with another, and by how much it must be better at least.
_ACCURACIES = (
    (
        "Embeddings that can be compared cost no accuracy: AVE-Net tells pairs apart as well as L3-Net.",
        "81.9 % and 80.8 %",
        ("ave", "l3"),
        -0.02,
    ),
    (
        "Nor does localizing: AVOL-Net, trained for longer, tells pairs apart as well as AVE-Net.",
        "the same accuracy",
        ("avol", "ave"),
        -0.02,
    ),
    (
        "Motion helps: AVE+MF, which sees 25 frames, is better than AVE-Net, which sees one.",
        "84.7 % and 81.9 %",
        ("ave_mf", "ave"),
        0.0,
    ),
)


def _accuracies(measured: Measurements) -> Iterator[Finding]:
    for claim, published, runs, least in _ACCURACIES:
        better, worse = (_accuracy(measured, run) for run in runs)
        yield _judged(
            claim,
            {"difference": over_seeds(better - worse)},
            published=published,
            asked=f"a difference of at least {100 * least:+.0f} points" if least else "a difference above 0",
            low=least,
            beside=f"{over_seeds(better).text(percent=True)} and {over_seeds(worse).text(percent=True)}; ",
            percent=True,
        )


def _retrieval(measured: Measurements) -> Iterator[Finding]:
    """Everything in both directions across modalities."""

    def ahead(
        better: tuple[str, str], worse: tuple[str, str], directions: Sequence[Direction] = CROSS, label: str = ""
    ) -> dict[str, Estimate]:
        differences = {to: _ndcg(measured, better, to) - _ndcg(measured, worse, to) for to in directions}
        return {label + _name(to): over_seeds(difference) for to, difference in differences.items()}

    yield _judged(
        "AVE-Net's images and audio lie in one space: cross-modal nDCG@30, AVE-Net above L3-Net.",
        ahead(AVE, L3),
        published="im-aud .561 and .418, aud-im .587 and .385",
        asked="at least +0.15",
        low=0.15,
    )
    yield _judged(
        "Across modalities L3-Net's own features are no better than chance: L3-Net less the random row.",
        ahead(L3, RANDOM),
        published="im-aud .418 and .407, aud-im .385 and .407",
        asked="within 0.05 of 0",
        low=-0.05,
        high=0.05,
    )
    yield _judged(
        "CCA, weighted by correlation squared, brings L3-Net's modalities together, but not as far as AVE-Net does.",
        ahead(L3_CCA, L3, label="CCA less L3-Net: ") | ahead(AVE, L3_CCA, label="AVE-Net less CCA: "),
        published="L3-Net .418 and .385, with CCA .531 and .560, AVE-Net .561 and .587",
        asked="L3-Net below L3-Net + CCA below AVE-Net",
        low=0.0,
    )
    yield _judged(
        "Within a modality AVE-Net is better as well: nDCG@30, AVE-Net above L3-Net.",
        ahead(AVE, L3, WITHIN),
        published="im-im .604 and .567, aud-aud .665 and .653",
        asked="above 0",
        low=0.0,
    )


def _localization(measured: Sequence[Measured], name: str) -> Iterator[Finding]:
    seeds = [seed.localization for seed in measured if seed.localization is not None]
    cases = {
        "all frames": [seed.all for seed in seeds],
        "with a silent object": [seed.with_silent_object for seed in seeds if seed.with_silent_object is not None],
    }
    cases = {case: hits for case, hits in cases.items() if hits}
    cut = [each for seed in seeds for each in seed.overlaps if each.key == "own_range"]
    yield Finding(
        claim=f"{name}: the map finds what sounds, its maximum in the object's box, above the image's center.",
        published="81.7 % and 57.2 %, by the maximum",
        asked="at least +25 points, also where a silent object of another kind is in view",
        measured="; ".join(
            f"{case} {over_seeds(seed.maximum for seed in hits).text(percent=True)}, "
            f"center {over_seeds(seed.center for seed in hits).text(percent=True)}, displaced (pixels right, down) by "
            + ", ".join("({:+.0f}, {:+.0f})".format(*seed.displacement_pixels) for seed in hits)
            for case, hits in cases.items()
        )
        + f"; consensus IoU from 0.5 for {over_seeds(each.success for each in cut).text(percent=True)}, "
        f"center {over_seeds(each.center_success for each in cut).text(percent=True)}",
        verdict=worst(
            over_seeds(seed.maximum - seed.center for seed in hits).within(0.25, math.inf) for hits in cases.values()
        ),
    )
    for wrong in zip(*(seed.sanity for seed in seeds), strict=True):
        falls, area = over_seeds(seed.falls for seed in wrong), over_seeds(seed.auc for seed in wrong)
        yield Finding(
            claim=f"{name}: maxima are lower under a wrong sound: {TITLES[wrong[0].key]}. (Pairs are told apart so, "
            "and no places: it is no evidence of localization.)",
            published="asked of such networks in arXiv 2410.01020",
            asked="the maximum falls for at least 85 % of the frames",
            measured=f"falls for {falls.text(percent=True)}; one threshold for all frames has AUC {area.text()}",
            verdict=falls.within(0.85, math.inf),
        )


def _ablation(measured: Measurements) -> Iterator[Finding]:
    free, frame = _accuracy(measured, "free"), _accuracy(measured, "frame")
    yield _judged(
        "Negatives off the grid give themselves away: AVE-Net's accuracy under that rule is falsely higher.",
        {"difference": over_seeds(free - frame)},
        published="87.6 % and 81.9 %",
        asked="at least +5 points",
        low=0.05,
        beside=f"{over_seeds(free).text(percent=True)} and {over_seeds(frame).text(percent=True)}; ",
        percent=True,
    )
    yield _judged(
        "And what it has learnt is worth less: its cross-modal nDCG@30 is no higher.",
        {
            _name(to): over_seeds(_ndcg(measured, ("free", "network"), to) - _ndcg(measured, ("frame", "network"), to))
            for to in CROSS
        },
        published="1 to 2 % worse",
        asked="at most 0",
        high=0.0,
    )


def _audits(audits: Audits) -> Iterator[Finding]:
    cases: tuple[tuple[Grid, str, str, float, float], ...] = (
        ("free", "With an artifact planted, negatives off the grid are told by the sound alone.", "90 %", 0.9, 1.0),
        ("frame", "On the grid the same artifact gives nothing away.", "50 ± 3 %", 0.47, 0.53),
    )
    for grid, claim, asked, low, high in cases:
        sound = _estimate(next(probe for probe in audits["ticking", grid].probes if probe.modality == "sound"))
        yield Finding(
            claim=claim,
            published="an artifact of coding is suspected, and not probed",
            asked=f"a probe of the sound alone reads {'at least ' if high == 1 else ''}{asked}",
            measured=f"{sound.text(percent=True)}. {audits['ticking', grid].verdict}",
            verdict=sound.within(low, high),
        )
    plain = audits["plain", "frame"]
    blind = all(probe.interval_95[0] <= 0.5 <= probe.interval_95[1] for probe in plain.probes)
    yield Finding(
        claim="Without an artifact, neither modality alone tells positives from negatives on the grid.",
        published="–",
        asked="both probes read 50 % inside their intervals, and the distributions of times are equal",
        measured="; ".join(f"{probe.modality} alone {_estimate(probe).text(percent=True)}" for probe in plain.probes),
        verdict="agrees" if blind and all(distribution.same for distribution in plain.distributions) else "not here",
    )


def _estimate(probe: Probe) -> Estimate:
    return Estimate(probe.accuracy, probe.interval_95)


def _name(direction: Direction) -> str:
    return direction.replace("_", "-")
