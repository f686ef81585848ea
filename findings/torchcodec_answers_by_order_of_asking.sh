#!/usr/bin/env bash
# torchcodec's VideoDecoder gives another picture for the same question by what was asked before: an index that follows
# the last index, asked for after a time, is answered with the next picture of the stream. And one time alone is answered
# wrongly in an mp4 of variable rate with B pictures, where the same times asked for together are answered rightly.
#
# Packages: torchcodec 0.13.0, torch 2.13.0, av 18.1.0, numpy 2.4.6; Debian's FFmpeg 5.1 (libavcodec 59) for torchcodec.
# What one would guess: the picture of the index, and of the time, in any order. (Known before; no guess was written down.)
# Seen: the number of the picture that comes, and of 200 random times in a film of 100 pictures, how many are wrong:
#
#   index 1 at once: 1
#   index 1 after index 0 and time 0.04: 2
#   constant rate, one time each: 0 of 200 wrong
#   variable rate, one time each: 200 of 200 wrong
#   variable rate, all at once: 0 of 200 wrong
#
# What it means: ask by times alone or by indices alone, in one call (get_frames_played_at), and never mix the two.
set -euo pipefail
python=${PYTHON:-python3.11}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
"$python" -m venv "$scratch/env"
"$scratch/env/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 torchcodec==0.13.0 av==18.1.0 numpy==2.4.6
expected=$(sed -n 's/^#   //p' "$0")
seen=$(
    cd "$scratch" && env/bin/python -W ignore - <<'PYTHON'
from fractions import Fraction

import av
import numpy as np
from torchcodec.decoders import VideoDecoder


def film(path, stamps, unit):
    """Gray pictures whose level says their number, at these stamps in units of a second."""
    with av.open(path, "w") as file:
        stream = file.add_stream("libx264", rate=25, options={"crf": "10", "bf": "2"})
        stream.width = stream.height = 64
        stream.pix_fmt, stream.codec_context.time_base = "yuv420p", unit
        for number, stamp in enumerate(stamps):
            planes = np.full((96, 64), 128, np.uint8)
            planes[:64] = 16 + 2 * number
            frame = av.VideoFrame.from_ndarray(planes, format="yuv420p")
            frame.pts, frame.time_base = stamp, unit
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))


def number(frame):
    return round(float(frame.data.float().mean()) * 219 / 255 / 2)


rng = np.random.default_rng(0)
even, tick = list(range(100)), Fraction(1, 25)
uneven = [0, *(int(stamp) for stamp in np.cumsum(rng.integers(20, 60, 99)))]
film("even.mp4", even, tick)
film("uneven.mp4", uneven, Fraction(1, 1000))
print("index 1 at once:", number(VideoDecoder("even.mp4").get_frame_at(1)))
decoder = VideoDecoder("even.mp4")
decoder.get_frame_at(0), decoder.get_frame_played_at(0.04)
print("index 1 after index 0 and time 0.04:", number(decoder.get_frame_at(1)))


def wrong(path, stamps, unit, together):
    decoder = VideoDecoder(path)
    places = rng.integers(0, len(stamps) - 2, 200)
    times = [float(stamps[place] * unit) + 0.005 for place in places]
    if together:
        found = [round(float(one.float().mean()) * 219 / 255 / 2) for one in decoder.get_frames_played_at(times).data]
    else:
        found = [number(decoder.get_frame_played_at(time)) for time in times]
    return f"{sum(one != place for one, place in zip(found, places))} of 200 wrong"


print("constant rate, one time each:", wrong("even.mp4", even, tick, False))
print("variable rate, one time each:", wrong("uneven.mp4", uneven, Fraction(1, 1000), False))
print("variable rate, all at once:", wrong("uneven.mp4", uneven, Fraction(1, 1000), True))
PYTHON
)
echo "$seen"
[[ $seen == "$expected" ]] || { echo "expected:" "$expected" >&2; exit 1; }
