#!/usr/bin/env bash
# torchcodec counts the encoder's delay of an MP3 as time, though it has cut it off: sound that is asked for by time is
# 25 ms early, and the first 25 ms of the file hold nothing.
#
# Packages: torchcodec 0.13.0, torch 2.13.0, soundfile 0.14.0, numpy 2.4.6; FFmpeg's libraries (Debian: ffmpeg, 5.1.9).
# Guess before it was run: the range from 1 s to 2 s is the second second of the recording, in every format.
# Seen, one noise at 44.1 kHz in four files: how much earlier than asked the sound of 1 s to 2 s is, in samples, and how
# many samples there are from 0 s to 1 s:
#
#   wav 0 44100
#   flac 0 44100
#   ogg 0 44100
#   mp3 1105 42995
#
# What it means: clips that are cut from MP3 by time meet their labels and pictures 25 ms early; subtract
# `begin_stream_seconds` (0.025) of the stream, or decode all and cut by samples.
set -euo pipefail
command -v ffmpeg >/dev/null || { echo "this needs FFmpeg's shared libraries (Debian: ffmpeg)" >&2; exit 2; }
python=${PYTHON:-python3.11}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
"$python" -m venv "$scratch/env"
"$scratch/env/bin/pip" install --quiet --disable-pip-version-check \
    torchcodec==0.13.0 torch==2.13.0 soundfile==0.14.0 numpy==2.4.6
expected="wav 0 44100
flac 0 44100
ogg 0 44100
mp3 1105 42995"
seen=$(
    cd "$scratch" && env/bin/python - <<'PYTHON'
import numpy as np
import soundfile
from torchcodec.decoders import AudioDecoder

noise = np.random.default_rng(0).normal(0, 0.1, 3 * 44100).astype(np.float32)
second = noise[44100:88200]
for ending in ("wav", "flac", "ogg", "mp3"):
    soundfile.write(f"noise.{ending}", noise, 44100)
    given = AudioDecoder(f"noise.{ending}").get_samples_played_in_range(1, 2).data[0].numpy()
    match = np.fft.irfft(np.fft.rfft(given, 2**18) * np.conj(np.fft.rfft(second, 2**18)))
    first = AudioDecoder(f"noise.{ending}").get_samples_played_in_range(0, 1)
    print(ending, int(match.argmax()), first.data.shape[1])
PYTHON
)
echo "$seen"
[[ $seen == "$expected" ]] || { echo "expected:" "$expected" >&2; exit 1; }
