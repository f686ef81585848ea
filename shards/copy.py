"""Copies a packed folder to a store, and back; an interrupted copy resumes, and the manifest is copied last."""

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
    """Copy a local packed folder to a URL, or from a URL to a local folder; returns its manifest.

    progress: bytes, with the name of the last file. Files with an equal SHA-256 at the target are skipped. Raises
    ValueError where both or none are URLs, where `source` is incomplete or damaged, and where `target` holds another
    packed folder; OSError.
    """
    origin, destination = place(source), place(target)
    if isinstance(destination, Url) and str(destination).startswith("http"):
        raise ValueError(f"{destination}: over http a store is only read; copy to one of s3://, gs:// or az://")
    manifest = read_manifest(origin)
    if isinstance(destination, Url) and not isinstance(origin, Url):
        copied = _upload(origin, Store(destination), manifest)
    elif isinstance(origin, Url) and not isinstance(destination, Url):
        copied = _download(Store(origin), destination, manifest)
    else:
        raise ValueError(
            f"{origin} and {destination}: one of them must be a URL, as s3://bucket/name, and one a folder here"
        )
    total, done = sum(file.bytes for file in _files(manifest)), 0
    for file in copied:
        done += file.bytes
        progress(done, total, file.name)
    return manifest


def _files(manifest: Manifest) -> list[StoredFile]:
    return [*manifest.tables, *manifest.shards]


def _unlisted_files(manifest: Manifest) -> list[str]:
    """Names of files that are not in the manifest: journals, for resuming, and the list of rejections."""
    above = {file.name.rpartition("/")[0] for file in _files(manifest)} | {""}
    return [REJECTED, *(f"{folder}/{JOURNAL}".removeprefix("/") for folder in sorted(above))]


def _upload(folder: Path, store: Store, manifest: Manifest) -> Iterator[StoredFile]:
    text, sizes = manifest_text(folder), store.sizes() or {}
    _require_same(sizes.get(MANIFEST) is None or store.whole(MANIFEST, most=LARGEST_MANIFEST) == text, store.url)

    def upload(file: StoredFile) -> StoredFile:
        if sizes.get(file.name) != file.bytes or store.uploaded(file.name) != file.sha256:
            store.upload(folder / file.name, file.name, sha256=file.sha256)
        return file

    with Threads(IN_FLIGHT) as threads:
        yield from threads.map(upload, _files(manifest))
    for name in _unlisted_files(manifest):
        if (folder / name).is_file():
            with open(folder / name, "rb") as listed:
                digest = hashlib.file_digest(listed, "sha256").hexdigest()
            if name not in sizes or store.uploaded(name) != digest:
                store.upload(folder / name, name, sha256=digest)
    try:
        store.create(MANIFEST, text)
    except FileExistsError:  # from an earlier or a concurrent copy
        _require_same(store.whole(MANIFEST, most=LARGEST_MANIFEST) == text, store.url)


def _download(store: Store, folder: Path, manifest: Manifest) -> Iterator[StoredFile]:
    text = manifest_text(store.url)
    _require_same(not (folder / MANIFEST).exists() or (folder / MANIFEST).read_bytes() == text, folder)
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
    for name in _unlisted_files(manifest):
        try:
            content = store.whole(name, most=LARGEST_LIST)
        except FileNotFoundError:
            continue
        write_whole(folder / name, content)
    write_whole(folder / MANIFEST, text)


def _require_same(same: bool, target: Path) -> None:
    if not same:
        raise ValueError(f"{target} holds another packed folder: copy to a new place, or remove what is there")
