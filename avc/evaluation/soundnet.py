"""SoundNet's own measures: the classes of its teachers that it hears, and how far it agrees with them."""

from __future__ import annotations

import math
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor

from avc.distributed.join import join
from avc.encoders.cache import Unreadable
from avc.encoders.load import load_any
from avc.encoders.sources import read_sound
from avc.evaluation import options
from avc.evaluation.measures import Request, Result
from avc.models.soundnet import SoundNet
from avc.models.waveform import SAMPLE_RATE, to_waveform
from avc.sound_settings import SoundNetConfig
from avc.tasks.distillation import evaluate_agreement, student_sampler
from shards.text import lines_of

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
