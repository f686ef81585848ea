#!/usr/bin/env bash
# FFmpeg's blackdetect and freezedetect measure a stretch that lasts to the end of the film to the stamp of its last
# picture, not to its end: two seconds of it are not two seconds, and d=2 says nothing, where it finds the same in the
# middle. silencedetect counts to the end.
#
# Packages: imageio-ffmpeg 0.8.1 (FFmpeg 9.0.2), numpy 2.4.6; Debian's 5.1.9 does the same.
# Guess before it was run: found, of 2 s, by all three.
# Seen: of 4 s at 25 pictures a second, 2 s black, frozen or silent in the middle and at the end, each asked for by d=2:
#
#   blackdetect, middle: 1 to 3
#   blackdetect, end: nothing
#   freezedetect, middle: 1 to 3
#   freezedetect, end: nothing
#   silencedetect, middle: 1 to 3
#   silencedetect, end: 2 to 4
#   by d=1.9 at the end: blackdetect 2 to 3.96, freezedetect from 2 on, with no end
#
# What it means: clips that were cut to a fixed length and stop with a title, a hold or black pass a filter by these. Ask for
# a picture less than the least length, and take a freeze without an end to last to the end.
set -euo pipefail
python=${PYTHON:-python3.11}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
"$python" -m venv "$scratch/env"
"$scratch/env/bin/pip" install --quiet --disable-pip-version-check imageio-ffmpeg==0.8.1 numpy==2.4.6
expected=$(sed -n 's/^#   //p' "$0")
seen=$(
    cd "$scratch" && env/bin/python - <<'PYTHON'
import re
import subprocess

import imageio_ffmpeg
import numpy as np

PICTURES = ["-f", "rawvideo", "-pix_fmt", "gray", "-s", "64x64", "-r", "25"]
SOUND = ["-f", "s16le", "-ar", "48000", "-ac", "1"]
rng = np.random.default_rng(0)
moving = rng.integers(100, 200, (100, 64, 64)).astype(np.uint8)
tone = (10_000 * np.sin(np.arange(4 * 48_000) / 20)).astype("<i2")


def found(detector, content, seconds):
    """Beginning and end of each stretch of at least so many seconds, as the program says them."""
    kind, flag = (SOUND, "-af") if detector == "silencedetect" else (PICTURES, "-vf")
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-hide_banner", *kind, "-i", "-", flag, f"{detector}=d={seconds}"]
    said = subprocess.run([*command, "-f", "null", "-"], input=content.tobytes(), capture_output=True).stderr.decode()
    return re.findall(r"_(?:start|end): ?([\d.]+)", said)


def film(detector, begins):
    """4 s that are black, frozen or silent for 2 s."""
    if detector == "silencedetect":
        content = tone.copy()
        content[begins * 48_000 : (begins + 2) * 48_000] = 0
        return content
    content = moving.copy()
    content[begins * 25 : (begins + 2) * 25] = 16 if detector == "blackdetect" else moving[begins * 25]
    return content


for detector in ("blackdetect", "freezedetect", "silencedetect"):
    for place, begins in (("middle", 1), ("end", 2)):
        print(f"{detector}, {place}:", " to ".join(found(detector, film(detector, begins), 2)) or "nothing")
black, freeze = (found(detector, film(detector, 2), 1.9) for detector in ("blackdetect", "freezedetect"))
assert len(black) == 2 and len(freeze) == 1
print(f"by d=1.9 at the end: blackdetect {' to '.join(black)}, freezedetect from {freeze[0]} on, with no end")
PYTHON
)
echo "$seen"
[[ $seen == "$expected" ]] || { echo "expected:" "$expected" >&2; exit 1; }
