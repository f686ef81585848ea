#!/usr/bin/env bash
# decord counts the pictures that an mp4's edit list hides. Read from the beginning on it starts with the first that is
# shown and repeats the last one at the end; asked backward, which makes it seek, it gives other pictures for the same
# indices. Its stamps are those of the film with the hidden part, and in AVI no times at all.
#
# Packages: decord2 3.4.0, av 18.1.0, numpy 2.4.6; the program ffmpeg (Debian: 5.1.9) for the cut.
# Guess before it was run: index and stamp of each picture right in both.
# Seen: 100 numbered pictures at 25 a second, cut by `ffmpeg -ss 1.3 -c copy` (picture 33 is the first that is shown); and
# 100 pictures of H.264 in AVI:
#
#   cut: len 75, stamp of the first -0.32 s
#   indices 10 40 70: forward 43 73 99, backward 35 65 95; repeated 99s forward: 8
#   avi: len 100, stamps outside the film: 100
#
# What it means: one index is two pictures, 0.32 s apart, by the order in which clips are drawn, and evenly drawn clips
# see a still end. PyAV gives 67 pictures, from 0 s on, in either order.
set -euo pipefail
command -v ffmpeg >/dev/null || { echo "this needs the program ffmpeg (Debian: ffmpeg)" >&2; exit 2; }
python=${PYTHON:-python3.11}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
"$python" -m venv "$scratch/env"
"$scratch/env/bin/pip" install --quiet --disable-pip-version-check decord2==3.4.0 av==18.1.0 numpy==2.4.6
cat >"$scratch/film.py" <<'PYTHON'
import sys

import av
import numpy as np

with av.open(sys.argv[1], "w") as file:
    stream = file.add_stream("libx264", rate=25, options={"crf": "10", "g": "25", "bf": "2"})
    stream.width = stream.height = 128
    stream.pix_fmt = "yuv420p"
    for number in [*range(100), None]:
        frame = None
        if number is not None:
            gray = np.full((192, 128), 128, np.uint8)
            gray[:128] = 16 + 2 * number
            frame = av.VideoFrame.from_ndarray(gray, format="yuv420p")
            frame.pts = number
        file.mux(stream.encode(frame))
PYTHON
cat >"$scratch/read.py" <<'PYTHON'
from decord import VideoReader


def number(picture):
    return round(picture.asnumpy().mean() * 219 / 255 / 2)


film = VideoReader("cut.mp4")
count = len(film)
numbers = [number(film[index]) for index in range(count)]
backward = [number(film[index]) for index in range(count - 1, -1, -1)][::-1]
begins = film.get_frame_timestamp(0)[0]
print(f"cut: len {count}, stamp of the first {begins:.2f} s")
ways = {"forward": numbers, "backward": backward}
seen = (f"{way} {' '.join(str(of[index]) for index in (10, 40, 70))}" for way, of in ways.items())
print(f"indices 10 40 70: {', '.join(seen)}; repeated 99s forward: {numbers.count(99) - 1}")
film = VideoReader("film.avi")
begins = film.get_frame_timestamp(list(range(len(film))))[:, 0]
print(f"avi: len {len(film)}, stamps outside the film: {int(((begins < 0) | (begins > 4)).sum())}")
PYTHON
expected="cut: len 75, stamp of the first -0.32 s
indices 10 40 70: forward 43 73 99, backward 35 65 95; repeated 99s forward: 8
avi: len 100, stamps outside the film: 100"
cd "$scratch"
for film in film.mp4 film.avi; do env/bin/python film.py "$film" 2>/dev/null; done
ffmpeg -loglevel error -ss 1.3 -i film.mp4 -c copy cut.mp4
seen=$(env/bin/python read.py)
echo "$seen"
[[ $seen == "$expected" ]] || { echo "expected:" "$expected" >&2; exit 1; }
