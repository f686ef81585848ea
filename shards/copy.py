"""A packed folder to a store, and back: whatever stops it, the same command goes on, and the manifest goes last."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from shards import Report
from shards.atomic import refuse_links, write_whole, written_aside
from shards.build_index import REJECTED
from shards.format import JOURNAL, MANIFEST
from shards.index import LARGEST_MANIFEST, Manifest, StoredFile, manifest_text, read_manifest
from shards.processes import Threads
from shards.store import IN_FLIGHT, Store, Url, place

LARGEST_LIST = 2**32  # bytes of a journal


def copy_packed(source: str | os.PathLike[str], target: str | os.PathLike[str], *, progress: Report) -> Manifest:
    """Copy a packed folder of this machine to a URL, or from a URL to this machine; what it holds.

    progress: of bytes, with the name of the last file. Files that are there already, by their SHA-256, are not copied
    again. Raises ValueError where both or none are URLs, where `source` is not packed to its end or damaged, and where
    `target` holds another packed folder; OSError.
    """
    one, other = place(source), place(target)
    manifest = read_manifest(one)
    if isinstance(other, Url) and not isinstance(one, Url):
        copied = _upload(one, Store(other), manifest)
    elif isinstance(one, Url) and not isinstance(other, Url):
        copied = _download(Store(one), other, manifest)
    else:
        raise ValueError(f"{one} and {other}: one of them must be a URL, as s3://bucket/name, and one a folder here")
    total, done = sum(file.bytes for file in _files(manifest)), 0
    for file in copied:
        done += file.bytes
        progress(done, total, file.name)
    return manifest


def _files(manifest: Manifest) -> list[StoredFile]:
    return [*manifest.tables, *manifest.shards]


def _lists(manifest: Manifest) -> list[str]:
    """Names of what lies beside them and is not in the manifest: for packing to go on, and for people."""
    above = {file.name.rpartition("/")[0] for file in _files(manifest)} | {""}
    return [REJECTED, *(f"{folder}/{JOURNAL}".removeprefix("/") for folder in sorted(above))]


def _upload(folder: Path, store: Store, manifest: Manifest) -> Iterator[StoredFile]:
    text, there = manifest_text(folder), store.sizes() or {}
    _refuse_other(there.get(MANIFEST) is None or store.whole(MANIFEST, most=LARGEST_MANIFEST) == text, store.url)

    def upload(file: StoredFile) -> StoredFile:
        if there.get(file.name) != file.bytes or store.uploaded(file.name) != file.sha256:
            store.upload(folder / file.name, file.name, sha256=file.sha256)
        return file

    with Threads(IN_FLIGHT) as threads:
        yield from threads.map(upload, _files(manifest))
    for name in _lists(manifest):
        if (folder / name).is_file():
            with open(folder / name, "rb") as opened:
                digest = hashlib.file_digest(opened, "sha256").hexdigest()
            if name not in there or store.uploaded(name) != digest:
                store.upload(folder / name, name, sha256=digest)
    try:
        store.create(MANIFEST, text)
    except FileExistsError:  # put there before, or meanwhile
        _refuse_other(store.whole(MANIFEST, most=LARGEST_MANIFEST) == text, store.url)


def _download(store: Store, folder: Path, manifest: Manifest) -> Iterator[StoredFile]:
    text = manifest_text(store.url)
    _refuse_other(not (folder / MANIFEST).exists() or (folder / MANIFEST).read_bytes() == text, folder)
    folder.mkdir(parents=True, exist_ok=True)
    refuse_links([folder])

    def download(file: StoredFile) -> StoredFile:
        path = folder / file.name
        path.parent.mkdir(exist_ok=True)
        if not path.is_file() or StoredFile.of(folder, file.name) != StoredFile(file.name, file.bytes, file.sha256):
            with written_aside(path) as copy:
                store.fetch(file.name, copy, size=file.bytes, sha256=file.sha256)
        return file

    with Threads(IN_FLIGHT) as threads:
        yield from threads.map(download, _files(manifest))
    for name in _lists(manifest):
        try:
            content = store.whole(name, most=LARGEST_LIST)
        except FileNotFoundError:
            continue
        write_whole(folder / name, content)
    write_whole(folder / MANIFEST, text)


def _refuse_other(same: bool, target: Path) -> None:
    if not same:
        raise ValueError(f"{target} holds another packed folder: copy to a new place, or remove what is there")
