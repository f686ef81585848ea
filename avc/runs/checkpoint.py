"""A checkpoint is everything that a run needs to go on as if it had never stopped.

`checkpoints/step-00001000.pt` in an attempt's folder holds the step (and with it the position in the plan), the
network, the optimizer, the configuration, the digests of what was learnt from and the best validation so far. There are
no generator states in it: the plan draws every sample from the row's number, and the loop seeds torch's generators from
the step.

A file is written aside, flushed to the disk and renamed, so whatever bears the name is complete, unless the disk fails
later. Loading runs no code from the file (`weights_only=True`).
"""

from __future__ import annotations

import zipfile
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Annotated, Any, BinaryIO

import pydantic
import torch
from pydantic import Field
from torch import Tensor

from avc.runs.attempt import CHECKPOINTS, WEIGHTS, Attempt, checkpoints, step_of
from avc.runs.weights import as_bytes

FORMAT_VERSION = 2


class DamagedCheckpoint(ValueError):
    """The file is no longer, or never was, what torch writes."""


@dataclass(frozen=True)
class Checkpoint:
    """step: optimizer steps done. model, optimizer: state dictionaries. config: as nested plain values.

    inputs: SHA-256, hexadecimal, by name: of what was learnt from (`avc.runs.resuming.digests`); what is not there
    was not noted yet when the checkpoint was saved. unvalidated: a stop has cut short the validation at this step.
    """

    step: Annotated[int, Field(strict=True, ge=0)]
    model: dict[str, Any]
    optimizer: dict[str, Any]
    config: dict[str, dict[str, Any]]
    best_score: Annotated[float, Field(strict=True, allow_inf_nan=False)]
    inputs: dict[str, str] = field(default_factory=dict)
    unvalidated: bool = False
    format: int = FORMAT_VERSION


def save(attempt: Attempt, checkpoint: Checkpoint, *, keep: int) -> Path:
    """Write a checkpoint of an attempt and delete all but its `keep` newest. One rank calls it. Raises StaleAttempt."""
    content = {field.name: getattr(checkpoint, field.name) for field in fields(checkpoint)}
    name = f"{CHECKPOINTS}/step-{checkpoint.step:08d}.pt"

    def write(file: BinaryIO) -> None:
        sink = _Sink(file)
        torch.save(content, sink)  # type: ignore[arg-type]
        if sink.error is not None:
            raise sink.error

    path = attempt.write(name, write)
    for old in checkpoints(attempt.folder)[:-keep]:
        old.unlink(missing_ok=True)
    return path


class _Sink:
    """Takes what torch writes, and keeps the file's error: torch would raise another, without the reason."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.error: OSError | None = None

    def write(self, data: bytes) -> int:
        try:
            return len(data) if self.error else self.file.write(data)
        except OSError as error:
            self.error = error
            return len(data)

    def flush(self) -> None:
        """Left to whoever closes the file."""


class CheckpointWriter:
    """Writes checkpoints in a thread while the training goes on; keeps the `keep` newest.

    The training waits for a copy into memory of the host, which is kept from one checkpoint to the next, and for the
    checkpoint before, should it still be being written.
    """

    def __init__(self, attempt: Attempt, *, keep: int) -> None:
        self._attempt, self._keep = attempt, keep
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._writing: Future[None] | None = None
        self._host: dict[str, Any] = {}

    def write(self, checkpoint: Checkpoint, *, resumable: bool, weights: bool) -> Future[None]:
        """Write a checkpoint to resume from, its weights for those who use them, or both; done when all is written.

        Raises what writing the one before has raised: StaleAttempt, OSError.
        """
        self.wait()
        self.prepare(checkpoint.model, checkpoint.optimizer)
        self._writing = self._thread.submit(self._write, replace(checkpoint, **self._host), resumable, weights)
        return self._writing

    def prepare(self, model: dict[str, Any], optimizer: dict[str, Any]) -> None:
        """Copy states into the memory of the host; the first time takes longest, for the memory is new."""
        for name, state in (("model", model), ("optimizer", optimizer)):
            self._host[name] = _on_host(state, self._host.get(name))
        if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
            torch.cuda.synchronize()

    def _write(self, checkpoint: Checkpoint, resumable: bool, weights: bool) -> None:
        if weights:
            about = {"step": str(checkpoint.step), "validation_score": f"{checkpoint.best_score:.6f}"}
            content = as_bytes(checkpoint.model, about | {"model": checkpoint.config["model"]["name"]})
            self._attempt.write(WEIGHTS, lambda file: file.write(content))
        if resumable:
            save(self._attempt, checkpoint, keep=self._keep)

    def check(self) -> None:
        """Raise what has gone wrong in writing, if anything has; waits for nothing."""
        if self._writing is not None and self._writing.done():
            self.wait()

    def wait(self) -> None:
        """Wait until all is written. Raises what writing it raised."""
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.result()


def _on_host(state: Any, before: Any) -> Any:
    """A copy of a state dictionary, in the tensors of the copy before where they fit; pinned where it is of a GPU."""
    if isinstance(state, Tensor):
        if not isinstance(before, Tensor) or before.shape != state.shape or before.dtype != state.dtype:
            before = torch.empty_like(state, device="cpu", pin_memory=state.is_cuda)
        return before.copy_(state, non_blocking=True)
    if isinstance(state, dict):
        host = before if isinstance(before, dict) else {}
        return {key: _on_host(value, host.get(key)) for key, value in state.items()}
    return state


def load_newest(folder: Path) -> Checkpoint | None:
    """The newest checkpoint in an attempt's folder, tensors on the CPU; None where there is none.

    Raises ValueError as `read` does.
    """
    saved = checkpoints(folder)
    return read(saved[-1]) if saved else None


def read(path: Path, *, mapped: bool = False) -> Checkpoint:
    """What a checkpoint holds; where it is `mapped`, tensors are only read when they are used.

    Raises DamagedCheckpoint; ValueError for a file that cannot be read, of another format, or with other content than
    `save` writes; FileNotFoundError.
    """
    try:
        path.open("rb").close()
    except FileNotFoundError:
        raise
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from None
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except Exception as error:  # torch raises what it meets in the file
        if mapped:  # which some file systems refuse
            return read(path)
        raise DamagedCheckpoint(f"{path} is no whole checkpoint: {_short(error)}") from None
    if not isinstance(content, dict) or content.get("format") != FORMAT_VERSION:
        form = content.get("format") if isinstance(content, dict) else type(content).__name__
        raise ValueError(f"{path} has checkpoint format {form!r:.60}; this version reads {FORMAT_VERSION}")
    try:
        checkpoint = pydantic.TypeAdapter(Checkpoint).validate_python(content)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise ValueError(f"{path} does not hold what a checkpoint does: {place}: {first['msg']}") from None
    if checkpoint.step != step_of(path):
        raise ValueError(f"{path} was saved at step {checkpoint.step}, which is not in its name")
    return checkpoint


def refuse_damaged(path: Path) -> None:
    """Raise DamagedCheckpoint unless every byte is as it was written; torch itself compares no checksums.

    Raises ValueError and FileNotFoundError as `read` does.
    """
    try:
        with path.open("rb") as file, zipfile.ZipFile(file) as archive:
            entries = archive.infolist()
            size = sum(entry.file_size for entry in entries)
            # torch compresses nothing: parts that are larger than the file would fill memory, and are not its.
            stored = all(entry.compress_type == zipfile.ZIP_STORED for entry in entries)
            wrong = archive.testzip() if stored and size <= path.stat().st_size else "the list of its parts"
    except FileNotFoundError:
        raise
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from None
    except Exception as error:  # zipfile raises what it meets in the file
        raise DamagedCheckpoint(f"{path} is no whole checkpoint: {_short(error)}") from None
    if wrong is not None:
        raise DamagedCheckpoint(f"{path} is no whole checkpoint: {wrong} is altered")


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:160] or type(error).__name__
