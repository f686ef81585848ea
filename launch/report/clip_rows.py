"""Features of packed clips: of a network's audio, of its frames, and of both side by side."""

from __future__ import annotations

from pathlib import Path

from avc.encoders.load import Encoders
from avc.evaluation.classifiers import Integers
from avc.evaluation.clips import concatenate, frames_of_clips, places_of_second, seconds_of_clips
from avc.evaluation.extraction import Extraction
from launch.report.probe_rows import features_of
from shards.read import Shards


def clip_features(
    network: Encoders,
    beside: Encoders | None,
    shards: Shards,
    clips: Integers,
    *,
    layer: str | None,
    devices: str,
    cache: Path,
) -> tuple[dict[str, Extraction], dict[str, int]]:
    """Features of clips by their names, and how many numbers of a row each unit has, of those of `network` alone.

    layer: None is the usual one. beside: the network whose frames stand beside the audio of one that only hears.
    """
    extractions: dict[str, Extraction] = {}
    places: dict[str, int] = {}
    seeing = network if network.image else beside
    if (audio := network.audio) is not None:
        taken = audio.named_layer(layer)
        inputs = seconds_of_clips(audio, taken, shards)
        name = f"{network.name}, {inputs.what}"
        extractions[name] = features_of(audio, taken, inputs, clips.tolist(), devices=devices, cache=cache)
        places[name] = places_of_second(audio, taken)
    if seeing is None or (image := seeing.image) is None:
        return extractions, places
    taken = image.named_layer(layer if seeing is network else None)
    inputs = frames_of_clips(image, taken, shards)
    name = f"{seeing.name}, {inputs.what}"
    frames = features_of(image, taken, inputs, clips.tolist(), devices=devices, cache=cache)
    heard = list(extractions.values())
    both = network.name
    if seeing is network:
        extractions[name], places[name] = frames, image.places(taken)
    else:
        both += f" and frames of {name}"
    for sound in heard:
        unreadable = tuple(dict.fromkeys(sound.unreadable + frames.unreadable))
        features = concatenate(sound.features, frames.features)
        extractions[f"{both}, both together"] = Extraction(features, unreadable, padded=0)
    return extractions, places
