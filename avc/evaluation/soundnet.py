"""SoundNet's own measures: the classes of its teachers that it hears, how far it agrees with them, fine-tuning.

Fine-tuned, or from scratch (SoundNet, section 6), a waveform network is trained on labeled recordings as a whole, as in
the released main_finetune.lua: the outputs make room for one convolution to the classes, over the steps that 5 s give;
cross-entropy on random 5 s of the recordings, which are repeated; Adam, 1e-3.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from avc.data.labeled_sets import LabeledSet
from avc.data.sampler import Integers
from avc.distributed.join import join
from avc.encoders.cache import Unreadable
from avc.encoders.load import load_any
from avc.encoders.rows import refuse_unreadable
from avc.encoders.sources import read_sound
from avc.evaluation import options
from avc.evaluation.linear import FoldResult, LinearResult
from avc.evaluation.measures import Progress, Request, Result
from avc.models.soundnet import SoundNet
from avc.models.waveform import SAMPLE_RATE, WaveformNetwork, to_waveform
from avc.sound_settings import SoundNetConfig
from avc.tasks.distillation import evaluate_agreement, student_sampler
from shards import Report
from shards.text import lines_of

SECONDS = 5.0  # of a recording that a step of fine-tuning hears
BATCH = 64  # 256 in the released code, whose training sets are of 1,600 recordings
LEARNING_RATE = 1e-3
LEAST_SECONDS = 10.0  # a shorter recording is repeated, as in the released extract_predictions.lua


@torch.no_grad()
def posteriors(model: SoundNet, path: Path) -> dict[str, Tensor]:
    """The mean over the output steps of each teacher's posterior, as the student hears it: float32 (classes,).

    The recording goes through the network whole; one of less than 10 s is repeated until it lasts as long. Raises
    avc.encoders.cache.Unreadable for what is no recording.
    """
    sound = read_sound(path, SAMPLE_RATE)
    sound = sound.repeat(max(1, math.ceil(LEAST_SECONDS * SAMPLE_RATE / len(sound))))
    outputs = model.eval()(to_waveform(sound[None].to(next(model.parameters()).device)))
    means = (logits[0].float().softmax(dim=0).mean(dim=1).cpu() for logits in outputs)
    return dict(zip(model.teachers, means, strict=True))


def load_student(run: str | Path, *, device: str = "cpu") -> tuple[SoundNet, SoundNetConfig]:
    """The best weights of a SoundNet, in evaluation mode, and its settings. device: as of `named_device`.

    Raises ValueError where the folder holds no finished weights or those of another network.
    """
    loaded = load_any(run, device=device)
    if not isinstance(loaded.model, SoundNet) or not isinstance(loaded.config, SoundNetConfig):
        name = loaded.config.model.name
        raise ValueError(f"{run} trained model.name={name}, which had no teachers; give a SoundNet's run")
    return loaded.model, loaded.config


def heard(request: Request, chosen: options.Sound) -> Result:
    """The likeliest classes of each teacher in recordings. Raises ValueError where none can be read."""
    model, config = load_student(request.source, device=request.device)
    classes = dict(_read_names(text, config.model.teachers) for text in chosen.names)
    rows, notes = [], []
    with request.progress("listening", unit="recordings") as report:
        for done, path in enumerate(chosen.recordings, start=1):
            try:
                likely = {}
                for teacher, posterior in posteriors(model, path).items():
                    shares, numbers = (each.tolist() for each in posterior.topk(min(chosen.top, len(posterior))))
                    called = [classes[teacher][number] if teacher in classes else str(number) for number in numbers]
                    likely[teacher] = list(zip(called, shares, strict=True))
                rows.append({"key": str(path), "name": path.name, "heard": likely})
            except Unreadable as error:
                notes.append(f"{path.name} cannot be read: {error}")
            report(done, len(chosen.recordings), path.name)
    if not rows:
        raise ValueError(f"none of the {len(chosen.recordings)} recordings can be read: {'; '.join(notes)}")
    return Result({"recordings": rows, "notes": notes})


def agreement(request: Request, chosen: options.Agreement) -> Result:
    """The measure of that name."""
    model, config = load_student(request.source)
    folders = {"shards": request.shards, "teachers": chosen.teachers}
    if request.shards is None:
        folders = {"teachers": chosen.teachers or config.data.teachers}
    config = config.model_copy(update={"data": config.data.model_copy(update=folders)})
    data, split = request.data(config, request.source)
    too_short = student_sampler(config, data, split=split).too_short
    with join(config.training) as world, request.progress("listening", unit="clips") as report:
        model = model.to(world.device)
        passes = chosen.passes
        results = evaluate_agreement(model, data, config, world, split=split, passes=passes, report=report)
    left_out = f"{too_short:,} clips of the split are too short for one output step and took no part"
    about = {"run": str(request.source), "split": split, "too_short": too_short, "steps": results[0].steps}
    about |= request.judged(f"the {split} split") | {"notes": [left_out] if too_short else []}
    return Result(about | {"teachers": [{"key": result.teacher, **asdict(result)} for result in results]})


def _read_names(text: str, teachers: dict[str, int]) -> tuple[str, list[str]]:
    teacher, _, place = text.partition("=")
    if teacher not in teachers or not place:
        raise ValueError(f"names is {text!r} and must be {' or '.join(f'{name}=FILE' for name in teachers)}")
    names = [line.rstrip("\r\n") for line in lines_of(place)]
    if len(names) != teachers[teacher]:
        raise ValueError(f"{place} has {len(names):,} lines, and {teacher} has {teachers[teacher]:,} classes")
    return teacher, names


def fine_tuned(
    model: WaveformNetwork, labeled: LabeledSet, chosen: options.Sound, *, device: torch.device, progress: Progress
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
            passes=chosen.fine_tune or 1,
            seed=chosen.seed,
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
