#!/usr/bin/env bash
# FFmpeg's minterpolate holds back two pictures at the end: a video that is brought to twice its rate by it is one and a
# half pictures of the old rate shorter than it was. The framerate filter keeps the whole.
#
# Packages: av 18.1.0 (libavfilter of FFmpeg 8.1.2), numpy 2.4.6.
# Guess before it was run: 99 pictures of 50: between each two one more, and the last one.
# Seen: 50 pictures of 25 a second brought to 50 a second; pictures, and the stamp of the last in seconds:
#
#   minterpolate: 97 pictures, the last at 1.92
#   framerate: 100 pictures, the last at 1.98
#
# What it means: beside its sound such a video ends 60 ms early, and a batch that was converted by it has clips that are
# too short for their labels. Give it two more pictures (tpad=stop=2:stop_mode=clone) and cut.
set -euo pipefail
python=${PYTHON:-python3.11}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
"$python" -m venv "$scratch/env"
"$scratch/env/bin/pip" install --quiet --disable-pip-version-check av==18.1.0 numpy==2.4.6
expected="minterpolate: 97 pictures, the last at 1.92
framerate: 100 pictures, the last at 1.98"
seen=$(
    "$scratch/env/bin/python" - <<'PYTHON'
from fractions import Fraction

import av
import av.filter
import numpy as np

for name in ("minterpolate", "framerate"):
    graph = av.filter.Graph()
    source = graph.add_buffer(width=128, height=128, format="yuv420p", time_base=Fraction(1, 25))
    graph.link_nodes(source, graph.add(name, "fps=50"), graph.add("buffersink")).configure()
    stamps = []
    for number in [*range(50), None]:
        frame = None
        if number is not None:
            gray = np.full((192, 128), 128, np.uint8)
            gray[:128] = 16 + 2 * number
            frame = av.VideoFrame.from_ndarray(gray, format="yuv420p")
            frame.pts, frame.time_base = number, Fraction(1, 25)
        graph.push(frame)
        while True:
            try:
                given = graph.pull()
                stamps.append(given.pts * given.time_base)
            except (av.BlockingIOError, av.EOFError):
                break
    print(f"{name}: {len(stamps)} pictures, the last at {float(stamps[-1]):.2f}")
PYTHON
)
echo "$seen"
[[ $seen == "$expected" ]] || { echo "expected:" "$expected" >&2; exit 1; }
