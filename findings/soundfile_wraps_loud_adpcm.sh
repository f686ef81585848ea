#!/usr/bin/env bash
# soundfile clips samples beyond full scale where it writes PCM, and wraps them where it writes ADPCM: a peak a little too
# loud comes back with its sign turned.
#
# Packages: soundfile 0.14.0 (libsndfile 1.2.2), numpy 2.4.6.
# Guess before it was run, of PCM, FLAC and ALAC: clipped. They are; ADPCM was looked at besides.
# Seen, what comes back of 0.5, 1.0, 1.2, 1.9, 2.5 and -1.3, each held for 200 samples at 8 kHz:
#
#   PCM_16: 0.50 1.00 1.00 1.00 1.00 -1.00
#   PCM_U8: 0.50 0.99 0.99 0.99 0.99 -1.00
#   IMA_ADPCM: 0.50 1.00 -0.80 -0.10 0.50 0.70
#   MS_ADPCM: 0.50 1.00 -0.80 -0.10 0.50 0.70
#
# What it means: sound that was mixed or resampled overshoots 1 by a few percent, and ADPCM made of it then has
# clicks where it is loudest. Clip before writing.
set -euo pipefail
python=${PYTHON:-python3.11}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
"$python" -m venv "$scratch/env"
"$scratch/env/bin/pip" install --quiet --disable-pip-version-check soundfile==0.14.0 numpy==2.4.6
expected="PCM_16: 0.50 1.00 1.00 1.00 1.00 -1.00
PCM_U8: 0.50 0.99 0.99 0.99 0.99 -1.00
IMA_ADPCM: 0.50 1.00 -0.80 -0.10 0.50 0.70
MS_ADPCM: 0.50 1.00 -0.80 -0.10 0.50 0.70"
seen=$(
    cd "$scratch" && env/bin/python - <<'PYTHON'
import numpy as np
import soundfile

levels = np.array([0.5, 1.0, 1.2, 1.9, 2.5, -1.3])
for kind in ("PCM_16", "PCM_U8", "IMA_ADPCM", "MS_ADPCM"):
    soundfile.write("sound.wav", levels.repeat(200), 8000, subtype=kind)
    back = soundfile.read("sound.wav")[0][150:1200:200]
    print(f"{kind}:", *(f"{value:.2f}" for value in back))
PYTHON
)
echo "$seen"
[[ $seen == "$expected" ]] || { echo "expected:" "$expected" >&2; exit 1; }
