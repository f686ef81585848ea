"""Programs that others exported with torch.export (.pt2), opened without running what such a file may hold.

torch reads a .pt2 file, a zip archive, with trust: pickles, compiled libraries, sizes that are Python expressions and
functions by their names can all be in one, and can all run a program while it is loaded. Here an archive is looked
through first, with zipfile and json alone. What torch is then given is a copy with nothing in it but plain arrays of
numbers and a graph of those of torch's operators that networks of images are made of (avc/teachers/operators.py),
whose every name and size is a plain word or number. `avc.teachers.trial` tries the result in a process of its own.
"""

from __future__ import annotations

import ast
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

from avc.teachers.operators import ON_SIZES, ON_TENSORS

USUAL_SIZE = 224  # pixels, of a program that takes images of any size

_MEMBERS = re.compile(
    r"archive_format|archive_version|byteorder|version|\.format_version|\.storage_alignment|\.data/[\w.]+|"
    r"models/model\.json|data/weights/(model_weights_config\.json|weight_\d+)|"
    r"data/constants/(model_constants_config\.json|tensor_\d+)|data/sample_inputs/model\.pt"
)
_LEFT_OUT = re.compile(r"extra/.*")  # notes that the exporter added; nothing here reads them
_PLAIN = re.compile(r"[\w.+-]*", re.ASCII)
_SIZE = re.compile(r"[su]\d+", re.ASCII)  # the name of one that is not known before the images are
_ARITHMETIC = {"Symbol", "Integer", "Add", "Mul", "FloorDiv", "CleanDiv", "Mod", "PythonMod", "Max", "Min"}
_ASSUMPTIONS = {"positive", "nonnegative", "integer"}
_LOCAL_HEADER = 30  # bytes before each member, beside its name
_TREES = {"builtins.tuple", "builtins.list", None}


class ProgramError(ValueError):
    """A file is no program that can be used: which file, and why."""


@dataclass(frozen=True)
class Program:
    """An exported network that classifies images.

    module: float32 (N, 3, size, size) → (N, classes). batch: the only N that it takes, or None for any.
    """

    module: nn.Module
    size: int
    classes: int
    batch: int | None

    def __call__(self, images: Tensor) -> Tensor:
        """float32 (N, 3, size, size), any N → float32 (N, classes). Raises ProgramError for anything else."""
        try:
            rows = self._run(images)
        except Exception as error:  # the program's: what others exported may fail in any way, for some N alone too
            raise ProgramError(f"it fails on {len(images)} images ({_reason(error)})") from None
        if not isinstance(rows, Tensor) or rows.shape != (len(images), self.classes):
            given = tuple(rows.shape) if isinstance(rows, Tensor) else type(rows).__name__
            raise ProgramError(f"for {len(images)} images it gives {given} and not {(len(images), self.classes)}")
        return rows

    def _run(self, images: Tensor) -> Tensor:
        if self.batch is None:
            return self.module(images).float()  # type: ignore[no-any-return]
        rows = []
        for part in torch.split(images, self.batch):
            whole = torch.cat([part, part.new_zeros(self.batch - len(part), *part.shape[1:])])
            rows.append(self.module(whole)[: len(part)].float())
        return torch.cat(rows)


def noise(program: Program) -> Tensor:
    """Two images of the program's size, always the same: float32 (2, 3, size, size) of mean 0 and deviation 1."""
    return torch.randn(2, 3, program.size, program.size, generator=torch.Generator().manual_seed(0))


def open_program(path: Path, device: torch.device) -> Program:
    """The image classifier in a .pt2 file, on `device`.

    Raises ProgramError for a file that is no such program, or that holds anything but tensors and tensor operators.
    What may still crash is left to `avc.teachers.trial.try_programs`, which calls this in another process.
    """
    archive = _checked(path)
    try:
        return _loaded(path, archive, device)
    except ProgramError:
        raise
    except Exception as error:  # neither torch's loader nor what it makes of a strange file has exceptions of its own
        raise ProgramError(f"{path} cannot be loaded by torch {torch.__version__}: {_reason(error)}") from None


def _loaded(path: Path, archive: io.BytesIO, device: torch.device) -> Program:
    exported = torch.export.load(archive)
    for node in exported.graph.nodes:
        if node.op == "call_function" and not _is_allowed(node.target):
            raise ProgramError(f"{path} is refused: it calls {node.target}, which is no operator on tensors")
    inputs, outputs = (
        [node.meta["val"].shape for node in exported.graph.nodes if node.name in names]
        for names in (exported.graph_signature.user_inputs, exported.graph_signature.user_outputs)
    )
    if len(inputs) != 1 or len(inputs[0]) != 4 or inputs[0][1] != 3 or len(outputs) != 1 or len(outputs[0]) != 2:
        shapes = f"{[tuple(shape) for shape in inputs]} → {[tuple(shape) for shape in outputs]}"
        raise ProgramError(
            f"{path} is a program of another kind, {shapes}: a teacher takes images (N, 3, H, W) and gives (N, classes)"
        )
    batch, _, height, width = (side if isinstance(side, int) else None for side in inputs[0])
    if height != width:
        raise ProgramError(f"{path} takes images of {width} x {height} pixels, and a teacher's must be square")
    module = move_to_device_pass(exported, device).module()
    return Program(module, height or USUAL_SIZE, int(outputs[0][1]), batch)


def _is_allowed(target: Any) -> bool:
    """Whether a node's function is one of those whose names `_check` lets through."""
    if isinstance(target, torch._ops.OpOverload):
        return target.namespace == "aten" and str(target).removeprefix("aten.") in ON_TENSORS
    return getattr(target, "__module__", "") == "_operator" and target.__name__ in ON_SIZES


def _checked(path: Path) -> io.BytesIO:
    """A copy of the archive with only what has been looked through."""
    copy = io.BytesIO()
    try:
        with zipfile.ZipFile(path) as archive, zipfile.ZipFile(copy, "w") as kept:
            top = archive.namelist()[0].partition("/")[0] + "/" if archive.namelist() else ""
            _refuse_overlaps(archive)
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
        raise ProgramError(f"there is no file {path}") from None
    except _Refused as error:
        raise ProgramError(f"{path} is refused: {error}. It may be harmful; nothing of it was run") from None
    except Exception as error:  # zipfile and json meet a strange file with a dozen kinds, MemoryError among them
        raise ProgramError(f"{path} is no exported torch program: {_reason(error)}") from None
    copy.seek(0)
    return copy


def _refuse_overlaps(archive: zipfile.ZipFile) -> None:
    """Each member must lie in bytes of its own: one byte read for many would make gigabytes of a small file."""
    infos = sorted(archive.infolist(), key=lambda info: info.header_offset)
    ends = [info.header_offset for info in infos[1:]] + [archive.start_dir]
    for info, end in zip(infos, ends, strict=True):
        if info.header_offset + _LOCAL_HEADER + max(info.file_size, info.compress_size) > end:
            raise _Refused(f"{info.filename!r} lies over another part of the archive")


def _reason(error: Exception) -> str:
    """An error on one line, with its kind where it says little by itself."""
    text = " ".join(str(error).split())[:200]
    return text if isinstance(error, ValueError | RuntimeError) and text else f"{type(error).__name__} {text}".strip()


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
            if name in ("target", "as_operator"):
                _check_operator(value)
            elif name != "expr_str":
                _plain(_PLAIN, value, name)
            elif not _is_size(ast.parse(value, mode="eval").body):
                raise _Refused(f"its expr_str {value[:60]!r} is no size")


def _is_size(term: ast.expr) -> bool:
    """Whether sums and products of numbers and sizes are all that a term holds; torch will evaluate it."""
    if isinstance(term, ast.Call):
        return (
            isinstance(term.func, ast.Name)
            and term.func.id in _ARITHMETIC
            and all(map(_is_size, term.args))
            and all(word.arg in _ASSUMPTIONS and isinstance(word.value, ast.Constant) for word in term.keywords)
        )
    if isinstance(term, ast.UnaryOp):
        return isinstance(term.op, ast.USub) and _is_size(term.operand)
    value = term.value if isinstance(term, ast.Constant) else term.id if isinstance(term, ast.Name) else None
    return _SIZE.fullmatch(value) is not None if isinstance(value, str) else isinstance(value, int)


def _check_operator(name: str) -> None:
    allowed = {f"torch.ops.aten.{name}" for name in ON_TENSORS} | {f"_operator.{name}" for name in ON_SIZES}
    if name not in allowed:
        raise _Refused(
            f"it calls {name[:80]!r}, which is none of the operators that networks of images are made of "
            "(avc/teachers/operators.py lists them; a program must be exported without `run_decompositions`)"
        )


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
