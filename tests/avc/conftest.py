"""Indexes of clips without any files, for what needs only integers; encoders of one's own for towers."""

from collections.abc import Callable

import numpy as np
import pytest

from shards.format import CLIP, SAMPLES_PER_TICK
from tests.avc.own_encoders import ENCODERS

MakeIndex = Callable[..., np.ndarray]


@pytest.fixture(scope="session")
def make_index() -> MakeIndex:
    """Rows of the index: clips of 1.1 s to 10 s, some of whose sound begins late or ends early."""

    def make(count: int, *, every: int = 1, ticks: int | None = None) -> np.ndarray:
        index = np.zeros(count, dtype=CLIP)
        for i in range(count):
            length = ticks or 60 + 37 * i % 190
            index[i]["key"] = f"{i:032x}".encode()
            index[i]["ticks"] = length
            index[i]["every"] = every
            index[i]["width"], index[i]["height"] = 341, 256
            index[i]["sound_from"] = 977 * (i % 3)
            index[i]["sound_to"] = length * SAMPLES_PER_TICK - 1313 * (i % 2)
        return index

    return make


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """Features of this test alone."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("AVC_RUN_CODE", "1")  # of mine.py
    return tmp_path / "home" / ".cache" / "avc" / "features"


@pytest.fixture
def towers(tmp_path, cache):
    """Settings of towers that begin with two small encoders."""
    (tmp_path / "mine.py").write_text(ENCODERS)
    return {"image": f"{tmp_path}/mine.py:Eye", "audio": f"{tmp_path}/mine.py:Ear"}
