"""The `avc` command.

Every command imports what it needs inside its function: `avc --help` must answer at once, and reading videos must not
wait for a framework that trains networks. A user's mistake is a ValueError wherever it is found; `main` is the one
place that turns it into a paragraph and exit status 2.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from launch import packing, remote, teaching, transfer, visualize
from launch.bench.commands import app as bench
from launch.kinds import kinds
from launch.measure import audit, localization, localize, retrieval
from launch.mistakes import in_words

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shards.verify import Problem

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
measure = typer.Typer(no_args_is_help=True, rich_markup_mode="markdown")
app.add_typer(measure, name="eval", help="Measure what a trained network knows.")
app.add_typer(audit, name="audit")
app.add_typer(bench, name="bench", help="Measure speed, each figure beside its own limit in the same run.")

PROBLEMS_SHOWN = 50


def main() -> None:
    """Run the command line; exit status 0, 1 (something is wrong with the data or the machine) or 2 (a mistake).

    A training that was asked to stop ends with 128 and the signal's number.
    """
    with in_words(" ".join(["avc", *[word for word in sys.argv[1:2] if not word.startswith("-")]])):
        app()


def _version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        print(f"avc {version('avc')}")
        raise typer.Exit


@app.callback()
def avc(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Learn to see and hear from unlabelled video: pack videos, train L3-Net and AVE-Net, evaluate them.

    Start with **avc pack VIDEOS --out FOLDER**. Every command has its own --help.
    """


app.command()(packing.pack)
app.command()(packing.merge)
app.command()(packing.submit_pack)


@app.command()
def verify(
    folder: Annotated[Path, typer.Argument(help="A folder that `avc pack` made.")],
    quick: Annotated[bool, typer.Option("--quick", help="Compare files' names and sizes only.")] = False,
) -> None:
    """Check a packed folder, after copying it for example.

    Every shard is held against its checksum, every record's picture and sound files against theirs and against the
    index. What is missing, truncated or altered is named. Exit status 0: all is well; 1: something is wrong. A folder
    that **avc teach** wrote is held against its checksums.

    **Examples**

        avc verify ~/shards
        avc verify ~/shards/teachers
    """
    from launch.progress import progress
    from shards.index import read_manifest
    from shards.posteriors import POSTERIORS
    from shards.verify import verify as verify_folder

    if (folder.expanduser() / POSTERIORS).is_file():
        if quick:
            raise ValueError(f"--quick is for packed videos, and {folder} holds what teachers saw; leave it out")
        teaching.verify(folder.expanduser())
        return
    manifest = read_manifest(folder.expanduser())
    with progress("verifying", unit="MB") as report:
        problems = verify_folder(
            folder, quick=quick, progress=lambda done, total, name: report(done // 10**6, total // 10**6, name)
        )
    records = sum(shard.records for shard in manifest.shards)
    size = sum(shard.bytes for shard in manifest.shards) / 1e6
    what = "names and sizes" if quick else "every byte"
    print(f"{folder}: {records:,} records in {len(manifest.shards):,} shards, {size:,.1f} MB; {what} compared")
    if problems:
        _show_problems(problems)
        raise typer.Exit(1)
    print("all is as it was packed")


@app.command()
def train(
    config: Annotated[Path, typer.Argument(help="A YAML file of settings, as those in configs/.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[SECTION.NAME=VALUE]...", help="Settings that replace the file's.")
    ] = None,
) -> None:
    """Train a network on packed videos, in this process.

    The run's folder (run.dir) receives the settings, a line of metrics every few steps, checkpoints, and
    model.safetensors, the best weights so far. Ctrl-C saves a checkpoint first. Started again with the same folder, the
    run goes on from its newest checkpoint and ends with the weights that it would have had without the stop.

    On several GPUs or nodes, let torchrun start one process for each:
    `torchrun --nproc-per-node 4 -m launch.train CONFIG SECTION.NAME=VALUE ...`

    **Examples**

        avc train configs/ave.yaml data.shards=~/shards run.dir=runs/ave
        avc train configs/ave.yaml data.shards=~/shards run.dir=runs/small model.width=0.25 optim.lr=1e-3
    """
    from launch.train import run_here

    run_here(str(config), overrides or [])


app.command()(remote.submit)
app.command()(remote.status)
app.command("import")(transfer.import_weights)
app.command()(teaching.teach)
app.command()(visualize.visualize)


@measure.command()
def correspondence(
    run: Annotated[Path, typer.Argument(help="The folder of a run (run.dir of `avc train`).")],
    shards: Annotated[Path | None, typer.Option(help="Packed videos.", show_default="the run's own")] = None,
    split: Annotated[str, typer.Option(help="train, validation or test.")] = "validation",
    passes: Annotated[int, typer.Option(min=1, help="How often each clip is judged in each role.")] = 10,
    json: Annotated[Path | None, typer.Option(help="Write the result to this file as well.")] = None,
) -> None:
    """How often does the network tell a frame and a second of sound that belong together from a pair that does not?

    Half of the pairs are positives: a frame and the second of sound around it. Half are negatives: the sound is another
    video's. Chance is 50 %. The 95 % interval takes the pairs as independent.

    **Example**

        avc eval correspondence runs/ave --json ave.json
    """
    from launch.evaluate import as_json, write_json
    from launch.evaluate import correspondence as measure_correspondence
    from launch.progress import progress

    if split not in ("train", "validation", "test"):
        raise ValueError(f"--split is {split!r} and must be train, validation or test")
    with progress("judging", unit="pairs") as report:
        result = measure_correspondence(run, shards=shards, split=split, passes=passes, report=report)
    low, high = result.interval
    print(
        f"AVC accuracy {result.accuracy:.1%} ({low:.1%} to {high:.1%}) on {result.pairs:,} pairs of the {split} split"
    )
    print(f"positives {result.positives_accuracy:.1%}, negatives {result.negatives_accuracy:.1%}, chance 50.0%")
    if json is not None:
        write_json(json, as_json(result) | {"run": str(run), "split": split})


measure.command()(retrieval)
measure.command()(transfer.sound)
measure.command()(transfer.image)
measure.command()(kinds)
measure.command()(localization)
measure.command()(teaching.agreement)
app.command()(localize)


@app.command()
def demo(
    folder: Annotated[Path, typer.Option(help="Where everything goes.")] = Path("demo-world"),
    clips: Annotated[int, typer.Option(min=40, help="Videos to render.")] = 960,
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

    The world is a few hundred short videos of objects of eight kinds that sound, some with a silent object of another
    kind in view. L3-Net and AVE-Net learn from them which sight goes with which sound, without being told the kinds; a
    third network is trained on sound shuffled between the videos and must learn nothing. The ceiling is what nobody can
    pass: a negative whose sound is of a kind in view looks like a positive.

    FOLDER receives the videos, a picture of the world (world.png), the shards, the runs, results.json and results.png.

    **--study** puts the findings of Objects that Sound to the test on the same world: L3-Net, AVE-Net, AVOL-Net, AVE+MF
    and AVE-Net with and without the sampling fault that the paper warns of; retrieval, localisation and the audit, with
    intervals over seeds. FOLDER/study.html shows them beside the paper's. Stopped, the same command goes on.
    """
    import os

    from launch.evaluate import write_json

    if seeds is not None and not study:
        raise ValueError("--seeds belongs to --study; for another seed of the demo, take --seed")
    folder = folder.expanduser()
    processes = workers or len(os.sched_getaffinity(0))

    def say(line: str) -> None:
        print(line, flush=True)

    if study:
        from launch.study.study import study as run_study

        results = run_study(folder, clips=clips, seed=seed, seeds=seeds or 3, workers=processes, say=say)
        _show_study(results, folder)
    else:
        from launch.demo import demo as run_demo

        results = run_demo(folder, clips=clips, seed=seed, workers=processes, say=say)
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


def _show_problems(problems: Sequence[Problem]) -> None:
    from launch.progress import printable

    for problem in problems[:PROBLEMS_SHOWN]:
        line = f"{problem.file}: {problem.member} {problem.what}: {problem.detail}".replace(":  ", ": ")
        print(printable(line))
    if len(problems) > PROBLEMS_SHOWN:
        print(f"and {len(problems) - PROBLEMS_SHOWN:,} more")
    print(f"problems: {len(problems):,}. Copy these files again, or pack into a new folder")


if __name__ == "__main__":
    main()
