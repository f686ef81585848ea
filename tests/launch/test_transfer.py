"""The commands that bring weights in and measure what features are worth, as a user meets them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np


def avc(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "launch.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


class Harmful:
    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> object:
        return os.system, (f"touch {self.trace}",)


def test_import_refuses_a_malicious_pickle_in_one_paragraph_and_runs_nothing(tmp_path) -> None:
    np.save(tmp_path / "sound8.npy", np.array(Harmful(tmp_path / "trace"), dtype=object), allow_pickle=True)
    done = avc("import", "soundnet8", tmp_path / "sound8.npy", "--out", tmp_path / "soundnet8.safetensors")
    assert done.returncode == 2
    assert "is refused" in done.stderr and "nothing of it was run" in done.stderr and "Traceback" not in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["sound8.npy"]


def test_import_names_what_it_can_import(tmp_path) -> None:
    done = avc("import", "vggish", tmp_path / "a", "--out", tmp_path / "b")
    assert done.returncode == 2 and "soundnet8 can" in done.stderr
