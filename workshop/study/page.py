"""The study's page: one HTML file with its figures inside, which loads nothing from anywhere."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from launch.report.html import data_url, write_html
from workshop.study.estimates import VERDICTS, Estimate
from workshop.study.findings import DIRECTIONS, Finding

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
table { border-collapse: collapse; width: 100%; font-size: 0.88rem; }
th, td { text-align: left; vertical-align: top; padding: 0.4rem 0.6rem; border-bottom: 1px solid #ddd; }
img { max-width: 100%; } figure { margin: 2rem 0; } figcaption { font-size: 0.88rem; color: #555; }
.agrees, .agrees-on-average, .not-here { white-space: nowrap; font-weight: 600; }
.agrees { color: #1d7a36; } .agrees-on-average { color: #8a6d00; } .not-here { color: #b02a1c; }
"""
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
    parts = [
        f"<p>{_ABOUT}</p>",
        f"<ul>{''.join(f'<li>{escape(name)}: {escape(value)}</li>' for name, value in facts.items())}</ul>",
        _table(("claim", "in the paper", "asked here", "measured here", ""), claims),
        "<h2>nDCG@30 on held-out clips</h2>",
        _table(("", *(direction.replace("_", "-") for direction in DIRECTIONS)), scores),
    ]
    for figure in figures:
        parts.append(
            f"<figure><h2>{escape(figure.heading)}</h2>"
            f'<img alt="{escape(figure.heading)}" src="{data_url("image/png", figure.png.read_bytes())}">'
            f"<figcaption>{escape(figure.caption)}</figcaption></figure>"
        )
    write_html(path, title="Objects that Sound, in miniature", style=_STYLE, body="\n".join(parts))


def _table(header: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    lines = ["".join(f"<th>{escape(text)}</th>" for text in header), *("".join(map(_cell, row)) for row in rows)]
    return f"<table>{''.join(f'<tr>{line}</tr>' for line in lines)}</table>"


def _cell(text: str) -> str:
    verdict = f' class="{text.replace(" ", "-")}"' if text in VERDICTS else ""
    return f"<td{verdict}>{escape(text)}</td>"
