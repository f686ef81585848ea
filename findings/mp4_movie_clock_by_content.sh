#!/usr/bin/env bash
# The clock of an mp4's movie header (mvhd's timescale, in which edit lists count their lengths) was always 1,000 a second
# in files that FFmpeg wrote. FFmpeg 9 chooses it by the content: by the streams' rates, and only where 1,000 is not exact.
#
# Packages: av 18.1.0 (libavformat 62.12) and av 19.0.2 (libavformat 63.1), numpy 2.4.6, Python 3.12 or newer.
# Guess before it was run: 19 takes the audio's sample rate where there is audio, 1,000 elsewhere.
# Seen: 30,000/1,001 frames a second beside 44,100 Hz give 4,410,000, their least common multiple, in which 32 bits end
# after 16 minutes; the same rate without audio gives 30,000; 25 frames a second without audio 1,000, as before.
#
#   18.1.0: 1000 1000 1000 1000 1000
#   19.0.2: 48000 44100 4410000 30000 1000
#
# What it means: whoever writes or reads edit lists takes the clock from mvhd, file by file; a program that counts in
# milliseconds cuts elsewhere, and lengths of edits in long files need the 64-bit form.
set -euo pipefail
for python in ${PYTHON:-python3.12 python3.13 "$HOME"/.pyenv/versions/3.1[23]*/bin/python3}; do
    "$python" -c "" 2>/dev/null && break
done
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
for version in 18.1.0 19.0.2; do
    "$python" -m venv "$scratch/$version"
    "$scratch/$version/bin/pip" install --quiet --disable-pip-version-check "av==$version" numpy==2.4.6
done
cat >"$scratch/clocks.py" <<'PYTHON'
import struct
import sys
from fractions import Fraction

import av
import numpy as np


def clock(path, fps, rate_hz):
    """Writes 20 frames and as many AAC packets; the movie's units in a second."""
    with av.open(path, "w") as file:
        pictures = file.add_stream("mpeg4", rate=fps)
        pictures.width = pictures.height = 64
        pictures.pix_fmt = "yuv420p"
        sound = file.add_stream("aac", rate=rate_hz, layout="mono") if rate_hz else None
        for number in range(20):
            frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), number, np.uint8), format="rgb24")
            frame.pts = number
            for packet in pictures.encode(frame):
                file.mux(packet)
            if sound is not None:
                silence = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
                silence.sample_rate, silence.pts = rate_hz, number * 1024
                for packet in sound.encode(silence):
                    file.mux(packet)
        for stream in filter(None, (pictures, sound)):
            for packet in stream.encode():
                file.mux(packet)
    content = open(path, "rb").read()
    return struct.unpack_from(">I", content, content.index(b"mvhd") + 16)[0]


ntsc = Fraction(30000, 1001)
print(*(clock(sys.argv[1], *form) for form in ((25, 48000), (25, 44100), (ntsc, 44100), (ntsc, None), (25, None))))
PYTHON
status=0
expect() { # VERSION CLOCKS
    seen=$("$scratch/$1/bin/python" "$scratch/clocks.py" "$scratch/film.mp4")
    echo "av $1: $seen"
    [[ $seen == "$2" ]] || { echo "expected $2" >&2; status=1; }
}
expect 18.1.0 "1000 1000 1000 1000 1000"
expect 19.0.2 "48000 44100 4410000 30000 1000"
exit $status
