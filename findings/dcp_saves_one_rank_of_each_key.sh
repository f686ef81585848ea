#!/usr/bin/env bash
# torch.distributed.checkpoint saves of each key that is in every rank's state the value of one rank, and not of the same one:
# keys are dealt out to level what the ranks write. Values that differ by rank, as the state of a random generator or of a
# loader, come back from different ranks and are those of all.
#
# Packages: torch 2.13.0.
# Guess before it was run: tensors that ranks hold alike are divided among them, and objects are those of rank 0.
# Seen: two ranks save their own number under some keys; what each of them loads:
#
#   random generator: rank 0's
#   step: rank 1's
#   loader: rank 1's
#   equal in both ranks: yes
#
# What it means: after a resume all ranks draw the same augmentations, and a generator of one rank is put beside a loader of
# another. No error is raised. Put the rank into the key of what is not the same in all.
set -euo pipefail
python=${PYTHON:-python3.11}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
"$python" -m venv "$scratch/env"
"$scratch/env/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.4.6
cat >"$scratch/ranks.py" <<'PYTHON'
import json
import os
import sys
from pathlib import Path

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp

NAMES = {"rng": "random generator", "step": "step", "loader": "loader"}


def state(number):
    values = {"rng": torch.full((5056,), number, dtype=torch.uint8), "step": number, "loader": {"seen": (number,)}}
    return values | {"weights": torch.zeros(10_000)}


def number_of(value):
    if isinstance(value, torch.Tensor):
        return int(value[0])
    return value["seen"][0] if isinstance(value, dict) else value


def main(rank, folder):
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    dcp.save(state(rank), checkpoint_id=f"{folder}/saved")
    loaded = state(9)
    dcp.load(loaded, checkpoint_id=f"{folder}/saved")
    Path(f"{folder}/{rank}.json").write_text(json.dumps({name: number_of(loaded[name]) for name in NAMES}))
    dist.destroy_process_group()


if __name__ == "__main__":
    torch.multiprocessing.spawn(main, (sys.argv[1],), 2)
    first, second = (json.loads(Path(f"{sys.argv[1]}/{rank}.json").read_text()) for rank in (0, 1))
    for name, number in first.items():
        print(f"{NAMES[name]}: rank {number}'s")
    print("equal in both ranks:", "yes" if first == second else "no")
PYTHON
expected=$(sed -n 's/^#   //p' "$0")
seen=$("$scratch/env/bin/python" -W ignore "$scratch/ranks.py" "$scratch" 2>/dev/null)
echo "$seen"
[[ $seen == "$expected" ]] || { echo "expected:" "$expected" >&2; exit 1; }
