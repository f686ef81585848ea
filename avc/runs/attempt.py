"""Attempts at a run: numbered, each in a folder of its own, so that none can write into a later one's.

    runs/ave/
      attempts/00001/     attempt.json, ended.json: what is left of an earlier attempt
      attempts/00002/     the run: attempt.json  config.yaml  metrics.jsonl  model.safetensors  checkpoints/
      latest           -> attempts/00002
      metrics.jsonl    -> latest/metrics.jsonl, and so on for what people and programs look for

A process that was cut off from its scheduler lives on, and when its link returns it would write its checkpoints and
metrics over those of the attempt that has replaced it. There is no lock on a shared file system that would outlive a
cut, hence this rule: **the folder with the highest number is the run, and an attempt writes into its own folder only.**

`start_attempt` builds the next folder aside, with hard links to the last attempt's checkpoints and weights and a copy
of its metrics, and renames it to its number. Renaming onto a folder that is not empty fails, so each number is given
once, and a numbered folder is complete. Before each write an attempt checks that its number is still the highest and
raises `StaleAttempt` if not. A newer attempt may start between that check and the write; the write then lands in a
folder that is no longer the run's. The new attempt repeats the steps of a checkpoint that came too late to be
inherited, and nothing of its own is touched: checkpoints are replaced by renaming, never written to, so hard links
keep their content. A client that sees a stale listing of `attempts` is in the same position. `latest` may be set back
by an attempt that was suspended between starting and setting it; the next check corrects it, and programs that must
be sure take the highest number.

Cleaning up goes downwards only: an attempt removes its own old checkpoints and those of lower numbers.
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import socket
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, BinaryIO, TypeVar

import pydantic

from avc.runs.links import point, point_all
from shards.atomic import refuse_links, sync_folder, write_whole, written_aside

ATTEMPTS = "attempts"
LATEST = "latest"
CONFIG = "config.yaml"
METRICS = "metrics.jsonl"
WEIGHTS = "model.safetensors"
CHECKPOINTS = "checkpoints"
T = TypeVar("T")
_RECORD, _END = "attempt.json", "ended.json"
_NUMBERED = re.compile(r"[0-9]{5}|[1-9][0-9]{5,}")  # whatever else lies in `attempts` is none, and is left alone
_BEING_BUILT = re.compile(r"\.([0-9]{5,})\.[0-9a-f]{32}")
_SAVED = re.compile(r"step-[0-9]{8}\.pt")
_TAKEN = (errno.EEXIST, errno.ENOTEMPTY, errno.ENOENT)  # ENOENT: the winner has cleared away what we were building


class StaleAttempt(RuntimeError):
    """A later attempt has started: this one writes nothing more."""


@dataclass(frozen=True)
class End:
    """How an attempt ended, by its own account. step: of what is saved; why: in words; at: ISO 8601, UTC."""

    step: int
    why: str
    at: str


@dataclass(frozen=True)
class AttemptRecord:
    """An attempt. began: ISO 8601, UTC; host: of the main rank; end: None while it runs, or where it was killed.

    wandb_id: the run's on its dashboard, the same for all attempts. world_size, micro_batch_pairs: how it was spread.
    """

    number: int
    wandb_id: Annotated[str, pydantic.Field(pattern=r"^[0-9a-z]{1,64}$")]
    began: str
    host: str
    world_size: int
    micro_batch_pairs: int
    end: End | None = None


@dataclass(frozen=True)
class Attempt:
    """The attempt that this process takes part in. before: the record of the one that it goes on from, if any.

    remarks: what is to be said about the run's folder, a line each.
    """

    run: Path
    record: AttemptRecord
    before: AttemptRecord | None
    remarks: tuple[str, ...] = ()

    @property
    def folder(self) -> Path:
        return _folder(self.run, self.record.number)

    def check(self) -> None:
        """Raise StaleAttempt where a later attempt has started."""
        numbers = _numbers(self.run)
        if not numbers:
            raise FileNotFoundError(errno.ENOENT, "the run's folder is gone", str(self.run))
        newest = numbers[-1]
        if newest != self.record.number:
            later = _read(_folder(self.run, newest))
            raise StaleAttempt(
                f"attempt {self.record.number} at {self.run} has been superseded: attempt {newest} began at "
                f"{later.began} on {later.host}. This one ends, and has written nothing into the other's files"
            )
        point(self.run / LATEST, f"{ATTEMPTS}/{self.folder.name}")

    @contextmanager
    def writing(self, name: str) -> Iterator[None]:
        """Check before the block writes to the file `name`, and again where it fails: it may have been cleared away."""
        self.check()
        try:
            yield
        except OSError as error:
            self.check()
            way_out = "What was saved before is whole: once this is mended, the same command goes on from there"
            raise OSError(error.errno, f"{error.strerror}. {way_out}", str(self.folder / name)) from error

    def write(self, name: str, write: Callable[[BinaryIO], object]) -> Path:
        """Let `write(file)` make the file `name` of this attempt. Raises StaleAttempt; OSError, with a way out."""
        path = self.folder / name
        with self.writing(name), written_aside(path) as file:
            write(file)
        return path

    def ended(self, step: int, why: str) -> None:
        """Leave word of how the attempt ended; not fenced, as it stays in the attempt's own folder."""
        end = End(step, why, _now())
        write_whole(self.folder / _END, json.dumps(asdict(end)).encode())


_BEGUN: dict[Path, Attempt] = {}  # by this process: the newest attempt at each run


def start_attempt(run: Path, *, world_size: int, micro_batch_pairs: int) -> Attempt:
    """Begin the next attempt at the run in `run`, which every earlier one yields to. One rank calls it.

    Raises ValueError where the folder holds files that are not a run's, or links that a run does not make.
    """
    attempts = run / ATTEMPTS
    refuse_foreign_links(run)
    names = (LATEST, CONFIG, METRICS, CHECKPOINTS, WEIGHTS)
    own_or_packed = (*names, "manifest.json")
    foreign = [run / name for name in own_or_packed if (run / name).exists() and not (run / name).is_symlink()]
    if foreign and not _numbers(run):
        raise ValueError(f"{foreign[0]} is in the way: {run} holds something else than a run; choose another run.dir")
    attempts.mkdir(parents=True, exist_ok=True)
    while True:
        numbers = _numbers(run)
        before = _read(_folder(run, numbers[-1])) if numbers else None
        record = AttemptRecord(
            number=before.number + 1 if before else 1,
            wandb_id=before.wandb_id if before else uuid.uuid4().hex[:12],
            began=_now(),
            host=socket.gethostname(),
            world_size=world_size,
            micro_batch_pairs=micro_batch_pairs,
        )
        attempt = Attempt(run, record, before)
        aside = attempts / f".{attempt.folder.name}.{uuid.uuid4().hex}"
        try:
            _build(aside, record, _folder(run, before.number) if before else None)
            aside.rename(attempt.folder)
            break
        except OSError as error:
            shutil.rmtree(aside, ignore_errors=True)
            if error.errno not in _TAKEN:
                raise
            time.sleep(0.2)  # another process was first; a network file system may take a while to show it
    sync_folder(attempts)
    targets = {name: f"{LATEST}/{name}" for name in names} | {LATEST: f"{ATTEMPTS}/{attempt.folder.name}"}
    remarks = point_all(run, targets, copied=run / f"copied-{attempt.folder.name}")
    _clear_before(run, record.number)
    _BEGUN[run] = replace(attempt, remarks=tuple(remarks))
    return _BEGUN[run]


def history(run: Path) -> list[AttemptRecord]:
    """Every attempt at the run in `run`, oldest first."""
    return [_read(_folder(run, number)) for number in _numbers(run)]


@contextmanager
def noting_its_end(run: Path) -> Iterator[None]:
    """Where an error ends the block, leave word of it in the attempt at `run` that was begun in it, if one was."""
    before = _BEGUN.get(run)
    try:
        yield
    except StaleAttempt:
        raise
    except BaseException as error:
        attempt = _BEGUN.get(run)
        if attempt is not None and attempt is not before and not (attempt.folder / _END).exists():
            why = "interrupted" if isinstance(error, KeyboardInterrupt) else f"failed: {error or type(error).__name__}"
            with suppress(OSError):  # such as a full disk, which may be the error
                attempt.ended(max(map(step_of, checkpoints(attempt.folder)), default=0), why)
        raise


def newest_folder(run: Path) -> Path | None:
    """The folder of the newest attempt, which is the run; None where there is none."""
    numbers = _numbers(run)
    return _folder(run, numbers[-1]) if numbers else None


def place(run: Path, name: str) -> Path:
    """Where the file or folder `name` of a run lies, whether there is a link to it or not.

    In `run` itself where there are no attempts, as in a folder of weights that somebody was given.
    """
    return (newest_folder(run) or run) / name


def refuse_foreign_links(run: Path) -> None:
    """Raise ValueError where a link would lead what a run writes, copies or removes out of its folder."""
    refuse_links([run / ATTEMPTS])
    refuse_links(path for path in [run / "wandb"] if path.is_symlink())


def checkpoints(folder: Path) -> list[Path]:
    """The checkpoints in the folder of an attempt, by their names, oldest first."""
    return sorted(path for path in (folder / CHECKPOINTS).glob("step-*.pt") if _SAVED.fullmatch(path.name))


def step_of(checkpoint: Path) -> int:
    """The step at which a checkpoint was saved, by its name."""
    return int(checkpoint.stem.partition("-")[2])


def _build(aside: Path, record: AttemptRecord, before: Path | None) -> None:
    (aside / CHECKPOINTS).mkdir(parents=True)
    if before is not None:
        for path in [*checkpoints(before), before / WEIGHTS]:
            with suppress(FileNotFoundError):  # no weights yet, or a checkpoint that its attempt has just deleted
                _link(path, aside / path.relative_to(before))
        with suppress(FileNotFoundError):
            shutil.copyfile(before / METRICS, aside / METRICS)  # not linked: its attempt may be writing at its end
    write_whole(aside / _RECORD, json.dumps(asdict(replace(record, end=None))).encode())


def _link(path: Path, to: Path) -> None:
    try:
        os.link(path, to)
    except FileNotFoundError:
        raise
    except OSError:  # a file system without hard links
        shutil.copyfile(path, to)


def _clear_before(run: Path, number: int) -> None:
    """Remove what earlier attempts left, but for their records, and what was being built to become one of them."""
    for entry in (run / ATTEMPTS).iterdir():
        if (built := _BEING_BUILT.fullmatch(entry.name)) and int(built[1]) <= number:
            shutil.rmtree(entry, ignore_errors=True)
        elif _NUMBERED.fullmatch(entry.name) and int(entry.name) < number:
            for old in entry.iterdir():
                if old.name not in (_RECORD, _END):
                    shutil.rmtree(old, ignore_errors=True) if old.is_dir() else old.unlink(missing_ok=True)


def _numbers(run: Path) -> list[int]:
    folder = run / ATTEMPTS
    names = [entry.name for entry in folder.iterdir()] if folder.is_dir() else []
    return sorted(int(name) for name in names if _NUMBERED.fullmatch(name))


def _folder(run: Path, number: int) -> Path:
    return run / ATTEMPTS / f"{number:05d}"


def _read(folder: Path) -> AttemptRecord:
    record = _parsed(folder / _RECORD, AttemptRecord)
    if f"{record.number:05d}" != folder.name:
        raise ValueError(f"{folder / _RECORD} is of attempt {record.number}: it belongs into another folder")
    return replace(record, end=_parsed(folder / _END, End) if (folder / _END).exists() else None)


def _parsed(path: Path, kind: type[T]) -> T:
    try:
        return pydantic.TypeAdapter(kind).validate_json(path.read_bytes())
    except FileNotFoundError:
        raise ValueError(f"{path} is not there: {path.parent} is no attempt at a run; move it elsewhere") from None
    except ValueError:
        raise ValueError(
            f"{path} is not what a training wrote: restore it, remove it if it is {_END}, or take another run.dir"
        ) from None


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
