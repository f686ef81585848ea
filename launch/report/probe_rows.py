"""The rows of a transfer table: which features stand beside which, and how each is measured."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from avc.config import load_config
from avc.data.labeled_sets import LabeledSet
from avc.devices import named_devices
from avc.encoders.encoder import Encoder
from avc.encoders.handmade import MFCC
from avc.encoders.load import Encoders, encoders_of
from avc.evaluation.classifiers import Classifier, Integers, softmax_layer, svm
from avc.evaluation.extraction import Extraction, Inputs, Item, extract
from avc.evaluation.image import pictures
from avc.evaluation.linear import STRENGTHS, cross_validate, learn_from_few, summarized
from avc.evaluation.sound import recordings
from avc.extras import is_installed
from avc.inference import load_any
from avc.models import build
from avc.networks import NETWORKS
from avc.sound_settings import TEACHERS
from launch.progress import progress
from launch.report.linear_table import Row

IMPORTED = ".safetensors"  # files of `avc import`
DRAWS = 10  # of few labeled items
RELEASED_STRENGTH = 0.01  # of SoundNet's released code


@dataclass(frozen=True)
class Probe:
    """Features of files and the linear classifier on top of them. strength: its C, None to choose it on training folds.

    summarize: classify mean and deviation over a recording, and not each window.
    """

    encoder: Encoder
    layer: str
    inputs: Inputs[Path]
    classifier: Classifier
    strength: float | None = None
    summarize: bool = False

    @property
    def title(self) -> str:
        """Whose features and which, as tables call them."""
        over = ", mean and deviation over a recording" if self.summarize else ""
        return f"{self.encoder.name}, {self.inputs.what}{over}"


def sound_probes(
    paths: Sequence[Path], *, layer: str | None, window: float | None, dcase: bool, seed: int
) -> list[Probe]:
    """Each network, the same network untrained, and, where librosa is installed, MFCC.

    window: seconds of the windows of what takes any length; where it is None, what SoundNet's released code has: 1 s,
    5 s for DCASE. Recordings are repeated for SoundNet to 10 s, for DCASE to 30. Imported weights of SoundNet are
    probed as in its released code; others have a row by windows and one by recordings. Raises ValueError where a path
    is neither run, weights nor settings, or its network has no such layer.
    """
    whole, seconds = (30.0, 5.0) if dcase else (10.0, 1.0)
    seconds = seconds if window is None else window
    if not 0 < seconds <= whole:
        raise ValueError(f"--window is {seconds:g} s and must be more than 0 and at most {whole:g}")
    probes: list[Probe] = []
    for path, title in titles(paths).items():
        for number, encoders in enumerate(networks(path, title, seed)):
            encoder = encoders.audio
            if encoder is None:
                raise ValueError(f"{encoders.name} only sees; `avc eval image` measures that")
            if encoder.seconds is not None and window not in (None, encoder.seconds):
                raise ValueError(f"{path} takes {encoder.seconds:g} s at a time: leave --window {window:g} out")
            taken = encoder.named_layer(layer)
            inputs, imported = recordings(encoder, taken, seconds=seconds, whole=whole), path.suffix == IMPORTED
            # The released code takes the released network's features as they are. Others' have no scale that fits C.
            unscaled = imported and encoder.whole and number == 0
            strength = RELEASED_STRENGTH if unscaled else None
            for summarize in (False, True) if imported and not encoder.whole else (False,):
                probes.append(Probe(encoder, taken, inputs, svm(standardize=not unscaled), strength, summarize))
    if not is_installed("librosa"):
        sys.stderr.write("no row for MFCC: librosa is not installed here (pip install 'avcorr[librosa]')\n")
        return _once(probes)
    mfcc = MFCC().eval()
    inputs = recordings(mfcc, mfcc.layers[0], seconds=seconds, whole=whole)
    return _once([*probes, Probe(mfcc, mfcc.layers[0], inputs, svm(standardize=True))])


def image_probes(paths: Sequence[Path], *, seed: int, devices: str = "auto") -> list[Probe]:
    """Each network and the same network untrained. Raises ValueError for one that takes no images.

    devices: the classifier is trained on the first.
    """
    classifier = softmax_layer(named_devices(devices)[0])
    probes: list[Probe] = []
    for path, title in titles(paths).items():
        for encoders in networks(path, title, seed):
            encoder = encoders.image
            if encoder is None:
                raise ValueError(f"{encoders.name} only takes audio; `avc eval sound` measures that")
            layer = encoder.layers[0]
            probes.append(Probe(encoder, layer, pictures(encoder, layer), classifier))
    return _once(probes)


def titles(paths: Sequence[Path]) -> dict[Path, str]:
    """What each path is called: its last part, and as many before it as it takes to tell all of them apart."""
    parts = {path: path.resolve().parts for path in paths}
    for last in range(1, max(map(len, parts.values())) + 1):
        names = {path: "/".join(each[-last:]) for path, each in parts.items()}
        if len(set(names.values())) == len(set(parts.values())):
            break
    return names


def _once(probes: list[Probe]) -> list[Probe]:
    """Without the untrained networks that several runs have in common."""
    return list({(each.title, each.encoder.key): each for each in probes}.values())


def measure(
    probes: Sequence[Probe], labeled: LabeledSet, *, devices: str, strength: float | None, cache: Path
) -> list[Row]:
    """Features and folds of each; `strength` is the C of every fold, or None for the probe's own."""
    files = [file.path for file in labeled.files]
    labels = np.array([file.label for file in labeled.files])
    folds = np.array([file.fold for file in labeled.files])
    rows = []
    for each in probes:
        extraction = features_of(each.encoder, each.layer, each.inputs, files, devices=devices, cache=cache)
        if each.summarize:
            extraction = replace(extraction, features=summarized(extraction.features))
        rows += probe(
            [(each.title, extraction, each.classifier)],
            labels,
            folds,
            tested_folds=labeled.tested_folds,
            strength=each.strength if strength is None else strength,
        )
    return rows


def features_of(
    encoder: Encoder, layer: str, inputs: Inputs[Item], items: Sequence[Item], *, devices: str, cache: Path
) -> Extraction:
    """`avc.evaluation.extraction.extract` on the named devices, with progress on standard error."""
    chosen = named_devices(devices)
    with progress(f"features: {encoder.name}, {inputs.what}", unit="items") as report:
        return extract(encoder, layer, inputs, items, devices=chosen, cache=cache, report=report)


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


def networks(path: Path, title: str, seed: int) -> list[Encoders]:
    """The trained network, if `path` is a run or imported weights, and an untrained one of its settings; with names."""
    trained = []
    if path.suffix in (".yaml", ".yml"):
        config = load_config(path)
    else:
        network = load_any(path)
        config = network.config
        if config.model.name not in NETWORKS:
            return [network.encoders]  # from elsewhere: of an untrained one nothing is known
        trained = [encoders_of(f"{config.model.name} of {title}", network.model, config)]
    torch.manual_seed(seed)
    same = {"name", "width", "frozen_trunks", *TEACHERS}  # what the hidden layers of an untrained one do not show
    other = config.model.model_dump(exclude_defaults=True, exclude=same)
    shape = ", ".join([f"width {config.model.width:g}", *(f"{name} {value}" for name, value in other.items())])
    name = f"{config.model.name} untrained, {shape}, seed {seed}"
    return [*trained, encoders_of(name, build(config.model), config)]
