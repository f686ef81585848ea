"""The encoders of a network: of its audio and of its images, by the family's row in the list of networks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from avc.encoders.encoder import AudioEncoder, ImageEncoder
from avc.encoders.towers import AudioTower, ImageTower
from avc.encoders.waveform import Waveform
from avc.models.pair import PairNetwork
from avc.models.waveform import WaveformNetwork
from avc.settings import Config


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


def encoders_of(name: str, model: PairNetwork | WaveformNetwork, config: Config) -> Encoders:
    """The encoders of a network under the name that tables call it by."""
    model = model.eval()
    if isinstance(model, WaveformNetwork):
        return Encoders(name, Waveform(name, model).eval(), None)
    data: Any = config.data
    audio = AudioTower(name, model).eval() if model.hears else None
    return Encoders(name, audio, ImageTower(name, model, data).eval() if model.sees else None)
