#!/usr/bin/env bash
# LAME makes sound quieter where the bit rate is constant or an average: to 0.95 up to 160 kbit/s, less so above. All of its
# callers do so: PyAV, soundfile, lameenc, and what augments sound by a trip through MP3. With a variable rate it does not.
#
# Packages: av 18.1.0, soundfile 0.14.0, lameenc 1.9.0, audiomentations 0.43.1 with fast-mp3-augment 0.2.0, numpy 2.4.6.
# Guess before it was run: a tone keeps its level at every bit rate, to a thousandth.
# Seen: the level of a tone of 440 Hz behind the encoder, as a share of the level before it:
#
#   av 64 kbit/s 0.950, 128 kbit/s 0.950, 192 kbit/s 0.970, 224 kbit/s 0.980, 256 kbit/s 1.000, 320 kbit/s 1.000
#   lameenc 64 kbit/s 0.950, 128 kbit/s 0.950, 192 kbit/s 0.970, 256 kbit/s 1.000
#   audiomentations 32 kbit/s 0.950, 128 kbit/s 0.950, 256 kbit/s 1.000
#   soundfile CONSTANT 0.950, AVERAGE 0.950, VARIABLE 1.002
#
# What it means: in a set whose sounds came by MP3 of several rates the level tells the rate (0.45 dB), and who augments by
# compression changes the volume with it; what compares samples with a decoded MP3 must fit the level first.
set -euo pipefail
python=${PYTHON:-python3.11}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
"$python" -m venv "$scratch/env"
"$scratch/env/bin/pip" install --quiet --disable-pip-version-check av==18.1.0 soundfile==0.14.0 lameenc==1.9.0 \
    audiomentations==0.43.1 fast-mp3-augment==0.2.0 numpy==2.4.6
expected="av 64 kbit/s 0.950, 128 kbit/s 0.950, 192 kbit/s 0.970, 224 kbit/s 0.980, 256 kbit/s 1.000, 320 kbit/s 1.000
lameenc 64 kbit/s 0.950, 128 kbit/s 0.950, 192 kbit/s 0.970, 256 kbit/s 1.000
audiomentations 32 kbit/s 0.950, 128 kbit/s 0.950, 256 kbit/s 1.000
soundfile CONSTANT 0.950, AVERAGE 0.950, VARIABLE 1.002"
seen=$(
    cd "$scratch" && env/bin/python -W ignore - <<'PYTHON'
import io

import audiomentations
import av
import lameenc
import numpy as np
import soundfile

RATE, TONE = 44100, 440
seconds = np.arange(4 * RATE) / RATE
tone = (0.3 * np.sin(2 * np.pi * TONE * seconds)).astype(np.float32)


def level(decoded):
    middle = np.asarray(decoded, np.float64).ravel()[RATE : 3 * RATE]
    return 2 * abs((middle * np.exp(-2j * np.pi * TONE * np.arange(len(middle)) / RATE)).mean()) / 0.3


def by_av(bit_rate):
    file = io.BytesIO()
    with av.open(file, "w", format="mp3") as output:
        stream = output.add_stream("libmp3lame", rate=RATE, layout="mono")
        stream.bit_rate = 1000 * bit_rate
        frame = av.AudioFrame.from_ndarray(tone[None], "fltp", "mono")
        frame.sample_rate, frame.pts = RATE, 0
        for piece in (frame, None):
            output.mux(stream.encode(piece))
    file.seek(0)
    with av.open(file) as source:
        return level(np.concatenate([piece.to_ndarray()[0] for piece in source.decode(audio=0)]))


def by_lameenc(bit_rate):
    encoder = lameenc.Encoder()
    encoder.set_bit_rate(bit_rate)
    encoder.set_in_sample_rate(RATE)
    encoder.set_channels(1)
    file = encoder.encode((tone * 32767).astype(np.int16).tobytes()) + encoder.flush()
    return level(soundfile.read(io.BytesIO(bytes(file)))[0])


def by_audiomentations(bit_rate):
    return level(audiomentations.Mp3Compression(bit_rate, bit_rate, p=1.0)(tone.copy(), RATE))


def by_soundfile(mode):
    file = io.BytesIO()
    soundfile.write(file, tone, RATE, format="MP3", bitrate_mode=mode, compression_level=0.6)
    file.seek(0)
    return level(soundfile.read(file)[0])


for name, write, rates in (
    ("av", by_av, (64, 128, 192, 224, 256, 320)),
    ("lameenc", by_lameenc, (64, 128, 192, 256)),
    ("audiomentations", by_audiomentations, (32, 128, 256)),
):
    print(name, ", ".join(f"{rate} kbit/s {write(rate):.3f}" for rate in rates))
print("soundfile", ", ".join(f"{mode} {by_soundfile(mode):.3f}" for mode in ("CONSTANT", "AVERAGE", "VARIABLE")))
PYTHON
)
echo "$seen"
[[ $seen == "$expected" ]] || { echo "expected:" "$expected" >&2; exit 1; }
