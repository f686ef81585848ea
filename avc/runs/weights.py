"""A .safetensors file of weights with what is to be known about them; equal weights are equal bytes.

safetensors writes the entries of a file's metadata in another order each time, so there is one entry: JSON.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pydantic
from safetensors import safe_open
from safetensors.torch import load, load_file, save
from torch import Tensor

from shards.atomic import write_whole

ABOUT = "about"
_NOTES = pydantic.TypeAdapter(dict[str, str])


def as_bytes(weights: Mapping[str, Tensor], about: Mapping[str, str]) -> bytes:
    """The content of a file of weights, tensors of the CPU by their names, and of notes about them."""
    notes = _NOTES.dump_json(dict(sorted(about.items()))).decode()
    content: bytes = save({name: tensor.contiguous() for name, tensor in weights.items()}, metadata={ABOUT: notes})
    return content


def write(path: Path, weights: Mapping[str, Tensor], about: Mapping[str, str]) -> None:
    """Write what `as_bytes` gives. Raises ValueError where the file cannot be written."""
    try:
        write_whole(path, as_bytes(weights, about))
    except OSError as error:
        raise ValueError(f"{path} cannot be written: {error}") from None


def read(path: Path) -> dict[str, Tensor]:
    """The weights of a file by their names, on the CPU. Raises OSError; SafetensorError where it is no such file."""
    weights: dict[str, Tensor]
    try:
        weights = load_file(path)
    except OSError:  # some file systems map no files into memory
        weights = load(path.read_bytes())
    return weights


def about(path: Path) -> dict[str, str]:
    """What a file notes about its weights, in whatever form; empty where it notes nothing.

    Raises OSError and SafetensorError where it is no such file; ValueError for notes that are no texts by their names.
    """
    with safe_open(path, framework="pt") as file:
        metadata = dict(file.metadata() or {})
    if ABOUT not in metadata:
        return metadata  # one entry for each, as other programs have it
    try:
        return _NOTES.validate_json(metadata[ABOUT])
    except pydantic.ValidationError:
        raise ValueError(
            f"{path} has notes about its weights that nothing here wrote: {metadata[ABOUT]!r:.99}"
        ) from None
