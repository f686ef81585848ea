#!/usr/bin/env bash
# torch.distributed takes a view with gaps (every second column, say) for a collective by gloo, without a word, and works
# on as many values from the view's beginning on as it has: values that are not in the view are changed, others stay.
#
# Packages: torch 2.13.0, numpy 2.4.6; gloo on this machine, two processes.
# Guess before it was run: refused, "Tensors must be contiguous".
# Seen: rank 0 holds 4 x 4 ones, rank 1 twos; the collective is given the columns 0 and 2, what rank 0 holds thereafter:
#
#   right:      3 1 3 1 / 3 1 3 1 / 3 1 3 1 / 3 1 3 1
#   all_reduce: 3 3 3 3 / 3 3 3 3 / 1 1 1 1 / 1 1 1 1
#   broadcast:  2 2 2 2 / 2 2 2 2 / 1 1 1 1 / 1 1 1 1
#
# A transposed whole, which has no gaps, is right, and so is all_gather of the view.
#
# What it means: `all_reduce(counts[:, 0])` gives wrong totals on every rank alike, so that comparing ranks shows nothing.
# Reduce `view.contiguous()` and copy it back.
set -euo pipefail
python=${PYTHON:-python3.11}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
"$python" -m venv "$scratch/env"
"$scratch/env/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.4.6
cat >"$scratch/slices.py" <<'PYTHON'
import sys

import torch
import torch.distributed as dist


def rank(number, store):
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=number, world_size=2)
    for collective, options in (("all_reduce", {}), ("broadcast", {"src": 1})):
        whole = torch.full((4, 4), number + 1)
        getattr(dist, collective)(whole[:, ::2], **options)
        if number == 0:
            print(f"{collective}:", " / ".join(" ".join(map(str, row)) for row in whole.tolist()), flush=True)
    dist.destroy_process_group()


if __name__ == "__main__":
    torch.multiprocessing.spawn(rank, (sys.argv[1],), nprocs=2)
PYTHON
expected="all_reduce: 3 3 3 3 / 3 3 3 3 / 1 1 1 1 / 1 1 1 1
broadcast: 2 2 2 2 / 2 2 2 2 / 1 1 1 1 / 1 1 1 1"
seen=$("$scratch/env/bin/python" -W ignore "$scratch/slices.py" "$scratch/store" 2>"$scratch/errors") || { cat "$scratch/errors" >&2; exit 1; }
echo "$seen"
[[ $seen == "$expected" ]] || { echo "expected:" "$expected" >&2; exit 1; }
