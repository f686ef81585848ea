"""Networks by name and settings."""

from __future__ import annotations

from typing import Any

from avc.config import parse_config
from avc.models import build


def settings(name: str, **fields: Any) -> Any:
    """The settings of a network, `config.model`."""
    return parse_config({"model": {"name": name} | fields}).model


def fresh(name: str, **fields: Any) -> Any:
    """A network with fresh weights."""
    return build(settings(name, **fields))
