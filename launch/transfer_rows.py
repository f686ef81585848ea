"""The rows of a transfer table: which features stand beside which, and how each is measured."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from avc.config import Config, load_config
from avc.data.labelled import LabelledSet
from avc.evaluation.classifiers import Classifier, Integers, softmax_layer, svm
from avc.evaluation.extraction import Extraction, Extractor, Identity, Item, extract, file_identity
from avc.evaluation.image import picture_features
from avc.evaluation.linear import STRENGTHS, Features, LinearResult, cross_validate
from avc.evaluation.sound import embedding_features, mfcc_features, soundnet_features, trunk_features
from avc.inference import load
from avc.models import CorrespondenceNet, build
from avc.models.released import load_soundnet
from avc.models.soundnet import SoundNet
from launch.linear_table import Row
from launch.progress import progress

TRUNK_LAYERS = {"conv4_2": trunk_features, "embedding": embedding_features}


@dataclass(frozen=True)
class Candidate:
    """Features and the linear classifier on top of them."""

    extractor: Extractor[Path]
    classifier: Classifier


def sound_candidates(
    paths: Sequence[Path], *, layer: str | None, window: float | None, usual_window: float, seed: int
) -> list[Candidate]:
    """Each network, the same network untrained, and MFCC.

    window: seconds of SoundNet's windows; `usual_window`, the released code's for the data set, where it is None.
    Raises ValueError where a path is neither run, weights nor settings, or its network has no such layer.
    """
    seconds = usual_window if window is None else window
    if not 0 < seconds <= 60:
        raise ValueError(f"--window is {seconds:g} s and must be more than 0 and at most 60")
    candidates: dict[str, Candidate] = {}
    for path in paths:
        if path.suffix == ".safetensors":
            found = _soundnet(path, layer=layer or "pool5", seconds=seconds, seed=seed)
        else:
            found = _trunk(path, layer=layer or "conv4_2", window=window, seed=seed)
        candidates |= {candidate.extractor.name: candidate for candidate in found}
    return [*candidates.values(), Candidate(mfcc_features(seconds=seconds), svm(standardise=True))]


def image_candidates(paths: Sequence[Path], *, seed: int) -> list[Candidate]:
    """Each network and the same network untrained. Raises ValueError for one that sees no pictures."""
    candidates: dict[str, Candidate] = {}
    for path in paths:
        if path.suffix == ".safetensors":
            raise ValueError(f"{path} is a SoundNet, which sees no pictures; give the folder of a run")
        for name, model, config in networks(path, seed):
            extractor = picture_features(model, config.data, name=name)
            candidates[extractor.name] = Candidate(extractor, softmax_layer)
    return list(candidates.values())


def _soundnet(path: Path, *, layer: str, seconds: float, seed: int) -> list[Candidate]:
    model = load_soundnet(path)
    torch.manual_seed(seed)
    fresh = SoundNet(model.name).eval()
    trained = soundnet_features(model, name=model.name, layer=layer, seconds=seconds)
    untrained = soundnet_features(fresh, name=f"{model.name} untrained, seed {seed}", layer=layer, seconds=seconds)
    # The released code takes pool5 as it is. Untrained batch norms scale nothing, and C would meet any scale.
    return [Candidate(trained, svm(standardise=False)), Candidate(untrained, svm(standardise=True))]


def _trunk(path: Path, *, layer: str, window: float | None, seed: int) -> list[Candidate]:
    if layer not in TRUNK_LAYERS:
        raise ValueError(f"--layer is {layer!r} and must be one of {', '.join(TRUNK_LAYERS)} for {path}")
    if window not in (None, 1.0):
        raise ValueError(f"--window is {window:g}, but {path} hears 1 s at a time; leave --window out")
    return [
        Candidate(TRUNK_LAYERS[layer](model, name=name), svm(standardise=True))
        for name, model, _ in networks(path, seed)
    ]


def measure(
    candidates: Sequence[Candidate], labelled: LabelledSet, *, devices: str, strength: float | None, cache: Path
) -> list[Row]:
    """Features and folds of each candidate; `strength` is the C of every fold, or None to choose it."""
    labels = np.array([file.label for file in labelled.files])
    folds = np.array([file.fold for file in labelled.files])
    files = [file.path for file in labelled.files]
    rows = []
    for candidate in candidates:
        found = features_of(candidate.extractor, files, identify=file_identity, devices=devices, cache=cache)
        result = classify(
            found.features,
            labels,
            folds,
            tested_folds=labelled.tested_folds,
            classifier=candidate.classifier,
            strength=strength,
        )
        rows.append(Row(candidate.extractor.name, result, found.unreadable, found.padded))
    return rows


def features_of(
    extractor: Extractor[Item],
    items: Sequence[Item],
    *,
    identify: Callable[[Item], Identity],
    devices: str,
    cache: Path,
) -> Extraction:
    """`avc.evaluation.extraction.extract` with progress on standard error."""
    with progress(f"features: {extractor.name}", unit="items") as report:
        chosen = named_devices(devices)
        return extract(extractor, items, identify=identify, devices=chosen, cache=cache, report=report)


def classify(
    features: Features,
    labels: Integers,
    folds: Integers,
    *,
    tested_folds: Sequence[int],
    classifier: Classifier,
    strength: float | None,
) -> LinearResult:
    """`avc.evaluation.linear.cross_validate` with progress on standard error.

    strength: the C of every fold; None has it chosen on training folds. Raises ValueError for one that is not above 0.
    """
    if strength is not None and not strength > 0:
        raise ValueError(f"--strength is {strength:g} and must be more than 0")
    with progress("classifying", unit="trainings") as report:
        return cross_validate(
            features,
            labels,
            folds,
            tested_folds=tested_folds,
            classifier=classifier,
            strengths=STRENGTHS if strength is None else (strength,),
            report=report,
        )


def networks(path: Path, seed: int) -> list[tuple[str, CorrespondenceNet, Config]]:
    """The run's network, if `path` is a run, and an untrained one of the same settings."""
    trained = []
    if path.suffix in (".yaml", ".yml"):
        config = load_config(path)
    else:
        network = load(path)
        config = network.config
        trained = [(f"{config.model.name} of {path.resolve().name}", network.model, config)]
    torch.manual_seed(seed)
    size = f"width {config.model.width:g}{'' if config.model.stride else ', no stride'}"
    return [*trained, (f"{config.model.name} untrained, {size}, seed {seed}", build(config.model).eval(), config)]


def named_devices(names: str) -> list[torch.device]:
    """The devices of a list such as cuda:0,cuda:1; `auto` is every GPU, or else the CPU.

    Raises ValueError for what is no device, or not here.
    """
    if names == "auto":
        count = torch.cuda.device_count()
        return [torch.device("cuda", number) for number in range(count)] or [torch.device("cpu")]
    try:
        devices = [torch.device(name) for name in names.split(",")]
    except RuntimeError:
        raise ValueError(f"--devices is {names!r} and must name devices, such as cpu or cuda:0,cuda:1") from None
    for device in devices:
        if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
            raise ValueError(f"--devices names {device}, and there are {torch.cuda.device_count()} GPUs here")
    return devices
