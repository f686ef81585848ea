#!/usr/bin/env bash
# A WAV of ADPCM holds whole blocks, and its "fact" chunk is there to say how many samples of them are meant. Writers put
# the padded number there, and where the true one stands, no reader obeys it: sound comes back up to a block longer.
#
# Packages: soundfile 0.14.0 (libsndfile 1.2.2), av 18.1.0 (FFmpeg 8.1.2), numpy 2.4.6.
# Guess before it was run: 10,001 samples, as written, in both readers.
# Seen: 10,001 samples written by either program; what the fact chunk says, and what soundfile and PyAV read:
#
#   soundfile IMA_ADPCM: fact 10100, soundfile 10100, PyAV 10100
#   soundfile MS_ADPCM: fact 10001, soundfile 10500, PyAV 10500
#   FFmpeg adpcm_ima_wav: fact 10205, soundfile 10205, PyAV 10205
#   FFmpeg adpcm_ms: fact 10180, soundfile 10180, PyAV 10180
#
# What it means: lengths of such recordings are no lengths of what was recorded, and differ by the program that wrote
# them; the rest of the last block is silence or the codec's decay. Take durations from elsewhere.
set -euo pipefail
python=${PYTHON:-python3.11}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
"$python" -m venv "$scratch/env"
"$scratch/env/bin/pip" install --quiet --disable-pip-version-check soundfile==0.14.0 av==18.1.0 numpy==2.4.6
expected="soundfile IMA_ADPCM: fact 10100, soundfile 10100, PyAV 10100
soundfile MS_ADPCM: fact 10001, soundfile 10500, PyAV 10500
FFmpeg adpcm_ima_wav: fact 10205, soundfile 10205, PyAV 10205
FFmpeg adpcm_ms: fact 10180, soundfile 10180, PyAV 10180"
seen=$(
    cd "$scratch" && env/bin/python 2>/dev/null - <<'PYTHON'
import struct

import av
import numpy as np
import soundfile

noise = np.random.default_rng(0).normal(0, 0.1, 10001).astype(np.float32)


def by_ffmpeg(codec):
    with av.open("x.wav", "w") as file:
        stream = file.add_stream(codec, rate=8000, layout="mono")
        stream.codec_context.open()
        form = {"format": stream.codec_context.format.name, "layout": "mono", "rate": 8000}
        pieces = av.AudioResampler(**form, frame_size=stream.codec_context.frame_size)
        frame = av.AudioFrame.from_ndarray(noise[None], format="fltp", layout="mono")
        frame.sample_rate, frame.pts = 8000, 0
        for piece in [*pieces.resample(frame), *pieces.resample(None), None]:
            file.mux(stream.encode(piece))


def lengths():
    content = open("x.wav", "rb").read()
    at = content.find(b"fact")
    fact = struct.unpack_from("<I", content, at + 8)[0] if at > 0 else "none"
    with av.open("x.wav") as file:
        decoded = sum(frame.samples for frame in file.decode(audio=0))
    return f"fact {fact}, soundfile {len(soundfile.read('x.wav')[0])}, PyAV {decoded}"


for codec in ("IMA_ADPCM", "MS_ADPCM"):
    soundfile.write("x.wav", noise, 8000, subtype=codec)
    print(f"soundfile {codec}: {lengths()}")
for codec in ("adpcm_ima_wav", "adpcm_ms"):
    by_ffmpeg(codec)
    print(f"FFmpeg {codec}: {lengths()}")
PYTHON
)
echo "$seen"
[[ $seen == "$expected" ]] || { echo "expected:" "$expected" >&2; exit 1; }
