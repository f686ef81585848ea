#!/usr/bin/env bash
# AAC of GStreamer's voaacenc begins 1,600 samples late, 36 ms at 44.1 kHz, and the mp4 says nothing of it: its edit list
# begins at 0. FFmpeg's encoders, of three versions, have 1,024 samples of priming and an edit list that takes them off.
#
# Packages: Debian's gstreamer1.0-tools, -plugins-base, -plugins-good and -plugins-bad 1.22.0 and ffmpeg 5.1.9; av 18.1.0
# (FFmpeg 8.1.2), imageio-ffmpeg 0.8.1 (FFmpeg 9.0.2), numpy 2.4.6.
# What one would guess: 0 by all four, since each muxer knows its encoder. (A comparison: no guess was written down.)
# Seen: by how many samples the sound comes out late, read by PyAV, and where the edit list begins:
#
#   GStreamer voaacenc: 1600 late, edit at 0
#   FFmpeg 5.1.9: 0 late, edit at 1024
#   FFmpeg 8.1.2: 0 late, edit at 1024
#   FFmpeg 9.0.2: 0 late, edit at 1024
#
# What it means: no reader can know. A recording from a GStreamer application with this encoder has its sound nearly one
# picture behind what was recorded; where that counts, correlate once against a recording of the same application.
set -euo pipefail
for program in gst-launch-1.0 ffmpeg; do
    command -v "$program" >/dev/null || { echo "this needs $program (Debian: gstreamer1.0-tools, ffmpeg)" >&2; exit 2; }
done
gst-inspect-1.0 voaacenc >/dev/null 2>&1 || { echo "this needs voaacenc (gstreamer1.0-plugins-bad)" >&2; exit 2; }
python=${PYTHON:-python3.11}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
"$python" -m venv "$scratch/env"
"$scratch/env/bin/pip" install --quiet --disable-pip-version-check av==18.1.0 imageio-ffmpeg==0.8.1 numpy==2.4.6
expected=$(sed -n 's/^#   //p' "$0")
cat >"$scratch/late.py" <<'PYTHON'
import struct
import sys
import wave

import av
import numpy as np

noise = np.random.default_rng(0).normal(0, 0.1, 88_200)
if sys.argv[1:] == ["write"]:
    with wave.open("x.wav", "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(44_100)
        file.writeframes((noise * 32767).astype("<i2").tobytes())
    with av.open("x.wav") as source, av.open("8.m4a", "w") as file:
        stream = file.add_stream("aac", rate=44_100, layout="mono")
        for frame in source.decode(audio=0):
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
for name, path in (argument.split("=") for argument in sys.argv[1:] if "=" in argument):
    with av.open(path) as file:
        plain = av.AudioResampler(format="flt")
        heard = np.concatenate([one.to_ndarray()[0] for frame in file.decode(audio=0) for one in plain.resample(frame)])
    match = np.fft.irfft(np.fft.rfft(heard, 2**18) * np.conj(np.fft.rfft(noise, 2**18)))
    content = open(path, "rb").read()
    (begins,) = struct.unpack_from(">i", content, content.index(b"elst") + 16)
    print(f"{name}: {int(match.argmax())} late, edit at {begins}")
PYTHON
seen=$(
    cd "$scratch"
    env/bin/python late.py write
    gst-launch-1.0 -q filesrc location=x.wav ! wavparse ! audioconvert ! voaacenc bitrate=128000 ! mp4mux \
        ! filesink location=g.m4a
    ffmpeg -v error -i x.wav -c:a aac 5.m4a
    "$(env/bin/python -c 'import imageio_ffmpeg; print(imageio_ffmpeg.get_ffmpeg_exe())')" -v error -i x.wav -c:a aac 9.m4a
    env/bin/python late.py "GStreamer voaacenc=g.m4a" "FFmpeg 5.1.9=5.m4a" "FFmpeg 8.1.2=8.m4a" "FFmpeg 9.0.2=9.m4a"
)
echo "$seen"
[[ $seen == "$expected" ]] || { echo "expected:" "$expected" >&2; exit 1; }
