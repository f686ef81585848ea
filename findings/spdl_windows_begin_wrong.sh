#!/usr/bin/env bash
# SPDL gives a window of AAC sound with as many samples as it should have, of which the first are wrong: it decodes from the
# packet of the window on, and AAC needs the one before. In a transport stream, whose time seldom begins at 0, a window is
# other sound than asked for, and has no pictures.
#
# Packages: spdl 0.8.0 with spdl_io 0.8.0, av 18.1.0, numpy 2.4.6; FFmpeg 5.1 to 7 on the machine, whose libraries SPDL loads.
# Guess before it was run: the samples and the pictures of the window, in each container.
# Seen: a film of 4 s, 25 pictures a second, and a sweep at 0.5 in AAC at 48 kHz; beside the same window of the whole:
#
#   mp4 1.00 to 2.00 s: 25 pictures; 48000 samples, +0 from the place; wrong by more than 0.001 up to sample 111, by 0.01
#   mp4 1.01 to 1.05 s: 1 pictures; 1920 samples, +0 from the place; wrong by more than 0.001 up to sample 654, by 0.52
#   ts 1.00 to 2.00 s: 0 pictures; 48000 samples, -2816 from the place; wrong by more than 0.001 up to sample 881, by 0.64
#
# What it means: who draws seconds of sound for training by windows gets each with a damaged beginning of up to a packet
# (21 ms at 48 kHz), which tells where the packets lie. Decode from a packet earlier and cut.
set -euo pipefail
python=${PYTHON:-python3.11}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
"$python" -m venv "$scratch/env"
"$scratch/env/bin/pip" install --quiet --disable-pip-version-check spdl==0.8.0 spdl_io==0.8.0 av==18.1.0 numpy==2.4.6
expected="mp4 1.00 to 2.00 s: 25 pictures; 48000 samples, +0 from the place; wrong by more than 0.001 up to sample 111, by 0.01
mp4 1.01 to 1.05 s: 1 pictures; 1920 samples, +0 from the place; wrong by more than 0.001 up to sample 654, by 0.52
ts 1.00 to 2.00 s: 0 pictures; 48000 samples, -2816 from the place; wrong by more than 0.001 up to sample 881, by 0.64"
seen=$(
    cd "$scratch" && env/bin/python -W ignore - <<'PYTHON'
import av
import numpy as np
import spdl.io

RATE, SECONDS, TAIL = 48000, 4, 700


def render(path):
    at = np.arange(SECONDS * RATE) / RATE
    sweep = (0.5 * np.sin(2 * np.pi * (200 * at + 100 * at * at))).astype(np.float32)
    with av.open(path, "w") as file:
        video, audio = file.add_stream("libx264", rate=25), file.add_stream("aac", rate=RATE, layout="mono")
        video.width = video.height = 64
        video.pix_fmt, video.options = "yuv420p", {"bf": "2", "g": "50"}
        for number in range(25 * SECONDS):
            gray = np.full((64, 64, 3), 2 * number, np.uint8)
            file.mux(video.encode(av.VideoFrame.from_ndarray(gray, "rgb24")))
        for start in range(0, len(sweep), 1024):
            frame = av.AudioFrame.from_ndarray(sweep[None, start : start + 1024], "fltp", "mono")
            frame.sample_rate, frame.pts = RATE, start
            file.mux(audio.encode(frame))
        for stream in (video, audio):
            file.mux(stream.encode(None))


def samples(path, window):
    frames = spdl.io.decode_packets(spdl.io.demux_audio(path, timestamp=window))
    return np.asarray(spdl.io.to_numpy(spdl.io.convert_frames(frames))).ravel()


for kind, window in (("mp4", (1.0, 2.0)), ("mp4", (1.01, 1.05)), ("ts", (1.0, 2.0))):
    path = f"film.{kind}"
    render(path)
    whole, part = samples(path, None), samples(path, window)
    pictures = len(spdl.io.decode_packets(spdl.io.demux_video(path, timestamp=window)))
    tail = part[-TAIL:]  # by then the decoder has recovered
    end = min(range(TAIL, len(whole) + 1), key=lambda last: np.abs(whole[last - TAIL : last] - tail).max())
    apart = np.abs(whole[end - len(part) : end] - part)
    print(
        f"{kind} {window[0]:.2f} to {window[1]:.2f} s: {pictures} pictures; {len(part)} samples, "
        f"{end - len(part) - round(window[0] * RATE):+d} from the place; wrong by more than 0.001 up to sample "
        f"{np.flatnonzero(apart > 1e-3).max(initial=-1)}, by {apart.max():.2f}"
    )
PYTHON
)
echo "$seen"
[[ $seen == "$expected" ]] || { echo "expected:" "$expected" >&2; exit 1; }
