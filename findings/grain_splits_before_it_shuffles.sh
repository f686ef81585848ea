#!/usr/bin/env bash
# grain's IndexSampler with two shards is no half of the same order: the records are cut into consecutive parts first, and
# each part is shuffled for itself, by the same permutation. A rank never sees the other's records, in any epoch.
#
# Packages: grain 0.2.18.
# What one would guess: the one shuffled order, dealt out to the shards. (A comparison: no guess was written down.)
# Seen: 20 records by seed 0:
#
#   one shard: 15 4 10 19 8 18 14 9 5 12 6 7 2 13 1 17 16 0 3 11
#   shard 0 of 2: 0 4 6 7 8 3 1 9 5 2
#   shard 1 of 2: 10 14 16 17 18 13 11 19 15 12
#   shard 1 is shard 0 and 10 in each of three epochs: True
#
# What it means: a training on two hosts is another than on one, and batches across hosts are of records that stand ten
# apart in the file. Files that lie sorted by class or by recording give each host its own classes: shuffle what is written.
set -euo pipefail
python=${PYTHON:-python3.11}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
"$python" -m venv "$scratch/env"
"$scratch/env/bin/pip" install --quiet --disable-pip-version-check grain==0.2.18
expected=$(sed -n 's/^#   //p' "$0")
seen=$(
    cd "$scratch" && env/bin/python 2>/dev/null - <<'PYTHON'
from grain import python as grain


def order(shard, shards, epochs=1):
    parts = grain.ShardOptions(shard, shards, drop_remainder=False)
    sampler = grain.IndexSampler(num_records=20, shuffle=True, seed=0, num_epochs=epochs, shard_options=parts)
    return [int(row) for row in grain.DataLoader(data_source=list(range(20)), sampler=sampler, worker_count=0)]


print("one shard:", *order(0, 1))
print("shard 0 of 2:", *order(0, 2))
print("shard 1 of 2:", *order(1, 2))
same = order(1, 2, 3) == [row + 10 for row in order(0, 2, 3)]
print("shard 1 is shard 0 and 10 in each of three epochs:", same)
PYTHON
)
echo "$seen"
[[ $seen == "$expected" ]] || { echo "expected:" "$expected" >&2; exit 1; }
