#!/usr/bin/env bash
# FLAC has no unnamed channels: by its standard four are front and back, left and right. First-order ambisonics, or four
# microphones, that are packed as FLAC are a quad recording from then on; as PCM in WAV they stay four channels.
#
# Packages: av 18.1.0 (FFmpeg 8.1.2), soundfile 0.14.0, numpy 2.4.6.
# Guess before it was run: "4 channels" in every container but Opus, the only one that knows ambisonics.
# Seen: layout on reading back what PyAV wrote as "ambisonic 1", and what soundfile wrote as four channels:
#
#   PyAV pcm_s16le in wav: 4 channels
#   PyAV flac in flac: quad
#   PyAV flac in mkv: quad
#   PyAV libopus in ogg: ambisonic 1
#   soundfile wav: 4 channels
#   soundfile flac: quad
#
# What it means: whatever mixes down by layout weighs the sphere's W (the sound itself) as the front left loudspeaker and
# adds directions to it. Take the channel by number, not by layout.
set -euo pipefail
python=${PYTHON:-python3.11}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
"$python" -m venv "$scratch/env"
"$scratch/env/bin/pip" install --quiet --disable-pip-version-check av==18.1.0 soundfile==0.14.0 numpy==2.4.6
expected="PyAV pcm_s16le in wav: 4 channels
PyAV flac in flac: quad
PyAV flac in mkv: quad
PyAV libopus in ogg: ambisonic 1
soundfile wav: 4 channels
soundfile flac: quad"
seen=$(
    cd "$scratch" && env/bin/python 2>/dev/null - <<'PYTHON'
import av
import numpy as np
import soundfile

noise = np.random.default_rng(0).normal(0, 0.1, (4, 9600)).astype(np.float32)


def layout(path):
    with av.open(path) as file:
        return file.streams.audio[0].layout.name


for codec, ending in (("pcm_s16le", "wav"), ("flac", "flac"), ("flac", "mkv"), ("libopus", "ogg")):
    with av.open(f"x.{ending}", "w") as file:
        options = {"mapping_family": "2"} if codec == "libopus" else {}
        stream = file.add_stream(codec, rate=48000, layout="ambisonic 1", options=options)
        stream.codec_context.open()
        form = {"format": stream.codec_context.format.name, "layout": "ambisonic 1", "rate": 48000}
        pieces = av.AudioResampler(**form, frame_size=stream.codec_context.frame_size or 1024)
        frame = av.AudioFrame.from_ndarray(noise, format="fltp", layout="ambisonic 1")
        frame.sample_rate, frame.pts = 48000, 0
        for piece in [*pieces.resample(frame), *pieces.resample(None), None]:
            file.mux(stream.encode(piece))
    print(f"PyAV {codec} in {ending}: {layout(f'x.{ending}')}")
for ending in ("wav", "flac"):
    soundfile.write(f"y.{ending}", noise.T, 48000)
    print(f"soundfile {ending}: {layout(f'y.{ending}')}")
PYTHON
)
echo "$seen"
[[ $seen == "$expected" ]] || { echo "expected:" "$expected" >&2; exit 1; }
