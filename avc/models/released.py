"""Weights that others have released.

SoundNet's, the authors' Torch7 files, go around as sound8.npy: a dictionary of numpy arrays that numpy pickled under
Python 2. A pickle is a program, so the one that is known is read, and no other.
"""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from torch import Tensor

from avc.models.soundnet import SOUNDNETS, SoundNet
from avc.runs.weights import about, write
from avc.sound_settings import TEACHERS, SoundNetModel
from shards.atomic import refuse_special

MODEL = "model"  # the network's name: among the notes of a .safetensors file
BYTES, SHA256 = 57_429_057, "7bef691761d00a23b027751bb8e7bdadc603a03f3bbec5574e7cd54c98a850c5"  # of sound8.npy


def import_soundnet(source: Path, out: Path) -> SoundNet:
    """Turn sound8.npy of the package soundnet 0.1.2, in TensorFlow's layout, into `out`, a .safetensors file.

    Raises ValueError for every other file, of which nothing is executed.
    """
    refuse_special(source)
    refuse_special(out)
    try:
        with source.open("rb") as file:
            content = file.read(BYTES + 1)
    except OSError as error:
        raise ValueError(f"{source} cannot be read: {error.strerror}") from None
    if hashlib.sha256(content).hexdigest() != SHA256:
        raise ValueError(
            f"{source} is refused: by its SHA-256 it is not sound8.npy of the package soundnet 0.1.2. A pickle can run "
            "programs; nothing of it was run"
        )
    model = SoundNet(SoundNetModel(name="soundnet8"))
    model.load_state_dict(state_of(model, np.load(io.BytesIO(content), allow_pickle=True, encoding="latin1").item()))
    write(out, model.state_dict(), {MODEL: model.name})
    return model.eval()


def load_soundnet(path: Path) -> SoundNet:
    """The network that `import_soundnet` wrote, or the best of a run, in evaluation mode.

    Raises ValueError for any other file.
    """
    refuse_special(path)
    try:
        name = about(path).get(MODEL)
        if name not in SOUNDNETS:
            raise ValueError(f"{path} does not say which SoundNet it holds; make it by `avc import`")
        with safe_open(path, framework="pt") as file:
            weights = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 — no mapping
            settings = SoundNetModel(
                name=name,
                width=len(weights["layers.conv1.weight"]) / SOUNDNETS[name][0].filters,
                **{teacher: len(weights.get(f"{teacher}.bias", ())) for teacher in TEACHERS},
            )
            model = SoundNet(settings)
            model.load_state_dict(weights)
    except FileNotFoundError:
        raise ValueError(f"there is no file {path}") from None
    except (OSError, SafetensorError, RuntimeError, KeyError) as error:
        raise ValueError(f"{path} does not hold the weights of a SoundNet: {error}") from None
    return model.eval()


def state_of(model: SoundNet, arrays: dict[str, dict[str, NDArray[Any]]]) -> dict[str, Tensor]:
    """TensorFlow's names and (kernel, 1, in, out) → the names of `SoundNet` and (out, in, kernel)."""
    places = {}
    *hidden, last = model.table
    for row in hidden:
        number = row.name.removeprefix("conv")
        places[f"layers.{row.name}.weight"] = (row.name, "weights")
        places[f"layers.{row.name}.bias"] = (row.name, "biases")
        for ours, theirs in (("weight", "gamma"), ("bias", "beta"), ("running_mean", "mean"), ("running_var", "var")):
            places[f"layers.bn{number}.{ours}"] = (row.name, theirs)
    for ours, theirs in (("objects", last.name), ("scenes", f"{last.name}_2")):
        places[f"{ours}.weight"] = (theirs, "weights")
        places[f"{ours}.bias"] = (theirs, "biases")
    state = model.state_dict()
    for ours, (layer, key) in places.items():
        array = arrays[layer][key]
        if array.ndim == 4:
            array = array[:, 0].transpose(2, 1, 0)
        state[ours] = torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))
    return state
