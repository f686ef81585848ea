#!/usr/bin/env bash
# pyloudnorm takes any sound of four or five channels for left, right, center and two at the side: of four, the last is
# weighed by 1.41 alone, so the right rear of a quad counts 1.5 dB more than its left rear, and one of four microphones more
# than the others. FFmpeg's ebur128 goes by the layout. Of 2.1 pyloudnorm counts the LFE, and six channels it refuses.
#
# Packages: pyloudnorm 0.2.0, av 18.1.0 (FFmpeg 8.1.2), numpy 2.4.6.
# Guess before it was run: both add 1.5 dB for channels behind, by either meter; 5.1 is refused by pyloudnorm.
# Seen: LUFS of a tone of 997 Hz at -20 dB in one channel after the other:
#
#   quad: ebur128 -23.02 -23.02 -21.52 -21.52, pyloudnorm -23.05 -23.05 -23.05 -21.56
#   4.0: ebur128 -23.02 -23.02 -23.02 -21.52, pyloudnorm -23.05 -23.05 -23.05 -21.56
#   2.1: ebur128 -23.02 -23.02 -70.00, pyloudnorm -23.05 -23.05 -23.05
#   5.0: ebur128 -23.02 -23.02 -23.02 -21.52 -21.52, pyloudnorm -23.05 -23.05 -23.05 -21.56 -21.56
#   5.1: ebur128 -23.02 -23.02 -23.02 -70.00 -21.52 -21.52, pyloudnorm refused refused refused refused refused refused
#   mono at 8 kHz: ebur128 -23.00, pyloudnorm -23.19
#
# What it means: recordings of four microphones, ambisonics and quad are brought to another level by which channel is loud.
# Give pyloudnorm one or two channels, or five in its order, the LFE left out.
set -euo pipefail
python=${PYTHON:-python3.11}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
"$python" -m venv "$scratch/env"
"$scratch/env/bin/pip" install --quiet --disable-pip-version-check pyloudnorm==0.2.0 av==18.1.0 numpy==2.4.6
expected=$(sed -n 's/^#   //p' "$0")
seen=$(
    cd "$scratch" && env/bin/python -W ignore - <<'PYTHON'
from fractions import Fraction

import av
import numpy as np
import pyloudnorm


def by_ffmpeg(sound, rate_hz, layout):
    graph = av.filter.Graph()
    unit = Fraction(1, rate_hz)
    source = graph.add_abuffer(format="dbl", sample_rate=rate_hz, layout=layout, time_base=unit)
    meter, sink = graph.add("ebur128", "metadata=1"), graph.add("abuffersink")
    source.link_to(meter)
    meter.link_to(sink)
    graph.configure()
    said = None
    for place in range(0, len(sound), rate_hz // 10):
        piece = np.ascontiguousarray(sound[place : place + rate_hz // 10].reshape(1, -1))
        frame = av.AudioFrame.from_ndarray(piece, format="dbl", layout=layout)
        frame.sample_rate, frame.pts, frame.time_base = rate_hz, place, unit
        graph.push(frame)
        try:
            while True:
                said = dict(graph.pull().metadata).get("lavfi.r128.I", said)
        except (av.BlockingIOError, av.EOFError):
            pass
    return f"{float(said):.2f}"


def by_pyloudnorm(sound, rate_hz):
    try:
        return f"{pyloudnorm.Meter(rate_hz).integrated_loudness(sound):.2f}"
    except ValueError:
        return "refused"


def tone(rate_hz):
    return 0.1 * np.sin(2 * np.pi * 997 * np.arange(5 * rate_hz) / rate_hz)


for layout, channels in (("quad", 4), ("4.0", 4), ("2.1", 3), ("5.0", 5), ("5.1", 6)):
    sounds = [np.outer(tone(48_000), np.eye(channels)[place]) for place in range(channels)]
    ours = " ".join(by_ffmpeg(sound, 48_000, layout) for sound in sounds)
    theirs = " ".join(by_pyloudnorm(sound, 48_000) for sound in sounds)
    print(f"{layout}: ebur128 {ours}, pyloudnorm {theirs}")
low = tone(8000)[:, None]
print(f"mono at 8 kHz: ebur128 {by_ffmpeg(low, 8000, 'mono')}, pyloudnorm {by_pyloudnorm(low, 8000)}")
PYTHON
)
echo "$seen"
[[ $seen == "$expected" ]] || { echo "expected:" "$expected" >&2; exit 1; }
