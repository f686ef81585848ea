"""The order of packing, which means nothing: each shard is a sample of the set, whatever inputs are called.

In order of name, a folder for each class gives shards of one class, and whoever streams shards meets one class at a
time. That cannot be repaired without packing again.
"""

from __future__ import annotations

import hashlib
import itertools
import math
import unicodedata
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from shards.format import JOURNAL, SPLITS, PackSettings
from shards.index import Manifest
from shards.journal import Packed, read_events
from shards.sources import Source

MIXED_FROM = 2  # version of packing; before it, the order was that of the names


def in_packing_order(sources: Iterable[Source], settings: PackSettings) -> list[Source]:
    """Sources that are sorted by name, as packing takes them: by the hash of size and base name, ties by name.

    Folders have no part in it, so moved inputs keep their order. A packing that was begun in order of name stays in it.
    """
    return sorted(sources, key=_hash) if settings.version >= MIXED_FROM else list(sources)


def _hash(source: Source) -> bytes:
    # NFC: some systems store accents in another form than the one that they were given.
    text = f"{source.size}/{unicodedata.normalize('NFC', source.basename)}"
    return hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=8).digest()


def sorted_by_name(folder: Path, manifest: Manifest, *, quick: bool = False) -> str:
    """In what way the shards of a packed folder hold neighbors by name; empty where they do not, or none can tell.

    The journals tell, also of inputs that were added folder by folder; the version of packing, where `quick` or where
    they are not there.
    """
    counted = None if quick else _neighbors(folder, manifest)
    if counted is None:
        several = any(count > 1 for count in Counter(shard.split for shard in manifest.shards).values())
        return "it was packed in order of name" if manifest.settings.version < MIXED_FROM and several else ""
    together, by_chance = counted
    if together <= 1.5 * by_chance + 4 * math.sqrt(by_chance):  # so far from it chance does not go
        return ""
    total = sum(shard.records for shard in manifest.shards)
    return (
        f"{together:,} of {total:,} records lie in one shard with the next one by name, "
        f"{by_chance:,.0f} would by chance"
    )


def _neighbors(folder: Path, manifest: Manifest) -> tuple[int, float] | None:
    """How many records are in one shard with the next one by name of their split, and how many would be by chance."""
    left = {shard.name: shard.records for shard in manifest.shards}  # no journal of another's takes more memory
    named: dict[str, list[tuple[str, str]]] = {split: [] for split in SPLITS}
    for above in sorted({name.rpartition("/")[0] for name in left}):
        journal = folder / above / JOURNAL
        try:
            for event in read_events(journal) if journal.is_file() else ():
                if isinstance(event, Packed):
                    shard = f"{above}/{event.shard}".removeprefix("/")
                    left[shard] -= 1
                    if left[shard] < 0:
                        return None
                    named[event.split].append((event.source.name, shard))
        except (OSError, ValueError, KeyError):
            return None
    if any(left.values()):  # a journal was not copied with its shards, or is of others
        return None
    together, by_chance = 0, 0.0
    for records in named.values():
        records.sort()
        together += sum(one == other for (_, one), (_, other) in itertools.pairwise(records))
        counts = Counter(shard for _, shard in records).values()
        by_chance += sum(count * (count - 1) for count in counts) / max(1, len(records))
    return together, by_chance
