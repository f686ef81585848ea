"""Contrastive learning: each frame finds its audio, and each audio its frame, among all of the global batch."""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F

from avc.data.reader import Batch, PairReader
from avc.distributed.world import gather_rows
from avc.models.ave_variants import ContrastiveAVENet
from avc.settings import PairConfig
from avc.tasks.correspondence import Correspondence, forward
from avc.tasks.task import Losses


class Contrastive(Correspondence):
    """Symmetric InfoNCE over the views of all ranks (CLIP, figure 3); copies of one clip are no negatives.

    The comparison of two embeddings is trained beside it on the plan's pairs, without a say in the embeddings.
    """

    metrics: tuple[str, ...] = ("accuracy", "recall_at_1")
    accumulates = False

    def __init__(self, config: PairConfig, reader: PairReader, *, warnings: Iterable[str] = ()) -> None:
        if config.negatives.source != "shared":
            raise ValueError(f"{config.model.name} needs negatives.source: shared, where each view is read once")
        super().__init__(config, reader, warnings=warnings)

    def loss(self, network: ContrastiveAVENet, batch: Batch) -> Losses:
        """Per view, the cross-entropies of both directions; and pairs and views that were judged rightly."""
        (image, audio), compared = forward(network, batch, self.config, augment=True)
        positive = batch.pair_audio[: len(image)]  # of the frames in their order: the first half of the pairs
        views = (image, batch.frame_clip), (audio[positive], batch.audio_clip[positive])
        total = F.cross_entropy(compared, batch.label, reduction="sum")
        retrieved = total.new_zeros(())
        for (queries, clip), (keys, key_clip) in (views, views[::-1]):
            (keys, match), (key_clip, _) = gather_rows(keys), gather_rows(key_clip)
            copies = (clip[:, None] == key_clip).scatter(1, match[:, None], False)
            logits = (network.scale * queries @ keys.T).masked_fill(copies, -torch.inf)
            total = total + F.cross_entropy(logits, match, reduction="sum")
            retrieved = retrieved + (logits.detach().argmax(dim=1) == match).sum()
        right = (compared.detach().argmax(dim=1) == batch.label).sum()
        return Losses(total, torch.stack([right, retrieved]))
