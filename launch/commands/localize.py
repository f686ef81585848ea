"""`avc eval localization` and `avc localize`: what makes the sound?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from launch.commands.options import Json, Run, ShardsOption, Split

if TYPE_CHECKING:
    from avc.evaluation.localization import Localization


def localization(
    run: Run,
    boxes: Annotated[
        Path, typer.Option(help="VGG-SS's .json, a folder of Flickr-SoundNet's XML files, or a world's labels.jsonl.")
    ],
    shards: ShardsOption = None,
    split: Split = "validation",
    passes: Annotated[int, typer.Option(min=1, help="Frames of each clip, where every tick has its box.")] = 1,
    json: Json = None,
) -> None:
    """Does AVOL-Net's map find the object that sounds, and does it fall silent under another sound?

    Hits: the map's highest place lies in a box, beside the picture's center and a random point. Consensus IoU above 0.5
    and its area under the curve, for two ways to cut a region out of the map. Sanity: the same frames under the sound
    of another kind, silence and white noise at -20 dBFS.

    **Example**

        avc eval localization runs/avol --boxes demo-world/world/labels.jsonl
    """
    from dataclasses import asdict

    from avc.evaluation.boxes import read_boxes
    from avc.evaluation.localization import evaluate_localization
    from avc.inference import load
    from launch.progress import progress
    from launch.report.results import write_json
    from shards.read import Shards

    network = load(run)
    data = Shards(shards or network.config.data.shards)
    truths = read_boxes(boxes)
    with progress("localizing", unit="frames") as report:
        result = evaluate_localization(network, data, data.clips(split), truths, passes=passes, report=report)
    _show_localization(result)
    if json is not None:
        write_json(json, {"run": str(run), "split": split} | asdict(result))


def localize(
    run: Run,
    video: Annotated[Path | None, typer.Argument(help="A video file.", show_default=False)] = None,
    out: Annotated[Path, typer.Option(help="The file to write: .mp4 for a video, .png for a picture.")] = Path(
        "overlay.mp4"
    ),
    image: Annotated[Path | None, typer.Option(help="A picture instead of a video ...")] = None,
    sound: Annotated[
        Path | None, typer.Option(help="... and any sound file, of which the loudest second counts.")
    ] = None,
) -> None:
    """Show what makes the sound: AVOL-Net's map over a video, with its sound; or over a picture, for any sound.

    The video that is written has a frame every 0.04 s by the time stamps of the one that was read.

    **Examples**

        avc localize runs/avol concert.mp4 --out overlay.mp4
        avc localize runs/avol --image kitchen.jpg --sound kettle.wav --out kettle.png
    """
    if (video is None) == (image is None) or (image is None) != (sound is None):
        raise ValueError("give either a video, or --image and --sound together")
    from avc.inference import load
    from launch.progress import progress
    from launch.report.overlay import overlay_picture, overlay_video
    from shards.atomic import refuse_special

    refuse_special(out.expanduser())
    network = load(run)
    if image is not None and sound is not None:
        highest = overlay_picture(network, image, sound, out)
        print(f"{out}: the likeliest place makes the sound with probability {highest:.2f}")
    elif video is not None:
        with progress("localizing", unit="ticks") as report:
            ticks = overlay_video(network, video, out, report=report)
        print(f"{out}: {ticks:,} frames")


def _show_localization(result: Localization) -> None:
    from rich.console import Console
    from rich.table import Table

    print(f"{result.all.frames:,} frames; {result.unknown:,} clips of the split have no box")
    table = Table("hits", "frames", "map's maximum", "95 % interval", "center", "random point")
    for name, hits in (("all", result.all), ("with a silent object", result.with_silent_object)):
        if hits is not None:
            low, high = hits.interval_95
            shares = (f"{hits.maximum:.1%}", f"{low:.1%} to {high:.1%}", f"{hits.center:.1%}", f"{hits.random:.1%}")
            table.add_row(name, f"{hits.frames:,}", *shares)
    Console().print(table)
    table = Table("consensus IoU of", "above 0.5", "AUC", "center: above 0.5", "AUC")
    for one in result.overlaps:
        table.add_row(
            one.rule, f"{one.success:.1%}", f"{one.auc:.3f}", f"{one.center_success:.1%}", f"{one.center_auc:.3f}"
        )
    Console().print(table)
    table = Table("wrong sound", "maximum falls", "AUC, right against wrong", "mean maximum")
    for wrong in result.sanity:
        table.add_row(wrong.sound, f"{wrong.falls:.1%}", f"{wrong.auc:.3f}", f"{wrong.mean:.3f}")
    table.add_row("(the right one)", "", "", f"{result.mean:.3f}")
    Console().print(table)
