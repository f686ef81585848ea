"""The `avc bench` commands."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from launch.bench.report import Report

app = typer.Typer(no_args_is_help=True, rich_markup_mode="markdown")

JSON = Annotated[Path | None, typer.Option("--json", help="Write all figures, the machine and the versions here too.")]


@app.command()
def loader(
    shards: Annotated[Path, typer.Argument(help="A folder that `avc pack` made.")],
    workers: Annotated[int, typer.Option(help="Worker processes; the rate is for each.")] = 1,
    seconds: Annotated[float, typer.Option(help="How long each of the two is measured.")] = 30.0,
    image_size: Annotated[int, typer.Option(help="Height and width of the network's picture.")] = 224,
    json: JSON = None,
) -> None:
    """Pairs per second that a loader process reads, beside decoding the same bytes and nothing else.

    **Example**

        avc bench loader ~/shards
    """
    from launch.bench.loader import measure, report
    from launch.progress import progress

    with progress("measuring", unit="rounds") as tell:
        result = measure(
            shards,
            workers=workers,
            seconds=seconds,
            image_size=image_size,
            progress=tell,
        )
    show(report(result))
    write(json, "loader", result)


@app.command()
def pack(
    folder: Annotated[Path, typer.Argument(help="Videos, as for `avc pack`.")],
    workers: Annotated[int | None, typer.Option(help="Processes.", show_default="the number of cores")] = None,
    json: JSON = None,
) -> None:
    """Videos per second that the packer packs, beside decoding the same videos and nothing else.

    Packs into a temporary folder (in TMPDIR, where that is set), four times.

    **Example**

        avc bench pack ~/flickr/sample
    """
    from launch.bench.pack import measure, report
    from launch.progress import progress

    with progress("measuring", unit="videos") as tell:
        result = measure(folder, workers=workers, progress=tell)
    show(report(result))
    write(json, "pack", result)


@app.command()
def step(
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[SECTION.NAME=VALUE]...", help="Settings, as for `avc train`.")
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(help="Settings file.", show_default="the papers' sizes; on a CPU a small network"),
    ] = None,
    ways: Annotated[
        str, typer.Option(metavar="WORD,...", help="Only ways that are all of this, as in bf16,compiled.")
    ] = "",
    seconds: Annotated[float, typer.Option(help="How long each way of running the step is measured.")] = 5.0,
    json: JSON = None,
) -> None:
    """Pairs per second of the training step on synthetic batches, beside the device's rates of products and copies.

    In fp32 and bf16, with and without channels_last, eager, compiled and as CUDA graphs. Needs no data.

    **Examples**

        avc bench step
        avc bench step --config configs/ave.yaml optim.micro_batch_pairs=128
    """
    from launch.bench.step import gpu_of, measure, report, settings
    from launch.progress import progress

    with progress("measuring", unit="ways") as tell:
        result = measure(
            settings(config, overrides or []),
            ways=[*filter(None, ways.split(","))],
            seconds=seconds,
            progress=tell,
        )
    show(report(result))
    write(json, "step", result, gpu=gpu_of(result))


@app.command()
def train(
    config: Annotated[str, typer.Argument(metavar="CONFIG", help="Settings file or name, as for `avc train`.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[SECTION.NAME=VALUE]...", help="Settings, as for `avc train`.")
    ] = None,
    seconds: Annotated[float, typer.Option(help="How long each of the three is measured.")] = 30.0,
    json: JSON = None,
) -> None:
    """Pairs per second of training, loader included, beside the step alone and the loader alone.

    **Example**

        avc bench train small data.shards=~/shards
    """
    from avc.config import load_config
    from launch.bench.train import measure, report
    from launch.config_file import find_config
    from launch.progress import progress

    with progress("measuring", unit="rounds") as tell:
        result = measure(load_config(find_config(config), overrides or []), seconds=seconds, progress=tell)
    show(report(result))
    write(json, "train", result, gpu=None if result.device == "cpu" else result.device)


def show(report: Report) -> None:
    """Print a report, as a table in a terminal."""
    from rich.console import Console
    from rich.table import Table

    console = Console()
    if not console.is_terminal:
        print(report.plain())
        return
    table = Table(title=report.title, title_justify="left")
    for number, column in enumerate(report.columns):
        table.add_column(column, justify="left" if number == 0 else "right")
    for row in report.rows:
        table.add_row(*row)
    console.print(table)
    for note in report.notes:
        console.print(note, markup=False, highlight=False)


def write(path: Path | None, bench: str, result: Any, *, gpu: str | None = None) -> None:
    """Write a result with the machine, where a path is given."""
    from launch.bench.machine import describe
    from launch.bench.report import write_json

    if path is not None:
        write_json(path, bench=bench, machine=describe(gpu=gpu), result=result)
