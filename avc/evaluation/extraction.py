"""Features of many files or clips: on every given device, remembered by the content of the network and of the items."""

from __future__ import annotations

import copy
import hashlib
import json
import os
import queue
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save
from torch import Tensor, nn

from avc.evaluation.linear import Features
from shards.atomic import written_aside

VERSION = "3"  # of what this code makes of an item; another number leaves old caches unread
ITEMS_AT_ONCE = 8
ROWS_AT_ONCE = 32
UNREADABLE_SHARE = 0.05
"""More unreadable items than this share are an error: the figure would be another data set's."""

Item = TypeVar("Item")


class Unreadable(ValueError):
    """An item of the data set cannot be decoded, or holds nothing."""


@dataclass(frozen=True)
class Extractor(Generic[Item]):
    """How an item, the path of a file or the number of a clip, becomes rows of features.

    owner: whose features they are, for messages. what: which they are, in words; it must say everything but the network
    that decides them. model: on the CPU and in evaluation mode. load: item → rows for the network, (rows, ...), and
    whether they had to be padded; raises Unreadable. compute: those rows on the network's device → (rows, D), or as
    many for each of them, one after the other: (k · rows, D).
    """

    owner: str
    what: str
    model: nn.Module
    load: Callable[[Item], tuple[Tensor, bool]]
    compute: Callable[[Any, Tensor], Tensor]

    @property
    def name(self) -> str:
        """Whose and which."""
        return f"{self.owner}, {self.what}"

    @property
    def key(self) -> str:
        """Digest of what they are, of the network's layers and of every weight."""
        digest = hashlib.sha256(f"{VERSION}\0{self.what}\0{self.model!r}".encode())
        for name, tensor in sorted(self.model.state_dict().items()):
            digest.update(f"\0{name} {tensor.dtype} {tuple(tensor.shape)}\0".encode())
            digest.update(tensor.cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()


@dataclass(frozen=True)
class Extraction:
    """features: item is its place in the list. unreadable: (name, reason). padded: items shorter than one window."""

    features: Features
    unreadable: tuple[tuple[str, str], ...]
    padded: int


@dataclass(frozen=True)
class Identity:
    """name: for messages. digest: of the content, whatever it is called and wherever it lies."""

    name: str
    digest: bytes


def file_identity(path: Path) -> Identity:
    """A file's name and the digest of its bytes, or of why it cannot be opened; reading it will tell of that."""
    try:
        with open(path, "rb") as file:
            return Identity(path.name, hashlib.file_digest(file, "sha256").digest())
    except OSError as error:
        return Identity(path.name, hashlib.sha256(os.fsencode(f"{path.name}: {error.strerror}")).digest())


@torch.inference_mode()
def extract(
    extractor: Extractor[Item],
    items: Sequence[Item],
    *,
    identify: Callable[[Item], Identity],
    devices: Sequence[torch.device],
    cache: Path,
    report: Callable[[int, int, str], None] | None = None,
) -> Extraction:
    """The features of all items, computed on all devices at once, or read from `cache` if they were computed before.

    What could not be read then is tried again: once any of it can be, all is computed anew. Raises ValueError where
    more than 5 % of the items cannot be read; that is not kept.
    """
    identities = [identify(item) for item in items]
    digest = hashlib.sha256(extractor.key.encode())
    for identity in identities:
        digest.update(identity.digest)
    stored = cache / f"{digest.hexdigest()}.safetensors"
    extraction = _stored(stored)
    if extraction is None or _mended(extraction, extractor, items):
        names = [identity.name for identity in identities]
        extraction = _compute(extractor, items, names=names, devices=devices, report=report)
        if len(extraction.unreadable) > UNREADABLE_SHARE * len(items):
            name, reason = extraction.unreadable[0]
            raise ValueError(
                f"{len(extraction.unreadable)} of {len(items)} items cannot be read, such as {name}: {reason}"
            )
        cache.mkdir(parents=True, exist_ok=True)
        _store(extraction, stored)
    return extraction


def _compute(
    extractor: Extractor[Item],
    items: Sequence[Item],
    *,
    names: Sequence[str],
    devices: Sequence[torch.device],
    report: Callable[[int, int, str], None] | None,
) -> Extraction:
    idle: queue.SimpleQueue[tuple[nn.Module, torch.device]] = queue.SimpleQueue()
    for device in devices:
        idle.put((copy.deepcopy(extractor.model).eval().to(device), device))
    rows, item, unreadable, padded = [], [], [], 0
    groups = [range(start, min(start + ITEMS_AT_ONCE, len(items))) for start in range(0, len(items), ITEMS_AT_ONCE)]

    @torch.inference_mode()
    def features_of(group: range) -> tuple[list[Tensor | Unreadable], int]:
        loaded: list[Tensor | Unreadable] = []
        short = 0
        for number in group:
            try:
                windows, was_short = extractor.load(items[number])
            except Unreadable as error:
                loaded.append(error)
            else:
                loaded.append(windows)
                short += was_short
        whole = [windows for windows in loaded if isinstance(windows, Tensor)]
        if whole:
            pieces = torch.split(torch.cat(whole), ROWS_AT_ONCE)
            model, device = idle.get()
            try:
                computed = torch.cat([extractor.compute(model, piece.to(device)).float().cpu() for piece in pieces])
            finally:
                idle.put((model, device))  # after an error as well, or the other threads would wait for it
            of_each = len(computed) // sum(map(len, whole))
            parts = iter(torch.split(computed, [of_each * len(windows) for windows in whole]))
            loaded = [next(parts) if isinstance(windows, Tensor) else windows for windows in loaded]
        return loaded, short

    with ThreadPoolExecutor(len(devices)) as pool:
        for group, (parts, short) in zip(groups, pool.map(features_of, groups), strict=True):
            padded += short
            for number, part in zip(group, parts, strict=True):
                if isinstance(part, Tensor):
                    rows.append(part.numpy())
                    item += [number] * len(part)
                else:
                    unreadable.append((names[number], str(part)))
            if report is not None:
                report(group.stop, len(items), "")
    if not rows:
        raise ValueError(f"none of the {len(items)} items can be read, such as {unreadable[0][0]}: {unreadable[0][1]}")
    features = Features(np.concatenate(rows), np.array(item, dtype=np.int64))
    return Extraction(features, tuple(unreadable), padded)


def _mended(extraction: Extraction, extractor: Extractor[Item], items: Sequence[Item]) -> bool:
    """Whether an item that could not be read can be now."""
    for number in np.setdiff1d(np.arange(len(items)), extraction.features.item).tolist():
        with suppress(Unreadable):
            extractor.load(items[number])
            return True
    return False


def _stored(path: Path) -> Extraction | None:
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="np") as file:
            notes = json.loads(file.metadata()["notes"])
            features = Features(file.get_tensor("rows"), file.get_tensor("item"))
    except (OSError, SafetensorError, TypeError, KeyError, ValueError):
        return None  # not wholly written, or not ours: computed again and replaced
    return Extraction(features, tuple((name, reason) for name, reason in notes["unreadable"]), notes["padded"])


def _store(extraction: Extraction, path: Path) -> None:
    notes = json.dumps({"unreadable": extraction.unreadable, "padded": extraction.padded})
    arrays = {"rows": extraction.features.rows, "item": extraction.features.item}
    with written_aside(path) as file:
        file.write(save(arrays, metadata={"notes": notes}))
