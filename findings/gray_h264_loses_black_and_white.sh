#!/usr/bin/env bash
# A gray video that PyAV writes by libx264 with pix_fmt "gray" loses what is nearly black and nearly white: the values go in from
# 0 to 255, the file does not say so, and all readers take it for 4:2:0 from 16 to 235 and stretch it. Gray by libx265, FFV1 or
# PNG, and color or full range by libx264, come back right.
#
# Packages: av 18.1.0, opencv-python-headless 5.0.0.93, decord2 3.4.0, numpy 2.4.6.
# Guess before it was run: within 3 of a ramp from 0 to 255 by every encoder and reader.
# Seen: the largest error of the ramp, and what 2, 128 and 253 come back as, by PyAV as rgb24, OpenCV and decord2:
#
#   libx264 gray     20 [0, 130, 255] 20 [0, 130, 255] 20 [0, 130, 255]
#   libx264 yuv420p  1 [2, 128, 252] 1 [2, 128, 252] 1 [2, 128, 252]
#   libx264 yuvj420p 0 [2, 128, 253] 0 [2, 128, 253] 0 [2, 128, 253]
#   libx265 gray     0 [2, 128, 253] 0 [2, 128, 253] 0 [2, 128, 253]
#   ffv1 gray        0 [2, 128, 253] 0 [2, 128, 253] 0 [2, 128, 253]
#
# What it means: depth maps, thermal pictures and spectrograms that are stored as gray H.264 have less contrast to learn from at
# both ends, where nothing tells 0 from 15. Write them as yuv420p, or by FFV1 where no value may change.
set -euo pipefail
python=${PYTHON:-python3.11}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
"$python" -m venv "$scratch/env"
"$scratch/env/bin/pip" install --quiet --disable-pip-version-check av==18.1.0 opencv-python-headless==5.0.0.93 \
    decord2==3.4.0 numpy==2.4.6
expected=$(sed -n 's/^#   //p' "$0")
cd "$scratch"
seen=$(
    env/bin/python -W ignore - 2>log <<'PYTHON'
import av
import cv2
import decord
import numpy as np

ramp = np.tile(np.arange(256, dtype=np.uint8), (64, 1))


def write(path, codec, pix_fmt, options):
    with av.open(path, "w") as file:
        stream = file.add_stream(codec, rate=25, options=options)
        stream.height, stream.width = ramp.shape
        stream.pix_fmt = pix_fmt
        for _ in range(20):
            file.mux(stream.encode(av.VideoFrame.from_ndarray(ramp, format="gray")))
        file.mux(stream.encode(None))


def by_pyav(path):
    with av.open(path) as file:
        return next(file.decode(video=0)).to_ndarray(format="rgb24")


readers = (by_pyav, lambda path: cv2.VideoCapture(path).read()[1], lambda path: decord.VideoReader(path)[0].asnumpy())
for codec, pix_fmt in (
    ("libx264", "gray"),
    ("libx264", "yuv420p"),
    ("libx264", "yuvj420p"),
    ("libx265", "gray"),
    ("ffv1", "gray"),
):
    path = f"{codec}-{pix_fmt}.mkv"
    write(path, codec, pix_fmt, {} if codec == "ffv1" else {"crf": "1"})
    said = []
    for read in readers:
        green = read(path)[..., 1].astype(int)
        said.append(f"{np.abs(green - ramp).max()} {[int(green[30, value]) for value in (2, 128, 253)]}")
    print(f"{codec} {pix_fmt}".ljust(16), *said)
PYTHON
) || { cat log >&2; exit 1; }
echo "$seen"
[[ $seen == "$expected" ]] || { echo "expected:" "$expected" >&2; exit 1; }
