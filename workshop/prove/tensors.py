"""The tensors that a training leaves on the disk, and the parts of a checkpoint that can be taken from it."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

PICKLED = (".pt", ".pth", ".ckpt", ".bin", ".tar")  # what torch.save writes goes by these
DISTRIBUTED = ".metadata"  # the file by which torch.distributed.checkpoint knows a folder

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

    `optimizer.state.0.exp_avg` and `optimizer.state.7.exp_avg` are "optimizer … exp_avg". Texts are left out, for they
    describe, and so is what is nothing.
    """
    found: dict[str, list[Keys]] = {}
    for keys, value in leaves(tree):
        if isinstance(value, Tensor | bool | int | float) and _altered(value) is not None:
            names = [name for key in keys for name in str(key).split(".") if not name.isdigit()]
            found.setdefault(" … ".join(dict.fromkeys((names[0], names[-1]))) if names else "-", []).append(keys)
    return found


def alter(path: Path, part: str) -> None:
    """Reset a part of a checkpoint: tensors and numbers to 0, what is 0 to 1, what is true to false."""
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
    return not value if isinstance(value, bool) else type(value)(not value)


def _replaced(tree: Any, keys: Keys, by: Callable[[Any], Any]) -> Any:
    if not keys:
        return by(tree)
    if isinstance(tree, tuple):
        return tuple(_replaced(value, keys[1:], by) if n == keys[0] else value for n, value in enumerate(tree))
    tree[keys[0]] = _replaced(tree[keys[0]], keys[1:], by)
    return tree
