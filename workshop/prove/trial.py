"""Runs a training as its user would, kills processes of it, and runs it again until it ends."""

from __future__ import annotations

import ctypes
import os
import random
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from zipfile import is_zipfile

from workshop.prove.tensors import alter, digests, load, parts, saved, state

PLACE = "{}"  # in the command, for the folder of a run
PATIENCE_SECONDS = 60.0  # for what is left of a run after a kill
QUIET_SECONDS, QUIET_SHARE = 0.2, 0.02  # without a new file, of the undisturbed run's time: a checkpoint is whole
_LIBC = ctypes.CDLL(None)
_PDEATHSIG, _SUBREAPER = 1, 36  # PR_SET_: die with the parent; orphans below this process become its children


@dataclass(frozen=True)
class Verdict:
    """name: what was done; outcome: what came of it; right: whether that speaks for the trainer."""

    name: str
    outcome: str
    right: bool


@dataclass
class Trial:
    """A command on trial in a folder.

    checkpoint: pattern of the names of files that it resumes from. needless: parts of them that need not change
    anything.
    """

    command: Sequence[str]
    folder: Path
    seed: int = 1
    checkpoint: str = "*"
    needless: frozenset[str] = frozenset()
    say: Callable[[str], None] = print
    _expected: dict[str, str] = field(default_factory=dict)
    _seconds: float = 0.0

    def peace(self) -> Verdict:
        """Run it once, undisturbed. Raises ValueError where it fails or leaves no tensors."""
        _LIBC.prctl(_SUBREAPER, 1, 0, 0, 0)
        begun = time.monotonic()
        if status := self._run("peace"):
            raise ValueError(f"the command ends with {status} undisturbed: see {self._log('peace')}")
        self._seconds = time.monotonic() - begun
        self._expected = digests(self.folder / "peace")
        if not self._expected:
            raise ValueError(
                f"the command leaves no tensors in {self.folder / 'peace'}: has it a {PLACE} for its folder?"
            )
        return Verdict("undisturbed", f"{len(self._expected)} tensors in {self._seconds:.0f} s", True)

    def killed(self, number: int) -> Verdict:
        """Run it, kill one of its processes at a random moment, and run it again until it ends."""
        draw, name = random.Random(f"{self.seed} {number}"), f"kill-{number}"
        moment = draw.random()
        while True:
            process = self._start(name)
            with suppress(subprocess.TimeoutExpired):
                process.wait(moment * self._seconds)
            if process.poll() is None:
                break
            moment /= 2  # it was faster this time
            shutil.rmtree(self.folder / name)
        victim = draw.choice(_tree(process.pid))
        checkpoints = len(saved(self.folder / name))
        with suppress(ProcessLookupError):
            os.kill(victim, signal.SIGKILL)
        with suppress(subprocess.TimeoutExpired):
            process.wait(PATIENCE_SECONDS)
        _end(process)
        which = "the first process" if victim == process.pid else "a later process"
        what = f"{which} killed at {moment * self._seconds:.1f} s, {checkpoints} files of tensors"
        return self._ended(name, what)

    def control(self) -> list[Verdict]:
        """Stop it at its first checkpoint; resume from that, and from copies of it that lack one part each.

        The checkpoint is the newest file, once none has come for a moment, and those beside it. Raises ValueError where
        it ends before such a moment.
        """
        start = self.folder / "stopped"
        process = self._start("stopped")
        quiet, seen, since = max(QUIET_SECONDS, QUIET_SHARE * self._seconds), self._checkpoints(start), time.monotonic()
        while process.poll() is None and not (seen and time.monotonic() - since > quiet):
            time.sleep(0.01)
            if (now := self._checkpoints(start)) != seen:
                seen, since = now, time.monotonic()
        if process.poll() is not None:
            raise ValueError(f"no checkpoint stood for {quiet:.1f} s: let the command save less often, or train longer")
        _end(process)
        files = list(self._checkpoints(start))
        checkpoint = [path.relative_to(start) for path in files if path.parent == files[-1].parent]
        shutil.copytree(start, self.folder / "untouched", symlinks=True)
        verdicts = [self._ended("untouched", "nothing altered")]
        # With what is resumed as it is, for where that ends elsewhere already, every part would seem to matter.
        untouched = digests(self.folder / "untouched")
        of_checkpoint: dict[str, list[Path]] = {}
        for file in checkpoint:
            try:
                for part in parts(load(start / file)):
                    of_checkpoint.setdefault(part, []).append(file)
            except Exception as error:  # whatever torch and safetensors raise
                whole = is_zipfile(start / file)  # and holds what torch does not read by weights_only
                why = "is not looked at" if whole else "is not whole"
                verdicts.append(Verdict(f"{file} at the stop", f"{type(error).__name__}: it {why}", whole))
        for number, (part, files) in enumerate(of_checkpoint.items()):
            verdict = self._resumed(start, f"part-{number}", part, files, untouched)
            self.say(f"{verdict.name}: {verdict.outcome}")
            verdicts.append(verdict)
        return verdicts

    def _checkpoints(self, folder: Path) -> dict[Path, object]:
        """The state of each file, or DCP folder, that it resumes from; links go by what they lead to as well."""
        names = self.checkpoint
        return {path: state(path) for path in saved(folder) if path.match(names) or path.resolve().match(names)}

    def _resumed(
        self, start: Path, name: str, what: str, files: Sequence[Path], expected: Mapping[str, str]
    ) -> Verdict:
        folder = self.folder / name
        shutil.copytree(start, folder, symlinks=True)
        for file in files:
            if not (folder / file).resolve().is_relative_to(folder.resolve()):
                raise ValueError(f"{folder / file} leads out of the run's folder: its links must be relative")
            alter(folder / file, what)
        if status := self._run(name):
            return Verdict(f"{what} reset", f"refused, status {status}: {self._last_line(name)}", True)
        difference = _difference(expected, folder)
        if difference is None:
            return Verdict(f"{what} reset", "changes nothing", what in self.needless)
        return Verdict(f"{what} reset", f"changes the end: {difference}", True)

    def _ended(self, name: str, what: str) -> Verdict:
        """Run it again, and again where it fails, and compare what it leaves."""
        for _ in range(3):
            if not (status := self._run(name)):
                difference = _difference(self._expected, self.folder / name)
                return Verdict(what, difference or "every tensor equal", difference is None)
        return Verdict(what, f"is not resumed, status {status}: {self._last_line(name)}", False)

    def _run(self, name: str) -> int:
        process = self._start(name)
        with suppress(subprocess.TimeoutExpired):
            process.wait(10 * self._seconds + PATIENCE_SECONDS if self._seconds else None)
        _end(process)
        return process.returncode

    def _start(self, name: str) -> subprocess.Popen[bytes]:
        folder = self.folder / name
        folder.mkdir(parents=True, exist_ok=True)
        command = [word.replace(PLACE, str(folder)) for word in self.command]
        with self._log(name).open("ab") as log:
            log.write(f"$ {shlex.join(command)}\n".encode())
            log.flush()
            return subprocess.Popen(
                command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, preexec_fn=_die_with_parent
            )

    def _log(self, name: str) -> Path:
        return self.folder / f"{name}.log"

    def _last_line(self, name: str) -> str:
        lines = self._log(name).read_text(errors="replace").splitlines()
        return next((line.strip()[:160] for line in reversed(lines) if any(map(str.isalpha, line))), "")


def _difference(expected: Mapping[str, str], folder: Path) -> str | None:
    """How many of the expected tensors are others in a folder, or missing, and the first of them."""
    here = digests(folder)
    other = [name for name, digest in expected.items() if here.get(name) != digest]
    return f"{len(other)} of {len(expected)} tensors, first {other[0]}" if other else None


def _tree(pid: int) -> list[int]:
    """A process and all below it that are alive."""
    found = [pid]
    with suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            found += [one for child in (task / "children").read_text().split() for one in _tree(int(child))]
    return found


def end_all() -> None:
    """Kill whatever runs below this process, what a run has left behind too, and wait for its end."""
    while True:
        for pid in _tree(os.getpid())[1:]:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill what is left of a run; the process has its exit status then."""
    process.poll()
    if process.returncode is None:
        process.kill()
        process.wait()
    end_all()


def _die_with_parent() -> None:
    _LIBC.prctl(_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
