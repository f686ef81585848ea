"""The study's page: one HTML file with its figures inside, which loads nothing from anywhere."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from launch.demo.study.estimates import Estimate
from launch.demo.study.findings import DIRECTIONS, Finding

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
table { border-collapse: collapse; width: 100%; font-size: 0.88rem; }
th, td { text-align: left; vertical-align: top; padding: 0.4rem 0.6rem; border-bottom: 1px solid #ddd; }
img { max-width: 100%; } figure { margin: 2rem 0; } figcaption { font-size: 0.88rem; color: #555; }
td.verdict { white-space: nowrap; font-weight: 600; }
.agrees { color: #1d7a36; } .agrees-on-average { color: #8a6d00; } .not-here { color: #b02a1c; }
"""


@dataclass(frozen=True)
class Figure:
    """A PNG, its heading and what is to be seen in it."""

    heading: str
    caption: str
    png: bytes


def write_page(
    file: Path,
    *,
    findings: Sequence[Finding],
    retrieval: Mapping[str, Sequence[Estimate]],
    figures: Sequence[Figure],
    facts: Mapping[str, str],
) -> None:
    """Write the page, aside first, so that an older one stays whole until the new one is."""
    rows = "\n".join(
        f"<tr><td>{escape(one.claim)}</td><td>{escape(one.published)}</td><td>{escape(one.asked)}</td>"
        f'<td>{escape(one.measured)}</td><td class="verdict {one.verdict.replace(" ", "-")}">{one.verdict}</td></tr>'
        for one in findings
    )
    scores = "\n".join(
        f"<tr><td>{escape(name)}</td>{''.join(f'<td>{estimate.text()}</td>' for estimate in estimates)}</tr>"
        for name, estimates in retrieval.items()
    )
    told = "".join(f"<li>{escape(name)}: {escape(value)}</li>" for name, value in facts.items())
    shown = "\n".join(
        f"<figure><h2>{escape(one.heading)}</h2>"
        f'<img alt="{escape(one.heading)}" src="data:image/png;base64,{base64.b64encode(one.png).decode()}">'
        f"<figcaption>{escape(one.caption)}</figcaption></figure>"
        for one in figures
    )
    html = f"""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Objects that Sound, in miniature</title>
<style>{_STYLE}</style>
<h1>Objects that Sound, in miniature</h1>
<p>What the paper (Arandjelović and Zisserman, ECCV 2018) found on hundreds of thousands of real videos, beside what
small networks learn from a rendered world of objects that sound. Nobody told them the kinds. Intervals are Student's,
95 %, over seeds of the training (those of the audit over clips). A claim agrees where the whole interval lies where it
is asked to, agrees on average where the mean does, and is not here otherwise. The paper's figures are the paper's: the
two columns compare in sign and not in size.</p>
<ul>{told}</ul>
<table>
<tr><th>claim</th><th>in the paper</th><th>asked here</th><th>measured here</th><th></th></tr>
{rows}
</table>
<h2>nDCG@30 on held-out clips</h2>
<table>
<tr><th></th>{"".join(f"<th>{direction.replace('_', '-')}</th>" for direction in DIRECTIONS)}</tr>
{scores}
</table>
{shown}
</html>
"""
    aside = file.with_suffix(".aside")
    aside.write_text(html, encoding="utf-8", errors="backslashreplace")
    aside.replace(file)
