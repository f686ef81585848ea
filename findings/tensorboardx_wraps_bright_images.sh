#!/usr/bin/env bash
# tensorboardX clips sound beyond full scale, with a warning, and wraps images beyond it, without one: a float of 1.2 is
# written as 50 of 255, and -0.1 as 231. torch.utils.tensorboard, which came of it, clips the images.
#
# Packages: tensorboardX 2.6.5, tensorboard 2.21.0, soundfile 0.14.0, Pillow 13.0.0, numpy 2.4.6.
# Guess before it was run: floats beyond 1 are clipped.
# Seen:
#
#   image 1.2: 50, 1.0: 255, 0.999: 254, 0.0: 0, -0.1: 231
#   sound 1.2: 32767, -1.2: -32768
#
# What it means: an image that is brought back from normalized values, or enlarged by cubics, is a little beyond 0 and 1 at its
# edges, and shows black specks in white and white ones in black that the data have not. Clip it before it is logged.
set -euo pipefail
python=${PYTHON:-python3.11}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
"$python" -m venv "$scratch/env"
"$scratch/env/bin/pip" install --quiet --disable-pip-version-check tensorboardX==2.6.5 tensorboard==2.21.0 \
    soundfile==0.14.0 Pillow==13.0.0 numpy==2.4.6
expected=$(sed -n 's/^#   //p' "$0")
cd "$scratch"
seen=$(
    env/bin/python -W ignore - 2>log <<'PYTHON'
import contextlib
import io
import sys

import numpy as np
import soundfile
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboardX import SummaryWriter

BRIGHT, LOUD = (1.2, 1.0, 0.999, 0.0, -0.1), (1.2, -1.2)
with contextlib.redirect_stdout(sys.stderr), SummaryWriter("events") as writer:
    writer.add_image("image", np.tile(np.array(BRIGHT, np.float32), (3, 8, 1)), 0)
    writer.add_audio("sound", np.array(LOUD, np.float32), 0, 8_000)
events = EventAccumulator("events")
events.Reload()
image = np.array(Image.open(io.BytesIO(events.Images("image")[0].encoded_image_string)))[0, :, 0]
sound = soundfile.read(io.BytesIO(events.Audio("sound")[0].encoded_audio_string), dtype="int16")[0]
for name, given, found in (("image", BRIGHT, image), ("sound", LOUD, sound)):
    print(name, ", ".join(f"{value}: {out}" for value, out in zip(given, found)))
PYTHON
) || { cat log >&2; exit 1; }
echo "$seen"
[[ $seen == "$expected" ]] || { echo "expected:" "$expected" >&2; exit 1; }
