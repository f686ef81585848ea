"""`avc demo`: the whole line on a rendered world, and the study of the papers' findings."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer


def demo(
    folder: Annotated[Path, typer.Option(help="Where everything goes.")] = Path("demo-world"),
    clips: Annotated[int, typer.Option(min=40, help="Videos to render.")] = 960,
    kinds: Annotated[int, typer.Option(min=2, max=12, help="Kinds of objects in the world.")] = 8,
    seed: Annotated[int, typer.Option(min=0, help="Of the world and of the training.")] = 1,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes.", show_default="the number of cores")] = None,
    json: Annotated[Path | None, typer.Option(help="Write the results to this file as well.")] = None,
    study: Annotated[
        bool, typer.Option("--study", help="Measure the paper's findings instead, in 40 minutes.")
    ] = False,
    seeds: Annotated[
        int | None, typer.Option(min=1, help="With --study: trainings of each network.", show_default="3")
    ] = None,
) -> None:
    """See the whole idea at work in minutes: render a small world, pack it, train on it, measure.

    The world is a few hundred short videos of objects of several kinds that sound, some with a silent object of another
    kind in view. L3-Net and AVE-Net learn from them which sight goes with which sound, without being told the kinds; a
    third network is trained on sound shuffled between the videos and must learn nothing. The ceiling is what nobody can
    pass: a negative whose sound is of a kind in view looks like a positive.

    FOLDER receives the videos, a picture of the world (world.png), the shards, the runs, results.json and results.png.

    **--study** puts the findings of Objects that Sound to the test on the same world: L3-Net, AVE-Net, AVE-Net under
    a contrastive loss, AVOL-Net, AVE+MF, and AVE-Net with and without the sampling fault that the paper warns of;
    retrieval, localization and the audit, with intervals over seeds. FOLDER/study.html shows them beside the paper's.
    Stopped, the same command goes on. With 8 kinds, one negative in eight is of its positive's kind; --kinds 12 has
    fewer.
    """
    import os

    from launch.report.results import write_json

    if seeds is not None and not study:
        raise ValueError("--seeds belongs to --study; for another seed of the demo, take --seed")
    folder = folder.expanduser()
    processes = workers or len(os.sched_getaffinity(0))

    def say(line: str) -> None:
        print(line, flush=True)

    if study:
        from launch.demo.study.study import study as run_study

        results = run_study(folder, clips=clips, kinds=kinds, seed=seed, seeds=seeds or 3, workers=processes, say=say)
        _show_study(results, folder)
    else:
        from launch.demo.demo import demo as run_demo

        results = run_demo(folder, clips=clips, kinds=kinds, seed=seed, workers=processes, say=say)
        _show_demo(results, folder)
    if json is not None:
        write_json(json, results)


def _show_demo(results: dict[str, Any], folder: Path) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("held-out clips", "AVC accuracy", "95 % interval", "of the ceiling")
    for row in results["rows"]:
        low, high = row["interval_95"]
        table.add_row(
            row["name"], f"{row['accuracy']:.1%}", f"{low:.1%} to {high:.1%}", f"{row['share_of_ceiling']:.1%}"
        )
    table.add_section()
    table.add_row("ceiling (kinds that look and sound alike)", f"{results['ceiling']:.1%}", "", "")
    table.add_row("chance", "50.0%", "", "")
    Console().print(table)
    print(f"{results['seconds']:.0f} s in all; {folder / 'results.png'} shows the curves")


def _show_study(results: dict[str, Any], folder: Path) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("claim", "measured here", "", show_lines=True)
    for finding in results["findings"]:
        table.add_row(finding["claim"], finding["measured"], finding["verdict"])
    Console().print(table)
    print(f"{results['seconds']:.0f} s this time; {folder / 'study.html'} shows it beside the paper's figures")
