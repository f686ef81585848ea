"""What features are worth elsewhere: which stand beside which, and linear classifiers on each."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from avc.config import load_config
from avc.data.labeled_sets import DATASETS, PICTURES, LabeledSet, labeled_folder
from avc.encoders.cache import Extraction, Inputs, Item, extract
from avc.encoders.encoder import Encoder
from avc.encoders.handmade import MFCC
from avc.encoders.load import load_any, named_devices
from avc.encoders.sources import pictures, recordings
from avc.encoders.trained import Trained, trained
from avc.evaluation import options
from avc.evaluation.classifiers import Classifier, softmax_layer, svm
from avc.evaluation.linear import STRENGTHS, LinearResult, cross_validate
from avc.evaluation.measures import Request, Result
from avc.evaluation.soundnet import heard
from avc.extras import is_installed
from avc.intervals import wilson_interval
from avc.models import build
from avc.networks import NETWORKS
from avc.sound_settings import TEACHERS

if TYPE_CHECKING:
    from avc.evaluation.kinds import LabeledClips

IMPORTED = ".safetensors"  # files of `avc import`
RELEASED_STRENGTH = 0.01  # of SoundNet's released code


@dataclass(frozen=True)
class Row:
    """name: what the features are. unreadable: (name, reason) of files that took no part. padded: short files."""

    name: str
    result: LinearResult
    unreadable: tuple[tuple[str, str], ...]
    padded: int


@dataclass(frozen=True)
class Probe:
    """Features of files and the linear classifier on them. strength: its C, None to choose it on training folds."""

    encoder: Encoder
    layer: str
    inputs: Inputs[Path]
    classifier: Classifier
    strength: float | None = None

    @property
    def title(self) -> str:
        """Whose features and which, as tables call them."""
        return f"{self.encoder.name}, {self.inputs.what}"


def sound(request: Request, chosen: options.Sound) -> Result:
    """The measure of that name. Raises ValueError for options that do not go together."""
    if chosen.recordings:
        if (chosen.root, chosen.dataset) != (None, None):
            raise ValueError("recordings=FILE names what a SoundNet hears: leave root and dataset out")
        return heard(request, chosen)
    if chosen.root is None or chosen.dataset is None:
        raise ValueError("eval sound needs dataset=NAME and root=FOLDER, or recordings=FILE")
    labeled = DATASETS[chosen.dataset](chosen.root)
    probes = sound_probes(
        request.sources,
        layer=chosen.layer,
        window=chosen.window,
        dcase=chosen.dataset == "dcase2013",
        seed=chosen.seed,
    )
    return _measured(request, chosen, probes, labeled, what="recordings")


def image(request: Request, chosen: options.Image) -> Result:
    """The measure of that name."""
    labeled = labeled_folder(chosen.root, PICTURES)
    probes = image_probes(request.sources, seed=chosen.seed, devices=request.device)
    return _measured(request, chosen, probes, labeled, what="images")


def sound_probes(
    paths: Sequence[Path], *, layer: str | None, window: float | None, dcase: bool, seed: int
) -> list[Probe]:
    """Each network, the same network untrained, and, where librosa is installed, MFCC.

    window: seconds of the windows of what takes any length; where it is None, what SoundNet's released code has: 1 s,
    5 s for DCASE. Recordings are repeated for SoundNet to 10 s, for DCASE to 30. Imported weights of SoundNet are
    probed as in its released code. Raises ValueError where a path is neither run, weights nor settings, or its network
    has no such layer.
    """
    whole, seconds = (30.0, 5.0) if dcase else (10.0, 1.0)
    seconds = seconds if window is None else window
    if not 0 < seconds <= whole:
        raise ValueError(f"window is {seconds:g} s and must be more than 0 and at most {whole:g}")
    probes: list[Probe] = []
    for path, network, untrained in candidates(paths, seed):
        if (encoder := network.hears) is None:
            raise ValueError(f"{network.name} only sees; `avc eval image` measures that")
        if encoder.seconds is not None and window not in (None, encoder.seconds):
            raise ValueError(f"{path} takes {encoder.seconds:g} s at a time: leave window={window:g} out")
        taken = encoder.named_layer(layer)
        inputs = recordings(encoder, taken, seconds=seconds, whole=whole)
        # The released code takes the released network's features as they are. Others' have no scale that fits C.
        unscaled = path.suffix == IMPORTED and encoder.whole and not untrained
        strength = RELEASED_STRENGTH if unscaled else None
        probes.append(Probe(encoder, taken, inputs, svm(standardize=not unscaled), strength))
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
    classifier = softmax_layer(named_devices(devices, option="--device")[0])
    probes: list[Probe] = []
    for _, network, _ in candidates(paths, seed):
        if (encoder := network.sees) is None:
            raise ValueError(f"{network.name} only takes audio; `avc eval sound` measures that")
        probes.append(Probe(encoder, encoder.layers[0], pictures(encoder, encoder.layers[0]), classifier))
    return _once(probes)


def titles(paths: Sequence[Path]) -> dict[Path, str]:
    """What each path is called: its last part, and as many before it as it takes to tell all of them apart."""
    parts = {path: path.resolve().parts for path in paths}
    for last in range(1, max(map(len, parts.values())) + 1):
        names = {path: "/".join(each[-last:]) for path, each in parts.items()}
        if len(set(names.values())) == len(set(parts.values())):
            break
    return names


def candidates(paths: Sequence[Path], seed: int) -> Iterator[tuple[Path, Trained, bool]]:
    """(path, network, untrained): what a run or a file of weights holds, then the same network with fresh weights."""
    for path, title in titles(paths).items():
        if path.suffix in (".yaml", ".yml"):
            config = load_config(path)
        else:
            network = load_any(path)
            config = network.config
            if config.model.name not in NETWORKS:
                yield path, network, False  # from elsewhere: of an untrained one nothing is known
                continue
            yield path, trained(network.model, config, name=f"{config.model.name} of {title}"), False
        torch.manual_seed(seed)
        # What the hidden layers of an untrained one do not show.
        same = {"name", "width", "image", "audio", "train_towers", "dropout", *TEACHERS}
        other = config.model.model_dump(exclude_defaults=True, exclude=same)
        shape = ", ".join([f"width {config.model.width:g}", *(f"{name} {value}" for name, value in other.items())])
        name = f"{config.model.name} untrained, {shape}, seed {seed}"
        yield path, trained(build(config.model), config, name=name), True


def _once(probes: list[Probe]) -> list[Probe]:
    """Without the untrained networks that several runs have in common."""
    return list({(each.title, each.encoder.key): each for each in probes}.values())


def _measured(
    request: Request, chosen: options.Probe, probes: Sequence[Probe], labeled: LabeledSet, *, what: str
) -> Result:
    files = [file.path for file in labeled.files]
    labels, folds = (np.array([getattr(file, name) for file in labeled.files]) for name in ("label", "fold"))
    rows = []
    for each in probes:
        extraction = features_of(request, each.encoder, each.layer, each.inputs, files, cache=chosen.cache)
        strength = each.strength if chosen.strength is None else chosen.strength
        with request.progress("classifying", unit="trainings") as report:
            result = cross_validate(
                *(extraction.features, labels, folds),
                tested_folds=labeled.tested_folds,
                classifier=each.classifier,
                strengths=STRENGTHS if strength is None else (strength,),
                report=report,
            )
        rows.append(Row(each.title, result, extraction.unreadable, extraction.padded))
    return table(request, rows, labeled, what=what)


def features_of(
    request: Request, encoder: Encoder, layer: str, inputs: Inputs[Item], items: Sequence[Item], *, cache: Path | None
) -> Extraction:
    """`avc.encoders.cache.extract` on the request's devices, with its progress."""
    devices = named_devices(request.device, option="--device")
    with request.progress(f"features: {encoder.name}, {inputs.what}", unit="items") as report:
        return extract(encoder, layer, inputs, items, devices=devices, cache=cache, report=report)


def table(
    request: Request, rows: Sequence[Row], labeled: LabeledSet | LabeledClips, *, what: str, draws: bool = False
) -> Result:
    """Rows and what took no part; `what` was classified, in the plural, in folds or in draws of few.

    The 95 % interval takes those that were tested as independent.
    """
    told, classes = [], labeled.classes
    for row in rows:
        counts = [fold.items for fold in row.result.folds]
        items, accuracy = counts[0] if draws else sum(counts), row.result.accuracy
        figures = {"accuracy": accuracy, "interval_95": wilson_interval(accuracy, items), "spread": row.result.spread}
        told.append({"key": key_of(row.name)} | asdict(row) | figures | {"items": items})
    notes = []
    if padded := max(row.padded for row in rows):
        notes.append(f"{padded:,} {what} are shorter than one window and were padded with silence")
    if unreadable := dict.fromkeys(reason for row in rows for reason in row.unreadable):
        notes.append(f"{len({name for name, _ in unreadable}):,} {what} cannot be read and took no part:")
        notes += [f"  {name}: {reason}" for name, reason in unreadable]
    if other := getattr(labeled, "other", 0):
        notes.append(f"{other:,} other files in the classes' folders are no {what} by their endings and were left out")
    about = {"classes": list(classes), "chance": 1 / len(classes), "items": told[0]["items"], "notes": notes}
    return Result(about | request.judged(labeled.judged) | {"rows": told})


def key_of(name: str) -> str:
    """A row's key by its name: letters, digits and underscores."""
    return re.sub(r"\W+", "_", name.lower()).strip("_")
