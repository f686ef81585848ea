"""L3-Net, AVE-Net and AVOL-Net learn which frame and which second of sound belong together."""

from __future__ import annotations

from pathlib import Path

import torch.nn.functional as F
from torch import Tensor, nn

from avc.config import Config
from avc.data.loader import Batch, PairReader
from avc.data.plan import Integers, Plan
from avc.evaluation.correspondence import evaluate, judge
from avc.inference import load
from avc.models import MODELS, CorrespondenceNet, build
from avc.training.distributed import World
from avc.training.objective import Validation
from shards.read import Shards


class AudioVisualCorrespondence:
    """Cross-entropy over pairs, of which half are positives; an `avc.training.objective.Objective`.

    clips: rows of the index to draw from, int64; by default all training clips.
    Raises ValueError where there are too few clips, too small pictures, or `model.trunks` does not fit.
    """

    figures: tuple[str, ...] = ("accuracy",)

    def __init__(self, config: Config, shards: Shards, *, clips: Integers | None = None) -> None:
        self.config, self.shards = config, shards
        self.plan = training_plan(config, shards, clips=clips)
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
        """The network that the settings name, with fresh weights from torch's global generator, or a run's trunks."""
        model = build(self.config.model)
        if self.config.model.trunks is not None:
            _take_trunks(model, self.config.model.trunks)
        return model

    def loss(self, network: nn.Module, batch: Batch, *, step: int) -> tuple[Tensor, Tensor]:
        """The loss, summed over the pairs, and how many were judged rightly (1,)."""
        hard = 0 < self.config.negatives.hard_from_step <= step
        logits = judge(network, batch, self.config, augment=True, hard=hard)
        loss = F.cross_entropy(logits, batch.label, reduction="sum")
        return loss, (logits.detach().argmax(dim=1) == batch.label).sum()[None]

    def validate(self, model: nn.Module, world: World) -> Validation:
        """AVC accuracy on the validation split."""
        settings = self.config.validation
        result = evaluate(model, self.shards, self.config, world, split=settings.split, passes=settings.passes)
        return Validation(
            result.accuracy, {"accuracy": result.accuracy, "loss": result.loss, "pairs": float(result.pairs)}
        )


def training_plan(config: Config, shards: Shards, *, clips: Integers | None = None) -> Plan:
    """The plan over the training clips, or some of them. Raises ValueError where there are too few."""
    return Plan(
        shards.index,
        shards.clips("train") if clips is None else clips,
        seed=config.run.seed,
        source=config.negatives.source,
        grid=config.negatives.grid,
        block=config.negatives.block,
        max_misalignment_ticks=config.data.max_misalignment_ticks,
        shuffle_sound=config.data.shuffle_sound,
    )


def _take_trunks(model: CorrespondenceNet, run: Path) -> None:
    taken = load(run).model
    for own, other in ((model.vision, taken.vision), (model.audio, taken.audio)):
        try:
            own.load_state_dict(other.state_dict())
        except RuntimeError:
            raise ValueError(
                f"model.trunks: the trunks of {run} have other shapes; model.width and model.stride must be that run's"
            ) from None
        own.freeze()
