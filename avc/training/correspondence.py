"""L3-Net, AVE-Net and AVOL-Net learn which frame and which second of sound belong together."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from avc.config import Config
from avc.data.loader import Batch, PairReader
from avc.data.plan import Plan
from avc.evaluation.correspondence import evaluate, judge
from avc.models import MODELS, build
from avc.training.distributed import World
from avc.training.objective import Validation
from shards.read import Shards


class AudioVisualCorrespondence:
    """Cross-entropy over pairs, of which half are positives; an `avc.training.objective.Objective`.

    Raises ValueError where the shards have too few clips or too small pictures.
    """

    figures: tuple[str, ...] = ("accuracy",)

    def __init__(self, config: Config, shards: Shards) -> None:
        self.config, self.shards = config, shards
        self.plan = training_plan(config, shards)
        sight = MODELS[config.model.name].sight
        self.reader = PairReader(shards, self.plan, image_size=config.data.image_size, augment=True, sight=sight)
        self.about = f"negatives {self.plan.source}"
        remarks: list[str] = []
        if self.plan.grid == "free":
            remarks.append("negatives.grid is free: sound off the 0.04 s grid gives negatives away; an ablation")
        if self.plan.shuffle_sound:
            remarks.append("data.shuffle_sound is on: positives have another clip's sound, so nothing can be learnt")
        self.remarks = tuple(remarks)

    def network(self) -> nn.Module:
        """The network that the settings name, with fresh weights from torch's global generator."""
        return build(self.config.model)

    def loss(self, network: nn.Module, batch: Batch, *, step: int) -> tuple[Tensor, Tensor]:
        """The loss, summed over the pairs, and how many were judged rightly (1,)."""
        logits = judge(network, batch, self.config, augment=True)
        loss = F.cross_entropy(logits, batch.label, reduction="sum")
        return loss, (logits.detach().argmax(dim=1) == batch.label).sum()[None]

    def validate(self, model: nn.Module, world: World) -> Validation:
        """AVC accuracy on the validation split."""
        settings = self.config.validation
        result = evaluate(model, self.shards, self.config, world, split=settings.split, passes=settings.passes)
        return Validation(
            result.accuracy, {"accuracy": result.accuracy, "loss": result.loss, "pairs": float(result.pairs)}
        )


def training_plan(config: Config, shards: Shards) -> Plan:
    """The plan over the training clips. Raises ValueError where there are too few of them."""
    return Plan(
        shards.index,
        shards.clips("train"),
        seed=config.run.seed,
        source=config.negatives.source,
        grid=config.negatives.grid,
        block=config.negatives.block,
        max_misalignment_ticks=config.data.max_misalignment_ticks,
        shuffle_sound=config.data.shuffle_sound,
    )
