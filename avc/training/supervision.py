"""The supervised baseline learns kinds from labels, and the threshold that turns kinds into correspondence."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from avc.config import Config
from avc.data.loader import Batch
from avc.evaluation.correspondence import answer
from avc.evaluation.labels import labelled, read_labels
from avc.models.supervised import Judgement
from avc.training.correspondence import AudioVisualCorrespondence
from shards.read import Shards


class Supervision(AudioVisualCorrespondence):
    """Cross-entropy over the kinds of frames and of sounds, and over pairs for the threshold alone.

    The plan is that of the networks without labels, over the training clips that have one label.
    Raises ValueError where there are no labels, or not of so many kinds as the settings say.
    """

    figures: tuple[str, ...] = ("accuracy", "sight", "hearing")

    def __init__(self, config: Config, shards: Shards) -> None:
        if config.data.labels is None:
            raise ValueError("model.name: supervised learns from labels, and data.labels names no file of them")
        known = labelled(shards, shards.clips("train"), read_labels(config.data.labels))
        single = (known.sets == known.sets[:, :1]).all(axis=1)
        if len(known.classes) != config.model.kinds:
            raise ValueError(
                f"model.kinds is {config.model.kinds}, and {config.data.labels} has {len(known.classes)} kinds for the "
                f"training clips of {shards.folder}: set model.kinds={len(known.classes)}"
            )
        super().__init__(config, shards, clips=known.clips[single])
        kind = np.full(len(shards), -1, dtype=np.int64)
        kind[known.clips] = known.sets[:, 0]
        self._kind = torch.from_numpy(kind)
        left_out = known.unlabelled + int((~single).sum())
        if left_out:
            self.remarks += (f"{left_out:,} training clips have no label, or several, and are left out",)

    def loss(self, network: nn.Module, batch: Batch, *, step: int) -> tuple[Tensor, Tensor]:
        """The loss, summed over the pairs, and how many pairs, pictures and sounds were judged rightly (3,)."""
        found = answer(network, batch, self.config, augment=True)
        assert isinstance(found, Judgement)
        self._kind = self._kind.to(batch.label.device)
        truths = (batch.label, self._kind[batch.frame_clip], self._kind[batch.sound_clip])
        losses, rights = [], []
        for logits, truth in zip((found.pairs, found.kinds_seen, found.kinds_heard), truths, strict=True):
            share = len(batch.label) / len(truth)  # a picture may be in several pairs
            losses.append(share * F.cross_entropy(logits.float(), truth, reduction="sum"))
            rights.append(share * (logits.detach().argmax(dim=1) == truth).sum())
        return torch.stack(losses).sum(), torch.stack(rights)
