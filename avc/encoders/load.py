"""The encoders of a network, by its family, and encoders from elsewhere."""

from __future__ import annotations

import runpy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from avc.encoders.encoder import AudioEncoder, ImageEncoder
from avc.encoders.towers import AudioTower, ImageTower
from avc.encoders.waveform import Waveform
from avc.models.pair import PairNetwork
from avc.models.waveform import WaveformNetwork
from avc.networks import ENCODERS, resolve


@dataclass(frozen=True)
class Encoders:
    """Of one network, in evaluation mode; None where it does not hear, or does not see."""

    name: str
    audio: AudioEncoder | None
    image: ImageEncoder | None

    @property
    def key(self) -> tuple[str, ...]:
        """The name, and the encoders' keys."""
        return (self.name, *(encoder.key for encoder in (self.audio, self.image) if encoder is not None))


def encoders_of(name: str, model: nn.Module, config: Any) -> Encoders:
    """The encoders of a network under the name that tables call it by; an encoder is its own, under its own name."""
    model = model.eval()
    if isinstance(model, AudioEncoder):
        return Encoders(model.name, model, None)
    if isinstance(model, ImageEncoder):
        return Encoders(model.name, None, model)
    if isinstance(model, WaveformNetwork):
        return Encoders(name, Waveform(name, model).eval(), None)
    assert isinstance(model, PairNetwork), model
    audio = AudioTower(name, model).eval() if model.hears else None
    return Encoders(name, audio, ImageTower(name, model, config.data).eval() if model.sees else None)


def named_encoder(source: str) -> AudioEncoder | ImageEncoder | None:
    """What FILE.py:NAME makes, called without arguments, or a name of `avc.networks.ENCODERS`; None for other sources.

    The file is run. Raises ValueError where there is no such file or name, and where no encoder comes of it.
    """
    file, _, name = source.partition(".py:")
    if source in ENCODERS:
        return resolve(ENCODERS[source])()  # type: ignore[no-any-return]
    if not name:
        return None
    path = Path(f"{file}.py").expanduser()
    if not path.is_file():
        raise ValueError(f"there is no file {path}")
    names = runpy.run_path(str(path))
    if name not in names:
        raise ValueError(f"{path} has nothing of the name {name}")
    made = names[name]()
    if not isinstance(made, AudioEncoder | ImageEncoder):
        raise ValueError(f"{source} makes a {type(made).__name__}, and no AudioEncoder or ImageEncoder")
    return made
