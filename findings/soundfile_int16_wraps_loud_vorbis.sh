#!/usr/bin/env bash
# A lossy file of loud sound decodes to samples above 1. Read as integers, libsndfile clips them where the file is MP3,
# but lets them wrap in Ogg Vorbis and Opus: the loudest samples come back with the other sign, without a word.
#
# Packages: soundfile 0.14.0 (its wheel's libsndfile 1.2.2), numpy 2.4.6.
# Guess before it was run: clipped in all three, as soundfile asks libsndfile for clipping in every file that it opens.
# Seen: of a square wave of full scale more than a third of the samples pass 1 in each; signs that int16 has turned:
#
#   MP3: none
#   VORBIS: nearly all of those above 1
#   OPUS: nearly all of those above 1
#
# What it means: read Vorbis and Opus as float32 and clip; a loader that asks for int16 or int32 puts clicks of twice the
# full scale into every loud passage.
set -euo pipefail
python=${PYTHON:-python3.11}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
"$python" -m venv "$scratch/env"
"$scratch/env/bin/pip" install --quiet --disable-pip-version-check soundfile==0.14.0 numpy==2.4.6
expected="MP3: none
VORBIS: nearly all of those above 1
OPUS: nearly all of those above 1"
seen=$(
    cd "$scratch" && env/bin/python - <<'PYTHON'
import numpy as np
import soundfile

seconds = np.arange(48000) / 48000
square = (0.999 * np.sign(np.sin(2 * np.pi * 441 * seconds))).astype(np.float32)
for container, codec in (("MP3", "MPEG_LAYER_III"), ("OGG", "VORBIS"), ("OGG", "OPUS")):
    soundfile.write("loud", square, 48000, format=container, subtype=codec)
    exact, _ = soundfile.read("loud", dtype="float32")
    whole, _ = soundfile.read("loud", dtype="int16")
    loud = np.abs(exact) > 1.0001
    assert loud.mean() > 1 / 3, "the wave is not loud enough for this codec"
    turned = np.sign(exact[loud]) != np.sign(whole[loud])
    words = "none" if not turned.any() else "nearly all of those above 1" if turned.mean() > 0.99 else f"{turned.mean():.3f}"
    print(f"{'MP3' if container == 'MP3' else codec}: {words}")
PYTHON
)
echo "$seen"
[[ $seen == "$expected" ]] || { echo "expected:" "$expected" >&2; exit 1; }
