"""`avc eval kinds`: what a network's audio and image features tell of labeled clips, each alone and both together."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from launch.commands.linear_probe import CACHE, AudioModels, Cache, Confusion, Devices, Seed, Strength
from launch.commands.options import Json

if TYPE_CHECKING:
    from avc.evaluation.extraction import Extraction


def kinds(
    models: AudioModels,
    labels: Annotated[Path, typer.Option(help="Labels: .csv or .tsv rows of file name and label, or .jsonl.")],
    shards: Annotated[Path | None, typer.Option(help="Packed videos.", show_default="the first run's own")] = None,
    split: Annotated[str, typer.Option(help="Tested on: validation or test.")] = "validation",
    layer: Annotated[
        str | None,
        typer.Option(
            help="trunk (its last convolution) or embedding (what each tower ends in); of SoundNet any layer.",
            show_default="trunk, or pool5",
        ),
    ] = None,
    few: Annotated[
        int | None,
        typer.Option(min=1, help="Train on so many clips of each kind, drawn ten times.", show_default="all"),
    ] = None,
    strength: Strength = None,
    seed: Seed = 0,
    devices: Devices = "auto",
    cache: Cache = CACHE,
    tsne: Annotated[Path | None, typer.Option(help="Draw a t-SNE of the first network's features as .png.")] = None,
    confusion: Confusion = None,
    json: Json = None,
) -> None:
    """How well are kinds of video told apart by their sound, by their frames, and by both together?

    One-vs-all linear SVMs on the maps that the two trunks end in, second by second, trained on the train split; a
    clip's score is the mean of its seconds'. C is chosen on folds of the training clips. Beside each network stands the
    same one untrained. Clips without a label, or with several, are counted and left out.

    Of a network that only hears, SoundNet or the autoencoder, it is a layer's steps around the second; the frames that
    stand beside its audio are those of the first MODEL that sees (SoundNet's multi-modal recognition).

    Where labels abound, untrained features may do. With --few the classifiers are trained on a few labeled clips of
    each kind, as one has who labels by hand; C is then 0.01, or --strength.

    **Examples**

        avc eval kinds demo-world/runs/l3 --labels demo-world/world/labels.jsonl --tsne l3.png
        avc eval kinds demo-world/runs/l3 --labels demo-world/world/labels.jsonl --layer embedding --few 2
        avc eval kinds runs/l3 soundnet8.safetensors --labels labels.csv
    """
    from avc.evaluation.classifiers import svm
    from avc.evaluation.clips import FOLDS, labeled_clips
    from avc.inference import load_any, shards_of
    from launch.report.linear_table import show
    from launch.report.probe_rows import clip_features, networks, probe, senses, titles
    from launch.report.tsne import draw_tsne
    from shards.read import Shards

    if split not in ("validation", "test"):
        raise ValueError(f"--split is {split!r} and must be validation or test")
    paths = [model.expanduser() for model in models]
    folder = shards or next((shards_of(load_any(path).config, path) for path in paths if path.is_dir()), None)
    if folder is None:
        raise ValueError("none of the networks is a run, which would have its shards: give --shards")
    data = Shards(folder)
    least = few or (FOLDS if strength is None else 1)  # choosing C takes a clip of each kind in every fold
    known = labeled_clips(data, labels, split=split, least=least)
    every = [
        senses(model, data, config, name=name, layer=layer)
        for path, title in titles(paths).items()
        for name, model, config in networks(path, title, seed)
    ]
    # An untrained network that several runs have in common stands once.
    distinct = {(each.audio.name, each.audio.key, each.frames and each.frames.name): each for each in every}.values()
    seeing = next((each for each in every if each.frames), None)
    by_network: list[dict[str, Extraction]] = [
        clip_features(each, seeing, data, known.clips, devices=devices, cache=cache.expanduser()) for each in distinct
    ]
    classifier = svm(standardize=True)
    candidates = [(name, rows, classifier) for features in by_network for name, rows in features.items()]
    rows = probe(candidates, known.label, known.fold, tested_folds=[0], strength=strength, few=few)
    show(rows, known.classes, what="clips", tried="folds" if few is None else "draws", confusion=confusion, json=json)
    if known.left_out:
        print(f"{known.left_out:,} clips have no label in {labels}, or several, and were left out")
    if known.unread:
        print(f"{known.unread:,} rows of {labels} cannot be read")
    if tsne is not None:
        draw_tsne(by_network[0], known, tsne.expanduser())
