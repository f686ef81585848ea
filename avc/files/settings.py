"""What is embedded, where to, and by what: noted in the folder, so that no other settings are mixed in."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from avc.data.labeled_sets import PICTURES, SOUNDS
from avc.data.windows import hop_in_samples
from avc.encoders.encoder import digest
from avc.encoders.trained import Trained
from avc.files.decoding import Content, Wanted
from shards.atomic import refuse_special, sync_folder, write_whole
from shards.format import SAMPLE_RATE_HZ
from shards.sources import VIDEO_SUFFIXES, Source, list_sources
from shards.store import as_url

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
    folder.mkdir(parents=True, exist_ok=True)
    refuse_special(path)
    if not path.is_file():
        _place_first(path, json.dumps(about, indent=2).encode() + b"\n")
    try:
        noted = json.loads(path.read_text())
    except ValueError:
        raise ValueError(f"{path} is damaged: remove it, or give another folder") from None
    if noted != about:
        other = [name for name in about if not isinstance(noted, dict) or noted.get(name) != about[name]]
        raise ValueError(
            f"{folder} has embeddings by other settings ({', '.join(other)}, see {path}): give another --out"
        )


def _place_first(path: Path, content: bytes) -> None:
    """Write a file, but where another process was faster: what that wrote stays."""
    temporary = path.with_name(f"{path.name}.{uuid.uuid4().hex}")
    write_whole(temporary, content)
    try:
        os.link(temporary, path)
        sync_folder(path.parent)
    except OSError:
        if not path.is_file():  # a file system without hard links, or a link that leads nowhere
            os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def is_there(target: Path) -> bool:
    """Whether the embeddings of a file are written: what is there was renamed when it was complete."""
    try:
        return target.stat().st_size > 0
    except OSError:
        return False


MEMBERS: dict[Content, frozenset[str]] = {
    "audio": VIDEO_SUFFIXES.union(SOUNDS),
    "image": VIDEO_SUFFIXES.union(PICTURES),
}


def targets_in(
    folder: Path, inputs: Sequence[str | os.PathLike[str]], *, content: Content
) -> list[tuple[Source, Path]]:
    """Every file of the inputs once, sorted by name, and the .npz in `folder` that its embeddings are written to.

    A file that is given itself keeps its name there, one in a folder that is given its path below that folder, a member
    of a tar the tar's name and its own. Inputs are those of `shards.sources.list_sources`; members of a tar those that
    end as films do, and as sounds or pictures do, whichever is the content. Raises ValueError where two
    would have one name, and for an input that does not exist.
    """
    targets: dict[tuple[str, int | None], tuple[Source, Path]] = {}
    for given in inputs:
        path = str(as_url(given) or os.path.abspath(os.path.expanduser(given)))
        folder_of_many = as_url(path) and not path.lower().endswith((".txt", ".tar"))
        root = path if folder_of_many or os.path.isdir(path) else os.path.dirname(path)
        for source in list_sources([given], without=folder, members=MEMBERS[content]):
            inside = source.name.startswith(root.rstrip("/") + "/")
            name = os.path.relpath(source.path, root) if inside else os.path.basename(source.path)
            if source.offset is not None:
                name = f"{name}/{source.inside}" if inside else source.basename
            # A member of a tar may bear any name; what is written stays in the folder.
            parts = [part for part in name.split("/") if part not in ("", ".", "..")]
            targets.setdefault((source.name, source.offset), (source, folder.joinpath(*parts[:-1], parts[-1] + ".npz")))
    rows = sorted(targets.values(), key=lambda row: (os.fsencode(row[0].name), row[0].offset or 0))
    taken: dict[Path, Source] = {}
    for source, target in rows:
        if target in taken:
            raise ValueError(
                f"{taken[target].name} and {source.name} would both be written to {target}: give the folder that both "
                "lie in, or embed them apart"
            )
        taken[target] = source
    return rows
