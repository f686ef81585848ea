"""Programs that others exported with torch.export (.pt2), opened without running what such a file may hold.

torch reads a .pt2 file, a zip archive, with trust: pickles, compiled libraries, sizes that are Python expressions and
functions by their names can all be in one, and can all run a program while it is loaded. Here an archive is looked
through first, with zipfile and json alone. What torch is then given is a copy with nothing in it but plain arrays of
numbers and a graph of torch's own tensor operators whose every name and size is a plain word or number.
"""

from __future__ import annotations

import io
import json
import re
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export.passes import move_to_device_pass

USUAL_SIZE = 224  # pixels, of a program that takes pictures of any size

_MEMBERS = re.compile(
    r"archive_format|archive_version|byteorder|version|\.format_version|\.storage_alignment|\.data/[\w.]+|"
    r"models/model\.json|data/weights/(model_weights_config\.json|weight_\d+)|"
    r"data/constants/(model_constants_config\.json|tensor_\d+)|data/sample_inputs/model\.pt"
)
_LEFT_OUT = re.compile(r"extra/.*")  # notes that the exporter added; nothing here reads them
_PLAIN = re.compile(r"[\w.+-]*", re.ASCII)
_SIZE = re.compile(r"[su]?\d+|Symbol\('[su]\d+'(, (positive|nonnegative|integer)=(True|False))*\)", re.ASCII)
_OPERATOR = re.compile(
    r"torch\.ops\.aten\.(?!__|from_file|_print)\w+\.[a-zA-Z]\w*|"
    r"_operator\.(getitem|add|sub|mul|floordiv|truediv|mod|neg|eq|ne|lt|le|gt|ge)",
    re.ASCII,
)
_TREES = {"builtins.tuple", "builtins.list", None}


@dataclass(frozen=True)
class Program:
    """An exported network that classifies pictures.

    module: float32 (N, 3, size, size) → (N, classes). batch: the only N that it takes, or None for any.
    """

    module: nn.Module
    size: int
    classes: int
    batch: int | None

    def __call__(self, pictures: Tensor) -> Tensor:
        """float32 (N, 3, size, size), any N → float32 (N, classes)."""
        if self.batch is None:
            return self.module(pictures).float()  # type: ignore[no-any-return]
        rows = []
        for part in torch.split(pictures, self.batch):
            whole = torch.cat([part, part.new_zeros(self.batch - len(part), *part.shape[1:])])
            rows.append(self.module(whole)[: len(part)].float())
        return torch.cat(rows)


def open_program(path: Path, device: torch.device) -> Program:
    """The picture classifier in a .pt2 file, on `device`.

    Raises ValueError for a file that is no such program, or that holds anything but tensors and tensor operators.
    """
    archive = _checked(path)
    try:
        exported = torch.export.load(archive)
    except Exception as error:  # torch's loader has no exceptions of its own
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"{path} cannot be loaded by torch {torch.__version__}: {reason}") from None
    for node in exported.graph.nodes:
        known = isinstance(node.target, torch._ops.OpOverload) or getattr(node.target, "__module__", "") == "_operator"
        if node.op == "call_function" and not known:
            raise ValueError(f"{path} is refused: it calls {node.target}, which is no operator on tensors")
    inputs, outputs = (
        [node.meta["val"].shape for node in exported.graph.nodes if node.name in names]
        for names in (exported.graph_signature.user_inputs, exported.graph_signature.user_outputs)
    )
    if len(inputs) != 1 or len(inputs[0]) != 4 or inputs[0][1] != 3 or len(outputs) != 1 or len(outputs[0]) != 2:
        found = f"{[tuple(shape) for shape in inputs]} → {[tuple(shape) for shape in outputs]}"
        raise ValueError(
            f"{path} is a program of another kind, {found}: a teacher takes pictures (N, 3, H, W) and gives "
            "(N, classes)"
        )
    batch, _, height, width = (side if isinstance(side, int) else None for side in inputs[0])
    if height != width:
        raise ValueError(f"{path} takes pictures of {width} x {height} pixels, and a teacher's must be square")
    module = move_to_device_pass(exported, device).module()
    return Program(module, height or USUAL_SIZE, int(outputs[0][1]), batch)


def _checked(path: Path) -> io.BytesIO:
    """A copy of the archive with only what has been looked through."""
    copy = io.BytesIO()
    try:
        with zipfile.ZipFile(path) as archive, zipfile.ZipFile(copy, "w") as kept:
            top = archive.namelist()[0].partition("/")[0] + "/" if archive.namelist() else ""
            names = [info.filename.removeprefix(top) for info in archive.infolist()]
            if len(set(names)) < len(names) or "models/model.json" not in names:
                raise ValueError("there is no program in it, as `torch.export.save` of torch 2.8 or later writes one")
            for info, name in zip(archive.infolist(), names, strict=True):
                if _LEFT_OUT.fullmatch(name):
                    continue
                if not _MEMBERS.fullmatch(name):
                    raise _Refused(f"it holds {name!r}, which no network of plain tensors needs")
                if info.compress_type != zipfile.ZIP_STORED:
                    raise _Refused(f"{name!r} is compressed, which torch never does")
                kept.writestr(top + name, _checked_member(name, archive.read(info)))
    except FileNotFoundError:
        raise ValueError(f"there is no file {path}") from None
    except _Refused as error:
        raise ValueError(f"{path} is refused: {error}. It may be harmful; nothing of it was run") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, zipfile.BadZipFile, RecursionError) as error:
        raise ValueError(f"{path} is no exported torch program: {error}") from None
    copy.seek(0)
    return copy


class _Refused(Exception):
    """Something in the archive that could run a program."""


def _checked_member(name: str, data: bytes) -> bytes:
    if name.endswith("_config.json"):
        for entry in json.loads(data)["config"].values():
            if entry["use_pickle"] or not re.fullmatch(r"(weight|tensor)_\d+", entry["path_name"]):
                raise _Refused(f"{name} points to a pickle")
    elif name == "models/model.json":
        program = json.loads(data)
        _check(program, "program")
        return json.dumps(program).encode()
    elif name == "data/sample_inputs/model.pt":
        try:  # as torch will do; where this fails it would go on to load whatever the pickle asks for
            torch.load(io.BytesIO(data), weights_only=True)
        except Exception as error:
            raise _Refused(f"its sample inputs are not tensors ({' '.join(str(error).split())[:100]} ...)") from None
    return data


def _check(value: Any, name: str) -> None:
    """Refuse what is not plain, everywhere in the program's JSON; `name` is the field's. Drops notes on the source."""
    if isinstance(value, dict):
        if "metadata" in value:
            value["metadata"] = {}
        for key, part in value.items():
            _plain(_PLAIN, key, name)
            _check(part, key)
    elif isinstance(value, list):
        for part in value:
            _check(part, name)
    elif isinstance(value, str):
        if name in ("in_spec", "out_spec"):
            if value:
                _check_tree(json.loads(value))
        else:
            allowed = {"expr_str": _SIZE, "target": _OPERATOR, "as_operator": _OPERATOR}
            _plain(allowed.get(name, _PLAIN), value, name)


def _check_tree(spec: Any) -> None:
    """Of how inputs and outputs are nested; torch would import the modules that some kinds of nesting name."""
    for node in spec[1:] if isinstance(spec, list) and isinstance(spec[0], int) else [spec]:
        if node["type"] not in _TREES and not (node["type"] == "builtins.dict" and not node["children_spec"]):
            raise _Refused(f"its inputs or outputs are nested in {node['type']!r}")
        for child in node["children_spec"]:
            _check_tree(child)


def _plain(pattern: re.Pattern[str], text: str, name: str) -> None:
    if not pattern.fullmatch(text):
        raise _Refused(f"its {name} {text[:60]!r} is not what a network of tensor operators has there")
