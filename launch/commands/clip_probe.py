"""`avc eval kinds`: what a network's audio and image features tell of labeled clips, each alone and both together."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from launch.commands.linear_probe import CACHE, Cache, Confusion, Devices, Models, Seed, Strength
from launch.commands.options import Json, JudgingSplit


def kinds(
    models: Models,
    labels: Annotated[Path, typer.Option(help="Labels: .csv or .tsv rows of file name and label, or .jsonl.")],
    shards: Annotated[Path | None, typer.Option(help="Packed videos.", show_default="the first run's own")] = None,
    split: JudgingSplit = None,
    ontology: Annotated[Path | None, typer.Option(help="The AudioSet ontology, for the names of its labels.")] = None,
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

    A second table does without a classifier, as Look, Listen and Learn does: NMI of k-means clusters with the labels,
    and for how many kinds there is a unit, a channel of the trunk, whose five strongest clips are all of that kind.

    Where labels abound, untrained features may do. With --few the classifiers are trained on a few labeled clips of
    each kind, as one has who labels by hand; C is then 0.01, or --strength.

    **Examples**

        avc eval kinds demo-world/runs/l3 --labels demo-world/world/labels.jsonl --tsne l3.png
        avc eval kinds demo-world/runs/l3 --labels demo-world/world/labels.jsonl --layer embedding --few 2
        avc eval kinds runs/l3 soundnet8.safetensors --labels labels.csv
    """
    from dataclasses import asdict

    import numpy as np

    from avc.data.ontology import Ontology
    from avc.evaluation.classifiers import svm
    from avc.evaluation.clips import FOLDS, labeled_clips
    from avc.evaluation.clusters import structure
    from avc.inference import load_any, shards_of
    from launch.progress import printable
    from launch.report.clip_rows import clip_features
    from launch.report.linear_table import show
    from launch.report.probe_rows import networks, probe, titles
    from launch.report.splits import judging_split, say_splits
    from launch.report.table import print_table
    from launch.report.tsne import draw_tsne
    from shards.read import Shards

    if split == "train":
        raise ValueError("--split is 'train', on which the classifiers are trained: it must be validation or test")
    paths = [model.expanduser() for model in models]
    folder = shards or next((shards_of(load_any(path).config, path) for path in paths if path.is_dir()), None)
    if folder is None:
        raise ValueError("none of the networks is a run, which would have its shards: give --shards")
    data = Shards(folder)
    split = judging_split(data, split)
    least = few or (FOLDS if strength is None else 1)  # choosing C takes a clip of each kind in every fold
    known = labeled_clips(
        data, labels, split=split, least=least, ontology=Ontology(ontology.expanduser()) if ontology else None
    )
    every = [each for path, title in titles(paths).items() for each in networks(path, title, seed)]
    for each in every:
        for encoder in (each.audio, each.image):
            if encoder is not None:
                encoder.named_layer(layer)  # refused before anything is computed
    # An untrained network that several runs have in common stands once.
    distinct = list({each.key: each for each in every}.values())
    seeing = next((each for each in every if each.image), None)
    measured = [
        clip_features(each, seeing, data, known.clips, layer=layer, devices=devices, cache=cache.expanduser())
        for each in distinct
    ]
    by_network = [features for features, _ in measured]
    classifier = svm(standardize=True)
    candidates = [(name, rows, classifier) for features in by_network for name, rows in features.items()]
    rows = probe(candidates, known.label, known.fold, tested_folds=[0], strength=strength, few=few)
    tried = "folds" if few is None else "draws"
    splits = say_splits(paths, f"the {split} split")
    judged = np.flatnonzero(known.fold == 0)
    structures = [
        structure(name, features[name].features, known.label, judged, places=places)
        for features, places_of in measured
        for name, places in places_of.items()
    ]
    about = splits | {"structure": [asdict(each) for each in structures]}
    show(rows, known.classes, what="clips", tried=tried, confusion=confusion, json=json, about=about)
    print_table(
        ("features", "NMI of k-means", "± over starts", "labels by lot", "kinds with a unit", "by lot", "such units"),
        [
            (
                each.name,
                f"{each.nmi:.3f}",
                f"{each.nmi_std:.3f}",
                f"{each.nmi_by_lot:.3f}",
                f"{each.classes_detected} of {len(known.classes)}",
                f"{each.classes_by_lot:.1f}",
                f"{each.detectors} of {each.units}",
            )
            for each in structures
        ],
    )
    print(*map(printable, known.counts), sep="\n")
    if tsne is not None:
        draw_tsne(by_network[0], known, tsne.expanduser())
