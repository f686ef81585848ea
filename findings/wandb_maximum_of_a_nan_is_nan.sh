#!/usr/bin/env bash
# W&B's summary of a metric that was once no number is none from then on: define_metric(..., summary="max") or "min" and
# "mean" give NaN, whatever comes before and after, while a value that is None is left out.
#
# Packages: wandb 0.31.0, offline.
# Guess before it was run: NaN is left out, as None is: the maximum of 1, 5, NaN, 3, 2 is 5.
# Seen: the summaries after five values:
#
#   1, 5, nan, 3, 2: max nan, min nan, mean nan, last 2
#   nan, 1, 5, 3, 2: max nan, min nan, mean nan, last 2
#   1, 5, None, 3, 2: max 5, min 1, mean 2.75, last 2
#
# What it means: one step of fp16 that overflows, or an evaluation without positives, and the best score of the run is gone
# from the table of runs, and a sweep that chooses by it chooses others. Leave out of log() what is no number.
set -euo pipefail
python=${PYTHON:-python3.11}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
"$python" -m venv "$scratch/env"
"$scratch/env/bin/pip" install --quiet --disable-pip-version-check wandb==0.31.0
expected=$(sed -n 's/^#   //p' "$0")
seen=$(
    cd "$scratch" && env/bin/python -W ignore - <<'PYTHON'
import math

import wandb

KINDS = ("max", "min", "mean", "last")
for values in ((1, 5, math.nan, 3, 2), (math.nan, 1, 5, 3, 2), (1, 5, None, 3, 2)):
    run = wandb.init(mode="offline", settings=wandb.Settings(silent=True, console="off"))
    for kind in KINDS:
        run.define_metric(f"as_{kind}", summary=kind)
    for value in values:
        run.log({f"as_{kind}": value for kind in KINDS})
    summary = ", ".join(f"{kind} {run.summary[f'as_{kind}'][kind]}" for kind in KINDS)
    print(f"{', '.join(map(str, values))}: {summary}")
    run.finish()
PYTHON
)
echo "$seen"
[[ $seen == "$expected" ]] || { echo "expected:" "$expected" >&2; exit 1; }
