"""Which file's embeddings are called what."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from avc.data.labeled_sets import PICTURES, SOUNDS
from avc.files.decoding import Content
from shards.sources import VIDEO_SUFFIXES, Source, list_sources

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
    found: dict[tuple[str, int | None], tuple[Source, Path]] = {}
    for given in inputs:
        path = os.path.abspath(os.path.expanduser(given))
        root = path if os.path.isdir(path) else os.path.dirname(path)
        for source in list_sources([given], without=folder, members=MEMBERS[content]):
            inside = source.name.startswith(root.rstrip("/") + "/")
            name = os.path.relpath(source.path, root) if inside else os.path.basename(source.path)
            if source.offset is not None:
                name = f"{name}/{source.inside}" if inside else source.basename
            # A member of a tar may bear any name; what is written stays in the folder.
            parts = [part for part in name.split("/") if part not in ("", ".", "..")]
            found.setdefault((source.name, source.offset), (source, folder.joinpath(*parts[:-1], parts[-1] + ".npz")))
    rows = sorted(found.values(), key=lambda row: (os.fsencode(row[0].name), row[0].offset or 0))
    taken: dict[Path, Source] = {}
    for source, target in rows:
        if target in taken:
            raise ValueError(
                f"{taken[target].name} and {source.name} would both be written to {target}: give the folder that both "
                "lie in, or embed them apart"
            )
        taken[target] = source
    return rows
