#!/usr/bin/env bash
# Four of the formats that soundfile writes cannot hold every sample rate. They are written without a word, and come back
# at another rate: the same samples, faster or slower.
#
# Packages: soundfile 0.14.0 (libsndfile 1.2.2), numpy 2.4.6.
# Guess before it was run: HTK and SDS round the rate, as they store the period of a sample, and VOC does; the others
# keep it or refuse it.
# Seen: of all formats that soundfile lists (RAW apart), those whose rate changes, of 8000, 11025, 16000, 22050, 44100
# and 48000 Hz; VOC keeps all:
#
#   HTK: 22050->22075 44100->44247 48000->48076
#   SDS: 44100->44101
#   WVE: 11025->8000 16000->8000 22050->8000 44100->8000 48000->8000
#   XI: 8000->44100 11025->44100 16000->44100 22050->44100 48000->44100
#
# What it means: HTK at 44.1 kHz runs 0.3 % fast, two pictures in 25 s; WVE and XI hold no rate at all. Ask the file for
# its rate after writing it.
set -euo pipefail
python=${PYTHON:-python3.11}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
"$python" -m venv "$scratch/env"
"$scratch/env/bin/pip" install --quiet --disable-pip-version-check soundfile==0.14.0 numpy==2.4.6
expected="HTK: 22050->22075 44100->44247 48000->48076
SDS: 44100->44101
WVE: 11025->8000 16000->8000 22050->8000 44100->8000 48000->8000
XI: 8000->44100 11025->44100 16000->44100 22050->44100 48000->44100"
seen=$(
    cd "$scratch" && env/bin/python - <<'PYTHON'
import numpy as np
import soundfile

noise = np.random.default_rng(0).normal(0, 0.1, 1001)
for container in sorted(soundfile.available_formats()):
    if container == "RAW":
        continue
    changed = []
    for rate_hz in (8000, 11025, 16000, 22050, 44100, 48000):
        try:
            soundfile.write("x", noise, rate_hz, format=container)
        except soundfile.LibsndfileError:  # said, not silent: Opus has a few rates of its own
            continue
        given = soundfile.info("x").samplerate
        if given != rate_hz:
            changed.append(f"{rate_hz}->{given}")
    if changed:
        print(f"{container}:", *changed)
PYTHON
)
echo "$seen"
[[ $seen == "$expected" ]] || { echo "expected:" "$expected" >&2; exit 1; }
