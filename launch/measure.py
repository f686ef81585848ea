"""`avc eval retrieval`, `avc eval localization`, `avc localize`: what a network knows beyond telling pairs apart.

And `avc audit shortcut`: whether pairs can be told apart without knowing anything.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from avc.evaluation.localization import Localization
    from avc.evaluation.retrieval import Row
    from avc.evaluation.views import Features

Run = Annotated[Path, typer.Argument(help="The folder of a run (run.dir of `avc train`).")]
ShardsOption = Annotated[Path | None, typer.Option(help="Packed videos.", show_default="the run's own")]
Split = Annotated[str, typer.Option(help="train, validation or test.")]
Json = Annotated[Path | None, typer.Option(help="Write the result to this file as well.")]


def retrieval(
    run: Run,
    labels: Annotated[Path, typer.Option(help="Labels: .csv or .tsv rows of file name and label, or .jsonl.")],
    ontology: Annotated[
        Path | None, typer.Option(help="The AudioSet ontology; relevance is then 20 − tree distance.")
    ] = None,
    gain: Annotated[str, typer.Option(help="exponential (2^relevance − 1) or linear.")] = "exponential",
    features: Annotated[
        Path | None, typer.Option(help="A .npy file of pictures' features: a row for each clip of the shards' index.")
    ] = None,
    shards: ShardsOption = None,
    split: Split = "validation",
    json: Json = None,
) -> None:
    """What is nearest to a frame, or to a second of sound, among all frames and all sounds: is it of the same kind?

    nDCG@30 with one random frame and its second of sound for each clip: im-aud finds sounds for a frame, and so on. Two
    clips are relevant to each other if they share a label, or more finely by the AudioSet ontology. L3-Net has a second
    row with CCA, fitted on the training clips. The random row is measured in the same way and is the floor.

    **Example**

        avc eval retrieval runs/ave --labels demo-world/world/labels.jsonl
    """
    from dataclasses import asdict

    from avc.evaluation.labels import Ontology, flat_relevance, labelled, read_labels
    from avc.evaluation.retrieval import GAINS, evaluate_retrieval
    from avc.inference import load
    from launch.evaluate import write_json
    from launch.progress import progress
    from shards.read import Shards

    if gain not in GAINS:
        raise ValueError(f"--gain is {gain!r} and must be {' or '.join(GAINS)}")
    network = load(run)
    data = Shards(shards or network.config.data.shards)
    known = labelled(data, data.clips(split), read_labels(labels))
    relevance = Ontology(ontology).relevance(known.classes) if ontology else flat_relevance(len(known.classes))
    given = _array(features) if features is not None else None
    with progress("embedding", unit="views") as report:
        rows = evaluate_retrieval(
            network, data, known, relevance=relevance, gain=GAINS[GAINS.index(gain)], features=given, report=report
        )
    kind = f"{gain} gain, relevance from {'the ontology' if ontology else 'shared labels'}"
    print(f"nDCG@30 on {len(known.clips):,} clips of the {split} split, {len(known.classes)} classes; {kind}")
    if known.unlabelled:
        print(f"{known.unlabelled:,} clips of the split have no label in {labels} and were left out")
    _show(rows, clips=len(known.clips))
    if json is not None:
        about = {"run": str(run), "split": split, "gain": gain, "ontology": str(ontology) if ontology else None}
        write_json(
            json,
            about | {"clips": len(known.clips), "unlabelled": known.unlabelled, "rows": [asdict(row) for row in rows]},
        )


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

    Hits: the map's highest place lies in a box, beside the picture's centre and a random point. Consensus IoU above 0.5
    and its area under the curve, for two ways to cut a region out of the map. Sanity: the same frames under the sound
    of another kind, silence and white noise at -20 dBFS.

    **Example**

        avc eval localization runs/avol --boxes demo-world/world/labels.jsonl
    """
    from dataclasses import asdict

    from avc.evaluation.boxes import read_boxes
    from avc.evaluation.localization import evaluate_localization
    from avc.inference import load
    from launch.evaluate import write_json
    from launch.progress import progress
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
    from launch.overlay import overlay_picture, overlay_video
    from launch.progress import progress
    from shards.durable import refuse_special

    refuse_special(out.expanduser())
    network = load(run)
    if image is not None and sound is not None:
        highest = overlay_picture(network, image, sound, out)
        print(f"{out}: the likeliest place makes the sound with probability {highest:.2f}")
    elif video is not None:
        with progress("localizing", unit="ticks") as report:
            ticks = overlay_video(network, video, out, report=report)
        print(f"{out}: {ticks:,} frames")


audit = typer.Typer(no_args_is_help=True, rich_markup_mode="markdown")


@audit.callback()
def _audits() -> None:
    """Audit packed videos and the rule by which pairs are drawn from them."""


@audit.command()
def shortcut(
    shards: Annotated[Path, typer.Argument(help="Packed videos.")],
    grid: Annotated[str, typer.Option(help="frame or free, as negatives.grid in the settings.")] = "frame",
    max_misalignment_ticks: Annotated[int, typer.Option(min=0, help="As data.max_misalignment_ticks.")] = 25,
    seed: Annotated[int, typer.Option(min=0, help="Draws the pairs and the halves of the clips.")] = 0,
    json: Json = None,
) -> None:
    """Can positives be told from negatives by the sound alone, or by the frame alone? Then networks will do that.

    Exact: the times at which each modality is drawn, enumerated for both labels. Learnt: linear probes that hear only
    the sound, or see only the frame, judge pairs of the half of the clips that was held out; 50 % means that they find
    nothing. The rule is that of independent pairs; shared negatives use every frame and sound under either label.

    **Example**

        avc audit shortcut ~/shards --grid free
    """
    from dataclasses import asdict

    from avc.evaluation.shortcut import GRIDS
    from avc.evaluation.shortcut import audit as audit_shortcut
    from launch.evaluate import write_json
    from launch.progress import progress
    from shards.read import Shards

    if grid not in GRIDS:
        raise ValueError(f"--grid is {grid!r} and must be {' or '.join(GRIDS)}")
    with progress("reading", unit="pairs") as report:
        result = audit_shortcut(
            Shards(shards),
            grid=GRIDS[GRIDS.index(grid)],
            max_misalignment_ticks=max_misalignment_ticks,
            seed=seed,
            report=report,
        )
    for law in result.laws:
        same = "same law for both labels" if law.same else "LAWS DIFFER"
        print(f"exact:  {law.of}: {same} (total variation {law.difference:.4f})")
    for probe in result.probes:
        low, high = probe.interval_95
        print(
            f"learnt: {probe.modality} alone {probe.accuracy:.1%} ({low:.1%} to {high:.1%}) on {probe.pairs:,} pairs "
            f"of {probe.clips:,} held-out clips"
        )
    print(result.verdict)
    if json is not None:
        write_json(json, asdict(result) | {"shards": str(shards), "verdict": result.verdict})


def _show_localization(result: Localization) -> None:
    from rich.console import Console
    from rich.table import Table

    print(f"{result.all.frames:,} frames; {result.unknown:,} clips of the split have no box")
    table = Table("hits", "frames", "map's maximum", "95 % interval", "centre", "random point")
    for name, hits in (("all", result.all), ("with a silent object", result.with_silent_object)):
        if hits is not None:
            low, high = hits.interval_95
            shares = (f"{hits.maximum:.1%}", f"{low:.1%} to {high:.1%}", f"{hits.centre:.1%}", f"{hits.random:.1%}")
            table.add_row(name, f"{hits.frames:,}", *shares)
    Console().print(table)
    table = Table("consensus IoU of", "above 0.5", "AUC", "centre: above 0.5", "AUC")
    for one in result.overlaps:
        table.add_row(
            one.rule, f"{one.success:.1%}", f"{one.auc:.3f}", f"{one.centre_success:.1%}", f"{one.centre_auc:.3f}"
        )
    Console().print(table)
    table = Table("wrong sound", "maximum falls", "AUC, right against wrong", "mean maximum")
    for wrong in result.sanity:
        table.add_row(wrong.sound, f"{wrong.falls:.1%}", f"{wrong.auc:.3f}", f"{wrong.mean:.3f}")
    table.add_row("(the right one)", "", "", f"{result.mean:.3f}")
    Console().print(table)


def _show(rows: Sequence[Row], *, clips: int) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("", "im-im", "im-aud", "aud-im", "aud-aud")
    for row in rows:
        scores = (row.im_im, row.im_aud, row.aud_im, row.aud_aud)
        table.add_row(row.name, *(f"{s.mean:.3f} ± {s.high - s.mean:.3f}" if s else "" for s in scores))
    Console().print(table)
    print("± is half of the 95 % interval over queries")
    alone = [one.queries for row in rows for one in (row.im_im, row.aud_aud) if one]
    if alone and min(alone) < clips:
        print(f"im-im and aud-aud leave out {clips - min(alone):,} clips that share no class with another")


def _array(path: Path) -> Features:
    import numpy as np

    try:
        array = np.load(path.expanduser(), allow_pickle=False)
        if not isinstance(array, np.ndarray):
            raise ValueError("it holds several arrays")
        features: Features = array.astype(np.float32)
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror or error}") from None
    except (ValueError, EOFError) as error:
        raise ValueError(f"{path} is not a .npy file of numbers: {error}") from None
    return features
