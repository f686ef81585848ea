"""What a folder's embeddings are by, noted in it so that no other settings are mixed in."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import torch

from avc.data.windows import hop_in_samples
from avc.files.decoding import Content, Wanted
from avc.inference import Network
from avc.models.inputs import VisualInput
from shards.atomic import written_aside

ABOUT = "embeddings.json"  # in the folder: what its files are embeddings by


@dataclass(frozen=True)
class Settings:
    """hop_size: seconds. center: as of `Network.embed_audio`. batch: windows, or pictures, computed at once."""

    content: Content = "audio"
    hop_size: float = 0.1
    center: bool = True
    batch: int = 32


def wanted_by(network: Network, settings: Settings) -> Wanted:
    """What decoders are to give. Raises ValueError where the network lacks the tower that is asked for."""
    hop_in_samples(settings.hop_size, network.sample_rate_hz)
    name = network.config.model.name
    if settings.content == "audio" and not network.model.hears:
        raise ValueError(f"{name} only sees: take --content image")
    if settings.content == "image" and not network.model.sees:
        raise ValueError(f"{name} only hears: take --content audio")
    if settings.content == "image" and (network.model.visual_input != VisualInput() or name == "avol"):
        raise ValueError(
            f"{name} has no embedding of a single picture as a whole; take --content audio, or another run"
        )
    hop = Fraction(str(settings.hop_size))
    return Wanted(settings.content, hop, network.sample_rate_hz, network.config.data.image_size)


def agree(folder: Path, network: Network, settings: Settings) -> None:
    """Note what the folder's embeddings are by; raise ValueError where it has others."""
    digest = hashlib.sha256(repr(network.model).encode())
    for name, tensor in sorted(network.model.state_dict().items()):
        digest.update(f"\0{name} {tensor.dtype} {tuple(tensor.shape)}\0".encode())
        digest.update(tensor.cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    about = {
        "network": network.config.model.name,
        "weights_sha256": digest.hexdigest(),
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
