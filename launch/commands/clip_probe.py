"""`avc eval kinds`: what a network hears and sees of labeled clips, each alone and both together."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from launch.commands.linear_probe import CACHE, Cache, Confusion, Devices, Json, Models, Seed, Strength

if TYPE_CHECKING:
    from avc.evaluation.clips import LabeledClips
    from avc.evaluation.extraction import Extraction
    from avc.models.pair import PairNetwork
    from avc.settings import PairConfig
    from shards.read import Shards


def kinds(
    models: Models,
    labels: Annotated[Path, typer.Option(help="Labels: .csv or .tsv rows of file name and label, or .jsonl.")],
    shards: Annotated[Path | None, typer.Option(help="Packed videos.", show_default="the first run's own")] = None,
    split: Annotated[str, typer.Option(help="Tested on: validation or test.")] = "validation",
    layer: Annotated[
        str, typer.Option(help="trunk (its last convolution) or embedding (what each tower ends in).")
    ] = "trunk",
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

    Where labels abound, untrained features may do. With --few the classifiers are trained on a few labeled clips of
    each kind, as one has who labels by hand; C is then 0.01, or --strength.

    **Examples**

        avc eval kinds demo-world/runs/l3 --labels demo-world/world/labels.jsonl --tsne l3.png
        avc eval kinds demo-world/runs/l3 --labels demo-world/world/labels.jsonl --layer embedding --few 2
    """
    from avc.evaluation.classifiers import svm
    from avc.evaluation.clips import FOLDS, LAYERS, labeled_clips
    from avc.inference import load
    from launch.report.linear_table import Row, show
    from launch.report.probe_rows import classify, classify_from_few, networks, titles
    from launch.report.tsne import draw_tsne
    from shards.read import Shards

    if split not in ("validation", "test"):
        raise ValueError(f"--split is {split!r} and must be validation or test")
    if layer not in LAYERS:
        raise ValueError(f"--layer is {layer!r} and must be {' or '.join(LAYERS)}: trunk is its last convolution")
    paths = [model.expanduser() for model in models]
    folder = shards or next((load(path).config.data.shards for path in paths if path.is_dir()), None)
    if folder is None:
        raise ValueError("none of the networks is a run, which would have its shards: give --shards")
    data = Shards(folder)
    least = few or (FOLDS if strength is None else 1)  # choosing C takes a clip of each kind in every fold
    known = labeled_clips(data, labels, split=split, least=least)
    machines = svm(standardize=True)
    rows: list[Row] = []
    first: dict[str, Extraction] = {}
    found_networks = (one for path, title in titles(paths).items() for one in networks(path, title, seed))
    apart = {(name, config.data.image_size): (model, config) for name, model, config in found_networks}
    for (name, _), (model, config) in apart.items():
        found = _features(model, data, config, known, name=name, layer=layer, devices=devices, cache=cache.expanduser())
        first = first or found
        for what, one in found.items():
            if few is None:
                result = classify(
                    one.features, known.label, known.fold, tested_folds=[0], classifier=machines, strength=strength
                )
            else:
                result = classify_from_few(
                    one.features, known.label, known.fold, per_class=few, classifier=machines, strength=strength
                )
            rows.append(Row(what, result, one.unreadable, one.padded))
    show(rows, known.classes, what="clips", tried="folds" if few is None else "draws", confusion=confusion, json=json)
    if known.left_out:
        print(f"{known.left_out:,} clips have no label in {labels}, or several, and were left out")
    if tsne is not None:
        draw_tsne(first, known, tsne.expanduser())


def _features(
    model: PairNetwork,
    shards: Shards,
    config: PairConfig,
    known: LabeledClips,
    *,
    name: str,
    layer: str,
    devices: str,
    cache: Path,
) -> dict[str, Extraction]:
    """Sound, frames and both side by side, under their names."""
    from avc.evaluation.clips import audio_features, clip_identity, concatenate, image_features
    from avc.evaluation.extraction import Extraction
    from launch.report.probe_rows import features_of

    extractors = [
        features(model, shards, config.data, name=name, layer=layer) for features in (audio_features, image_features)
    ]
    sound, frames = (
        features_of(extractor, known.clips.tolist(), identify=clip_identity(shards), devices=devices, cache=cache)
        for extractor in extractors
    )
    unreadable = tuple(dict.fromkeys(sound.unreadable + frames.unreadable))
    both = Extraction(concatenate(sound.features, frames.features), unreadable, padded=0)
    return {extractors[0].name: sound, extractors[1].name: frames, f"{name}, both together": both}
