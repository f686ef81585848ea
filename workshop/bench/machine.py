"""What a measurement was made on: a number without its machine and its versions says nothing."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = ("torch", "numpy", "av", "simplejpeg", "soundfile", "webdataset")


@dataclass(frozen=True)
class Machine:
    """cores: those that this process may use. gpu: None where none was used. commit: None outside of a checkout."""

    cpu: str
    cores: int
    gpu: str | None
    python: str
    versions: dict[str, str]
    commit: str | None
    command: str
    date: str  # UTC, ISO 8601


def describe(*, gpu: str | None = None) -> Machine:
    """The machine, the versions and the command line of this process. Imports none of the packages that it names."""
    return Machine(
        cpu=_cpu(),
        cores=len(os.sched_getaffinity(0)),
        gpu=gpu,
        python=platform.python_version(),
        versions={name: found for name in PACKAGES if (found := _version(name)) is not None},
        commit=_commit(),
        command=_command(),
        date=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _command() -> str:
    if sys.orig_argv[1:2] == ["-m"]:
        return " ".join(["python", *sys.orig_argv[1:]])
    return " ".join([Path(sys.argv[0]).name, *sys.argv[1:]])


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _commit() -> str | None:
    """The commit that this file belongs to, with `+` where the code was changed since."""
    here = Path(__file__).resolve()
    root = here.parents[2]
    # An installed copy may lie inside somebody else's checkout: only one that tracks this file is ours.
    if _git(root, "ls-files", "--error-unmatch", str(here.relative_to(root))) is None:
        return None
    commit = _git(root, "rev-parse", "HEAD")
    changed = _git(root, "status", "--porcelain", "--", "avc", "launch", "shards", "workshop")
    return f"{commit}+" if commit and changed else commit


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", "-C", folder, *arguments], capture_output=True, text=True, check=False)
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None
