#!/usr/bin/env bash
# FFmpeg's filters that clean or widen sound hand it on later than they got it, by up to two pictures of 25 a second, under
# the stamps of before: what is late cannot be seen, and the end is cut off. Of the pictures' filters tmedian does the
# opposite: it shows what is yet to come.
#
# Packages: av 18.1.0 (FFmpeg 8.1.2), numpy 2.4.6.
# Guess before it was run: none is late but alimiter (5 ms) and firequalizer (10 ms), all keep the length; of pictures only
# tmix is late. No guess was written for adrc, apsyclip, afftfilt and surround.
# Seen: by how many milliseconds four seconds of noise at 48 kHz come later than their stamps say, and samples that are gained:
#
#   afftdn 25.0 ms +0, anlmdn 8.0 ms +0, afwtdn 0.0 ms +0, dynaudnorm 0.0 ms +0, loudnorm 0.0 ms +0
#   alimiter 5.0 ms +0, adrc 4.0 ms +0, apsyclip 4.0 ms +0, firequalizer 10.0 ms +960, superequalizer 85.3 ms +0
#   afftfilt 64.0 ms +0, dialoguenhance 32.0 ms +0, surround 42.7 ms +0, compand 0.0 ms +0, adeclick 0.0 ms +0
#   tmedian of 50 pictures: at stamp 20 it shows 21 of radius 1, 23 of radius 3; there are 48 and 44
#
# What it means: sound that is denoised by afftdn before packing is 25 ms beside its pictures, in some videos and not in
# others if only some were cleaned, and no container knows. Take the delay off by atrim=start and asetpts, or filter what
# is cut from the sound with its surroundings; alimiter has latency=1 for it.
set -euo pipefail
python=${PYTHON:-python3.11}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
"$python" -m venv "$scratch/env"
"$scratch/env/bin/pip" install --quiet --disable-pip-version-check av==18.1.0 numpy==2.4.6
expected=$(sed -n 's/^#   //p' "$0")
seen=$(
    cd "$scratch" && env/bin/python -W ignore - <<'PYTHON'
from fractions import Fraction

import av
import numpy as np

RATE = 48000
LINES = (
    ("afftdn", "anlmdn", "afwtdn", "dynaudnorm", "loudnorm"),
    ("alimiter", "adrc", "apsyclip", "firequalizer", "superequalizer"),
    ("afftfilt", "dialoguenhance", "surround", "compand", "adeclick"),
)
rng = np.random.default_rng(0)
noise = rng.normal(0, 0.02, 4 * RATE).astype(np.float32)
noise[2 * RATE : 2 * RATE + 4800] += (rng.normal(0, 0.3, 4800) * np.hanning(4800)).astype(np.float32)


def filtered(source, steps, frames):
    graph = av.filter.Graph()
    nodes = [graph.add(*source)]
    for step in steps:
        nodes.append(graph.add(*step))
        nodes[-2].link_to(nodes[-1])
    graph.configure()
    given = []
    for frame in [*frames, None]:
        nodes[0].push(frame)
        while True:
            try:
                given.append(nodes[-1].pull())
            except (av.BlockingIOError, av.EOFError):
                break
    return given


def sound():
    for start in range(0, len(noise), 1024):
        frame = av.AudioFrame.from_ndarray(noise[None, start : start + 1024], "fltp", "mono")
        frame.sample_rate, frame.pts, frame.time_base = RATE, start, Fraction(1, RATE)
        yield frame


def late(name):
    source = ("abuffer", f"sample_rate={RATE}:sample_fmt=fltp:channel_layout=mono:time_base=1/{RATE}")
    form = ("aformat", "sample_fmts=fltp")
    given = filtered(source, [(name,), ("aresample", str(RATE)), form, ("abuffersink",)], sound())
    heard = np.concatenate([frame.to_ndarray()[0] for frame in given])
    assert given[0].pts == 0
    size = 2 * len(noise) + len(heard)
    overlap = np.fft.irfft(np.fft.rfft(heard, size) * np.conj(np.fft.rfft(noise, size)), size)
    lag = (int(np.abs(overlap).argmax()) + size // 2) % size - size // 2
    return f"{name} {1000 * lag / RATE:.1f} ms {len(heard) - len(noise):+d}"


def pictures():
    for number in range(50):
        planes = np.full((96, 64), 128, np.uint8)
        planes[:64] = 40 + 3 * number
        frame = av.VideoFrame.from_ndarray(planes, "yuv420p")
        frame.pts, frame.time_base = number, Fraction(1, 25)
        yield frame


def shown(radius):
    source = ("buffer", "video_size=64x64:pix_fmt=yuv420p:time_base=1/25:frame_rate=25/1:pixel_aspect=1/1")
    given = filtered(source, [("tmedian", f"radius={radius}"), ("buffersink",)], pictures())
    numbers = {round(frame.pts * frame.time_base * 25): (int(frame.to_ndarray()[0, 0]) - 40) // 3 for frame in given}
    return numbers[20], len(given)


for names in LINES:
    print(", ".join(map(late, names)))
(near, some), (far, few) = shown(1), shown(3)
print(f"tmedian of 50 pictures: at stamp 20 it shows {near} of radius 1, {far} of radius 3; there are {some} and {few}")
PYTHON
)
echo "$seen"
[[ $seen == "$expected" ]] || { echo "expected:" "$expected" >&2; exit 1; }
