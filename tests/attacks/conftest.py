"""A run, a folder that it has no business with, and how much an attack may take."""

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.attacks.runs import train
from tests.avc.launching import write_config

LARGEST_GROWTH, LONGEST_SECONDS = 10**9, 10.0
TINY = {"validation": {"every_steps": 0}, "checkpoint": {"every_steps": 1}}


@pytest.fixture
def bounded() -> Iterator[None]:
    """Each attack ends within 10 s of work and with no more than 1 GB of memory on top of what there was."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak is what is used now
    before, began = peak_bytes(), time.process_time()
    yield
    assert time.process_time() - began < LONGEST_SECONDS
    assert peak_bytes() - before < LARGEST_GROWTH


def peak_bytes() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


@pytest.fixture(scope="session")
def trained(small_world, tmp_path_factory) -> tuple[Path, Path]:
    """A configuration, and the folder of a run by it with checkpoints at steps 1 and 2 of 2."""
    folder = tmp_path_factory.mktemp("trained")
    config = write_config(folder, small_world, **TINY)
    assert train(config, folder / "run").returncode == 0
    return config, folder / "run"


@pytest.fixture
def run(trained, tmp_path) -> Path:
    """A copy of that run."""
    shutil.copytree(trained[1], tmp_path / "run", symlinks=True)
    return tmp_path / "run"


@pytest.fixture
def precious(tmp_path) -> Path:
    """A folder that a run has no business with."""
    folder = tmp_path / "precious"
    (folder / "checkpoints").mkdir(parents=True)
    for name in ("secret", "metrics.jsonl", "attempt.json", "checkpoints/step-00000009.pt"):
        (folder / name).write_text("mine")
        (folder / name).chmod(0o600)
    return folder
