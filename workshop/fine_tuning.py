"""Waveform networks trained on labeled recordings as a whole: fine-tuned, and from scratch (SoundNet, section 6).

    python -m workshop.fine_tuning soundnet8.safetensors --dataset esc50 --root ESC-50 --passes 50

As in the released main_finetune.lua: the outputs make room for one convolution to the classes, over the steps that 5 s
give; cross-entropy on random 5 s of the recordings, which are repeated; Adam, 1e-3. Folds are the data set's own.
"""

from __future__ import annotations

import argparse
import copy
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from avc.data.labeled_sets import DATASETS, LabeledSet
from avc.data.sampler import Integers
from avc.encoders.cache import Unreadable
from avc.encoders.load import named_devices
from avc.encoders.rows import refuse_unreadable
from avc.encoders.sources import read_sound
from avc.evaluation.linear import FoldResult, LinearResult
from avc.evaluation.measures import MEASURES, Request, Table
from avc.evaluation.probes import Row, candidates, table
from avc.models.waveform import SAMPLE_RATE, WaveformNetwork, to_waveform
from launch.progress import progress
from launch.report.results import print_table, write_json
from launch.user_errors import user_errors
from shards import Report

SECONDS = 5.0  # of a recording that a step of fine-tuning hears
BATCH = 64  # 256 in the released code, whose training sets are of 1,600 recordings
LEARNING_RATE = 1e-3


def fine_tuning(request: Request, labeled: LabeledSet, *, passes: int, seed: int) -> list[Row]:
    """A row for each network fine-tuned, and for each of the same settings from scratch.

    Raises ValueError for a network of towers, and where too many recordings cannot be read.
    """
    device = named_devices(request.device, option="--device")[0]
    rows: dict[str, Row] = {}
    for path, network, untrained in candidates(request.sources, seed):
        model = getattr(network.hears, "network", None)
        if model is None or network.hears is None or network.hears.seconds is not None:
            raise ValueError(f"only networks that take a waveform are trained, as SoundNet; {path} is of towers")
        name = f"{network.name}, {'from scratch' if untrained else 'fine-tuned'}"
        if name not in rows:
            tuned = fine_tuned(model, labeled, passes=passes, seed=seed, device=device)
            rows[name] = Row(name, *tuned, padded=0)
    return [*rows.values()]


def fine_tuned(
    model: WaveformNetwork, labeled: LabeledSet, *, passes: int, seed: int, device: torch.device
) -> tuple[LinearResult, tuple[tuple[str, str], ...]]:
    """A copy of a network trained on a data set's recordings, all in memory, and (name, reason) of unreadable ones.

    Raises ValueError where too many recordings cannot be read.
    """
    sounds, read, unreadable = [], [], []
    with progress("reading", unit="recordings") as report:
        for number, file in enumerate(labeled.files):
            try:
                sounds.append((read_sound(file.path, SAMPLE_RATE) * 32767).short())
                read.append(file)
            except Unreadable as error:
                unreadable.append((file.path.name, str(error)))
            report(number + 1, len(labeled.files), file.path.name)
    refuse_unreadable(unreadable, len(labeled.files))
    labels, folds = (np.array([getattr(file, name) for file in read]) for name in ("label", "fold"))
    with progress("training on recordings", unit="passes") as report:
        result = train_on_recordings(
            *(model, sounds, labels, folds),
            tested_folds=labeled.tested_folds,
            passes=passes,
            seed=seed,
            device=device,
            report=report,
        )
    return result, tuple(unreadable)


class RecordingClassifier(nn.Module):
    """The hidden layers of a waveform network, and a convolution to the logits of K classes."""

    def __init__(self, model: WaveformNetwork, classes: int) -> None:
        super().__init__()
        self.model = copy.deepcopy(model)
        last = self.model.feature_layers[-1]
        features = self.model.features(torch.zeros(1, round(SECONDS * SAMPLE_RATE)), last)
        self.outputs = nn.Conv1d(features.shape[1], classes, features.shape[2])

    def forward(self, waveform: Tensor) -> Tensor:
        """(N, samples) of at least 5 s → (N, K) logits, the mean over the steps."""
        return self.outputs(self.model.hidden(waveform[:, None])).mean(dim=2)  # type: ignore[no-any-return]


def train_on_recordings(
    model: WaveformNetwork,
    sounds: Sequence[Tensor],
    labels: Integers,
    folds: Integers,
    *,
    tested_folds: Sequence[int],
    passes: int,
    seed: int,
    device: torch.device,
    report: Report | None = None,
) -> LinearResult:
    """For each of `tested_folds`, train a copy of the network on all the other folds, and test it there.

    sounds: int16 (samples,) at 22,050 Hz, of any length. labels, folds: int64 (recordings,). passes: over the training
    recordings, 50 in the released code. A tested recording goes through whole, repeated to 5 s at least. The same seed
    gives the same result on the same machine.
    """
    classes = int(labels.max()) + 1
    results, confusion = [], np.zeros((classes, classes), dtype=int)
    for tested, fold in enumerate(tested_folds):
        torch.manual_seed(seed)
        random = np.random.default_rng((seed, fold))
        network = RecordingClassifier(model.cpu().eval(), classes).to(device).train()
        optimizer = torch.optim.Adam(network.parameters(), lr=LEARNING_RATE)
        training = np.flatnonzero(folds != fold)
        for number in range(passes):
            order = random.permutation(training)
            for some in np.array_split(order, math.ceil(len(order) / BATCH)):
                audio = torch.stack([_excerpt(sounds[i], float(random.random())) for i in some.tolist()])
                logits = network(_waveform(audio, device))
                loss = F.cross_entropy(logits, torch.from_numpy(labels[some]).to(device))
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
            if report is not None:
                report(tested * passes + number + 1, len(tested_folds) * passes, "")
        items = np.flatnonzero(folds == fold)
        chosen = _classes_of(network.eval(), [sounds[i] for i in items.tolist()], device)
        np.add.at(confusion, (labels[items], chosen), 1)
        results.append(FoldResult(fold, None, float((chosen == labels[items]).mean()), len(items)))
    return LinearResult(tuple(results), tuple(tuple(map(int, row)) for row in confusion))


@torch.inference_mode()
def _classes_of(network: RecordingClassifier, sounds: Sequence[Tensor], device: torch.device) -> Integers:
    whole = (_waveform(_repeated(sound)[None], device) for sound in sounds)
    return np.array([int(network(waveform).argmax()) for waveform in whole])


def _excerpt(sound: Tensor, fraction: float) -> Tensor:
    """5 s of a recording that is repeated, from a place that `fraction`, 0 to 1, chooses."""
    length = round(SECONDS * SAMPLE_RATE)
    start = int(fraction * len(sound))
    return sound[(start + torch.arange(length)) % len(sound)]


def _repeated(sound: Tensor) -> Tensor:
    return sound.repeat(math.ceil(round(SECONDS * SAMPLE_RATE) / len(sound)))


def _waveform(audio: Tensor, device: torch.device) -> Tensor:
    return to_waveform(audio.to(device, torch.float32) / 32768)


def main(arguments: list[str] | None = None) -> None:
    """Train, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="+", type=Path, help="Runs, files of `avc import`, .yaml of settings.")
    parser.add_argument("--dataset", required=True, choices=sorted(DATASETS))
    parser.add_argument("--root", required=True, type=Path, help="The data set's folder.")
    parser.add_argument("--passes", type=int, default=50, help="Over each fold's training recordings.")
    parser.add_argument("--seed", type=int, default=0, help="Of the fresh weights and of the training.")
    parser.add_argument("--device", default="auto", help="cpu, cuda or one of several, as cuda:1.")
    parser.add_argument("--json", type=Path, help="Write the result to this file as well.")
    asked = parser.parse_args(arguments)
    with user_errors("workshop.fine_tuning"):
        labeled = DATASETS[asked.dataset](asked.root)
        request = Request((*asked.networks,), device=asked.device, progress=progress)
        rows = fine_tuning(request, labeled, passes=asked.passes, seed=asked.seed)
        content = table(request, rows, labeled, what="recordings").content
        printed = MEASURES["sound"].printed[0]
        assert isinstance(printed, Table)
        print_table(*printed.of(content))
        print("\n".join(content["notes"]))
        write_json(asked.json, content)


if __name__ == "__main__":
    main()
