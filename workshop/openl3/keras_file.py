"""Weights of openl3 and EdgeL3 from Keras' HDF5 files, of which nothing is run.

Keras would build the network that a file describes, with whatever functions that description holds. Here the network is
known already, and arrays are taken that have exactly its shapes. HDF5 can also have arrays that lie in other files, and
filters that are libraries of this machine; such arrays are refused before they are read.
"""

from __future__ import annotations

import gzip
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from avc.extras import is_installed
from shards.atomic import refuse_special
from workshop.openl3.networks import Form, OpenL3Audio, OpenL3Image

INPUT_REPRS: tuple[Literal["linear", "mel128", "mel256"], ...] = ("linear", "mel128", "mel256")
LARGEST = 2**28  # bytes of a file, unpacked; openl3's have 19 MB, with kapre's kernels 36 MB
MOST_LAYERS = 100
FILTERS = {1, 2, 3}  # HDF5's own deflate, shuffle and checksum
PARTS = {"kernel": "weight", "bias": "bias", "gamma": "weight", "beta": "bias"}
PARTS |= {"moving_mean": "running_mean", "moving_variance": "running_var"}
OpenL3 = OpenL3Audio | OpenL3Image
Arrays = dict[str, Any]  # the datasets of a layer by the last part of their names


def read_keras(source: Path, *, input_repr: str | None = None, grid: bool = True) -> OpenL3:
    """The network that openl3 or EdgeL3 released as a file (.h5 or .h5.gz), in evaluation mode.

    input_repr: linear, mel128 or mel256, where the file's name does not say it as openl3_audio_mel256_env.h5 does.
    grid: as in `Form`. Raises ValueError for a file with other layers than these networks, and where h5py is missing.
    """
    if not is_installed("h5py"):
        raise ValueError("reading Keras' files needs the package h5py, which is not installed here: pip install h5py")
    import h5py

    refuse_special(source)
    try:
        with h5py.File(io.BytesIO(_unpacked(source)), "r") as file:
            layers = [arrays for arrays in map(_arrays, _layers(file)) if arrays]
            spectrogram = layers.pop(0) if layers and "real_kernels" in layers[0] else None
            form = _form(layers, spectrogram, source.name, input_repr=input_repr, grid=grid)
            model = OpenL3Image(form) if form.frontend is None else OpenL3Audio(form)
            model.load_state_dict(_state(model, layers, spectrogram))
    except FileNotFoundError:
        raise ValueError(f"there is no file {source}") from None
    except (OSError, EOFError, RuntimeError, KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"{source} does not hold weights of openl3 or EdgeL3: {error}") from None
    return model.eval()


def _unpacked(source: Path) -> bytes:
    with gzip.open(source) if source.suffix == ".gz" else source.open("rb") as file:
        content: bytes = file.read(LARGEST + 1)
    if len(content) > LARGEST:
        raise ValueError(f"it is larger than {LARGEST / 1e6:,.0f} MB")
    return content


def _layers(file: Any) -> Iterator[Any]:
    """The groups of the layers in the network's order; a file of weights alone has them at its root."""
    root = _child(file, "model_weights") if "model_weights" in file else file
    names = root.attrs["layer_names"]
    if len(names) > MOST_LAYERS:
        raise ValueError(f"it has {len(names):,} layers")
    for name in names:
        yield _child(root, name.decode() if isinstance(name, bytes) else str(name))


def _child(group: Any, name: str) -> Any:
    import h5py

    if "/" in name or not isinstance(group.get(name, getlink=True), h5py.HardLink):
        raise ValueError(f"{name!r} is not in the file itself but a link")
    return group[name]


def _arrays(layer: Any) -> Arrays:
    """The datasets of a layer, which lie in groups of its own name. None is read yet."""
    import h5py

    found: Arrays = {}
    waiting, seen = [layer], 0
    while waiting:
        group = waiting.pop()
        for name in group:
            seen += 1
            if seen > MOST_LAYERS:
                raise ValueError(f"the layer {layer.name!r} has more than {MOST_LAYERS} parts")
            child = _child(group, name)
            if isinstance(child, h5py.Group):
                waiting.append(child)
            else:
                found[name.partition(":")[0]] = child
    return found


def _form(layers: list[Arrays], spectrogram: Arrays | None, name: str, *, input_repr: str | None, grid: bool) -> Form:
    kernels = [arrays["kernel"].shape for arrays in layers if "kernel" in arrays]
    if len(kernels) != 8 or any(len(shape) != 4 for shape in kernels):
        raise ValueError(f"it has {len(kernels)} convolutions of images, and these networks have 8")
    if kernels[0][2] == 3:
        return Form(None, grid=grid)
    if kernels[0][3] == 32 or "gamma" in layers[-1]:
        width = kernels[0][3] / 64
        narrowing = max(1, round(512 * width / max(1, kernels[-1][3])))
        if not 0 < width <= 1 or narrowing > 8:
            raise ValueError(f"its convolutions have {kernels[0][3]} to {kernels[-1][3]} channels, and EdgeL3's do not")
        return Form("mel64", kapre="0.1", grid=False, width=width, narrowing=narrowing)
    mels = None if spectrogram is None or "Variable" not in spectrogram else spectrogram["Variable"].shape[1]
    inside = None if spectrogram is None else "linear" if mels is None else f"mel{mels}"
    named = re.search("|".join(INPUT_REPRS), name)
    wanted = input_repr or inside or (named[0] if named else None)
    for known in INPUT_REPRS:
        if known == wanted:
            return Form(known, kapre="0.3" if spectrogram is None else "0.1", grid=grid)
    raise ValueError(
        "neither its name nor its content says which spectrogram it takes (its layers are the same for all): give "
        "input_repr, linear, mel128 or mel256"
    )


def _state(model: OpenL3, layers: list[Arrays], spectrogram: Arrays | None) -> dict[str, Tensor]:
    """Keras' (height, width, in, out) → torch's (out, in, height, width), layer by layer in their order."""
    state = model.state_dict()
    ours = [
        name for name, layer in model.convolutions.named_children() if isinstance(layer, nn.Conv2d | nn.BatchNorm2d)
    ]
    if len(ours) != len(layers):
        raise ValueError(f"it has {len(layers)} layers with weights, and the network has {len(ours)}")
    for name, arrays in zip(ours, layers, strict=True):
        wanted = ("kernel", "bias") if name.startswith("conv") else ("gamma", "beta", "moving_mean", "moving_variance")
        if set(arrays) != set(wanted):
            raise ValueError(f"the layer {name} has {', '.join(sorted(arrays))} in place of {', '.join(wanted)}")
        for part in wanted:
            key = f"convolutions.{name}.{PARTS[part]}"
            shape = tuple(state[key].shape)
            if part == "kernel":
                shape = shape[2:] + shape[1::-1]
            array = _read(arrays[part], shape)
            state[key] = torch.from_numpy(array.transpose(3, 2, 0, 1).copy() if part == "kernel" else array)
    if spectrogram is not None and "frontend.filters" in state:
        shape = tuple(state["frontend.filters"].shape)
        state["frontend.filters"] = torch.from_numpy(_read(spectrogram["Variable"], shape))
    return state


def _read(dataset: Any, shape: tuple[int, ...]) -> np.ndarray:
    """A dataset of exactly this shape, out of this file, with no filters but HDF5's own."""
    if dataset.shape != shape or dataset.dtype not in (np.float32, np.float64):
        raise ValueError(f"{dataset.name} is {dataset.dtype} {dataset.shape}, and the network needs float32 {shape}")
    properties = dataset.id.get_create_plist()
    filters = {properties.get_filter(number)[0] for number in range(properties.get_nfilters())}
    if dataset.external or dataset.is_virtual or filters - FILTERS:
        raise ValueError(f"{dataset.name} lies in another file or is compressed in an unknown way")
    array: np.ndarray = dataset[()].astype(np.float32)
    if not np.isfinite(array).all():
        raise ValueError(f"{dataset.name} has numbers that are not finite")
    return array
