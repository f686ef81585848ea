#!/usr/bin/env bash
# MoviePy takes an mp4 of variable rate by one clock and reads it by another: FFmpeg is left to repeat pictures up to the
# highest rate in the file, and the result is counted by the average rate. So pictures come late, more so with time, while
# the sound stays; PySceneDetect on top of MoviePy finds cuts behind the end of the film. Matroska is another matter.
#
# Packages: moviepy 2.2.1, scenedetect 0.7.2, imageio-ffmpeg 0.8.1 (its FFmpeg), av 18.1.0, numpy 2.4.6.
# Guess before it was run: MoviePy counts pictures as they are stored by the average rate, so that it is wrong by 0.6 s at
# most; PySceneDetect is right by PyAV and a second wrong by OpenCV, which has no stamps.
# Seen: a film of 2 s at 10 pictures a second and 1.6 s at 50, gray throughout, white from 2.6 s on, with a click at 2.6 s:
#
#   mp4: MoviePy shows white from 5.0 s on, the click at 2.60 s; it says the film is 3.6 s long
#   mp4: PySceneDetect by opencv 2.6 s, by pyav 2.6 s, by moviepy 5.0 s
#
# What it means: clips that are cut by MoviePy from recordings of telephones and screens are out of step; make the rate
# constant first, or read by stamps.
set -euo pipefail
python=${PYTHON:-python3.11}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
"$python" -m venv "$scratch/env"
"$scratch/env/bin/pip" install --quiet --disable-pip-version-check moviepy==2.2.1 scenedetect==0.7.2 \
    imageio-ffmpeg==0.8.1 av==18.1.0 numpy==2.4.6 opencv-python-headless==5.0.0.93
expected="mp4: MoviePy shows white from 5.0 s on, the click at 2.60 s; it says the film is 3.6 s long
mp4: PySceneDetect by opencv 2.6 s, by pyav 2.6 s, by moviepy 5.0 s"
seen=$(
    cd "$scratch" && env/bin/python -W ignore - 2>log <<'PYTHON'
from fractions import Fraction

import av
import numpy as np
from moviepy import VideoFileClip
from scenedetect import ContentDetector, SceneManager, open_video

CUT, RATE = 2.6, 48000
times = [k / 10 for k in range(20)] + [2 + k / 50 for k in range(80)]
sound = np.zeros(round(3.6 * RATE), np.float32)
sound[round(CUT * RATE) :][:48] = 0.9
with av.open("film.mp4", "w") as output:
    video = output.add_stream("libx264", rate=25)
    video.width = video.height = 64
    video.codec_context.time_base = video.time_base = Fraction(1, 1000)
    audio = output.add_stream("aac", rate=RATE, layout="mono")
    for time in times:
        level = 235 if time >= CUT - 0.001 else 60
        picture = av.VideoFrame.from_ndarray(np.full((64, 64, 3), level, np.uint8), "rgb24")
        picture.pts, picture.time_base = round(1000 * time), Fraction(1, 1000)
        output.mux(video.encode(picture))
    frame = av.AudioFrame.from_ndarray(sound[None], "fltp", "mono")
    frame.sample_rate, frame.pts = RATE, 0
    output.mux(audio.encode(frame))
    for stream in (video, audio):
        output.mux(stream.encode(None))

clip = VideoFileClip("film.mp4")
instants = np.arange(0.05, 8, 0.1)  # of one film; MoviePy gives pictures for as long as FFmpeg does
white = next(instant for instant in instants if clip.get_frame(instant)[20:40, 20:40].mean() > 150)
heard = np.abs(clip.audio.to_soundarray(fps=RATE)).max(axis=1)
click = int(np.argmax(heard > 0.5 * heard.max())) / RATE
print(f"mp4: MoviePy shows white from {white - 0.05:.1f} s on, the click at {click:.2f} s; ", end="")
print(f"it says the film is {clip.duration:.1f} s long")
found = []
for backend in ("opencv", "pyav", "moviepy"):
    manager = SceneManager()
    manager.add_detector(ContentDetector(min_scene_len=3))
    manager.detect_scenes(open_video("film.mp4", backend=backend))
    found.append(f"by {backend} {manager.get_scene_list()[-1][0].seconds:.1f} s")
print("mp4: PySceneDetect " + ", ".join(found))
PYTHON
)
echo "$seen"
[[ $seen == "$expected" ]] || { echo "expected:" "$expected" >&2; tail -5 "$scratch/log" >&2; exit 1; }
