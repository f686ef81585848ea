"""SoundNet learns to hear what two networks saw on the same seconds (Aytar, Vondrick and Torralba 2016, section 3).

It is judged by how well it foretells what the teachers saw in clips that it has not learnt from.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from avc.data.segments import SegmentBatch, SegmentReader, SegmentSampler
from avc.distributed.world import World
from avc.intervals import clustered_interval
from avc.models.soundnet import SoundNet
from avc.models.waveform import to_waveform
from avc.sound_settings import SegmentConfig, SoundNetConfig
from avc.tasks.task import Losses, Validation, held_out_batches
from shards import Report
from shards.read import Shards
from shards.sidecars import FINISHED
from shards.soft_labels import SoftLabels


class Distillation:
    """KL(teacher ‖ student), summed over output steps and teachers; an `avc.tasks.task.Task`.

    With `distillation.loss: l2` it is the squared distance of the posteriors instead. The paper says no more of its ℓ2
    loss than the name; soft labels hold no logits that could be compared.

    Metrics are means over a clip's output steps. Shorter clips are repeated, or with data.repeat=false zero-padded:
    padded steps are masked out of the loss but enter the batch-norm statistics.
    Raises ValueError where the shards' clips are too short or the teachers' soft labels are of other shards.
    """

    accumulates = True

    def __init__(self, config: SoundNetConfig, reader: SegmentReader) -> None:
        self.config, self.reader = config, reader
        assert reader.soft_labels is not None
        self.inputs = {"teachers": reader.soft_labels.folder / FINISHED}
        self.metrics: tuple[str, ...] = tuple(
            f"{what}_{teacher}" for what in ("kl", "agreement") for teacher in config.model.teachers
        )
        sampler = reader.sampler
        self.summary = f"teachers {_in_words(config.model.teachers)}, up to {sampler.most_steps} output steps"
        self.warnings: tuple[str, ...] = ()
        if sampler.too_short:
            self.warnings = (f"{sampler.too_short} clips are too short for one output step and are left out",)

    @classmethod
    def on(cls, config: SoundNetConfig, shards: Shards) -> Self:
        """The task over all training clips."""
        sampler = student_sampler(config, shards, split="train")
        return cls(config, SegmentReader(shards, sampler, teachers_of(config, shards)))

    def network(self) -> SoundNet:
        """The student with fresh weights from torch's global generator."""
        return SoundNet(self.config.model)

    def loss(self, network: nn.Module, batch: SegmentBatch) -> Losses:
        """The loss, and per clip the means of `metrics`."""
        kl, distance, agree = divergences(network, batch, self.config)
        per_clip = torch.cat([kl.detach(), agree.float()]).sum(dim=2) / batch.steps
        loss = distance if self.config.distillation.loss == "l2" else kl
        return Losses(loss.sum(), per_clip.sum(dim=1))

    def validate(self, model: nn.Module, world: World) -> Validation:
        """KL and agreement on the validation split; the score is the mean agreement with the teachers."""
        settings = self.config.validation
        results = evaluate_agreement(
            model, self.reader.shards, self.config, world, split=settings.split, passes=settings.passes
        )
        metrics = {"loss": sum(result.kl for result in results), "steps": float(results[0].steps)}
        for result in results:
            metrics |= {f"kl_{result.teacher}": result.kl, f"agreement_{result.teacher}": result.top1}
        return Validation(sum(result.top1 for result in results) / len(results), metrics)


@dataclass(frozen=True)
class Agreement:
    """Of one teacher. All shares are 0 to 1; kl in nats per output step.

    top1: output steps at which student and teacher name the same class; interval_95: of it, where the clips are a
    sample of more. chance: one of the classes by lot. constant: always the class that the teacher names most often.
    unpaired: what top1 would be if sounds and images were paired by lot, with the same answers. kl: of the student
    from the teacher; kl_constant: of the teacher's mean posterior.
    """

    teacher: str
    classes: int
    steps: int
    top1: float
    interval_95: tuple[float, float]
    chance: float
    constant: float
    unpaired: float
    kl: float
    kl_constant: float


def student_sampler(config: SegmentConfig, shards: Shards, *, split: str) -> SegmentSampler:
    """The rows of a split for the student that the settings name.

    Raises ValueError where the split has no clip that is long enough.
    """
    clips = shards.clips(split)
    if not len(clips):
        raise ValueError(f"{shards.folder} has no clips in its {split} split; pack with other shares (`--split`)")
    return SegmentSampler(
        shards.index,
        clips,
        student=config.model.name,
        sound_seconds=config.data.sound_seconds,
        seed=config.run.seed,
        repeat=getattr(config.data, "repeat", False),
    )


def teachers_of(config: SoundNetConfig, shards: Shards) -> SoftLabels:
    """What the teachers saw. Raises ValueError for other shards' soft labels, other teachers or other classes."""
    folder = config.data.teachers or shards.folder / "teachers"
    soft_labels = SoftLabels(folder, shards)
    available = {teacher.name: teacher.classes for teacher in soft_labels.teachers}
    if not config.model.teachers.items() <= available.items():
        raise ValueError(
            f"{folder} has the teachers {_in_words(available)}, and {config.model.name} learns from "
            f"{_in_words(config.model.teachers)}; set model.objects and model.scenes (0 for a teacher that there is "
            "not), or name the teachers `avc teach --teacher objects=FILE --teacher scenes=FILE`"
        )
    return soft_labels


def _in_words(teachers: dict[str, int]) -> str:
    return " and ".join(f"{name} ({classes} classes)" for name, classes in teachers.items())


def divergences(network: nn.Module, batch: SegmentBatch, config: SoundNetConfig) -> tuple[Tensor, Tensor, Tensor]:
    """KL(teacher ‖ student) in nats, |teacher - student|² of the posteriors, and whether both name the same class.

    float32, float32 and bool (teachers, R, T), objects first; 0 at the steps that a row does not have.
    """
    autocast = torch.autocast(batch.steps.device.type, torch.bfloat16, enabled=config.training.precision == "bf16")
    waveform = to_waveform(batch.audio.to(torch.float32) / 32768)
    with autocast:
        outputs = network(waveform)
    valid = torch.arange(batch.objects.shape[1], device=batch.steps.device) < batch.steps[:, None]
    divergence, distance, agree = [], [], []
    for logits, seen in zip(outputs, _seen(batch, config), strict=True):
        student = logits.float()[..., : seen.shape[1]].transpose(1, 2).log_softmax(dim=2)
        teacher = seen.float()
        teacher = teacher / teacher.sum(dim=2, keepdim=True).clamp(min=1e-6)  # float16 does not add up to 1
        divergence.append(F.kl_div(student, teacher, reduction="none").sum(dim=2) * valid)
        distance.append((student.exp() - teacher).square().sum(dim=2) * valid)
        agree.append((student.argmax(dim=2) == teacher.argmax(dim=2)) & valid)
    return torch.stack(divergence), torch.stack(distance), torch.stack(agree)


def _seen(batch: SegmentBatch, config: SoundNetConfig) -> list[Tensor]:
    return [getattr(batch, teacher) for teacher in config.model.teachers]


@torch.no_grad()
def evaluate_agreement(
    model: nn.Module,
    shards: Shards,
    config: SoundNetConfig,
    world: World,
    *,
    split: str,
    passes: int = 1,
    report: Report | None = None,
) -> tuple[Agreement, ...]:
    """Compare the student with each teacher on the clips of a split, `passes` segments of each.

    Rows go through the network one by one, so none is padded. Every rank must call it; each takes its share. The
    network is put into evaluation mode for the while. `report`, if given, is told how many rows of this rank are done.
    """
    sampler = student_sampler(config, shards, split=split)
    reader = SegmentReader(shards, sampler, teachers_of(config, shards))
    tallies = [_AgreementTally(classes, world.device) for classes in config.model.teachers.values()]
    rows, num_workers = passes * sampler.rows_per_epoch, config.data.num_workers
    for row, batch in held_out_batches(model, reader, world, rows=rows, size=1, num_workers=num_workers, report=report):
        clip = int(sampler.rows(row, row + 1).clip[0])
        outputs = model(to_waveform(batch.audio.to(torch.float32) / 32768))
        for tally, logits, seen in zip(tallies, outputs, _seen(batch, config), strict=True):
            tally.add(clip, logits[0].float().T, seen[0].float())
    return tuple(tally.agreement(teacher, world) for tally, teacher in zip(tallies, config.model.teachers, strict=True))


class _AgreementTally:
    """Sums over output steps, from which all of one teacher's figures follow."""

    def __init__(self, classes: int, device: torch.device) -> None:
        self.classes = classes
        # KL and the teacher's negative entropy; then per class: its mean, its choices, the student's.
        self.scalars = torch.zeros(2, dtype=torch.float64, device=device)
        self.by_class = torch.zeros(3, classes, dtype=torch.float64, device=device)
        self.judged: list[tuple[int, Tensor]] = []  # a row's clip, and where both name the same class

    def add(self, clip: int, logits: Tensor, seen: Tensor) -> None:
        """Logits and the teacher's soft labels of one row of a clip, both float32 (T, classes)."""
        teacher = seen / seen.sum(dim=1, keepdim=True)
        log_student = logits.log_softmax(dim=1)
        chosen, choice = teacher.argmax(dim=1), logits.argmax(dim=1)
        self.judged.append((clip, (chosen == choice).cpu()))
        self.scalars[0] += F.kl_div(log_student, teacher, reduction="sum")
        self.scalars[1] += torch.xlogy(teacher, teacher).sum()
        self.by_class[0] += teacher.sum(dim=0)
        self.by_class[1] += F.one_hot(chosen, self.classes).sum(dim=0)
        self.by_class[2] += F.one_hot(choice, self.classes).sum(dim=0)

    def agreement(self, teacher: str, world: World) -> Agreement:
        sums = world.sum(torch.cat([self.scalars, self.by_class.flatten()]))
        judged = [row for of_rank in world.gather_objects(self.judged) for row in of_rank]
        of_clip = np.repeat([clip for clip, _ in judged], [len(agrees) for _, agrees in judged])
        right = torch.cat([agrees for _, agrees in judged]).numpy()
        steps, (kl, negative_entropy) = len(right), sums[:2]
        mean, chosen, choice = (torch.tensor(sums[2:], dtype=torch.float64) / steps).view(3, self.classes)
        return Agreement(
            teacher=teacher,
            classes=self.classes,
            steps=steps,
            top1=float(right.mean()),
            interval_95=clustered_interval(right, of_clip),
            chance=1 / self.classes,
            constant=float(chosen.max()),
            unpaired=float((chosen * choice).sum()),
            kl=kl / steps,
            kl_constant=negative_entropy / steps - float(torch.xlogy(mean, mean).sum()),
        )
