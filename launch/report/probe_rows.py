"""The rows of a transfer table: which features stand beside which, and how each is measured."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file

from avc.config import load_config
from avc.data.labeled_sets import LabeledSet
from avc.evaluation.classifiers import Classifier, Integers, softmax_layer, svm
from avc.evaluation.clips import LAYERS, audio_features, clip_identity, concatenate, image_features
from avc.evaluation.extraction import Extraction, Extractor, Identity, Item, extract, file_identity
from avc.evaluation.image import trunk_image_features
from avc.evaluation.linear import STRENGTHS, cross_validate, learn_from_few
from avc.evaluation.sound import (
    autoencoder_features,
    embedding_features,
    mfcc_features,
    soundnet_features,
    trunk_features,
)
from avc.imported_settings import OpenL3Config
from avc.inference import imported_config, load, named_devices, read_run
from avc.models import build
from avc.models.autoencoder import Autoencoder
from avc.models.pair import PairNetwork
from avc.models.released import load_soundnet
from avc.models.soundnet import SoundNet
from avc.settings import ModelSettings, PairConfig, SoundNetModel, TowerSettings
from launch.progress import progress
from launch.report.linear_table import Row
from shards.read import Shards

DRAWS = 10  # of few labeled items
RELEASED_STRENGTH = 0.01  # of SoundNet's released code
TRUNK_LAYERS = dict(zip(LAYERS, (trunk_features, embedding_features), strict=True))


@dataclass(frozen=True)
class Candidate:
    """Features and the linear classifier on top of them. strength: its C, or None to choose it on training folds."""

    extractor: Extractor[Path]
    classifier: Classifier
    strength: float | None = None


def sound_candidates(
    paths: Sequence[Path], *, layer: str | None, window: float | None, dcase: bool, seed: int
) -> list[Candidate]:
    """Each network, the same network untrained, and MFCC.

    window: seconds of waveform networks' and MFCC's windows; where it is None, what SoundNet's released code has: 1 s,
    5 s for DCASE. Recordings are repeated for SoundNet to 10 s, for DCASE to 30. Raises ValueError where a path is
    neither run, weights nor settings, or its network has no such layer.
    """
    whole, seconds = (30.0, 5.0) if dcase else (10.0, 1.0)
    seconds = seconds if window is None else window
    if not 0 < seconds <= whole:
        raise ValueError(f"--window is {seconds:g} s and must be more than 0 and at most {whole:g}")
    candidates: list[Candidate] = []
    for path, title in titles(paths).items():
        imported = imported_config(path) if path.suffix == ".safetensors" else None
        settings = None if path.suffix == ".safetensors" else settings_of(path)
        if imported is not None:
            candidates += _imported(path, title, layer=layer, window=window, seed=seed)
        elif isinstance(settings, TowerSettings):
            candidates += _trunk(path, title, layer=layer or LAYERS[0], window=window, seed=seed)
        else:
            candidates += _waveform(path, title, settings, layer=layer, seconds=seconds, whole=whole, seed=seed)
    return [*_once(candidates), Candidate(mfcc_features(seconds=seconds), svm(standardize=True))]


def image_candidates(paths: Sequence[Path], *, seed: int, devices: str = "auto") -> list[Candidate]:
    """Each network and the same network untrained. Raises ValueError for one that takes no images.

    devices: the classifier is trained on the first.
    """
    classifier = softmax_layer(named_devices(devices)[0])
    candidates: list[Candidate] = []
    for path, title in titles(paths).items():
        if path.suffix == ".safetensors":
            raise ValueError(f"{path} has no trunk whose images could be probed; give the folder of a run")
        for name, model, config in networks(path, title, seed):
            candidates.append(Candidate(trunk_image_features(model, config.data, name=name), classifier))
    return _once(candidates)


def titles(paths: Sequence[Path]) -> dict[Path, str]:
    """What each path is called: its last part, and as many before it as it takes to tell all of them apart."""
    parts = {path: path.resolve().parts for path in paths}
    for last in range(1, max(map(len, parts.values())) + 1):
        names = {path: "/".join(each[-last:]) for path, each in parts.items()}
        if len(set(names.values())) == len(set(parts.values())):
            break
    return names


def _once(candidates: list[Candidate]) -> list[Candidate]:
    """Without the untrained networks that several runs have in common."""
    return list({(each.extractor.name, each.extractor.key): each for each in candidates}.values())


def _waveform(
    path: Path,
    title: str,
    settings: ModelSettings | None,
    *,
    layer: str | None,
    seconds: float,
    whole: float,
    seed: int,
) -> list[Candidate]:
    trained: list[tuple[str, SoundNet | Autoencoder]] = []
    released = settings is None
    if settings is None:
        soundnet = load_soundnet(path)
        trained = [(f"{soundnet.name} of {title}", soundnet)]
        settings = SoundNetModel(name=soundnet.name)
    elif path.is_dir():
        network = build(settings)
        network.load_state_dict(load_file(read_run(path)[1]))
        trained = [(f"{settings.name} of {title}", network)]
    torch.manual_seed(seed)
    fresh = (f"{settings.name} untrained, width {settings.width:g}, seed {seed}", build(settings))
    candidates: list[Candidate] = []
    for name, network in [*trained, fresh]:
        if isinstance(network, Autoencoder):
            if layer is not None:
                raise ValueError(f"--layer is {layer!r}, but of {path} there is conv4 alone; leave --layer out")
            extractor = autoencoder_features(network, name=name, seconds=seconds)
        else:
            extractor = soundnet_features(network, name=name, layer=layer or "pool5", seconds=seconds, whole=whole)
        # The released code takes the released network's features as they are. Others' have no scale that would fit C.
        unscaled = released and not candidates
        strength = RELEASED_STRENGTH if unscaled else None
        candidates.append(Candidate(extractor, svm(standardize=not unscaled), strength))
    return candidates


def _imported(path: Path, title: str, *, layer: str | None, window: float | None, seed: int) -> list[Candidate]:
    if layer not in (None, "embedding") or window not in (None, 1.0):
        raise ValueError(f"{path} embeds 1 s at a time and has no other layers; leave --layer and --window out")
    return [
        Candidate(embedding_features(model, name=name), svm(standardize=True))
        for name, model, _ in networks(path, title, seed)
    ]


def _trunk(path: Path, title: str, *, layer: str, window: float | None, seed: int) -> list[Candidate]:
    if layer not in TRUNK_LAYERS:
        layers = " or ".join(TRUNK_LAYERS)
        raise ValueError(f"--layer is {layer!r} and must be {layers} for {path}: trunk is its last convolution")
    if window not in (None, 1.0):
        raise ValueError(f"--window is {window:g}, but {path} takes 1 s at a time; leave --window out")
    return [
        Candidate(TRUNK_LAYERS[layer](model, name=name), svm(standardize=True))
        for name, model, _ in networks(path, title, seed)
    ]


def measure(
    candidates: Sequence[Candidate], labeled: LabeledSet, *, devices: str, strength: float | None, cache: Path
) -> list[Row]:
    """Features and folds of each candidate; `strength` is the C of every fold, or None for the candidate's own."""
    files = [file.path for file in labeled.files]
    labels = np.array([file.label for file in labeled.files])
    folds = np.array([file.fold for file in labeled.files])
    rows = []
    for candidate in candidates:
        extraction = features_of(candidate.extractor, files, identify=file_identity, devices=devices, cache=cache)
        rows += probe(
            [(candidate.extractor.name, extraction, candidate.classifier)],
            labels,
            folds,
            tested_folds=labeled.tested_folds,
            strength=candidate.strength if strength is None else strength,
        )
    return rows


def features_of(
    extractor: Extractor[Item],
    items: Sequence[Item],
    *,
    identify: Callable[[Item], Identity],
    devices: str,
    cache: Path,
) -> Extraction:
    """`avc.evaluation.extraction.extract` on the named devices, with progress on standard error."""
    chosen = named_devices(devices)
    with progress(f"features: {extractor.name}", unit="items") as report:
        return extract(extractor, items, identify=identify, devices=chosen, cache=cache, report=report)


def clip_features(
    model: PairNetwork,
    shards: Shards,
    config: PairConfig | OpenL3Config,
    clips: Integers,
    *,
    name: str,
    layer: str,
    devices: str,
    cache: Path,
) -> dict[str, Extraction]:
    """Features of clips by their names: of the audio, of the frames, and of both side by side."""
    extractors = [
        features(model, shards, config.data, name=name, layer=layer) for features in (audio_features, image_features)
    ]
    audio, frames = (
        features_of(extractor, clips.tolist(), identify=clip_identity(shards), devices=devices, cache=cache)
        for extractor in extractors
    )
    unreadable = tuple(dict.fromkeys(audio.unreadable + frames.unreadable))
    both = Extraction(concatenate(audio.features, frames.features), unreadable, padded=0)
    return {extractors[0].name: audio, extractors[1].name: frames, f"{name}, both together": both}


def probe(
    candidates: Iterable[tuple[str, Extraction, Classifier]],
    labels: Integers,
    folds: Integers,
    *,
    tested_folds: Sequence[int],
    strength: float | None,
    few: int | None = None,
) -> list[Row]:
    """A row for each name, features and classifier: tested on each of `tested_folds`.

    few: on fold 0 instead, in DRAWS draws of so many training items a class. strength: C of every fold. None has it
    chosen on training folds; with `few` there are none, and it is RELEASED_STRENGTH. Raises ValueError for one that
    is not above 0.
    """
    if strength is not None and not strength > 0:
        raise ValueError(f"--strength is {strength:g} and must be more than 0")
    rows = []
    for name, extraction, classifier in candidates:
        data = (extraction.features, labels, folds)
        if few is not None:
            c = RELEASED_STRENGTH if strength is None else strength
            result = learn_from_few(*data, per_class=few, draws=DRAWS, classifier=classifier, strength=c)
        else:
            strengths = STRENGTHS if strength is None else (strength,)
            with progress("classifying", unit="trainings") as report:
                result = cross_validate(
                    *data, tested_folds=tested_folds, classifier=classifier, strengths=strengths, report=report
                )
        rows.append(Row(name, result, extraction.unreadable, extraction.padded))
    return rows


def settings_of(path: Path) -> ModelSettings:
    """What the network of a run, or of a file of settings, is."""
    return (load_config(path) if path.suffix in (".yaml", ".yml") else read_run(path)[0]).model


def networks(path: Path, title: str, seed: int) -> list[tuple[str, PairNetwork, PairConfig | OpenL3Config]]:
    """The run's network, if `path` is a run, and an untrained one of the same settings, each with its name."""
    trained = []
    if path.suffix in (".yaml", ".yml"):
        config = load_config(path)
        if not isinstance(config, PairConfig):
            raise ValueError(f"{config.model.name} only takes audio; what is asked for needs a pair of towers")
    else:
        network = load(path)
        config = network.config
        trained = [(f"{config.model.name} of {title}", network.model, config)]
    torch.manual_seed(seed)
    other = config.model.model_dump(exclude_defaults=True, exclude={"name", "width", "frozen_trunks"})
    shape = ", ".join([f"width {config.model.width:g}", *(f"{name} {value}" for name, value in other.items())])
    return [*trained, (f"{config.model.name} untrained, {shape}, seed {seed}", build(config.model).eval(), config)]
