"""`avc eval sound` and `avc eval image`: what features are worth elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from launch.commands.options import Json

Models = Annotated[
    list[Path],
    typer.Argument(
        metavar="MODEL...",
        help="Runs, .safetensors of `avc import`, FILE.py:NAME (an encoder), .yaml of settings (untrained).",
    ),
]
Seed = Annotated[int, typer.Option(min=0, help="Of the untrained network's weights.")]
Devices = Annotated[str, typer.Option(help="Such as cpu, or cuda:0,cuda:1.", show_default="every GPU, or else the CPU")]
Cache = Annotated[Path, typer.Option(help="Where features are kept; the same ones are never computed twice.")]
Strength = Annotated[
    float | None,
    typer.Option(help="A C for every fold, instead of one chosen on training folds.", show_default="chosen"),
]
Confusion = Annotated[Path | None, typer.Option(help="Draw the first row's confusion matrix into this .png.")]

CACHE = Path("~/.cache/avc/features")


def sound(
    models: Models,
    root: Annotated[Path, typer.Option(help="The data set's folder.")],
    dataset: Annotated[
        str, typer.Option(help="esc10, esc50, dcase2013, urbansound8k, or folder: a folder for each class.")
    ],
    layer: Annotated[
        str | None, typer.Option(help="trunk or embedding; of SoundNet any layer.", show_default="trunk, or pool5")
    ] = None,
    window: Annotated[
        float | None,
        typer.Option(help="Seconds of windows of SoundNet, autoencoder and MFCC.", show_default="1, for dcase2013 5"),
    ] = None,
    strength: Strength = None,
    fine_tune: Annotated[
        int | None,
        typer.Option(metavar="PASSES", min=1, help="Train whole networks that take a waveform, without a classifier."),
    ] = None,
    seed: Seed = 0,
    devices: Devices = "auto",
    cache: Cache = CACHE,
    confusion: Confusion = None,
    json: Json = None,
) -> None:
    """How well does a linear classifier tell kinds of sound apart by the network's audio features?

    Features by the protocol of the network's own paper, from windows that overlap by half; one-vs-all linear SVMs; a
    recording's score is the mean of its windows'. A SoundNet hears a recording whole, repeated to 10 s (DCASE 30 s),
    and windows slide over its layer's steps; released weights are probed as they were in its released code, features
    unscaled and C = 0.01. Otherwise C is chosen on training folds only. The folds are the data set's own. Beside each
    network stands the same one untrained, and at the end hand-made features (MFCC). A recording that cannot be read is
    named and takes no part.

    With --fine-tune there is no classifier: SoundNet or the autoencoder is trained on the recordings as a whole, by
    cross-entropy, for so many passes over each fold's training recordings (50 in SoundNet's released code). Trained
    networks are so fine-tuned, and those of the same settings trained from scratch.

    **Examples**

        avc eval sound runs/l3 runs/ave --dataset esc10 --root ESC-10 --confusion l3.png
        avc eval sound soundnet8.safetensors --dataset esc50 --root ESC-50 --layer conv6
        avc eval sound configs/l3.yaml --dataset folder --root recordings
        avc eval sound soundnet8.safetensors --dataset esc50 --root ESC-50 --fine-tune 50
    """
    from avc.data.labeled_sets import DATASETS
    from launch.report.fine_tuned import fine_tuned
    from launch.report.linear_table import show
    from launch.report.probe_rows import measure, sound_probes
    from launch.report.splits import say_splits

    if dataset not in DATASETS:
        raise ValueError(f"--dataset is {dataset!r} and must be one of {', '.join(DATASETS)}")
    labeled = DATASETS[dataset](root.expanduser())
    paths = [model.expanduser() for model in models]
    if fine_tune is not None:
        if (layer, window, strength) != (None, None, None):
            raise ValueError("--fine-tune trains the network as a whole: leave --layer, --window and --strength out")
        rows = fine_tuned(paths, labeled, passes=fine_tune, seed=seed, devices=devices)
    else:
        probes = sound_probes(paths, layer=layer, window=window, dcase=dataset == "dcase2013", seed=seed)
        rows = measure(probes, labeled, devices=devices, strength=strength, cache=cache.expanduser())
    splits = say_splits(paths, labeled.judged)
    show(rows, labeled.classes, what="recordings", confusion=confusion, json=json, other=labeled.other, about=splits)


def image(
    models: Models,
    root: Annotated[Path, typer.Option(help="A folder for each class; or train/ and val/ that hold such folders.")],
    strength: Strength = None,
    seed: Seed = 0,
    devices: Devices = "auto",
    cache: Cache = CACHE,
    confusion: Confusion = None,
    json: Json = None,
) -> None:
    """How well does one linear layer tell kinds of image apart by the network's features?

    The map that the vision trunk ends in, max-pooled to 4×4; a softmax layer on top, all else frozen. With train/ and
    val/ (ImageNet's layout) it is tested on val/; otherwise on each of 5 folds. The layer's strength C is chosen on
    training folds only. Beside it stands the same network untrained. An image that cannot be read is named and takes no
    part.

    **Example**

        avc eval image runs/ave --root caltech
    """
    from avc.data.labeled_sets import PICTURES, labeled_folder
    from launch.report.linear_table import show
    from launch.report.probe_rows import image_probes, measure
    from launch.report.splits import say_splits

    labeled = labeled_folder(root.expanduser(), PICTURES)
    paths = [model.expanduser() for model in models]
    probes = image_probes(paths, seed=seed, devices=devices)
    rows = measure(probes, labeled, devices=devices, strength=strength, cache=cache.expanduser())
    splits = say_splits(paths, labeled.judged)
    show(rows, labeled.classes, what="images", confusion=confusion, json=json, other=labeled.other, about=splits)
