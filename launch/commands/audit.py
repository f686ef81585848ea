"""`avc audit`: sets of videos, sound beside its pictures in them, pairs that can be told apart by nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from launch.commands import Json, writes
from launch.commands.pack import Inputs, TimeLimit

audit = typer.Typer(no_args_is_help=True, rich_markup_mode="markdown")


@audit.callback()
def _audits() -> None:
    """Audit videos, and the rule by which pairs are drawn from packed ones."""


@audit.command()
def sync(
    videos: Inputs,
    seconds: Annotated[
        float | None, typer.Option(min=0.04, help="Look at the first so many of each.", show_default="all of it")
    ] = None,
    workers: Annotated[int | None, typer.Option(help="Processes.", show_default="the number of cores")] = None,
    time_limit: TimeLimit = 120.0,
    json: Json = None,
) -> None:
    """How far is each file's sound from its picture, and what do pipelines make of it that do not look?

    The offset is the time of the first sample less that of the first frame. It is no fault of the file: a player obeys
    it, and so does packing. A pipeline that numbers frames or samples does not, and pairs each frame with the sound of
    another moment; the table says by how much, beside gaps, drift, edit lists and variable frame rates.

    Files that cannot be read are counted and named with their reason, as **avc pack** does.

    **Examples**

        avc audit sync ~/flickr
        avc audit sync ~/vggsound --seconds 10 --json sync.json
    """
    import math

    from launch.progress import progress
    from launch.report.results import write_json
    from launch.report.sync import as_json, show_sync
    from shards.workers import audit_sync

    with progress("reading", unit="videos") as report:
        syncs, rejected = audit_sync(
            videos,
            seconds=math.inf if seconds is None else seconds,
            workers=workers,
            time_limit_seconds=time_limit,
            progress=report,
        )
    show_sync(syncs, rejected)
    write_json(json, as_json(syncs, rejected))
    if not syncs:
        raise typer.Exit(1)


@audit.command(name="set")
def set_(
    videos: Annotated[
        list[Path], typer.Argument(help="Folders, video files, .txt lists, .tar files; or packed videos.")
    ],
    seconds: Annotated[float, typer.Option(help="Look at the first so many of each, as packing does.")] = 10.0,
    workers: Annotated[int | None, typer.Option(help="Processes.", show_default="the number of cores")] = None,
    time_limit: TimeLimit = 120.0,
    out: Annotated[
        Path | None,
        typer.Option(help="A folder for index.html, drop.tsv and notes to go on from.", callback=writes(folder=True)),
    ] = None,
    json: Json = None,
) -> None:
    """What is wrong in a set: what is there twice, stands still, is silent, and what only looks like more than it is?

    Twice: the same bytes, or one recording encoded anew, scaled, cropped or shifted; where the two lie in different
    splits, a network is tested on what it has learnt. Splits are those of packed videos, folders train, validation and
    test, or the inputs, where there are several. By second: pictures that stand still, slide shows, sound that is not
    heard. Besides, for information: black borders, watermarks, sound that repeats itself on the grid of 0.04 s or lacks
    the frequencies that its rate promises, two channels that are one (not of packed videos, which have one), clipping.
    Beside each count stands how many of them packing rejects anyway. **avc audit sync** says how far sound is from its
    picture. Stopped, the same command with --out goes on with what was not looked at.

    **Examples**

        avc audit set ~/vggsound --out audit
        avc audit set ~/mine/train ~/mine/test --json set.json
        avc audit set ~/shards
    """
    from launch.progress import progress
    from launch.report.results import write_json
    from launch.report.survey import NOTES, as_json, show_survey, write_survey
    from shards.survey import survey

    folder = out.expanduser() if out is not None else None
    with progress("looking", unit="videos") as report:
        result = survey(
            videos,
            seconds=seconds,
            workers=workers,
            time_limit_seconds=time_limit,
            progress=report,
            notes=folder / NOTES if folder is not None else None,
        )
    show_survey(result)
    write_json(json, as_json(result))
    if folder is not None:
        write_survey(folder, result)
    if not result.looks:
        raise typer.Exit(1)


@audit.command()
def shortcut(
    shards: Annotated[Path, typer.Argument(help="Packed videos.")],
    grid: Annotated[str, typer.Option(help="frame or free, as negatives.grid in the settings.")] = "frame",
    max_misalignment_ticks: Annotated[int, typer.Option(min=0, help="As data.max_misalignment_ticks.")] = 25,
    probe: Annotated[
        str, typer.Option(help="linear; or conv, which adds a convolutional probe of the raw sound and takes minutes.")
    ] = "linear",
    seed: Annotated[int, typer.Option(min=0, help="Draws the pairs and the halves of the clips.")] = 0,
    json: Json = None,
) -> None:
    """Can positives be told from negatives by the sound alone, or by the frame alone? Then networks will do that.

    Exact: the times at which each modality is drawn, enumerated for both labels. Learned: linear probes on the sound
    alone, or on the frame alone, judge pairs of the half of the clips that was held out; 50 % means that they find
    nothing. --probe conv looks for traces that are too short for the linear probe of sound. The rule is that of
    independent pairs; shared and sync negatives use every frame and every second of audio under either label.

    **Example**

        avc audit shortcut ~/shards --grid free
    """
    from dataclasses import asdict

    from avc.evaluation.shortcut import GRIDS, KINDS
    from avc.evaluation.shortcut import audit as audit_shortcut
    from launch.progress import progress
    from launch.report.results import write_json
    from shards.read import Shards

    if grid not in GRIDS:
        raise ValueError(f"--grid is {grid!r} and must be {' or '.join(GRIDS)}")
    if probe not in KINDS:
        raise ValueError(f"--probe is {probe!r} and must be {' or '.join(KINDS)}")
    with progress("reading", unit="pairs") as report:
        result = audit_shortcut(
            Shards(shards),
            grid=GRIDS[GRIDS.index(grid)],
            max_misalignment_ticks=max_misalignment_ticks,
            kind=KINDS[KINDS.index(probe)],
            seed=seed,
            report=report,
        )
    for distribution in result.distributions:
        same = "same distribution for both labels" if distribution.same else "DISTRIBUTIONS DIFFER"
        print(f"exact:  {distribution.of}: {same} (total variation {distribution.difference:.4f})")
    for outcome in result.probes:
        low, high = outcome.interval_95
        print(
            f"learned: {outcome.name} {outcome.accuracy:.1%} ({low:.1%} to {high:.1%}) on {outcome.pairs:,} pairs "
            f"of {outcome.clips:,} held-out clips"
        )
    print(result.verdict)
    write_json(json, asdict(result) | {"shards": str(shards), "verdict": result.verdict})
