"""Verifies a packed folder: checks each shard and member against manifest and index, and the order of the records."""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import math
import os
import tarfile
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import soundfile

from shards import Report
from shards.atomic import PART
from shards.file_slice import Descriptor
from shards.format import CLIPS, JOURNAL, MANIFEST, MIXED_FROM, SAMPLES_PER_TICK, SPLITS, picture_count
from shards.index import NAME, Index, Manifest, ShardFile, StoredFile, manifest_text, open_index, read_manifest
from shards.journal import Packed, read_events
from shards.read import WAV_HEADER_BYTES
from shards.store import Store, Url, place
from shards.writer import BLOCK


@dataclass(frozen=True)
class Problem:
    """A problem of a file or member; `what`: missing, truncated, altered, inconsistent, unreadable or not listed."""

    file: str  # a shard, or a table of the index
    member: str  # KEY.extension; empty for the entire file
    what: str
    detail: str


def verify(folder: str | os.PathLike[str], *, quick: bool = False, progress: Report | None = None) -> list[Problem]:
    """All problems of a packed folder; an empty list where it is as it was packed.

    Reads all bytes: files are checked by SHA-256, members by CRC-32, pictures and sound against the index. `quick`
    compares only names and sizes of files. Files at a URL are downloaded one by one to a temporary folder. progress:
    bytes and a file's name. Raises ValueError when the folder has no valid manifest.
    """
    path = place(folder)
    if not isinstance(path, Url):
        return _verify(path, None, quick=quick, progress=progress)
    with TemporaryDirectory() as temporary:
        return _verify(Path(temporary), Store(path), quick=quick, progress=progress)


def _verify(path: Path, store: Store | None, *, quick: bool, progress: Report | None) -> list[Problem]:
    """store: source of the files of `path`, which are sparse until they are downloaded."""
    if store is not None:
        (path / MANIFEST).write_bytes(manifest_text(store.url))
        for name, size in _stored_sizes(store, path, quick=quick).items():
            (path / name).parent.mkdir(exist_ok=True)
            with open(path / name, "wb") as file:
                file.truncate(size)
    manifest = read_manifest(path)
    problems = [problem for table in manifest.tables for problem in _file_problems(path, table, store, quick=quick)]
    index = None
    if not problems:  # with a damaged index every member would have a problem
        try:
            index = open_index(path)
        except ValueError as error:
            detail = str(error) if store is None else str(error).replace(str(path), str(store.url))
            problems.append(Problem(MANIFEST, "", "inconsistent", detail))
    problems += _unlisted_files(path, manifest)
    total, done = sum(shard.bytes for shard in manifest.shards), 0
    for row, shard in enumerate(manifest.shards):
        by_file = _file_problems(path, shard, store, quick=quick)
        by_member: list[Problem] = []
        if index is not None and not quick and (path / shard.name).is_file():
            by_member = [*_member_problems(path, shard, row, index)]
        # Problems of members say more than the shard's checksum, which is reported where no member has one.
        problems += [problem for problem in by_file if problem.what != "altered" or not by_member] + by_member
        if store is not None:
            (path / shard.name).unlink(missing_ok=True)
        done += shard.bytes
        if progress is not None:
            progress(done, total, shard.name)
    if index is not None:
        problems += _count_problems(manifest, index)
    return problems


def _unlisted_files(folder: Path, manifest: Manifest) -> Iterator[Problem]:
    listed = {shard.name for shard in manifest.shards}
    for entry in sorted([*folder.iterdir(), *folder.glob("task-*-of-*/*")]):
        name = str(entry.relative_to(folder))
        if name.endswith((".tar", PART)) and name not in listed:
            yield Problem(name, "", "not listed", "the manifest does not have it")


def _stored_sizes(store: Store, folder: Path, *, quick: bool) -> dict[str, int]:
    sizes = store.sizes()
    if sizes is None and quick:
        raise ValueError(f"--quick needs a list of what is there, which {store.url} does not give; leave it out")
    if sizes is None:
        manifest = read_manifest(folder)
        sizes = {file.name: file.bytes for file in (*manifest.tables, *manifest.shards)}
    return {name: size for name, size in sizes.items() if NAME.fullmatch(name)}


def _file_problems(folder: Path, file: StoredFile, store: Store | None, *, quick: bool) -> list[Problem]:
    try:
        if store is not None and not (quick and isinstance(file, ShardFile)):
            with open(folder / file.name, "r+b") as copy:
                copy.writelines(store.pieces(file.name, os.fstat(copy.fileno()).st_size))
        with open(folder / file.name, "rb") as stream:
            size = os.fstat(stream.fileno()).st_size
            if size < file.bytes:
                return [Problem(file.name, "", "truncated", f"{size:,} bytes of {file.bytes:,}")]
            if size > file.bytes:
                return [Problem(file.name, "", "altered", f"{size:,} bytes instead of {file.bytes:,}")]
            if not quick and hashlib.file_digest(stream, "sha256").hexdigest() != file.sha256:
                return [Problem(file.name, "", "altered", "its SHA-256 is not the one in the manifest")]
    except FileNotFoundError:
        return [Problem(file.name, "", "missing", f"{file.bytes:,} bytes")]
    except OSError as error:
        return [Problem(file.name, "", "unreadable", error.strerror or str(error))]
    return []


def _member_problems(folder: Path, shard: ShardFile, row: int, index: Index) -> Iterator[Problem]:
    columns = index.manifest.settings.columns
    descriptor = Descriptor(folder / shard.name)
    end = 0  # of the previous member
    clips = index.clips[index.clips["shard"] == row]
    for clip in clips[np.argsort(clips["json_offset"])]:
        key = str(clip["key"], "ascii")
        for extension in sorted(columns):
            offset, size, crc = (int(clip[f"{columns[extension]}_{field}"]) for field in ("offset", "size", "crc"))
            name = f"{key}.{extension}"
            if offset - BLOCK != end:
                yield Problem(shard.name, name, "inconsistent", f"starts at byte {offset}, after a gap or an overlap")
            end = offset + -(-size // BLOCK) * BLOCK
            try:
                data = descriptor.read(offset - BLOCK, BLOCK + size)
            except OSError as error:
                yield Problem(shard.name, name, "unreadable", error.strerror or str(error))
                continue
            if len(data) < BLOCK + size:
                available = max(0, len(data) - BLOCK)
                what = "truncated" if available else "missing"
                yield Problem(shard.name, name, what, f"{available:,} bytes of {size:,}")
                continue
            header, content = data[:BLOCK], data[BLOCK:]
            if not _header_matches(header, name, size):
                yield Problem(shard.name, name, "altered", "its tar header is not the one that was written")
            if zlib.crc32(content) != crc:
                yield Problem(shard.name, name, "altered", "its CRC-32 is not the one in the index")
            elif problem := _content_problem(extension, content, clip, index):
                yield Problem(shard.name, name, "inconsistent", problem)


def _header_matches(header: bytes, name: str, size: int) -> bool:
    try:
        member = tarfile.TarInfo.frombuf(header, tarfile.ENCODING, "surrogateescape")
    except tarfile.HeaderError:
        return False
    return member.name == name and member.size == size and member.isreg()


def _content_problem(extension: str, content: bytes, clip: np.void, index: Index) -> str:
    """The problem of a member with a correct checksum, a fault of the packer; empty where there is none."""
    ticks = int(clip["ticks"])
    if extension == "json":
        try:
            facts = json.loads(content)
            differing = [name for name in ("ticks", "every", "width", "height") if facts[name] != clip[name]]
        except (ValueError, KeyError, TypeError) as error:
            return f"not the facts of a record: {error!r}"
        return f"its {', '.join(differing)} is not what the index says" if differing else ""
    if extension in ("mjpeg", "flow.mjpeg"):
        flow = extension == "flow.mjpeg"
        table = index.flow if flow else index.pictures
        first = int(clip["first_flow" if flow else "first_picture"])
        count = ticks if flow else picture_count(ticks, int(clip["every"])) + 1
        assert table is not None
        try:
            return _images_problem(content, table[first : first + count])
        except OSError as error:
            return f"{table.path.name} cannot be read: {error.strerror}"
    expected = ticks * SAMPLES_PER_TICK
    if extension == "wav" and len(content) != WAV_HEADER_BYTES + 2 * expected:
        return f"{len(content):,} bytes for {expected:,} samples"
    try:
        sound = soundfile.info(io.BytesIO(content))
    except soundfile.SoundFileError as error:
        return str(error)
    return "" if sound.frames == expected else f"{sound.frames:,} samples instead of {expected:,}"


def _images_problem(content: bytes, table: np.ndarray) -> str:
    starts = table.astype(np.int64)
    if starts[0] != 0 or starts[-1] != len(content) or (np.diff(starts) < 4).any():
        return "the table of pictures does not divide it into pictures"
    for number, (start, end) in enumerate(itertools.pairwise(starts.tolist())):
        if content[start : start + 2] != b"\xff\xd8" or content[end - 2 : end] != b"\xff\xd9":
            return f"picture {number} does not start and end as a JPEG file"
    return ""


def _count_problems(manifest: Manifest, index: Index) -> Iterator[Problem]:
    for code, split in enumerate(SPLITS):
        rows = int((index.clips["split"] == code).sum())
        listed = sum(shard.records for shard in manifest.shards if shard.split == split)
        if not rows == listed == manifest.packed.get(split, 0):
            detail = f"{rows} rows of the index are {split}, the shards have {listed} records, the counts say "
            yield Problem(CLIPS, "", "inconsistent", f"{detail}{manifest.packed.get(split, 0)}")
    for row, shard in enumerate(manifest.shards):
        rows = int((index.clips["shard"] == row).sum())
        if rows != shard.records:
            yield Problem(
                shard.name, "", "inconsistent", f"{rows} records in the index, {shard.records} in the manifest"
            )


def order_problem(folder: Path, manifest: Manifest, *, quick: bool = False) -> str:
    """Describes shards whose records are sorted by name instead of mixed; empty where they are mixed or it is unknown.

    Counted in the journals, which include inputs that were added folder by folder. If `quick` or without journals, the
    version of packing decides.
    """
    counts = None if quick else _count_neighbors(folder, manifest)
    if counts is None:
        several = any(count > 1 for count in Counter(shard.split for shard in manifest.shards).values())
        return "it was packed in order of name" if manifest.settings.version < MIXED_FROM and several else ""
    neighbors, expected = counts
    if neighbors <= 1.5 * expected + 4 * math.sqrt(expected):  # within chance
        return ""
    total = sum(shard.records for shard in manifest.shards)
    return (
        f"{neighbors:,} of {total:,} records lie in one shard with the next one by name, "
        f"{expected:,.0f} would by chance"
    )


def _count_neighbors(folder: Path, manifest: Manifest) -> tuple[int, float] | None:
    """Number of records in the same shard as the next one of their split by name, and the number expected by chance."""
    remaining = {shard.name: shard.records for shard in manifest.shards}  # bounds the memory for foreign journals
    records_of_split: dict[str, list[tuple[str, str]]] = {split: [] for split in SPLITS}
    for subfolder in sorted({name.rpartition("/")[0] for name in remaining}):
        journal = folder / subfolder / JOURNAL
        try:
            for event in read_events(journal) if journal.is_file() else ():
                if isinstance(event, Packed):
                    shard = f"{subfolder}/{event.shard}".removeprefix("/")
                    remaining[shard] -= 1
                    if remaining[shard] < 0:
                        return None
                    records_of_split[event.split].append((event.source.name, shard))
        except (OSError, ValueError, KeyError):
            return None
    if any(remaining.values()):  # a journal is missing, or belongs to other shards
        return None
    neighbors, expected = 0, 0.0
    for records in records_of_split.values():
        records.sort()
        neighbors += sum(shard_ == next_shard for (_, shard_), (_, next_shard) in itertools.pairwise(records))
        counts = Counter(shard for _, shard in records).values()
        expected += sum(count * (count - 1) for count in counts) / max(1, len(records))
    return neighbors, expected
