#!/usr/bin/env bash
# miniaudio.decode(sample_rate=...) resamples by straight lines behind a filter of low order: what lies above half of the new
# rate comes back below it, hardly quieter, and the sound is a sample late. Its Python interface has no setting for it.
#
# Packages: miniaudio 1.71, pedalboard 0.9.26, soxr 1.1.0, soundfile 0.14.0, numpy 2.4.6.
# Guess before it was run: the tone's image 20 dB down and no lag with miniaudio; 60 dB down with pedalboard.
# Seen, from 44,100 to 16,000 Hz: level of the image at 7 kHz of a tone at 9 kHz; lag of noise below 3 kHz, samples of
# 1/16,000 s:
#
#   miniaudio -8 dB, 1.1; pedalboard -52 dB, 0.2; soxr below -140 dB, 0.0
#
# What it means: a network that hears 16 kHz sound by miniaudio hears tones that are not there, and one that was trained
# on such files can tell them from others by that alone. Decode at the file's rate and resample elsewhere.
set -euo pipefail
python=${PYTHON:-python3.11}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
"$python" -m venv "$scratch/env"
"$scratch/env/bin/pip" install --quiet --disable-pip-version-check miniaudio==1.71 pedalboard==0.9.26 soxr==1.1.0 \
    soundfile==0.14.0 numpy==2.4.6
cd "$scratch"
expected="miniaudio -8 dB 1.1
pedalboard -52 dB 0.2
soxr below -140 dB 0.0"
seen=$(
    env/bin/python - <<'PYTHON'
import miniaudio
import numpy as np
import soundfile
import soxr
from pedalboard.io import AudioFile

RATE, NEW = 44_100, 16_000
seconds = np.arange(4 * RATE) / RATE
tone = (0.5 * np.sin(2 * np.pi * 9_000 * seconds)).astype(np.float32)
spectrum = np.fft.rfft(np.random.default_rng(0).normal(size=4 * RATE))
spectrum[np.fft.rfftfreq(4 * RATE, 1 / RATE) > 3_000] = 0
noise = np.fft.irfft(spectrum).astype(np.float32)
noise *= 0.3 / np.abs(noise).max()
exact = np.fft.irfft(np.fft.rfft(noise)[: 2 * NEW + 1]) * NEW / RATE


def by_miniaudio(path):
    float32 = miniaudio.SampleFormat.FLOAT32
    return np.frombuffer(miniaudio.decode_file(path, float32, 1, NEW).samples, np.float32)


def by_pedalboard(path):
    with AudioFile(path).resampled_to(NEW) as file:
        return file.read(file.frames)[0]


def by_soxr(path):
    return soxr.resample(soundfile.read(path, dtype="float32")[0], RATE, NEW)


def image_db(sound):
    piece = sound[8_000:40_768] * np.hanning(32_768)
    return 20 * np.log10(np.abs(np.fft.rfft(piece)).max() / (32_768 / 4 * 0.5))


def lag(sound):
    points = 2 * len(exact)
    across = np.fft.rfft(sound[: len(exact)], points) * np.fft.rfft(exact, points).conj()
    best = int(np.argmax(np.fft.irfft(across, 16 * points)))
    return (best - 16 * points if best > 8 * points else best) / 16


soundfile.write("tone.wav", tone, RATE, subtype="FLOAT")
soundfile.write("noise.wav", noise, RATE, subtype="FLOAT")
for name, decode in (("miniaudio", by_miniaudio), ("pedalboard", by_pedalboard), ("soxr", by_soxr)):
    level = image_db(decode("tone.wav"))
    print(name, f"{level:.0f} dB" if level > -140 else "below -140 dB", f"{lag(decode('noise.wav')):.1f}")
PYTHON
)
echo "$seen"
[[ $seen == "$expected" ]] || { echo "expected:" "$expected" >&2; exit 1; }
