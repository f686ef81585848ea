"""Indexes of clips without any files, for what needs only integers; encoders of one's own for towers; tones."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

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
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("AVC_RUN_CODE", "1")  # of mine.py
    return tmp_path / "home" / ".cache" / "avc" / "features"


@pytest.fixture
def towers(tmp_path, cache):
    """Settings of towers that begin with two small encoders."""
    (tmp_path / "mine.py").write_text(ENCODERS)
    return {"image": f"{tmp_path}/mine.py:Eye", "audio": f"{tmp_path}/mine.py:Ear"}


@pytest.fixture
def tones(tmp_path: Path) -> list[Path]:
    """Six tones of 1.5 s, each of its own pitch, in several formats, rates and numbers of channels."""
    paths = []
    for number in range(6):
        rate, channels = ((44_100, 1), (48_000, 2), (22_050, 1))[number % 3]
        wave = 0.5 * np.sin(2 * np.pi * 220 * (1 + number) * np.arange(int(1.5 * rate)) / rate)
        paths.append(tmp_path / f"{number}.{('wav', 'flac', 'ogg')[number % 3]}")
        soundfile.write(paths[-1], np.stack([wave] * channels, axis=1), rate)
    return paths
