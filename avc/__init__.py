"""The science of audio-visual correspondence. Never a scheduler, never a command line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from avc.encoders.load import load
    from avc.encoders.trained import Trained

__all__ = ["Trained", "load"]


def __getattr__(name: str) -> Any:
    # Not imported above: that would be torch, and `avc --help` answers at once.
    if name in __all__:
        from avc.encoders import load, trained

        return load.load if name == "load" else trained.Trained
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
