"""Which family of networks learns what."""

from __future__ import annotations

from typing import Any

from avc.config import Config
from avc.models.soundnet import SOUNDNETS
from avc.training.autoencoding import Autoencoding
from avc.training.correspondence import AudioVisualCorrespondence
from avc.training.distillation import Distillation
from avc.training.objective import Objective
from avc.training.supervision import Supervision
from shards.read import Shards


def objective_of(config: Config, shards: Shards) -> Objective[Any]:
    """What `config.model.name` is trained to do on these shards. Raises ValueError where they do not fit."""
    name = config.model.name
    if name in SOUNDNETS:
        return Distillation(config, shards)
    if name == "autoencoder":
        return Autoencoding(config, shards)
    if name == "supervised":
        return Supervision(config, shards)
    return AudioVisualCorrespondence(config, shards)
