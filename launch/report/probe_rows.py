"""The rows of a transfer table: which features stand beside which, and how each is measured."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from avc.config import load_config
from avc.data.labeled_sets import LabeledSet
from avc.devices import named_devices
from avc.evaluation.classifiers import Classifier, Integers, softmax_layer, svm
from avc.evaluation.clips import (
    LAYERS,
)
from avc.evaluation.extraction import Extraction, Extractor, Identity, Item, extract, file_identity
from avc.evaluation.image import trunk_image_features
from avc.evaluation.linear import STRENGTHS, cross_validate, learn_from_few, summarized
from avc.evaluation.sound import (
    autoencoder_features,
    embedding_features,
    mfcc_features,
    soundnet_features,
    trunk_features,
)
from avc.extras import is_installed
from avc.imported_settings import OpenL3Model
from avc.inference import load_any, read_run
from avc.models import build
from avc.models.autoencoder import Autoencoder
from avc.models.keras_file import imported_config
from avc.models.pair import PairNetwork
from avc.models.waveform import WaveformNetwork
from avc.settings import Config, ModelSettings, PairConfig, TowerSettings
from avc.sound_settings import TEACHERS, SoundNetConfig
from launch.progress import progress
from launch.report.linear_table import Row

IMPORTED = ".safetensors"  # files of `avc import`
DRAWS = 10  # of few labeled items
RELEASED_STRENGTH = 0.01  # of SoundNet's released code
TRUNK_LAYERS = dict(zip(LAYERS, (trunk_features, embedding_features), strict=True))


@dataclass(frozen=True)
class Candidate:
    """Features and the linear classifier on top of them. strength: its C, or None to choose it on training folds.

    summarized: classify mean and deviation over a recording, and not each window.
    """

    extractor: Extractor[Path]
    classifier: Classifier
    strength: float | None = None
    summarized: bool = False

    @property
    def title(self) -> str:
        return f"{self.extractor.name}, mean and deviation over a recording" if self.summarized else self.extractor.name


def sound_candidates(
    paths: Sequence[Path], *, layer: str | None, window: float | None, dcase: bool, seed: int
) -> list[Candidate]:
    """Each network, the same network untrained, and, where librosa is installed, MFCC.

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
        settings = settings_of(path)
        if isinstance(settings, OpenL3Model):
            candidates += _imported(path, title, layer=layer, window=window, seed=seed)
        elif isinstance(settings, TowerSettings):
            candidates += _trunk(path, title, layer=layer or LAYERS[0], window=window, seed=seed)
        else:
            candidates += _waveform(path, title, layer=layer, seconds=seconds, whole=whole, seed=seed)
    if not is_installed("librosa"):
        sys.stderr.write("no row for MFCC: librosa is not installed here (pip install 'avcorr[librosa]')\n")
        return _once(candidates)
    return [*_once(candidates), Candidate(mfcc_features(seconds=seconds), svm(standardize=True))]


def image_candidates(paths: Sequence[Path], *, seed: int, devices: str = "auto") -> list[Candidate]:
    """Each network and the same network untrained. Raises ValueError for one that takes no images.

    devices: the classifier is trained on the first.
    """
    classifier = softmax_layer(named_devices(devices)[0])
    candidates: list[Candidate] = []
    for path, title in titles(paths).items():
        for name, model, config in pairs(path, title, seed):
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
    return list({(each.title, each.extractor.key): each for each in candidates}.values())


def _waveform(path: Path, title: str, *, layer: str | None, seconds: float, whole: float, seed: int) -> list[Candidate]:
    candidates: list[Candidate] = []
    for name, network, _ in networks(path, title, seed):
        if isinstance(network, Autoencoder):
            if layer is not None:
                raise ValueError(f"--layer is {layer!r}, but of {path} there is conv4 alone; leave --layer out")
            extractor = autoencoder_features(network, name=name, seconds=seconds)
        else:
            assert isinstance(network, WaveformNetwork)
            extractor = soundnet_features(network, name=name, layer=layer, seconds=seconds, whole=whole)
        # The released code takes the released network's features as they are. Others' have no scale that would fit C.
        unscaled = path.suffix == IMPORTED and not candidates
        strength = RELEASED_STRENGTH if unscaled else None
        candidates.append(Candidate(extractor, svm(standardize=not unscaled), strength))
    return candidates


def _imported(path: Path, title: str, *, layer: str | None, window: float | None, seed: int) -> list[Candidate]:
    if layer not in (None, "embedding") or window not in (None, 1.0):
        raise ValueError(f"{path} embeds 1 s at a time and has no other layers; leave --layer and --window out")
    return [
        Candidate(embedding_features(model, name=name), svm(standardize=True), summarized=whole)
        for name, model, _ in networks(path, title, seed)
        if isinstance(model, PairNetwork)
        for whole in (False, True)
    ]


def _trunk(path: Path, title: str, *, layer: str, window: float | None, seed: int) -> list[Candidate]:
    if layer not in TRUNK_LAYERS:
        layers = " or ".join(TRUNK_LAYERS)
        raise ValueError(f"--layer is {layer!r} and must be {layers} for {path}: trunk is its last convolution")
    if window not in (None, 1.0):
        raise ValueError(f"--window is {window:g}, but {path} takes 1 s at a time; leave --window out")
    return [
        Candidate(TRUNK_LAYERS[layer](model, name=name), svm(standardize=True))
        for name, model, _ in pairs(path, title, seed)
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
        if candidate.summarized:
            extraction = replace(extraction, features=summarized(extraction.features))
        rows += probe(
            [(candidate.title, extraction, candidate.classifier)],
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
    """What the network of a run, of a file of settings or of imported weights is."""
    if path.suffix == IMPORTED:
        return (imported_config(path) or SoundNetConfig()).model
    return (load_config(path) if path.suffix in (".yaml", ".yml") else read_run(path)[0]).model


def networks(path: Path, title: str, seed: int) -> list[tuple[str, PairNetwork | WaveformNetwork, Config]]:
    """The trained network, if `path` is a run or imported weights, and an untrained one of its settings; with names."""
    trained: list[tuple[str, PairNetwork | WaveformNetwork, Config]] = []
    if path.suffix in (".yaml", ".yml"):
        config = load_config(path)
    else:
        network = load_any(path)
        config = network.config
        trained = [(f"{config.model.name} of {title}", network.model, config)]
    torch.manual_seed(seed)
    same = {"name", "width", "frozen_trunks", *TEACHERS}  # what the hidden layers of an untrained one do not show
    other = config.model.model_dump(exclude_defaults=True, exclude=same)
    shape = ", ".join([f"width {config.model.width:g}", *(f"{name} {value}" for name, value in other.items())])
    return [*trained, (f"{config.model.name} untrained, {shape}, seed {seed}", build(config.model).eval(), config)]


def pairs(path: Path, title: str, seed: int) -> list[tuple[str, PairNetwork, PairConfig]]:
    """`networks` of a pair of towers. Raises ValueError for a network that only takes audio."""
    found = []
    for name, model, config in networks(path, title, seed):
        if not isinstance(model, PairNetwork):
            raise ValueError(f"{config.model.name} only takes audio; what is asked for needs a pair of towers")
        if not isinstance(config, PairConfig):
            raise ValueError(f"{path} was imported, and what is asked for needs a run of this project")
        found.append((name, model, config))
    return found
