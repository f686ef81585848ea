#!/usr/bin/env bash
# torchcodec resamples a range of sound from the range's own first packet on, so its samples lie between those of the
# whole recording: by a part of a sample that depends on where the range begins.
#
# Packages: torchcodec 0.13.0, torch 2.13.0, soundfile 0.14.0, numpy 2.4.6; FFmpeg's libraries (Debian: ffmpeg, 5.1.9).
# Guess before it was run: `get_samples_played_in_range` gives the samples of `get_all_samples` for that time, but for
# the resampler's edge.
# Seen, noise at 44.1 kHz as WAV, read at 48 kHz, for ranges of a second that begin at 0 s, 0.5 s, 1 s and 2 s: length,
# and shift against the whole in hundredths of a sample (without resampling all four are equal to the bit):
#
#   48000 0
#   48000 -16
#   48000 -43
#   48000 3
#
# What it means: one second of a recording gives other samples, and other embeddings, as it was read alone or within
# the whole: 0.43 of a sample at 48 kHz turns the phase at 12 kHz by 39 degrees. Decode at the file's rate, cut, then
# resample, or resample all.
set -euo pipefail
command -v ffmpeg >/dev/null || { echo "this needs FFmpeg's shared libraries (Debian: ffmpeg)" >&2; exit 2; }
python=${PYTHON:-python3.11}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
"$python" -m venv "$scratch/env"
"$scratch/env/bin/pip" install --quiet --disable-pip-version-check \
    torchcodec==0.13.0 torch==2.13.0 soundfile==0.14.0 numpy==2.4.6
expected="48000 0
48000 -16
48000 -43
48000 3"
seen=$(
    cd "$scratch" && env/bin/python - <<'PYTHON'
import numpy as np
import soundfile
from torchcodec.decoders import AudioDecoder

soundfile.write("noise.wav", np.random.default_rng(0).normal(0, 0.1, 4 * 44100), 44100)
whole = {rate: AudioDecoder("noise.wav", sample_rate=rate).get_all_samples().data[0].numpy() for rate in (44100, 48000)}


def part(rate, begin):
    samples = AudioDecoder("noise.wav", sample_rate=rate).get_samples_played_in_range(begin, begin + 1).data[0].numpy()
    return samples, whole[rate][round(begin * rate) :][: len(samples)]


for begin in (0, 0.5, 1, 2):
    assert np.array_equal(*part(44100, begin)), "the decoder itself is not exact"
    given, same = (np.fft.rfft(x * np.hanning(len(x))) for x in part(48000, begin))
    turned = np.angle(given * np.conj(same))[100:15000]  # radians, at 100 Hz to 15 kHz: a line where it is a shift
    hz = np.arange(100, 15000)
    print(len(part(48000, begin)[0]), round(-100 * 48000 * (turned @ hz) / (hz @ hz) / (2 * np.pi)))
PYTHON
)
echo "$seen"
[[ $seen == "$expected" ]] || { echo "expected:" "$expected" >&2; exit 1; }
