"""Networks by name and settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from avc.config import parse_config
from avc.encoders.trained import Trained, trained
from avc.models import build
from avc.settings import PairConfig


def settings(name: str, **fields: Any) -> Any:
    """The settings of a network, `config.model`."""
    return parse_config({"model": {"name": name} | fields}).model


def fresh(name: str, **fields: Any) -> Any:
    """A network with fresh weights."""
    return build(settings(name, **fields))


def encoders(name: str, *, data: dict[str, Any] | None = None, **fields: Any) -> Trained:
    """The encoders of a network with fresh weights."""
    config = parse_config({"model": {"name": name} | fields, "data": data or {}})
    return trained(build(config.model), config, name=name)


def saved(folder: Path, name: str = "ave", **fields: Any) -> Path:
    """A folder as `save_pretrained` writes it: narrow, fresh weights of seed 0, pictures of 56 pixels."""
    config = parse_config({"model": {"name": name, "width": 0.125} | fields, "data": {"image_size": 56}})
    assert isinstance(config, PairConfig)
    torch.manual_seed(0)
    trained(build(config.model), config).save_pretrained(folder)
    return folder
