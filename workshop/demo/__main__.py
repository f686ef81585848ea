"""`make demo`: the whole line on a rendered world."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from launch.commands import Json
from launch.report.results import print_table, write_json
from launch.user_errors import user_errors


def demo(
    folder: Annotated[Path, typer.Option(help="Where everything goes.")] = Path("demo-world"),
    clips: Annotated[int, typer.Option(min=40, help="Videos to render.")] = 960,
    kinds: Annotated[int, typer.Option(min=2, max=12, help="Kinds of objects in the world.")] = 8,
    seed: Annotated[int, typer.Option(min=0, help="Of the world and of the training.")] = 1,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes.", show_default="the number of cores")] = None,
    json: Json = None,
) -> None:
    """See the whole idea at work in minutes: render a small world, pack it, train on it, measure.

    The world is a few hundred short videos of objects of several kinds that sound, some with a silent object of another
    kind in view. AVE-Net, L3-Net and AVOL-Net learn from them which frame goes with which sound, without being told the
    kinds; a fourth network is trained on sound shuffled between the videos and must learn nothing. The ceiling is what
    nobody can pass: a negative whose sound is of a kind in view looks like a positive.

    FOLDER/index.html shows the results, the curves, the world, frames and the sounds that AVE-Net finds for them, where
    AVOL-Net hears a sound, and what excites units; FOLDER/explorer all held-out clips. Beside them lie the videos, the
    shards and the runs.
    """
    from workshop.demo.demo import demo as run_demo  # torch: --help answers at once

    folder = folder.expanduser()
    results = run_demo(folder, clips=clips, kinds=kinds, seed=seed, workers=workers or len(os.sched_getaffinity(0)))
    rows = [
        (
            row["name"],
            f"{row['accuracy']:.1%}",
            f"{row['interval_95'][0]:.1%} to {row['interval_95'][1]:.1%}",
            f"{row['share_of_ceiling']:.1%}",
        )
        for row in results["rows"]
    ]
    limits = [("ceiling (kinds that look and sound alike)", f"{results['ceiling']:.1%}"), ("chance", "50.0%")]
    print_table(("held-out clips", "AVC accuracy", "95 % interval", "of the ceiling"), [*rows, (), *limits])
    print(f"{results['seconds']:.0f} s in all. Look and listen: {(folder / 'index.html').resolve().as_uri()}")
    write_json(json, results)


if __name__ == "__main__":
    with user_errors("workshop.demo", resumes=True):
        app = typer.Typer(add_completion=False, rich_markup_mode="markdown", pretty_exceptions_enable=False)
        app.command()(demo)
        app(prog_name="python -m workshop.demo")
