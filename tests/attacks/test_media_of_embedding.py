"""Media that once brought decoders down, read piece by piece: each ends, within a gigabyte and 10 s, and is named."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from fractions import Fraction
from functools import partial
from pathlib import Path

import av
import numpy as np
import pytest

from tests.attacks.test_media import GIGABYTE, LONGEST_SECONDS, many_channels
from tests.shards.awkward import PICTURES, SOUND, late_stream, samples_nowhere, tables_nowhere

PROGRAM = f"""
import resource, sys
resource.setrlimit(resource.RLIMIT_AS, ({GIGABYTE},) * 2)
resource.setrlimit(resource.RLIMIT_CPU, ({LONGEST_SECONDS},) * 2)
from fractions import Fraction
from pathlib import Path
from shards.media.clip import Rejected
from shards.media.streams import stream_pictures, stream_sound
path = Path(sys.argv[1])
for pieces in (stream_sound(path), stream_pictures(path, hop=Fraction(1, 10), side=64)):
    count = 0
    try:
        for piece in pieces:
            count += 1
        print("whole" if count else "nothing")
    except Rejected as error:
        print(error.reason)
"""


def leaping(path: Path, *, seconds: int) -> Path:
    """Sound whose second half is stamped so much later."""
    with av.open(str(path), "w") as output:
        stream = output.add_stream("pcm_s16le", rate=8_000, layout="mono")
        for number in range(40):
            frame = av.AudioFrame.from_ndarray(np.full((1, 800), number, np.int16), format="s16", layout="mono")
            frame.sample_rate, frame.time_base = 8_000, Fraction(1, 8_000)
            frame.pts = 800 * number + (8_000 * seconds if number >= 20 else 0)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return path


@pytest.mark.parametrize(
    ("name", "make", "sound", "pictures"),
    [
        ("aac.mkv", partial(many_channels, codec="aac", layout="7.1", channels=8), "whole", "whole"),
        ("sixteen.mkv", partial(many_channels, codec="wavpack", layout="hexadecagonal", channels=16), "whole", "whole"),
        ("samples.mp4", samples_nowhere, "undecodable", "undecodable"),
        ("tables.mkv", tables_nowhere, "whole", "whole"),
        ("pictures.ts", partial(late_stream, of=PICTURES), "whole", "whole"),
        ("sound.ts", partial(late_stream, of=SOUND), "whole", "whole"),
        ("gap.mkv", partial(leaping, seconds=600), "whole", "no video stream"),
        ("leap.mkv", partial(leaping, seconds=100_000), "undecodable", "no video stream"),
    ],
)
def test_awkward_media_end_in_pieces_or_in_a_reason(
    name: str, make: Callable[[Path], Path], sound: str, pictures: str, tmp_path: Path
) -> None:
    media = make(tmp_path / name)
    done = subprocess.run([sys.executable, "-c", PROGRAM, str(media)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.split("\n"), done.stderr) == (0, [sound, pictures, ""], "")
