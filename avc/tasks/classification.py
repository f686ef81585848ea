"""The supervised baseline learns classes from labels, and the threshold that turns classes into correspondence."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from avc.data.labels import labeled, read_labels
from avc.data.reader import Batch
from avc.settings import ClassifierConfig, PairConfig
from avc.tasks.correspondence import Correspondence, forward, training_reader, unusual
from avc.tasks.task import Losses
from shards.read import Shards


class Classification(Correspondence):
    """Cross-entropy over the classes of frames and of audio, and over pairs for the threshold alone.

    The plan is that of the networks without labels, over the training clips that have one label.
    Raises ValueError where there are no labels, or not of so many classes as the settings say.
    """

    metrics: tuple[str, ...] = ("accuracy", "image_accuracy", "audio_accuracy")
    _class_of: Tensor  # int64 (clips of the index,)

    @classmethod
    def on(cls, config: PairConfig, shards: Shards) -> Self:
        """The task over the training clips that have one label. Raises as the class does."""
        assert isinstance(config, ClassifierConfig)
        if config.data.labels is None:
            raise ValueError("model.name: supervised learns from labels, and data.labels names no file of them")
        labels = labeled(shards, shards.clips("train"), read_labels(config.data.labels))
        single = (labels.sets == labels.sets[:, :1]).all(axis=1)
        if len(labels.classes) != config.model.num_classes:
            raise ValueError(
                f"model.num_classes is {config.model.num_classes}, and {config.data.labels} has {len(labels.classes)} "
                f"classes for the training clips of {shards.folder}: set model.num_classes={len(labels.classes)}"
            )
        reader = training_reader(config, shards, clips=labels.clips[single])
        warnings = unusual(config, reader)
        if labels.unlabeled or labels.unread:
            warnings += labels.counts(config.data.labels, "the train split")
        if several := int((~single).sum()):
            warnings.append(f"{several:,} clips of the train split have several labels and are left out")
        task = cls(config, reader, warnings=warnings)
        task.inputs = {"labels": config.data.labels}
        class_of = np.full(len(shards), -1, dtype=np.int64)
        class_of[labels.clips] = labels.sets[:, 0]
        task._class_of = torch.from_numpy(class_of)
        return task

    def loss(self, network: Any, batch: Batch) -> Losses:
        """The three losses, and how many pairs, images and seconds of audio were judged rightly."""
        (image, audio), pairs = forward(network, batch, self.config, augment=True)
        self._class_of = self._class_of.to(batch.label.device)
        truths = (batch.label, self._class_of[batch.frame_clip], self._class_of[batch.audio_clip])
        losses, rights = [], []
        for logits, truth in zip((pairs, image, audio), truths, strict=True):
            share = len(batch.label) / len(truth)  # an image may be in several pairs
            losses.append(share * F.cross_entropy(logits.float(), truth, reduction="sum"))
            rights.append(share * (logits.detach().argmax(dim=1) == truth).sum())
        return Losses(torch.stack(losses).sum(), torch.stack(rights))
