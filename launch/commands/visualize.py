"""`avc visualize`: what excites single units of a network, on one page that needs no other file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from launch.commands.options import AnyRun, Device, ShardsOption, Split


def visualize(
    run: AnyRun,
    shards: ShardsOption = None,
    out: Annotated[Path, typer.Option(help="Folder for index.html.")] = Path("units"),
    units: Annotated[
        str, typer.Option(help="Units to show, as 3,17,200.", show_default="those that stand out most")
    ] = "",
    count: Annotated[int, typer.Option(min=1, help="How many units, where none are named.")] = 8,
    top: Annotated[int, typer.Option(min=1, help="Activations of each unit.")] = 5,
    layer: Annotated[str, typer.Option(help="Of networks that only hear.", show_default="the last one")] = "",
    split: Split = "validation",
    clips: Annotated[int, typer.Option(min=2, help="At most so many clips of the split, evenly spread.")] = 1000,
    device: Device = "auto",
) -> None:
    """What excites single units of a network? The frames and sounds that do most, and where in them.

    A unit is one channel of the map that a trunk ends in, by its maximum: the page shows the frames and the seconds of
    audio that excite it most, with the channel as heat over the frame and over the spectrogram (as in Look, Listen and
    Learn, figures 3 to 6). SoundNet and the autoencoder have units of a hidden layer, with heat over time. The filters
    of the first layers stand at the top. Everything is inside OUT/index.html: images, and sounds with players.

    **Examples**

        avc visualize runs/l3 --out units
        avc visualize soundnet8.safetensors --shards ~/shards --out units --layer conv5 --units 3,17
    """
    import numpy as np

    from avc.evaluation.activations import first_filters, trunk_units, waveform_units
    from avc.inference import load_any, shards_of
    from launch.progress import progress
    from launch.report.activations import audio_section, vision_section, waveform_section
    from launch.report.page import filter_image, write_page
    from shards.read import Shards

    wanted = _numbers(units)
    network = load_any(run, device=device)
    waveform = hasattr(network.model, "feature_layers")
    if not waveform and not (hasattr(network.model, "vision") and hasattr(network.model, "audio")):
        raise ValueError(f"{network.title} has no units to show here: give a pair of towers or SoundNet")
    config = network.config
    data = Shards(shards or shards_of(config, run))
    rows = data.clips(split)
    rows = rows[np.linspace(0, len(rows) - 1, min(clips, len(rows))).round().astype(np.int64)] if len(rows) else rows
    if len(rows) < 2:
        raise ValueError(f"{data.folder} has {len(rows)} clips in its {split} split, and at least 2 are needed")
    with progress("measuring units", unit="clips") as report:
        if waveform:
            layer = layer or network.model.feature_layers[-1]
            excited, ticks_of = waveform_units(
                network, data, rows, layer=layer, units=wanted, count=count, top=top, report=report
            )
            sections = [waveform_section(data, excited, layer, ticks_of)]
        else:
            if layer:
                raise ValueError(f"--layer is for networks that only hear; {run} is {config.model.name}: leave it out")
            vision, audio = trunk_units(network, data, rows, units=wanted, count=count, top=top, report=report)
            sections = [vision_section(data, vision), audio_section(data, audio)]
    path = out.expanduser() / "index.html"
    size = write_page(
        path,
        title=f"{config.model.name}: what excites its units",
        about=f"{run}, {len(rows):,} clips of the {split} split of {data.folder}",
        filters={name: filter_image(weights) for name, weights in first_filters(network.model).items()},
        sections=sections,
    )
    print(f"{path}: {sum(len(section.units) for section in sections)} units, {size / 1e6:.1f} MB")


def _numbers(text: str) -> list[int]:
    try:
        return [int(number) for number in text.split(",") if number.strip()]
    except ValueError:
        raise ValueError(f"--units is {text!r} and must be numbers with commas between them, as 3,17,200") from None
