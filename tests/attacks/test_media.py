"""Videos that once brought the decoder down, or its messages onto the terminal: each is one record or one rejection."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from tests.shards.awkward import PICTURES, SOUND, late_stream, samples_nowhere, tables_nowhere
from tests.shards.rendering import moving, write

GIGABYTE = 1 << 30
LONGEST_SECONDS = 10  # of processor time

PROGRAM = f"""
import json, resource, sys
resource.setrlimit(resource.RLIMIT_AS, ({GIGABYTE},) * 2)
resource.setrlimit(resource.RLIMIT_CPU, ({LONGEST_SECONDS},) * 2)
from shards.format import PackSettings
from shards.record import make_record
from shards.sources import Source
import os
path = sys.argv[1]
source = Source(name=path, path=path, offset=None, size=os.path.getsize(path), mtime_ns=0)
made = make_record(source, PackSettings(side=48))
print(json.dumps(str(getattr(made, "reason", "packed"))))
"""


def many_channels(path: Path, *, codec: str, layout: str, channels: int) -> Path:
    noise = np.random.default_rng(0).normal(0, 0.1, (channels, 60_000))
    return write(path, moving(), sound=noise, layout=layout, audio=codec)


@pytest.mark.parametrize(
    ("name", "make", "outcome"),
    [
        ("aac.mkv", partial(many_channels, codec="aac", layout="7.1", channels=8), "packed"),
        ("opus.mkv", partial(many_channels, codec="libopus", layout="7.1", channels=8), "packed"),
        ("wavpack.mkv", partial(many_channels, codec="wavpack", layout="7.1", channels=8), "packed"),
        ("sixteen.mkv", partial(many_channels, codec="wavpack", layout="hexadecagonal", channels=16), "packed"),
        ("nine.mkv", partial(many_channels, codec="wavpack", layout="9 channels", channels=9), "packed"),
        ("samples.mp4", samples_nowhere, "undecodable"),
        ("tables.mkv", tables_nowhere, "packed"),
        ("pictures.ts", partial(late_stream, of=PICTURES), "packed"),
        ("sound.ts", partial(late_stream, of=SOUND), "packed"),
    ],
)
def test_an_awkward_video_is_one_record_or_one_rejection(
    name: str, make: Callable[[Path], Path], outcome: str, tmp_path: Path
) -> None:
    video = make(tmp_path / name)
    done = subprocess.run([sys.executable, "-c", PROGRAM, str(video)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout) == outcome
