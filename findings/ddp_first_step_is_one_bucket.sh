#!/usr/bin/env bash
# In the first step DistributedDataParallel puts all gradients of one type into a single bucket, whatever bucket_cap_mb
# says; the buckets that the setting describes are made after it. Nothing overlaps in that step.
#
# Packages: torch 2.13.0, numpy 2.4.6; gloo on this machine, two processes.
# Guess before it was run: the same buckets in all steps, a first one of at least 1 MiB and others of up to 25 MiB:
# [4] [4, 4, 4] for four layers of 4 MiB.
# Seen: MiB of the parameters in each bucket, steps 1 to 3; with bucket_cap_mb=4, and with find_unused_parameters:
#
#   default: [16] [4, 12] [4, 12]
#   bucket_cap_mb=4: [16] [4, 4, 4, 4] [4, 4, 4, 4]
#   find_unused_parameters: [12, 4] [12, 4] [12, 4]
#
# What it means: time and memory of the first step say nothing about later ones. And where sums depend on a value's place
# in its bucket (gloo adds in a ring), a step that is the first of a resumed process adds in another order than the same
# step of a process that goes on: equal to the bit needs buckets that do not change.
set -euo pipefail
python=${PYTHON:-python3.11}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
"$python" -m venv "$scratch/env"
"$scratch/env/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.4.6
cat >"$scratch/buckets.py" <<'PYTHON'
import sys

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

WAYS = {"default": {}, "bucket_cap_mb=4": {"bucket_cap_mb": 4}, "find_unused_parameters": {"find_unused_parameters": True}}


def rank(number, store):
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=number, world_size=2)
    for name, options in WAYS.items():
        layers = (nn.Linear(1024, 1024, bias=False) for _ in range(4))
        network = DistributedDataParallel(nn.Sequential(*layers), **options)
        sizes = []

        def hook(state, bucket):
            sizes.append(sum(each.numel() * 4 for each in bucket.parameters()) // 2**20)
            return dist.all_reduce(bucket.buffer(), async_op=True).get_future().then(lambda done: done.value()[0] / 2)

        network.register_comm_hook(None, hook)
        steps = []
        for _ in range(3):
            sizes.clear()
            network(torch.ones(2, 1024)).sum().backward()
            steps.append(str(list(sizes)))
        if number == 0:
            print(f"{name}: {' '.join(steps)}", flush=True)
    dist.destroy_process_group()


if __name__ == "__main__":
    torch.multiprocessing.spawn(rank, (sys.argv[1],), nprocs=2)
PYTHON
expected="default: [16] [4, 12] [4, 12]
bucket_cap_mb=4: [16] [4, 4, 4, 4] [4, 4, 4, 4]
find_unused_parameters: [12, 4] [12, 4] [12, 4]"
seen=$("$scratch/env/bin/python" -W ignore "$scratch/buckets.py" "$scratch/store" 2>"$scratch/errors") || { cat "$scratch/errors" >&2; exit 1; }
echo "$seen"
[[ $seen == "$expected" ]] || { echo "expected:" "$expected" >&2; exit 1; }
