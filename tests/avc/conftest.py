"""Indexes of clips without any files, for what needs only integers."""

from collections.abc import Callable

import numpy as np
import pytest

from shards.format import CLIP, SAMPLES_PER_TICK

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
