#!/usr/bin/env bash
# gloo's maximum and minimum of several processes keep a NaN or lose it by which process has it and where it lies: of one
# number only the first process's NaN is kept. torch.maximum of the same numbers is NaN always.
#
# Packages: torch 2.13.0, numpy 2.4.6; gloo on this machine, three processes.
# Guess before it was run: NaN in one process is NaN in all of them.
# Seen: three processes have 1, 2 and 3, of which one is NaN; all_reduce gives all of them
#
#   MAX of one number: NaN in process 0: nan, in 1: 1, in 2: 2
#   MIN of one number: NaN in process 0: nan, in 1: 1, in 2: 1
#   MAX of six: NaN in process 0: nan nan 3 3 3 3, in 1: 1 1 nan nan 3 3, in 2: 2 2 2 2 nan nan
#   MIN of six: NaN in process 0: nan nan 2 2 3 3, in 1: 1 1 nan nan 1 1, in 2: 1 1 2 2 nan nan
#
# So the maximum of 1, NaN and 3 is 1, and the minimum of NaN, 2 and 3 may be 3: a NaN hides what went before it.
# What it means: "is the loss of any rank no number" cannot be asked by MAX, nor can the worst value be logged by it. Sum
# what is to be checked, which keeps NaN, or take the maximum of isfinite().logical_not().
set -euo pipefail
python=${PYTHON:-python3.11}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
"$python" -m venv "$scratch/env"
"$scratch/env/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.4.6
cat >"$scratch/extremes.py" <<'PYTHON'
import math
import sys

import torch
import torch.distributed as dist

RANKS = 3


def reduced(number, kind, bad, size):
    values = torch.full((size,), math.nan if number == bad else number + 1.0)
    dist.all_reduce(values, getattr(dist.ReduceOp, kind))
    everywhere = [None] * RANKS
    dist.all_gather_object(everywhere, [f"{value:g}" for value in values.tolist()])
    assert everywhere == RANKS * everywhere[:1]
    return " ".join(everywhere[0])


def rank(number, store):
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=number, world_size=RANKS)
    for size, name in ((1, "one number"), (6, "six")):
        for kind in ("MAX", "MIN"):
            seen = [f"{bad}: {reduced(number, kind, bad, size)}" for bad in range(RANKS)]
            if number == 0:
                print(f"{kind} of {name}: NaN in process {', in '.join(seen)}", flush=True)
    dist.destroy_process_group()


if __name__ == "__main__":
    assert torch.tensor([1, math.nan, 3]).max().isnan() and torch.tensor([math.nan, 2, 3]).min().isnan()
    torch.multiprocessing.spawn(rank, (sys.argv[1],), nprocs=RANKS)
PYTHON
expected=$(sed -n 's/^#   //p' "$0")
seen=$("$scratch/env/bin/python" -W ignore "$scratch/extremes.py" "$scratch/store" 2>"$scratch/errors") || { cat "$scratch/errors" >&2; exit 1; }
echo "$seen"
[[ $seen == "$expected" ]] || { echo "expected:" "$expected" >&2; exit 1; }
