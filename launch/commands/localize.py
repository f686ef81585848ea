"""`avc localize`: what makes the sound?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from launch.commands.options import Device, Run

Register = Annotated[
    bool, typer.Option("--register", help="Shift all maps back by one constant, measured without labels. Ours.")
]


def localize(
    run: Run,
    video: Annotated[Path | None, typer.Argument(help="A video file.", show_default=False)] = None,
    out: Annotated[Path, typer.Option(help="The file to write: .mp4 for a video, .png for an image.")] = Path(
        "overlay.mp4"
    ),
    image: Annotated[Path | None, typer.Option(help="An image instead of a video ...")] = None,
    sound: Annotated[
        Path | None, typer.Option(help="... and any sound file, of which the loudest second counts.")
    ] = None,
    register: Register = False,
    shards: Annotated[
        Path | None, typer.Option(help="Packed videos for --register.", show_default="the run's own")
    ] = None,
    device: Device = "auto",
) -> None:
    """Show what makes the sound: AVOL-Net's map over a video, with its sound; or over an image, for any sound.

    The video that is written has a frame every 0.04 s by the time stamps of the one that was read. Where a map lies
    beside the objects by a constant, which `avc eval localization` tells, --register shifts it back.

    **Examples**

        avc localize runs/avol concert.mp4 --out overlay.mp4
        avc localize runs/avol --image kitchen.jpg --sound kettle.wav --out kettle.png
    """
    if (video is None) == (image is None) or (image is None) != (sound is None):
        raise ValueError("give either a video, or --image and --sound together")
    from avc.encoders.load import load
    from avc.evaluation.localization import registered
    from launch.progress import progress
    from launch.report.overlay import overlay_image, overlay_video
    from shards.atomic import refuse_special
    from shards.read import Shards

    refuse_special(out.expanduser())
    network = load(run, device=device)
    if register:
        network, measured = registered(network, Shards(shards or network.config.data.shards), progress)
        print(measured)
    if image is not None and sound is not None:
        highest = overlay_image(network, image, sound, out)
        print(f"{out}: the likeliest place makes the sound with probability {highest:.2f}")
    elif video is not None:
        with progress("localizing", unit="ticks") as report:
            ticks = overlay_video(network, video, out, report=report)
        print(f"{out}: {ticks:,} frames")
