"""`avc explore` and `avc localize`: see and hear what a network finds, in the browser, and what makes a sound."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from launch.commands import AnyRun, Device, Run, ShardsOption, writes


def explore(
    run: AnyRun,
    run2: Annotated[
        Path | None, typer.Argument(help="A second run, to see what both find.", show_default=False)
    ] = None,
    shards: ShardsOption = None,
    labels: Annotated[
        Path | None, typer.Option(help="Labels of videos, in a form of docs/evaluation.md: for filters and colors.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for the page.", callback=writes(folder=True))] = Path("explorer"),
    split: Annotated[str, typer.Option(help="train, validation, test or all.")] = "validation",
    clips: Annotated[
        int | None, typer.Option(min=2, help="At most so many clips, evenly spread.", show_default="all")
    ] = None,
    serve: Annotated[
        bool, typer.Option("--serve", help="Also answer for your own pictures and sounds, on this machine alone.")
    ] = False,
    port: Annotated[int, typer.Option(min=0, max=65535, help="With --serve; 0 for any that is free.")] = 8765,
    device: Device = "auto",
) -> None:
    """See and hear what a network finds: click a frame, hear the sounds nearest to it; click a sound, see its frames.

    OUT/index.html opens from the disk, without a server or network, and the folder can be sent to anybody. It holds one
    moment of each clip, a frame and the second of sound around it: the frames and sounds nearest to either, a map of
    all clips, filters by label; with an AVOL-Net's run its heat over the frame, under its own sound, another and none;
    with two runs what both find, side by side. It shows what the clips show: send it only where they may go.

    **--serve** opens the same page at an address of this machine, where you can drop a picture, drop a sound or record
    one. It is embedded here, and neither kept nor sent on.

    **Examples**

        avc explore runs/ave --labels demo-world/world/labels.jsonl

        avc explore runs/ave runs/avol --shards ~/shards --split all --serve
    """
    import numpy as np

    from avc.data.labels import labeled, read_labels
    from avc.encoders.load import load, shards_of
    from launch.explore.moments import embedder
    from launch.explore.write import write_explorer
    from launch.progress import printable
    from shards.read import Shards

    out = out.expanduser()
    paths = [path for path in (run, run2) if path is not None]
    networks = [load(path, device=device) for path in paths]
    data = Shards(shards or shards_of(networks[0].config, paths[0]))
    rows = np.arange(len(data)) if split == "all" else data.clips(split)
    if clips is not None and clips < len(rows):
        rows = rows[np.linspace(0, len(rows) - 1, clips).round().astype(np.int64)]
    if len(rows) < 2:
        raise ValueError(
            f"{data.folder} has {len(rows)} clips in its {split} split, and at least 2 are needed: try --split all"
        )
    classes = read_labels(labels) if labels is not None else None
    if labels is not None and classes is not None:
        print(*map(printable, labeled(data, rows, classes).counts(labels, f"split: {split}")), sep="\n")
    embedders = [embedder(network, path, data) for network, path in zip(networks, paths, strict=True)]
    title = " and ".join(f"{each.title} ({each.run})" for each in embedders)
    about = f"{len(rows):,} clips of {data.folder.name}, split: {split}"
    size = write_explorer(out, embedders, data, rows, labels=classes, title=title, about=about)
    print(f"{out / 'index.html'}: {about}; {size / 1e6:,.1f} MB, {size / len(rows) / 1e3:,.1f} kB a clip")
    if serve:
        from launch.explore.serve import serve as serve_folder

        serve_folder(out, embedders, title=title, port=port)


def localize(
    run: Run,
    video: Annotated[Path | None, typer.Argument(help="A video file.", show_default=False)] = None,
    out: Annotated[
        Path, typer.Option(help="The file to write: .mp4 for a video, .png for an image.", callback=writes())
    ] = Path("overlay.mp4"),
    image: Annotated[Path | None, typer.Option(help="An image instead of a video ...")] = None,
    sound: Annotated[
        Path | None, typer.Option(help="... and any sound file, of which the loudest second counts.")
    ] = None,
    device: Device = "auto",
) -> None:
    """Show what makes the sound: AVOL-Net's map over a video, with its sound; or over an image, for any sound.

    The video that is written has a frame every 0.04 s by the time stamps of the one that was read.

    **Examples**

        avc localize runs/avol concert.mp4 --out overlay.mp4
        avc localize runs/avol --image kitchen.jpg --sound kettle.wav --out kettle.png
    """
    if (video is None) == (image is None) or (image is None) != (sound is None):
        raise ValueError("give either a video, or --image and --sound together")
    from avc.encoders.load import load
    from launch.progress import progress
    from launch.report.overlay import overlay_image, overlay_video

    network = load(run, device=device)
    if image is not None and sound is not None:
        highest = overlay_image(network, image, sound, out)
        print(f"{out}: the likeliest place makes the sound with probability {highest:.2f}")
    elif video is not None:
        with progress("localizing", unit="ticks") as report:
            ticks = overlay_video(network, video, out, report=report)
        print(f"{out}: {ticks:,} frames")
