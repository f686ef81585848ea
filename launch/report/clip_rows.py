"""Features of packed clips: what of a network is taken, and what stands beside it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from avc.evaluation.classifiers import Integers
from avc.evaluation.clips import (
    LAYERS,
    PLACES,
    audio_features,
    clip_identity,
    concatenate,
    image_features,
    waveform_features,
    waveform_steps,
)
from avc.evaluation.extraction import Extraction, Extractor
from avc.models.pair import PairNetwork
from avc.models.waveform import WaveformNetwork
from avc.settings import Config, PairConfig
from launch.report.probe_rows import features_of
from shards.read import Shards


@dataclass(frozen=True)
class Senses:
    """How a network's features of clips come about: of their audio, and of their frames where it sees.

    places: by an extractor's name, how many places of the map stand side by side in a row for each unit.
    """

    name: str
    audio: Extractor[int]
    frames: Extractor[int] | None
    places: dict[str, int]


def senses(
    model: PairNetwork | WaveformNetwork, shards: Shards, config: Config, *, name: str, layer: str | None
) -> Senses:
    """The features of a layer: of LAYERS, or of a waveform network any of its own; None is its usual one.

    Raises ValueError for a layer that there is not.
    """
    if isinstance(model, WaveformNetwork):
        audio = waveform_features(model, shards, name=name, layer=layer)
        return Senses(name, audio, None, {audio.name: waveform_steps(model, layer)[1]})
    layer = layer or LAYERS[0]
    if layer not in LAYERS:
        raise ValueError(
            f"--layer is {layer!r} and must be {' or '.join(LAYERS)} for {name}: trunk is its last convolution"
        )
    if not isinstance(config, PairConfig):
        raise ValueError(f"{name} was imported, and what is asked for needs a run of this project")
    audio, frames = (
        features(model, shards, config.data, name=name, layer=layer) for features in (audio_features, image_features)
    )
    places = PLACES if layer == LAYERS[0] else (1, 1)
    return Senses(name, audio, frames, dict(zip((audio.name, frames.name), places, strict=True)))


def clip_features(
    network: Senses, beside: Senses | None, shards: Shards, clips: Integers, *, devices: str, cache: Path
) -> dict[str, Extraction]:
    """Features of clips by their names: of the audio, of the frames, and of both side by side.

    beside: the network whose frames stand beside the audio of one that only hears.
    """
    seeing = network if network.frames else beside
    extractors = [network.audio, *([seeing.frames] if seeing and seeing.frames else [])]
    extractions = {
        extractor.name: features_of(
            extractor, clips.tolist(), identify=clip_identity(shards), devices=devices, cache=cache
        )
        for extractor in extractors
    }
    if len(extractions) == 1:
        return extractions
    audio, frames = extractions.values()
    unreadable = tuple(dict.fromkeys(audio.unreadable + frames.unreadable))
    both = Extraction(concatenate(audio.features, frames.features), unreadable, padded=0)
    if seeing is network:
        return extractions | {f"{network.name}, both together": both}
    return {network.audio.name: audio, f"{network.name} and frames of {extractors[1].name}, both together": both}
