#!/usr/bin/env bash
# usearch stores float vectors as int8 by the direction alone: each is brought to length 1 first, whatever the metric. An index
# of inner products or of distances with dtype="i8" answers by the cosine, and a vector and its hundredfold are equal.
#
# Packages: usearch 2.26.6, numpy 2.4.6.
# Guess before it was run: above 0.9 of the ten nearest, since eight bits a value keep that much.
# Seen: 2,000 vectors of 64 values and of lengths from 4 to 16, 200 queries, the ten nearest of an exact search:
#
#   metric  f32   i8    i8 that holds the cosine's ten
#   ip      1.00  0.38  0.94
#   l2sq    1.00  0.20  0.94
#   cos     1.00  0.94  0.94
#   a vector and its hundredfold are stored alike: yes
#   rounded by hand to int8 with one scale for all: ip 0.97, l2sq 0.96
#
# What it means: to halve an index again costs not a few percent but most of the neighbors, unless vectors have one length.
# Normalize them, or give int8 that one scale for all has made, which usearch leaves as they are.
set -euo pipefail
python=${PYTHON:-python3.11}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
"$python" -m venv "$scratch/env"
"$scratch/env/bin/pip" install --quiet --disable-pip-version-check usearch==2.26.6 numpy==2.4.6
expected=$(sed -n 's/^#   //p' "$0")
seen=$(
    "$scratch/env/bin/python" -W ignore - <<'PYTHON'
import numpy as np
from usearch.index import Index

drawn = np.random.default_rng(0)
vectors = drawn.standard_normal((2000, 64)).astype(np.float32)
vectors *= drawn.uniform(0.5, 2, (2000, 1)).astype(np.float32)
queries = drawn.standard_normal((200, 64)).astype(np.float32)


def unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


scores = {
    "ip": queries @ vectors.T,
    "l2sq": -((queries[:, None] - vectors[None]) ** 2).sum(axis=2),
    "cos": unit(queries) @ unit(vectors).T,
}
nearest = {metric: np.argsort(-of, axis=1)[:, :10] for metric, of in scores.items()}


def found(metric, dtype, right, convert=lambda rows: rows):
    index = Index(ndim=64, metric=metric, dtype=dtype)
    index.add(np.arange(len(vectors)), convert(vectors))
    keys = index.search(convert(queries), 10, exact=True).keys
    return np.mean([len({*one} & {*other}) / 10 for one, other in zip(keys, right)])


def rounded(rows):
    return np.clip(np.rint(rows * (127 / np.abs(vectors).max())), -127, 127).astype(np.int8)


print("metric  f32   i8    i8 that holds the cosine's ten")
for metric, right in nearest.items():
    said = (found(metric, "f32", right), found(metric, "i8", right), found(metric, "i8", nearest["cos"]))
    print(metric.ljust(7), "  ".join(f"{share:.2f}" for share in said))
index = Index(ndim=64, metric="ip", dtype="i8")
index.add(np.arange(2), np.stack([vectors[0], 100 * vectors[0]]))
print("a vector and its hundredfold are stored alike:", "yes" if np.array_equal(index.get(0), index.get(1)) else "no")
said = (f"{metric} {found(metric, 'i8', nearest[metric], rounded):.2f}" for metric in ("ip", "l2sq"))
print("rounded by hand to int8 with one scale for all:", ", ".join(said))
PYTHON
)
echo "$seen"
[[ $seen == "$expected" ]] || { echo "expected:" "$expected" >&2; exit 1; }
