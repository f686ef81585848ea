"""A waveform network trained on labeled recordings as a whole: fine-tuned, or from scratch (SoundNet, section 6).

As in SoundNet's released main_finetune.lua: the outputs make room for one convolution to the classes, over the steps
that 5 s give; cross-entropy on random 5 s of the recordings, which are repeated; Adam, 1e-3.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from avc.evaluation.linear import FoldResult, LinearResult
from avc.models.waveform import SAMPLE_RATE, WaveformNetwork, to_waveform

Integers = NDArray[np.int64]

SECONDS = 5.0
BATCH = 64  # 256 in the released code, whose training sets are of 1,600 recordings
LEARNING_RATE = 1e-3


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
    report: Callable[[int, int, str], None] | None = None,
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
