"""What Objects that Sound found, beside what was measured here: does it agree?

A claim is put as a difference between figures of the same seed and the range in which it must lie. It "agrees" where
the whole 95 % interval over seeds lies in the range, "agrees on average" where only the mean does (with one seed there
is no interval), and is "not here" otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from avc.evaluation.localization import Localization
from avc.evaluation.shortcut import Audit, Grid
from launch.demo.study.estimates import Estimate, Verdict, over_seeds, worst
from launch.demo.study.runs import Measured

Direction = Literal["im_im", "im_aud", "aud_im", "aud_aud"]
Measurements = Mapping[str, Sequence[Measured]]  # by the key of a run, in the order of the seeds
Audits = Mapping[tuple[str, Grid], Audit]  # by the kind of shards, and the rule

CROSS: tuple[Direction, ...] = ("im_aud", "aud_im")
DIRECTIONS: tuple[Direction, ...] = ("im_im", *CROSS, "aud_aud")
L3_ROWS = ("L3-Net", "L3-Net + CCA")


@dataclass(frozen=True)
class Finding:
    """One claim. published: the paper's figures; asked: the range that makes it true here; measured: ours, in words."""

    claim: str
    published: str
    asked: str
    measured: str
    verdict: Verdict


def ndcg(measured: Measured, row: str, direction: Direction) -> float:
    """Mean nDCG@30 of a row of a run's retrieval. CCA's row names how many components it had, where not 128."""
    names = [own.name for own in measured.retrieval]
    wanted = next(own for own in measured.retrieval if own.name == row or own.name.startswith(f"{row} ("))
    score = getattr(wanted, direction)
    assert score is not None, (row, direction, names)
    return float(score.mean)


def findings(measured: Measurements, audits: Audits) -> tuple[Finding, ...]:
    """Every claim of the paper that the runs at hand can judge: all of RUNS, or all but AVE+MF."""
    judged = [
        *_correspondence(measured),
        *_retrieval(measured),
        *_localization([found for own in measured["avol"] if (found := own.localization) is not None]),
        *_ablation(measured),
        *_audited(audits),
    ]
    return tuple(judged)


# Claim, the paper's figures, the run that is compared with another, and by how much it must be better at least.
_ACCURACIES = (
    (
        "Embeddings that can be compared cost no accuracy: AVE-Net tells pairs apart as well as L3-Net.",
        "81.9 % and 80.8 %",
        ("ave", "l3"),
        -0.02,
    ),
    (
        "Nor does localising: AVOL-Net tells pairs apart as well as AVE-Net.",
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


def _correspondence(measured: Measurements) -> Iterable[Finding]:
    for claim, published, keys, least in _ACCURACIES:
        if not all(key in measured for key in keys):
            continue
        own, other = (measured[key] for key in keys)
        difference = over_seeds(a.accuracy - b.accuracy for a, b in zip(own, other, strict=True))
        means = " and ".join(over_seeds(one.accuracy for one in each).text(percent=True) for each in (own, other))
        yield Finding(
            claim=claim,
            published=published,
            asked=f"a difference of at least {100 * least:+.0f} points" if least else "a difference above 0",
            measured=f"{means}; difference {difference.text(percent=True, sign=True)}",
            verdict=difference.within(least, math.inf),
        )


def _retrieval(measured: Measurements) -> Iterable[Finding]:
    """Everything in both directions across modalities, and the worse of the two decides."""
    l3, ave = measured["l3"], measured["ave"]

    def each(
        figure: Callable[[Measured, Measured, Direction], float], directions: Sequence[Direction]
    ) -> list[Estimate]:
        return [over_seeds(figure(a, b, one) for a, b in zip(l3, ave, strict=True)) for one in directions]

    def words(estimates: Sequence[Estimate], directions: Sequence[Direction] = CROSS) -> str:
        named = zip(directions, estimates, strict=True)
        return "; ".join(f"{_name(direction)} {one.text(sign=True)}" for direction, one in named)

    ahead = each(lambda a, b, to: ndcg(b, "AVE-Net", to) - ndcg(a, "L3-Net", to), CROSS)
    yield Finding(
        claim="AVE-Net's pictures and sounds lie in one space: cross-modal nDCG@30, AVE-Net above L3-Net.",
        published="im-aud .561 and .418, aud-im .587 and .385",
        asked="at least +0.15",
        measured=words(ahead),
        verdict=worst(one.within(0.15, math.inf) for one in ahead),
    )
    chance = each(lambda a, _, to: ndcg(a, "L3-Net", to) - ndcg(a, "random", to), CROSS)
    yield Finding(
        claim="Across modalities L3-Net's own features are no better than chance: L3-Net less the random row.",
        published="im-aud .418 and .407, aud-im .385 and .407",
        asked="within 0.05 of 0",
        measured=words(chance),
        verdict=worst(one.within(-0.05, 0.05) for one in chance),
    )
    over_l3 = each(lambda a, _, to: ndcg(a, L3_ROWS[1], to) - ndcg(a, L3_ROWS[0], to), CROSS)
    under_ave = each(lambda a, b, to: ndcg(b, "AVE-Net", to) - ndcg(a, L3_ROWS[1], to), CROSS)
    yield Finding(
        claim="CCA brings L3-Net's modalities together, but not as far as AVE-Net does.",
        published="L3-Net .418 and .385, with CCA .531 and .560, AVE-Net .561 and .587",
        asked="L3-Net below L3-Net + CCA below AVE-Net",
        measured=f"CCA less L3-Net: {words(over_l3)}; AVE-Net less CCA: {words(under_ave)}",
        verdict=worst(one.within(0.0, math.inf) for one in (*over_l3, *under_ave)),
    )
    within: tuple[Direction, ...] = ("im_im", "aud_aud")
    own = each(lambda a, b, to: ndcg(b, "AVE-Net", to) - ndcg(a, "L3-Net", to), within)
    yield Finding(
        claim="Within a modality AVE-Net is better as well: nDCG@30, AVE-Net above L3-Net.",
        published="im-im .604 and .567, aud-aud .665 and .653",
        asked="above 0",
        measured=words(own, within),
        verdict=worst(one.within(0.0, math.inf) for one in own),
    )


def _localization(found: Sequence[Localization]) -> Iterable[Finding]:
    two = [one.with_silent_object for one in found if one.with_silent_object is not None]
    cases = {"all frames": [one.all for one in found]} | ({"with a silent object": two} if two else {})
    yield Finding(
        claim="AVOL-Net's map finds what sounds: its maximum in the object's box, above the picture's center.",
        published="81.7 % and 57.2 %",
        asked="at least +25 points, also where a silent object of another kind is in view",
        measured="; ".join(
            f"{case} {over_seeds(one.maximum for one in hits).text(percent=True)}, "
            f"center {over_seeds(one.center for one in hits).text(percent=True)}"
            for case, hits in cases.items()
        ),
        verdict=worst(
            over_seeds(one.maximum - one.center for one in hits).within(0.25, math.inf) for hits in cases.values()
        ),
    )
    for number, sound in enumerate(one.sound for one in found[0].sanity):
        falls = over_seeds(one.sanity[number].falls for one in found)
        area = over_seeds(one.sanity[number].auc for one in found)
        yield Finding(
            claim=f"The map falls silent under a wrong sound: {sound}.",
            published="asked of such networks in arXiv 2410.01020",
            asked="the maximum falls for at least 85 % of the frames",
            measured=f"falls for {falls.text(percent=True)}; one threshold for all frames has AUC {area.text()}",
            verdict=falls.within(0.85, math.inf),
        )


def _ablation(measured: Measurements) -> Iterable[Finding]:
    pairs = list(zip(measured["free"], measured["frame"], strict=True))
    gain = over_seeds(free.accuracy - frame.accuracy for free, frame in pairs)
    free, frame = (over_seeds(own.accuracy for own in measured[key]) for key in ("free", "frame"))
    yield Finding(
        claim="Negatives off the grid give themselves away: AVE-Net's accuracy under that rule is falsely higher.",
        published="87.6 % and 81.9 %",
        asked="at least +5 points",
        measured=f"{free.text(percent=True)} and {frame.text(percent=True)}; "
        f"difference {gain.text(percent=True, sign=True)}",
        verdict=gain.within(0.05, math.inf),
    )
    losses = [over_seeds(ndcg(a, "AVE-Net", to) - ndcg(b, "AVE-Net", to) for a, b in pairs) for to in CROSS]
    yield Finding(
        claim="And what it has learnt is worth less: its cross-modal nDCG@30 is no higher.",
        published="1 to 2 % worse",
        asked="at most 0",
        measured="; ".join(f"{_name(to)} {one.text(sign=True)}" for to, one in zip(CROSS, losses, strict=True)),
        verdict=worst(one.within(-math.inf, 0.0) for one in losses),
    )


def _audited(audits: Audits) -> Iterable[Finding]:
    def heard(grid: Grid) -> Estimate:
        sound = next(one for one in audits["ticking", grid].probes if one.modality == "sound")
        return Estimate(sound.accuracy, sound.interval_95)

    cases: tuple[tuple[Grid, str, str, float, float], ...] = (
        (
            "free",
            "With an artefact planted, negatives off the grid are told by the sound alone.",
            "90 %",
            0.9,
            1.0,
        ),
        ("frame", "On the grid the same artefact gives nothing away.", "50 ± 3 %", 0.47, 0.53),
    )
    for grid, claim, asked, low, high in cases:
        yield Finding(
            claim=claim,
            published="an artefact of coding is suspected, and not probed",
            asked=f"a probe of the sound alone reads {'at least ' if high == 1 else ''}{asked}",
            measured=f"{heard(grid).text(percent=True)}. {audits['ticking', grid].verdict}",
            verdict=heard(grid).within(low, high),
        )
    plain = audits["plain", "frame"]
    yield Finding(
        claim="Without an artefact, neither modality alone tells positives from negatives on the grid.",
        published="–",
        asked="both probes read 50 % inside their intervals, and the laws are equal",
        measured="; ".join(
            f"{one.modality} alone {Estimate(one.accuracy, one.interval_95).text(percent=True)}" for one in plain.probes
        ),
        verdict="agrees"
        if all(law.same for law in plain.laws)
        and all(one.interval_95[0] <= 0.5 <= one.interval_95[1] for one in plain.probes)
        else "not here",
    )


def _name(direction: Direction) -> str:
    return direction.replace("_", "-")
