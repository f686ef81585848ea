"""What audio and image features tell of labeled clips, each alone and both together, by a classifier and without one.

Without: clusters that follow the classes, units that detect one. Look, Listen and Learn reports both for
Kinetics-Sounds: NMI of k-means clusters with the labels, and for how many of the 34 classes there is a unit that
detects it, each beside an untrained network.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import comb
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from sklearn.metrics import normalized_mutual_info_score

from avc.data.labels import labeled, read_labels
from avc.data.ontology import Ontology
from avc.data.sampler import Integers
from avc.encoders.cache import Extraction, Features
from avc.encoders.load import load_any
from avc.encoders.sources import Floats, frames_of_clips, places_of_second, seconds_of_clips
from avc.encoders.trained import Trained
from avc.evaluation import options
from avc.evaluation.classifiers import Rows, svm
from avc.evaluation.linear import STRENGTHS, cross_validate, learn_from_few
from avc.evaluation.measures import Request, Result
from avc.evaluation.probes import RELEASED_STRENGTH, Row, candidates, features_of, key_of, table
from shards.read import Shards

FOLDS = 5  # of the training clips, to choose the classifier's C on
TOP = 5  # clips that a unit is known by, as L3's figures of units show
STARTS = 10  # of k-means
DRAWS = 10  # of few labeled clips


@dataclass(frozen=True)
class LabeledClips:
    """Clips of one label each, int64 (N,). fold: 0 is tested on, the others are trained on. label: of `classes`.

    left_out: clips without a label, or with several. counts: a line for people on each thing that labels and clips do
    not have in common. judged: what is tested on, in words.
    """

    clips: Integers
    label: Integers
    fold: Integers
    classes: tuple[str, ...]
    left_out: int
    counts: tuple[str, ...]
    judged: str


def labeled_clips(
    shards: Shards, labels: Path, *, split: str, least: int = FOLDS, ontology: Ontology | None = None
) -> LabeledClips:
    """The clips of one label of the train split, dealt to folds within each class, and of `split`, which is tested on.

    ontology: whose names the labels get, in place of identifiers.
    Raises ValueError where a class has fewer training clips than `least` (FOLDS, to choose C on them), or there is
    nothing to test on.
    """
    training, labels_of = shards.clips("train"), read_labels(labels)
    if ontology is not None:
        labels_of = ontology.named(labels_of)
    with_labels = labeled(shards, np.concatenate([training, shards.clips(split)]), labels_of)
    single = (with_labels.sets == with_labels.sets[:, :1]).all(axis=1)
    clips = with_labels.clips[single]
    occurring, label = np.unique(with_labels.sets[single, 0], return_inverse=True)
    classes = tuple(with_labels.classes[number] for number in occurring)
    in_training = np.isin(clips, training)
    if in_training.all():
        raise ValueError(f"no clip of the {split} split of {shards.folder} has a single label in {labels}")
    fold = np.zeros(len(clips), dtype=np.int64)
    for number, name in enumerate(classes):
        members = np.flatnonzero((label == number) & in_training)
        if len(members) < least:
            raise ValueError(
                f"class {name} of {labels} has {len(members)} training clips in {shards.folder} and needs at least "
                f"{least}"
            )
        fold[members] = 1 + np.arange(len(members)) % FOLDS  # in the order of keys, which are hashes
    counts, several = with_labels.counts(labels, f"the train and {split} splits"), int((~single).sum())
    if several:
        counts.append(f"{several:,} clips have several labels and are left out")
    return LabeledClips(
        clips, label, fold, classes, with_labels.unlabeled + several, tuple(counts), f"the {split} split"
    )


def concatenate(audio: Features, image: Features) -> Features:
    """Rows of the two side by side, for the clips that both have."""
    in_image, in_audio = np.isin(audio.item, image.item), np.isin(image.item, audio.item)
    return Features(np.concatenate([audio.rows[in_image], image.rows[in_audio]], axis=1), audio.item[in_image])


def kinds(request: Request, chosen: options.Kinds) -> Result:
    """The measure of that name."""
    if request.split == "train":
        raise ValueError("--split is 'train', on which the classifiers are trained: it must be validation or test")
    owner = next((path for path in request.sources if path.is_dir()), None)
    if request.shards is None and owner is None:
        raise ValueError("none of the networks is a run, which would have its shards: give --shards")
    source = owner or request.source
    data, split = request.data(load_any(source).config if request.shards is None else None, source)
    tree = Ontology(chosen.ontology) if chosen.ontology else None
    # Choosing C takes a clip of each kind in every fold.
    least = chosen.few or (FOLDS if chosen.strength is None else 1)
    labeled_set = labeled_clips(data, chosen.labels, split=split, least=least, ontology=tree)
    every = [network for _, network, _ in candidates(request.sources, chosen.seed)]
    for each in every:
        for encoder in (each.hears, each.sees):
            if encoder is not None:
                encoder.named_layer(chosen.layer)  # refused before anything is computed
    # An untrained network that several runs have in common stands once.
    distinct = list({each.key: each for each in every}.values())
    seeing = next((each for each in every if each.sees), None)
    measured = [clip_features(request, chosen, each, seeing, data, labeled_set.clips) for each in distinct]
    classifier = svm(standardize=True)
    rows = []
    for features, _ in measured:
        for name, extraction in features.items():
            of_clips = (extraction.features, labeled_set.label, labeled_set.fold)
            if chosen.few is None:
                strengths = STRENGTHS if chosen.strength is None else (chosen.strength,)
                with request.progress("classifying", unit="trainings") as report:
                    result = cross_validate(
                        *of_clips, tested_folds=[0], classifier=classifier, strengths=strengths, report=report
                    )
            else:
                strength = chosen.strength or RELEASED_STRENGTH
                result = learn_from_few(
                    *of_clips, per_class=chosen.few, draws=DRAWS, classifier=classifier, strength=strength
                )
            rows.append(Row(name, result, extraction.unreadable, extraction.padded))
    judged = np.flatnonzero(labeled_set.fold == 0)
    structures = [
        {"key": key_of(name), "classes": len(labeled_set.classes)}
        | asdict(structure(name, features[name].features, labeled_set.label, judged, places=places))
        for features, places_of in measured
        for name, places in places_of.items()
    ]
    told = table(request, rows, labeled_set, what="clips", draws=chosen.few is not None)
    told.content["notes"] += labeled_set.counts
    return Result(told.content | {"structure": structures}, {"tsne": (measured[0][0], labeled_set)})


def clip_features(
    request: Request,
    chosen: options.Kinds,
    network: Trained,
    beside: Trained | None,
    shards: Shards,
    clips: Integers,
) -> tuple[Mapping[str, Extraction], Mapping[str, int]]:
    """Features of clips by their names, and how many numbers of a row each unit has, of those of `network` alone.

    beside: the network whose frames stand beside the audio of one that only hears.
    """
    extractions: dict[str, Extraction] = {}
    places: dict[str, int] = {}
    seeing = network if network.sees else beside
    items = clips.tolist()
    if (audio := network.hears) is not None:
        taken = audio.named_layer(chosen.layer)
        inputs = seconds_of_clips(audio, taken, shards)
        name = f"{network.name}, {inputs.what}"
        extractions[name] = features_of(request, audio, taken, inputs, items, cache=chosen.cache)
        places[name] = places_of_second(audio, taken)
    if seeing is None or (image := seeing.sees) is None:
        return extractions, places
    taken = image.named_layer(chosen.layer if seeing is network else None)
    inputs = frames_of_clips(image, taken, shards)
    name = f"{seeing.name}, {inputs.what}"
    frames = features_of(request, image, taken, inputs, items, cache=chosen.cache)
    heard = list(extractions.values())
    both = network.name
    if seeing is network:
        extractions[name], places[name] = frames, image.places(taken)
    else:
        both += f" and frames of {name}"
    for sound in heard:
        unreadable = tuple(dict.fromkeys(sound.unreadable + frames.unreadable))
        features = concatenate(sound.features, frames.features)
        extractions[f"{both}, both together"] = Extraction(features, unreadable, padded=0)
    return extractions, places


@dataclass(frozen=True)
class Structure:
    """nmi: mean over k-means from STARTS random starts, nmi_std over these; nmi_by_lot: with the labels dealt anew.

    units: how many there are. detectors: of these, how many detect a class; classes_detected: how many classes they
    are of; classes_by_lot: how many would be, if each unit's strongest clips were drawn by lot.
    """

    name: str
    nmi: float
    nmi_std: float
    nmi_by_lot: float
    units: int
    detectors: int
    classes_detected: int
    classes_by_lot: float


def structure(name: str, features: Features, labels: Integers, judged: Integers, *, places: int) -> Structure:
    """Measure the clips `judged`, int64 (N,) items, each by one vector of units.

    labels: int64 (items,). places: of the map for each unit, one after the other in a row. A unit's value in a row is
    its largest at any place, or 0 if that is below, as after a ReLU. Clusters: as many as classes, of each clip's mean
    over its rows as it is. A unit detects a class if the TOP clips in which it is strongest, by each clip's strongest
    row, are all of that class, and it is above 0 in all of them. The paper's own rule is not published in detail; this
    one is ours.
    """
    chosen = np.flatnonzero(np.isin(features.item, judged))
    clip, first = np.unique(features.item[chosen], return_index=True)
    label, rows = labels[clip], Rows(features.rows, chosen)
    blocks = [np.maximum(block.reshape(len(block), -1, places).max(axis=2), 0) for _, block in rows.blocks()]
    units: Floats = np.concatenate(blocks)
    counts = np.diff(np.append(first, len(units)))[:, None]
    means = np.add.reduceat(units, first, axis=0) / counts
    classes, per_class = np.unique(label, return_counts=True)
    random, nmi, by_lot = np.random.default_rng(0), [], []
    for start in range(STARTS):
        cluster = KMeans(len(classes), n_init=1, random_state=start).fit_predict(means)
        nmi.append(normalized_mutual_info_score(label, cluster))
        by_lot.append(normalized_mutual_info_score(random.permutation(label), cluster))
    detected = detectors(np.maximum.reduceat(units, first, axis=0), label)
    by_class = [comb(int(members), TOP) / max(1, comb(len(label), TOP)) for members in per_class]
    return Structure(
        name,
        nmi=float(np.mean(nmi)),
        nmi_std=float(np.std(nmi)),
        nmi_by_lot=float(np.mean(by_lot)),
        units=units.shape[1],
        detectors=len(detected),
        classes_detected=len(set(detected.values())),
        classes_by_lot=float(sum(1 - (1 - share) ** units.shape[1] for share in by_class)),
    )


def detectors(values: NDArray[np.floating], label: Integers) -> dict[int, int]:
    """The class that each unit detects, of those that do; values: (clips, units), label: int64 (clips,)."""
    if len(values) < TOP:
        return {}
    strongest = np.argsort(-values, axis=0, kind="stable")[:TOP]
    alike = (label[strongest] == label[strongest[0]]).all(axis=0)
    above = np.take_along_axis(values, strongest, axis=0).min(axis=0) > 0
    return {unit: int(label[strongest[0, unit]]) for unit in np.flatnonzero(alike & above).tolist()}
