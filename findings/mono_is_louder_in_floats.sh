#!/usr/bin/env bash
# libswresample mixes two equal channels to mono at their own level where the outcome is 16 bits, and 3 dB louder, beyond full
# scale, where it is floats. What decodes to floats by it, as torchcodec and decord do, is that much above librosa and above
# the WAV that ffmpeg makes. From mono to stereo it is the other way round: each channel is 3 dB quieter, in both.
#
# Packages: av 18.1.0 (FFmpeg 8.1.2), torchcodec 0.13.0, torch 2.13.0, decord2 3.4.0, librosa 0.11.0, imageio-ffmpeg 0.8.1
# (FFmpeg 9.0.2), numpy 2.4.6; Debian's ffmpeg 5.1.9 is what torchcodec loads.
# Guess before it was run: mono is the mean of left and right, and stereo twice the mono, at any sample format.
# Seen: level of a tone of 0.8 in both channels of a WAV of 16 bits, and of AAC in m4a, after it was made mono:
#
#   wav: AudioResampler s16 1.00, flt 1.41; torchcodec 1.41; decord2 1.41; librosa 1.00; ffmpeg -ac 1 to s16 1.00, to f32 1.41
#   m4a: AudioResampler s16 1.00, flt 1.41; torchcodec 1.41; decord2 1.41; librosa 1.00; ffmpeg -ac 1 to s16 1.00, to f32 1.41
#   greatest sample of torchcodec's: 1.13
#   mono to stereo: AudioResampler s16 0.71, flt 0.71; torchcodec 0.71
#
# What it means: a network that was trained on mono WAV files hears stereo 3 dB louder when it reads the videos themselves, and
# loud music is clipped where it is written again. Decode all channels and take the mean; or give libav
# rematrix_maxval=1.0, which mixes floats as it does integers.
set -euo pipefail
python=${PYTHON:-python3.11}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
"$python" -m venv "$scratch/env"
"$scratch/env/bin/pip" install --quiet --disable-pip-version-check av==18.1.0 torchcodec==0.13.0 torch==2.13.0 decord2==3.4.0 \
    librosa==0.11.0 imageio-ffmpeg==0.8.1 numpy==2.4.6
cat >"$scratch/levels.py" <<'PYTHON'
import subprocess
from fractions import Fraction

import av
import imageio_ffmpeg
import librosa
import numpy as np
from decord import AudioReader
from torchcodec.decoders import AudioDecoder

RATE_HZ = 48_000
TONE = (0.8 * np.sin(2 * np.pi * 440 * np.arange(2 * RATE_HZ) / RATE_HZ)).astype(np.float32)


def write(path, codec, kind, layout, channels):
    with av.open(path, "w") as file:
        stream = file.add_stream(codec, rate=RATE_HZ, layout=layout, format=kind)
        stream.bit_rate = 256_000
        to_kind = av.AudioResampler(format=kind)
        for place in range(0, len(TONE), 1024):
            piece = np.repeat(TONE[None, place : place + 1024], channels, axis=0)
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(piece), format="fltp", layout=layout)
            frame.sample_rate, frame.pts, frame.time_base = RATE_HZ, place, Fraction(1, RATE_HZ)
            for converted in to_kind.resample(frame):
                file.mux(stream.encode(converted))
        file.mux(stream.encode(None))


def level(sound):
    middle = np.asarray(sound, dtype=float)[8000:-8000]
    return f"{np.sqrt(2 * np.mean(middle**2)) / 0.8:.2f}"


def by_resampler(path, kind, layout):
    resampler = av.AudioResampler(format=kind, layout=layout)
    with av.open(path) as file:
        pieces = [one.to_ndarray()[0] for frame in [*file.decode(audio=0), None] for one in resampler.resample(frame)]
    sound = np.concatenate(pieces)[:: 2 if layout == "stereo" else 1]
    return sound / 32_768 if kind == "s16" else sound


def by_torchcodec(path, channels):
    return AudioDecoder(path, num_channels=channels).get_all_samples().data[0].numpy()


def by_ffmpeg(path, codec):
    program = [imageio_ffmpeg.get_ffmpeg_exe(), "-y", "-loglevel", "error", "-i", path]
    subprocess.run([*program, "-ac", "1", "-c:a", codec, "mixed.wav"], check=True)
    return librosa.load("mixed.wav", sr=None)[0]


write("both.wav", "pcm_s16le", "s16", "stereo", 2)
write("both.m4a", "aac", "fltp", "stereo", 2)
write("one.wav", "pcm_s16le", "s16", "mono", 1)
for path in ("both.wav", "both.m4a"):
    said = [f"AudioResampler s16 {level(by_resampler(path, 's16', 'mono'))}, flt {level(by_resampler(path, 'flt', 'mono'))}"]
    said.append(f"torchcodec {level(by_torchcodec(path, 1))}")
    said.append(f"decord2 {level(AudioReader(path, mono=True)[:].asnumpy()[0])}")
    said.append(f"librosa {level(librosa.load(path, sr=None)[0])}")
    said.append(f"ffmpeg -ac 1 to s16 {level(by_ffmpeg(path, 'pcm_s16le'))}, to f32 {level(by_ffmpeg(path, 'pcm_f32le'))}")
    print(f"{path[-3:]}: {'; '.join(said)}")
print(f"greatest sample of torchcodec's: {np.abs(by_torchcodec('both.wav', 1)).max():.2f}")
said = ", ".join(f"{kind} {level(by_resampler('one.wav', kind, 'stereo'))}" for kind in ("s16", "flt"))
print(f"mono to stereo: AudioResampler {said}; torchcodec {level(by_torchcodec('one.wav', 2))}")
PYTHON
expected=$(sed -n 's/^#   //p' "$0")
seen=$(cd "$scratch" && env/bin/python -W ignore levels.py 2>/dev/null)
echo "$seen"
[[ $seen == "$expected" ]] || { echo "expected:" "$expected" >&2; exit 1; }
