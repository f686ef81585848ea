"""Features of many files: on every given device, remembered by the content of the network and of the files."""

from __future__ import annotations

import copy
import hashlib
import json
import queue
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save
from torch import Tensor, nn

from avc.evaluation.linear import Features
from shards.durable import written_aside

VERSION = "1"  # of what this code makes of a file; another number leaves old caches unread
FILES_AT_ONCE = 8
ROWS_AT_ONCE = 32
UNREADABLE_SHARE = 0.05
"""More unreadable files than this share are an error: the figure would be another data set's."""


class UnreadableFile(ValueError):
    """A file of the data set cannot be decoded, or holds nothing."""


@dataclass(frozen=True)
class Extractor:
    """How a file becomes rows of features.

    name: what the features are, in words; it must say everything but the weights that decides them. model: on the CPU
    and in evaluation mode. load: file → rows for the network, (rows, ...), and whether they had to be padded; raises
    UnreadableFile. compute: those rows on the network's device → (rows, D).
    """

    name: str
    model: nn.Module
    load: Callable[[Path], tuple[Tensor, bool]]
    compute: Callable[[nn.Module, Tensor], Tensor]

    @property
    def key(self) -> str:
        """Digest of the name and of every weight."""
        digest = hashlib.sha256(f"{VERSION}\0{self.name}".encode())
        for name, tensor in sorted(self.model.state_dict().items()):
            digest.update(f"\0{name} {tensor.dtype} {tuple(tensor.shape)}\0".encode())
            digest.update(tensor.cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()


@dataclass(frozen=True)
class Extraction:
    """features: item is the file's number. unreadable: (name, reason). padded: files shorter than one window."""

    features: Features
    unreadable: tuple[tuple[str, str], ...]
    padded: int


@torch.inference_mode()
def extract(
    extractor: Extractor,
    files: Sequence[Path],
    *,
    devices: Sequence[torch.device],
    cache: Path,
    report: Callable[[int, int, str], None] | None = None,
) -> Extraction:
    """The features of all files, computed on all devices at once, or read from `cache` if they were computed before.

    Raises ValueError where more than 5 % of the files cannot be read.
    """
    digest = hashlib.sha256(extractor.key.encode())
    for path in files:
        digest.update(_digest(path))
    stored = cache / f"{digest.hexdigest()}.safetensors"
    extraction = _stored(stored)
    if extraction is None:
        extraction = _compute(extractor, files, devices=devices, report=report)
        cache.mkdir(parents=True, exist_ok=True)
        _store(extraction, stored)
    if len(extraction.unreadable) > UNREADABLE_SHARE * len(files):
        name, reason = extraction.unreadable[0]
        raise ValueError(f"{len(extraction.unreadable)} of {len(files)} files cannot be read, such as {name}: {reason}")
    return extraction


def _compute(
    extractor: Extractor,
    files: Sequence[Path],
    *,
    devices: Sequence[torch.device],
    report: Callable[[int, int, str], None] | None,
) -> Extraction:
    idle: queue.SimpleQueue[tuple[nn.Module, torch.device]] = queue.SimpleQueue()
    for device in devices:
        idle.put((copy.deepcopy(extractor.model).eval().to(device), device))
    rows, item, unreadable, padded = [], [], [], 0
    groups = [range(start, min(start + FILES_AT_ONCE, len(files))) for start in range(0, len(files), FILES_AT_ONCE)]

    @torch.inference_mode()
    def features_of(group: range) -> tuple[list[Tensor | UnreadableFile], int]:
        loaded: list[Tensor | UnreadableFile] = []
        short = 0
        for number in group:
            try:
                windows, was_short = extractor.load(files[number])
            except UnreadableFile as error:
                loaded.append(error)
            else:
                loaded.append(windows)
                short += was_short
        whole = [windows for windows in loaded if isinstance(windows, Tensor)]
        if whole:
            model, device = idle.get()
            pieces = torch.split(torch.cat(whole), ROWS_AT_ONCE)
            computed = torch.cat([extractor.compute(model, piece.to(device)).float().cpu() for piece in pieces])
            idle.put((model, device))
            parts = iter(torch.split(computed, [len(windows) for windows in whole]))
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
                    unreadable.append((files[number].name, str(part)))
            if report is not None:
                report(group.stop, len(files), "")
    if not rows:
        raise ValueError(f"none of the {len(files)} files can be read, such as {unreadable[0][0]}: {unreadable[0][1]}")
    features = Features(np.concatenate(rows), np.array(item, dtype=np.int64))
    return Extraction(features, tuple(unreadable), padded)


def _digest(path: Path) -> bytes:
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").digest()
    except OSError as error:
        return hashlib.sha256(f"{path.name}: {error.strerror}".encode()).digest()  # told of when it is read


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
