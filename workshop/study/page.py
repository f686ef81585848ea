"""The study's page: one HTML file with its figures inside, which loads nothing from anywhere."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from launch.report import page as pages
from launch.report.page import Part, data_url
from workshop.study.estimates import VERDICTS, Estimate
from workshop.study.findings import DIRECTIONS, Finding

_ABOUT = """What the paper (Arandjelović and Zisserman, ECCV 2018) found on hundreds of thousands of real videos, beside
what small networks learn from a rendered world of objects that sound. Nobody told them the kinds. Intervals are
Student's, 95 %, over seeds of the training (those of the audit over clips). A claim agrees where the whole interval
lies in the range that is asked, agrees on average where the mean does, and is not here otherwise. The paper's figures
are the paper's: the two columns compare in sign and not in size."""


@dataclass(frozen=True)
class Figure:
    """A PNG file, its heading and what is to be seen in it."""

    heading: str
    caption: str
    png: Path


def write_page(
    path: Path,
    *,
    findings: Iterable[Finding],
    retrieval: Mapping[str, Sequence[Estimate]],
    figures: Iterable[Figure],
    facts: Mapping[str, str],
) -> None:
    """Write the page, aside first, so that an older one stays whole until the new one is."""
    claims = [(each.claim, each.published, each.asked, each.measured, each.verdict) for each in findings]
    scores = [(name, *(score.text() for score in row)) for name, row in retrieval.items()]
    heads = ("claim", "in the paper", "asked here", "measured here", "")
    parts = [
        Part(text=_ABOUT, facts=facts.items(), header=heads, cells=claims, marked=VERDICTS),
        Part("nDCG@30 on held-out clips", header=("", *(to.replace("_", "-") for to in DIRECTIONS)), cells=scores),
        *(
            Part(each.heading, picture=data_url("image/png", each.png.read_bytes()), caption=each.caption)
            for each in figures
        ),
    ]
    pages.write_page(path, "Objects that Sound, in miniature", parts)
