"""SoundNet learns to hear what two networks saw on the same seconds (Aytar, Vondrick and Torralba 2016, section 3)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from avc.config import Config
from avc.data.excerpts import ExcerptBatch, ExcerptReader
from avc.evaluation.agreement import divergences, evaluate_agreement, student_plan, teachers_of
from avc.models.soundnet import SoundNet
from avc.training.distributed import World
from avc.training.objective import Validation
from shards.read import Shards


class Distillation:
    """KL(teacher ‖ student), summed over output steps and both teachers; an `avc.training.objective.Objective`.

    Figures are means over a clip's output steps. A row that is shorter than its batch is followed by silence, of which
    no output step counts, but batch normalisation has it in its statistics.
    Raises ValueError where the shards' clips are too short or the teachers' posteriors are of other shards.
    """

    figures: tuple[str, ...] = ("kl_objects", "kl_scenes", "agreement_objects", "agreement_scenes")

    def __init__(self, config: Config, shards: Shards) -> None:
        self.config, self.shards = config, shards
        self.plan = student_plan(config, shards, split="train")
        posteriors = teachers_of(config, shards)
        self.reader = ExcerptReader(shards, posteriors, self.plan)
        taught = " and ".join(f"{teacher.name} ({teacher.classes} classes)" for teacher in posteriors.teachers)
        self.about = f"teachers {taught}, up to {self.plan.most_steps} output steps"
        self.remarks: tuple[str, ...] = ()
        if self.plan.too_short:
            self.remarks = (f"{self.plan.too_short} clips are too short for one output step and are left out",)

    def network(self) -> nn.Module:
        """The student with fresh weights from torch's global generator."""
        settings = self.config.model
        return SoundNet(settings.name, width=settings.width, objects=settings.objects, scenes=settings.scenes)

    def loss(self, network: nn.Module, batch: ExcerptBatch, *, step: int) -> tuple[Tensor, Tensor]:
        """The loss, summed over the clips, and the sums over the clips of `figures` (4,)."""
        divergence, agree = divergences(network, batch, self.config)
        per_clip = torch.cat([divergence.detach(), agree.float()]).sum(dim=2) / batch.steps
        return divergence.sum(), per_clip.sum(dim=1)

    def validate(self, model: nn.Module, world: World) -> Validation:
        """KL and agreement on the validation split; the score is the mean agreement with the two teachers."""
        settings = self.config.validation
        objects, scenes = evaluate_agreement(
            model, self.shards, self.config, world, split=settings.split, passes=settings.passes
        )
        figures = {
            "loss": objects.kl + scenes.kl,
            "kl_objects": objects.kl,
            "kl_scenes": scenes.kl,
            "agreement_objects": objects.top1,
            "agreement_scenes": scenes.top1,
            "steps": float(objects.steps),
        }
        return Validation((objects.top1 + scenes.top1) / 2, figures)
