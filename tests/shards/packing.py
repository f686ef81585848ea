"""Settings to pack small videos with, and what a packed folder holds, for tests."""

from __future__ import annotations

from pathlib import Path

from shards.format import PackSettings
from shards.journal import Packed, Rejection, read_events
from shards.sources import in_packing_order, list_sources

SETTINGS = PackSettings(side=32)
SHARD_BYTES = 1_000_000  # three records


def outcome(folder: Path) -> dict[str, str]:
    """What became of each input, by the last part of its name."""
    events = read_events(folder / "journal.jsonl")
    return {
        event.source.basename: event.reason.value if isinstance(event, Rejection) else "packed"
        for event in events
        if isinstance(event, Packed | Rejection)
    }


def packing_order(videos: Path) -> list[str]:
    """The last parts of the inputs' names, in the order in which they are packed."""
    return [source.basename for source in in_packing_order(list_sources([videos]), SETTINGS)]


def content(folder: Path) -> dict[str, bytes]:
    """Every file of a packed folder but the journal, whose lines hold the inputs' paths."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "journal.jsonl"}
