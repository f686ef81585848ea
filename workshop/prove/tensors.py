"""The tensors that a training leaves on the disk, and the parts of a checkpoint that can be taken from it."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

PICKLED = (".pt", ".pth", ".ckpt", ".bin", ".tar", ".pkl")  # what torch.save writes goes by these
DISTRIBUTED = ".metadata"  # the file by which torch.distributed.checkpoint knows a folder

ARRAYS = (Tensor, np.ndarray)
NUMPY: list[Any] = [  # by which pickles know an array: the states of generators are such
    *(np._core.multiarray._reconstruct, np.ndarray, np.dtype),  # type: ignore[attr-defined]
    *(type(np.dtype(name)) for name in ("uint8", "int32", "uint32", "int64", "uint64", "float32", "float64")),
]

Keys = tuple[Any, ...]  # the way to a value in nested dictionaries and lists


def saved(folder: Path) -> list[Path]:
    """Files and DCP folders below a folder that hold tensors, through links too, each once and oldest first.

    What a link leads to counts by the link's name alone, which is the same after other attempts.
    """
    found: dict[Path, Path] = {}  # the file itself → the name that has the fewest folders
    for place, folders, names in os.walk(folder, followlinks=True):
        here = Path(place)
        if DISTRIBUTED in names:
            folders.clear()
        for path in [here] if DISTRIBUTED in names else [here / name for name in names]:
            if path.is_dir() or path.suffix in (*PICKLED, ".safetensors"):
                itself = path.resolve()
                found[itself] = min(found.get(itself, path), path, key=lambda path: (len(path.parts), str(path)))
    ages = {}
    for path in found.values():
        with suppress(
            FileNotFoundError
        ):  # a link to what is still to come, or a file that a training has just replaced
            ages[path] = path.stat().st_mtime_ns
    return sorted(ages, key=lambda path: ages[path])


def state(path: Path) -> list[tuple[str, int, int]]:
    """Name, size and time of change of a file, or of every file in a DCP folder."""
    found = []
    for file in path.iterdir() if path.is_dir() else [path]:
        with suppress(FileNotFoundError):
            found.append((file.name, file.stat().st_size, file.stat().st_mtime_ns))
    return sorted(found)


def load(path: Path) -> Any:
    """What a file or a DCP folder holds, on the CPU. No code in it runs. Raises what torch raises."""
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(path)
    if path.is_dir():
        from torch.distributed.checkpoint.format_utils import dcp_to_torch_save

        with tempfile.TemporaryDirectory() as scratch:
            dcp_to_torch_save(path, Path(scratch) / "whole.pt")
            return load(Path(scratch) / "whole.pt")
    with torch.serialization.safe_globals(NUMPY):
        return torch.load(path, map_location="cpu", weights_only=True)


def digests(folder: Path) -> dict[str, str]:
    """SHA-256 of every tensor that lies in a folder, by file and place in it. Files that cannot be read have none."""
    found = {}
    for path in saved(folder):
        with suppress(Exception):  # whatever torch and safetensors raise
            for keys, value in leaves(load(path)):
                if isinstance(value, Tensor):
                    found[f"{path.relative_to(folder)}: {'.'.join(map(str, keys))}"] = _digest(value)
    return found


def _digest(tensor: Tensor) -> str:
    data = tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
    return hashlib.sha256(f"{tensor.dtype} {tuple(tensor.shape)} ".encode() + data).hexdigest()


def leaves(tree: Any, keys: Keys = ()) -> Iterator[tuple[Keys, Any]]:
    """What lies in nested dictionaries, lists and tuples, with the way to it."""
    if isinstance(tree, dict | list | tuple):
        for key, value in tree.items() if isinstance(tree, dict) else enumerate(tree):
            yield from leaves(value, (*keys, key))
    else:
        yield keys, tree


def parts(tree: Any) -> dict[str, list[Keys]]:
    """The parts of a checkpoint: places that differ by no more than numbers and layers' names are one part.

    `optimizer.state.0.exp_avg` and `optimizer.state.7.exp_avg` are "optimizer … exp_avg". What is no tensor is of one
    part with what stands beside it: `config.data.image_size` is of "config … data". What is nothing is left out.
    """
    found: dict[str, list[Keys]] = {}
    for keys, value in leaves(tree):
        if _altered(value) is not None:
            names = [_names(key) for key in keys]
            if not isinstance(value, ARRAYS) and any(names[:-1]):
                names.pop()
            flat = list(chain.from_iterable(names))
            found.setdefault(" … ".join(dict.fromkeys((flat[0], flat[-1]))) if flat else "-", []).append(keys)
    return found


def _names(key: Any) -> list[str]:
    return [name for name in str(key).split(".") if not name.isdigit()]


def alter(path: Path, part: str) -> None:
    """Reset a part of a checkpoint: tensors and numbers to 0, what is 0 to 1, texts to nothing."""
    path = path.resolve()
    tree = load(path)
    for keys in parts(tree)[part]:
        tree = _replaced(tree, keys, _altered)
    if path.suffix == ".safetensors":
        from safetensors.torch import save_file

        save_file(tree, path)
    elif path.is_dir():
        from torch.distributed.checkpoint.format_utils import torch_save_to_dcp

        with tempfile.TemporaryDirectory() as scratch:
            torch.save(tree, Path(scratch) / "whole.pt")
            for old in path.iterdir():
                old.unlink()
            torch_save_to_dcp(Path(scratch) / "whole.pt", path)
    else:
        torch.save(tree, path)


def _altered(value: Any) -> Any:
    if isinstance(value, Tensor):
        return (torch.zeros_like if value.any() else torch.ones_like)(value) if value.numel() else None
    if isinstance(value, np.ndarray):
        return (np.zeros_like if value.any() else np.ones_like)(value) if value.size else None
    if isinstance(value, str):
        return "" if value else "-"
    return type(value)(not value) if isinstance(value, bool | int | float) else None


def _replaced(tree: Any, keys: Keys, by: Callable[[Any], Any]) -> Any:
    if not keys:
        return by(tree)
    if isinstance(tree, tuple):
        return tuple(_replaced(value, keys[1:], by) if n == keys[0] else value for n, value in enumerate(tree))
    tree[keys[0]] = _replaced(tree[keys[0]], keys[1:], by)
    return tree
