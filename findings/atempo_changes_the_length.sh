#!/usr/bin/env bash
# FFmpeg's atempo makes sound faster or slower by pieces that it chooses by likeness, so its length is not the length over
# the factor: it is up to 40 ms shorter or longer, by content and length.
#
# Packages: av 18.1.0 (libavfilter of FFmpeg 8.1.2), numpy 2.4.6.
# Guess before it was run: within 100 samples (2 ms) of length / factor.
# Seen, noise at 44.1 kHz; samples given less those of length / factor:
#
#   88200 / 0.5: -1732 = -39.3 ms
#   88200 / 1.5: 258 = 5.9 ms
#   88200 / 2.0: 105 = 2.4 ms
#   100000 / 1.5: 588 = 13.3 ms
#
# What it means: sound that was slowed for augmentation does not end with its pictures or its labels, and a "speed" with
# labels that are scaled by the factor is off by more than a picture at its end. Cut or pad to the length that you mean.
set -euo pipefail
python=${PYTHON:-python3.11}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
"$python" -m venv "$scratch/env"
"$scratch/env/bin/pip" install --quiet --disable-pip-version-check av==18.1.0 numpy==2.4.6
"$scratch/env/bin/python" - <<'PYTHON'
from fractions import Fraction

import av
import av.filter
import numpy as np


def length(samples, factor):
    graph = av.filter.Graph()
    source = graph.add_abuffer(format="flt", sample_rate=44100, layout="mono", time_base=Fraction(1, 44100))
    graph.link_nodes(source, graph.add("atempo", str(factor)), graph.add("abuffersink")).configure()
    noise = np.random.default_rng(0).normal(0, 0.1, samples).astype(np.float32)
    total = 0
    for begin in [*range(0, samples, 1024), None]:
        frame = None
        if begin is not None:
            frame = av.AudioFrame.from_ndarray(noise[None, begin : begin + 1024], format="flt", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = 44100, begin, Fraction(1, 44100)
        graph.push(frame)
        while True:
            try:
                total += graph.pull().samples
            except (av.BlockingIOError, av.EOFError):
                break
    return total


away = {}
for samples, factor in ((88200, 0.5), (88200, 1.5), (88200, 2.0), (100000, 1.5)):
    away[samples, factor] = difference = length(samples, factor) - round(samples / factor)
    print(f"{samples} / {factor}: {difference} = {1000 * difference / 44100:.1f} ms")
assert away[88200, 0.5] < -441, "slowed sound is no longer 10 ms short"
assert away[100000, 1.5] > 220, "quickened sound is no longer 5 ms long"
PYTHON
