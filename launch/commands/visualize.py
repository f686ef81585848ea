"""`avc visualize`: what single units of a network see and hear, on one page that needs no other file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def visualize(
    run: Annotated[Path, typer.Argument(help="The folder of a run (run.dir of `avc train`).")],
    shards: Annotated[Path | None, typer.Option(help="Packed videos.", show_default="the run's own")] = None,
    out: Annotated[Path, typer.Option(help="Folder for index.html.")] = Path("units"),
    units: Annotated[
        str, typer.Option(help="Units to show, as 3,17,200.", show_default="those that stand out most")
    ] = "",
    count: Annotated[int, typer.Option(min=1, help="How many units, where none are named.")] = 8,
    top: Annotated[int, typer.Option(min=1, help="Activations of each unit.")] = 5,
    layer: Annotated[str, typer.Option(help="SoundNet: the hidden layer.", show_default="the last one")] = "",
    split: Annotated[str, typer.Option(help="train, validation or test.")] = "validation",
    clips: Annotated[int, typer.Option(min=2, help="At most so many clips of the split, evenly spread.")] = 1000,
) -> None:
    """What excites single units of a network? The frames and sounds that do most, and where in them.

    A unit is one channel of the map that a trunk ends in, by its maximum: the page shows the frames and the seconds of
    sound that excite it most, with the channel as heat over the frame and over the spectrogram (as in Look, Listen and
    Learn, figures 3 to 6). A SoundNet has units of a hidden layer, with heat over time. The filters of
    the first layers stand at the top. Everything is inside OUT/index.html: pictures, and sounds with players.

    **Examples**

        avc visualize runs/l3 --out units
        avc visualize runs/soundnet8 --out units --layer conv5 --units 3,17
    """
    import numpy as np

    from avc.evaluation.activations import first_filters
    from avc.inference import load, load_student, read_run
    from avc.settings import SoundNetConfig
    from launch.progress import progress
    from launch.report.activations import frames, seconds, stretches
    from launch.report.page import filter_picture, write_page
    from shards.read import Shards

    config, _ = read_run(run)
    wanted = _numbers(units)
    data = Shards(shards or config.data.shards)
    rows = data.clips(split)
    rows = rows[np.linspace(0, len(rows) - 1, min(clips, len(rows))).round().astype(np.int64)] if len(rows) else rows
    if len(rows) < 2:
        raise ValueError(f"{data.folder} has {len(rows)} clips in its {split} split, and at least 2 are needed")
    with progress("looking and listening", unit="clips") as report:
        if isinstance(config, SoundNetConfig):
            from avc.evaluation.activations import soundnet_units

            model, config = load_student(run)
            layer = layer or model.feature_layers[-1]
            heard, ticks_of = soundnet_units(
                model, config, data, rows, layer=layer, units=wanted, count=count, top=top, report=report
            )
            sections = [stretches(data, heard, layer, ticks_of)]
            filters = first_filters(model)
        else:
            if layer:
                raise ValueError(f"--layer is of SoundNet, and {run} is {config.model.name}: leave it out")
            from avc.evaluation.activations import trunk_units

            loaded = load(run)
            seen, heard = trunk_units(loaded, data, rows, units=wanted, count=count, top=top, report=report)
            sections = [frames(data, seen), seconds(data, heard)]
            filters = first_filters(loaded.model)
    path = out.expanduser() / "index.html"
    size = write_page(
        path,
        title=f"{config.model.name}: what its units answer to",
        about=f"{run}, {len(rows):,} clips of the {split} split of {data.folder}",
        filters={name: filter_picture(weights) for name, weights in filters.items()},
        sections=sections,
    )
    print(f"{path}: {sum(len(section.units) for section in sections)} units, {size / 1e6:.1f} MB")


def _numbers(text: str) -> list[int]:
    try:
        return [int(number) for number in text.split(",") if number.strip()]
    except ValueError:
        raise ValueError(f"--units is {text!r} and must be numbers with commas between them, as 3,17,200") from None
