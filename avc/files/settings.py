"""What a folder's embeddings are by, noted in it so that no other settings are mixed in."""

from __future__ import annotations

import json
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from avc.data.windows import hop_in_samples
from avc.encoders.encoder import digest
from avc.encoders.trained import Trained
from avc.files.decoding import Content, Wanted
from shards.atomic import written_aside
from shards.format import SAMPLE_RATE_HZ

ABOUT = "embeddings.json"  # in the folder: what its files are embeddings by


@dataclass(frozen=True)
class Settings:
    """hop_size: seconds. center: as of `Trained.embed_audio`. batch: windows, or pictures, computed at once."""

    content: Content = "audio"
    hop_size: float = 0.1
    center: bool = True
    batch: int = 32


def wanted_by(network: Trained, settings: Settings) -> Wanted:
    """What decoders are to give. Raises ValueError where the network lacks the tower that is asked for."""
    name, (audio, image) = network.name, (network.hears, network.sees)
    if settings.content == "audio" and audio is None:
        raise ValueError(f"{name} only sees: take --content image")
    if settings.content == "image" and image is None:
        raise ValueError(f"{name} only hears: take --content audio")
    if settings.content == "image" and image and not image.embeds_pictures:
        raise ValueError(
            f"{name} has no embedding of a single picture as a whole; take --content audio, or another run"
        )
    rate = audio.sample_rate_hz if audio else SAMPLE_RATE_HZ
    hop_in_samples(settings.hop_size, rate)
    return Wanted(settings.content, Fraction(str(settings.hop_size)), rate, image.size if image else 0)


def agree(folder: Path, network: Trained, settings: Settings) -> None:
    """Note what the folder's embeddings are by; raise ValueError where it has others."""
    about = {
        "network": network.config.model.name,
        "weights_sha256": digest(network.model),
        "content": settings.content,
        "hop_size": settings.hop_size,
        "center": settings.center,
        "batch": settings.batch,
    }
    path = folder / ABOUT
    try:
        folder.mkdir(parents=True, exist_ok=True)
        known = json.loads(path.read_text()) if path.is_file() else None
    except ValueError:
        raise ValueError(f"{path} is damaged: remove it, or give another folder") from None
    if known is None:
        with written_aside(path) as file:
            file.write(json.dumps(about, indent=2).encode() + b"\n")
    elif known != about:
        other = [name for name in about if not isinstance(known, dict) or known.get(name) != about[name]]
        raise ValueError(
            f"{folder} has embeddings by other settings ({', '.join(other)}, see {path}): give another --out"
        )


def is_there(target: Path) -> bool:
    """Whether the embeddings of a file are written: what is there was renamed when it was complete."""
    try:
        return target.stat().st_size > 0
    except OSError:
        return False
