"""Weights that others have released, read without running anything that their files may hold.

SoundNet's weights, the authors' Torch7 files, go around as sound8.npy and sound5.npy: dictionaries of numpy arrays that
numpy pickled under Python 2. A pickle is a program. The reader here lets that program build plain arrays of numbers,
dictionaries and lists, by stand-ins of its own, and nothing else; whatever else it names is refused before it runs.
"""

from __future__ import annotations

import math
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from numpy.lib import format as npy
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from torch import Tensor

from avc.models.soundnet import SOUNDNETS, SoundNet
from avc.runs.weights import about, write
from avc.sound_settings import TEACHERS, SoundNetModel
from shards.atomic import refuse_special

MODEL = "model"  # the network's name: among the notes of a .safetensors file
NUMBERS = ("f4", "f8")


def import_soundnet(name: str, source: Path, out: Path) -> SoundNet:
    """Turn sound8.npy or sound5.npy, the released weights in TensorFlow's layout, into `out`, a .safetensors file.

    name: of SOUNDNETS, soundnet8 or soundnet5.

    Raises ValueError for a file that is no such dictionary of arrays, whose arrays have other shapes, or that asks for
    anything but arrays. Nothing in the file is executed.
    """
    refuse_special(out)
    model = SoundNet(SoundNetModel(name=name))
    model.load_state_dict(_state_of(model, read_arrays(source), source))
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


def read_arrays(path: Path) -> dict[str, dict[str, NDArray[Any]]]:
    """The arrays of a .npy file that holds a pickled dictionary of dictionaries of float32 or float64 arrays.

    Raises ValueError for anything else; nothing in the file is executed.
    """
    refuse_special(path)
    try:
        with open(path, "rb") as file:
            _skip_header(file)
            content = _ArraysOnly(file, encoding="latin1").load()
        [layers] = _Array.of(content).items
        return {
            str(name): {str(key): _Array.of(a).numbers() for key, a in part.items()} for name, part in layers.items()
        }
    except FileNotFoundError:
        raise ValueError(f"there is no file {path}") from None
    except pickle.UnpicklingError as error:
        raise ValueError(f"{path} is refused: {error}") from None
    except (OSError, ValueError, TypeError, AttributeError, LookupError, EOFError, ArithmeticError) as error:
        raise ValueError(f"{path} is no pickled dictionary of numpy arrays: {error}") from None
    except (RecursionError, MemoryError):
        raise ValueError(f"{path} is no pickled dictionary of numpy arrays: it is too deep or too large") from None


def _skip_header(file: BinaryIO) -> None:
    version = npy.read_magic(file)
    read = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}.get(version)
    if read is None:
        raise ValueError(f"version {version} of the .npy format is not known here")
    _, _, dtype = read(file)
    if not dtype.hasobject:
        raise ValueError(f"it holds one array of {dtype} and no dictionary")


class _ArraysOnly(pickle.Unpickler):
    """Finds three names, those by which numpy pickles an array, and gives stand-ins for them."""

    def find_class(self, module: str, name: str) -> Any:
        """The stand-in for a name in the pickle. Raises pickle.UnpicklingError for every name but numpy's three."""
        wanted = (module.replace("numpy._core", "numpy.core"), name)
        if wanted == ("numpy.core.multiarray", "_reconstruct"):
            return _begin_array
        if wanted == ("numpy", "ndarray"):
            return _Array
        if wanted == ("numpy", "dtype"):
            return _Number
        raise pickle.UnpicklingError(
            f"it asks for {module}.{name}, and weights need nothing but numpy arrays. It may be harmful; nothing of it "
            "was run"
        )


def _begin_array(*_: Any) -> _Array:
    return _Array()


class _Number:
    """Stands in for numpy.dtype: the code of a type, such as f4, and its byte order."""

    def __init__(self, code: str = "", *_: Any) -> None:
        self.code = code
        self.order = "="

    def __setstate__(self, state: Any) -> None:
        self.order = state[1]


@dataclass
class _Array:
    """Stands in for numpy.ndarray: its shape and either its bytes or its list of objects."""

    shape: tuple[int, ...] = ()
    number: Any = None
    fortran: bool = False
    content: Any = None

    def __setstate__(self, state: Any) -> None:
        _, self.shape, self.number, self.fortran, self.content = state

    @staticmethod
    def of(value: Any) -> _Array:
        if not isinstance(value, _Array):
            raise ValueError(f"there is a {type(value).__name__} where an array belongs")
        return value

    @property
    def items(self) -> list[Any]:
        if not isinstance(self.content, list):
            raise ValueError("there are numbers where a dictionary belongs")
        return self.content

    def numbers(self) -> NDArray[Any]:
        if not isinstance(self.number, _Number) or self.number.code not in NUMBERS or self.number.order not in "<>=":
            raise ValueError("an array is not of float32 or float64")
        kind = np.dtype(self.number.order + self.number.code)
        content = self.content.encode("latin1") if isinstance(self.content, str) else self.content
        if math.prod(self.shape) * kind.itemsize != len(content):
            raise ValueError(f"an array of shape {self.shape} has {len(content):,} bytes")
        array = np.frombuffer(content, kind).reshape(self.shape, order="F" if self.fortran else "C")
        return array.astype(self.number.code)


def _state_of(model: SoundNet, arrays: dict[str, dict[str, NDArray[Any]]], source: Path) -> dict[str, Tensor]:
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
        array = arrays.get(layer, {}).get(key)
        if array is None:
            raise ValueError(
                f"{source} has no {layer}/{key}; released weights of {model.name} hold conv1 to {hidden[-1].name}, "
                f"{last.name} and {last.name}_2"
            )
        if array.ndim == 4 and array.shape[1] == 1:
            array = array[:, 0].transpose(2, 1, 0)
        if array.shape != tuple(state[ours].shape) or not np.isfinite(array).all():
            raise ValueError(
                f"{layer}/{key} in {source} has shape {array.shape} or is not finite; "
                f"{model.name} needs {tuple(state[ours].shape)}"
            )
        state[ours] = torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))
    return state
