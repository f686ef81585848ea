#!/usr/bin/env bash
# On a processor that has no instructions for bfloat16 (no AVX512, as most laptops), torch.autocast("cpu", torch.bfloat16)
# does not fall back to float32 arithmetic: convolutions and products of matrices run through loops that are many times
# as slow as in float32. No warning says so.
#
# Packages: torch 2.13.0, numpy 2.4.6.
# Guess before it was run: 1 to 1.3 times as long as float32, the cost of conversion.
# Seen: time in bfloat16 as a multiple of float32's, one thread of an AMD EPYC with AVX2 alone; 5 is asked for here:
#
#   conv2d 45, conv1d 28, linear 10, bmm 70
#
# Where the processor has the instructions, oneDNN uses them. It is left out below, which is what the others get: there
# its presence changes nothing.
#
# What it means: a configuration that was written on a server trains many times as long on a laptop, in silence. Measure a
# convolution in both types before choosing; torch.backends.cpu.get_cpu_capability() says AVX2 or AVX512, not bfloat16.
set -euo pipefail
python=${PYTHON:-python3.11}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
"$python" -m venv "$scratch/env"
"$scratch/env/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.4.6
"$scratch/env/bin/python" - <<'PYTHON'
import sys
import time
import warnings

import torch
import torch.nn.functional as F

torch.set_num_threads(1)
torch.manual_seed(0)
image, kernel = torch.randn(8, 32, 32, 32), torch.randn(32, 32, 3, 3)
sound, window = torch.randn(2, 16, 16_000), torch.randn(32, 16, 9)
matrix = torch.randn(512, 512)
work = {
    "conv2d": lambda: F.conv2d(image, kernel, padding=1),
    "conv1d": lambda: F.conv1d(sound, window),
    "linear": lambda: F.linear(matrix, matrix),
    "bmm": lambda: torch.bmm(matrix[None], matrix[None]),
}


def seconds(function, autocast):
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        function()
        times = []
        for _ in range(5):
            start = time.perf_counter()
            function()
            times.append(time.perf_counter() - start)
    return min(times)


with torch.backends.mkldnn.flags(enabled=False):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        ratios = {name: seconds(function, True) / seconds(function, False) for name, function in work.items()}
said = [str(warning.message) for warning in caught if "bf" in str(warning.message).lower()]
print(f"{torch.backends.cpu.get_cpu_capability()}, oneDNN left out:", *(f"{n} {r:.0f}" for n, r in ratios.items()))
print("with oneDNN:", *(f"{n} {seconds(f, True) / seconds(f, False):.1f}" for n, f in work.items()))
print("warnings:", said)
sys.exit(0 if min(ratios.values()) > 5 and not said else 1)
PYTHON
