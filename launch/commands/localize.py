"""`avc eval localization` and `avc localize`: what makes the sound?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from launch.commands.options import Device, Json, JudgingSplit, Run, ShardsOption

if TYPE_CHECKING:
    from avc.evaluation.localization import Localization
    from avc.evaluation.registration import Registration
    from avc.inference import Network
    from shards.read import Shards

Register = Annotated[
    bool, typer.Option("--register", help="Shift all maps back by one constant, measured without labels. Ours.")
]


def localization(
    run: Run,
    boxes: Annotated[
        Path, typer.Option(help="VGG-SS's .json, a folder of Flickr-SoundNet's XML files, or a world's labels.jsonl.")
    ],
    shards: ShardsOption = None,
    split: JudgingSplit = None,
    passes: Annotated[int, typer.Option(min=1, help="Frames of each clip, where every tick has its box.")] = 1,
    register: Register = False,
    device: Device = "auto",
    json: Json = None,
) -> None:
    """Does AVOL-Net's map find the object that sounds, and does it follow the sound?

    Hits: the map's highest place lies in a box, beside the image's center and a random point. Displacement: pixels from
    the nearest box's center to that place, mean ± standard deviation; a mean far from 0 is a map that is displaced as a
    whole, which --register mends. Consensus IoU from 0.5 on and its area under the curve, for three ways to cut a
    region out of the map. Frames with two objects: are both found, each under its own sound (arXiv 2407.13676)? Then
    the same frames under the sound of another kind, silence and white noise at -20 dBFS: how much of the picture is
    marked at one threshold for all frames (arXiv 2410.01020), and whether maxima fall, which tells pairs apart and no
    places.

    **Examples**

        avc eval localization runs/avol --boxes demo-world/world/labels.jsonl
        avc eval localization runs/avol --boxes vggss.json --split test --register
    """
    from dataclasses import asdict

    from avc.evaluation.boxes import read_boxes
    from avc.evaluation.localization import evaluate_localization
    from avc.inference import load
    from launch.progress import progress
    from launch.report.results import write_json
    from launch.report.splits import judging_split, say_splits
    from shards.read import Shards

    network = load(run, device=device)
    data = Shards(shards or network.config.data.shards)
    split = judging_split(data, split)
    truths = read_boxes(boxes)
    registration = None
    if register:
        network, registration = _register(network, data)
    with progress("localizing", unit="frames") as report:
        result = evaluate_localization(network, data, data.clips(split), truths, passes=passes, report=report)
    without_area = [name for name, truth in truths.items() for _ in range(truth.without_area)]
    if without_area:
        print(f"{boxes}: {len(without_area):,} boxes have no area and are left out ({', '.join(without_area[:3])} ...)")
    print(f"{boxes}: {result.met:,} of {result.names:,} names are of clips of the {split} split")
    _show_localization(result)
    about = {"run": str(run), "split": split, "boxes_without_area": without_area}
    splits = say_splits([run], f"the {split} split")
    registered = {"registration": asdict(registration) if registration else None}
    write_json(json, about | splits | registered | asdict(result))


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
    from avc.inference import load
    from launch.progress import progress
    from launch.report.overlay import overlay_image, overlay_video
    from shards.atomic import refuse_special
    from shards.read import Shards

    refuse_special(out.expanduser())
    network = load(run, device=device)
    if register:
        network, _ = _register(network, Shards(shards or network.config.data.shards))
    if image is not None and sound is not None:
        highest = overlay_image(network, image, sound, out)
        print(f"{out}: the likeliest place makes the sound with probability {highest:.2f}")
    elif video is not None:
        with progress("localizing", unit="ticks") as report:
            ticks = overlay_video(network, video, out, report=report)
        print(f"{out}: {ticks:,} frames")


def _register(network: Network, data: Shards) -> tuple[Network, Registration]:
    from avc.evaluation.registration import register
    from launch.progress import progress

    with progress("registering", unit="training frames") as report:
        network, measured = register(network, data, data.clips("train"), report=report)
    right, down = (
        f"{mean:+.1f} ± {std:.1f} pixels {where}"
        for mean, std, where in zip(measured.pixels, measured.std_pixels, ("right", "down"), strict=True)
    )
    print(
        f"registered on {measured.frames:,} training frames: maps lie {right} and {down} of what they look at, in "
        f"images of {measured.side:.0f} pixels, and are shifted back"
    )
    return network, measured


def _show_localization(result: Localization) -> None:
    from launch.report.table import print_table

    print(f"{result.all.frames:,} frames; {result.unknown:,} clips of the split have no box")
    rows, displaced = [], []
    for name, hits in (("all", result.all), ("with a silent object", result.with_silent_object)):
        if hits is not None:
            low, high = hits.interval_95
            shares = (f"{hits.maximum:.1%}", f"{low:.1%} to {high:.1%}", f"{hits.center:.1%}", f"{hits.random:.1%}")
            rows.append((name, f"{hits.frames:,}", *shares))
            pixels = zip(hits.displacement_pixels, hits.displacement_std_pixels, strict=True)
            displaced.append((name, *(f"{mean:+.1f} ± {std:.1f}" for mean, std in pixels)))
    print_table(("hits", "frames", "map's maximum", "95 % interval", "center", "random point"), rows)
    print_table(("displacement from the nearest box", "pixels right", "pixels down"), displaced)
    print_table(
        ("consensus IoU of", "from 0.5", "AUC", "center: from 0.5", "AUC"),
        [
            (iou.rule, f"{iou.success:.1%}", f"{iou.auc:.3f}", f"{iou.center_success:.1%}", f"{iou.center_auc:.3f}")
            for iou in result.overlaps
        ],
    )
    if result.interaction is not None:
        both = result.interaction
        print_table(
            ("IIoU: two objects, each under its sound", "frames", "both from 0.5", "AUC"),
            [(result.overlaps[-1].rule, f"{both.frames:,}", f"{both.iiou:.1%}", f"{both.auc:.3f}")],
        )
    lines: list[tuple[str, ...]] = [
        ("mean IoU (AUC)", *(f"{each.iou:.3f} ({each.auc:.3f})" for each in result.thresholds))
    ]
    for marked in zip(*(each.wrong for each in result.thresholds), strict=True):
        parts = (f"{each.share:.1%} ({each.auc:.3f})" for each in marked)
        lines.append((f"marked: {marked[0].sound} (AUC)", *parts))
    lines.append(("F (of the AUCs)", *(f"{each.f:.3f} ({each.f_auc:.3f})" for each in result.thresholds)))
    rules = (each.rule if each.rule == "0.5" else f"{each.rule}: {each.threshold:.3f}" for each in result.thresholds)
    print_table(("at one threshold", *rules), lines)
    wrong = [(each.sound, f"{each.falls:.1%}", f"{each.auc:.3f}", f"{each.mean:.3f}") for each in result.sanity]
    print_table(
        ("wrong sound", "maximum falls", "AUC, right against wrong", "mean maximum"),
        [*wrong, ("(the right one)", "", "", f"{result.mean:.3f}")],
    )
