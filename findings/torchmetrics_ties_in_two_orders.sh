#!/usr/bin/env bash
# torchmetrics' retrieval metrics put equal scores in different orders: for one list of scores hit rate and recall at 1 say
# that the right item is the first, and reciprocal rank and average precision that it is the fourth.
#
# Packages: torchmetrics 1.9.0, torch 2.13.0.
# Guess before it was run: items of equal score keep the order in which they come, in all metrics.
# Seen: scores .5 .5 .5 .5 .1, the one relevant item at each of the five places:
#
#   reciprocal rank    0.25 1.00 0.33 0.50 0.20
#   average precision  0.25 1.00 0.33 0.50 0.20
#   hit rate at 1      1 0 0 0 0
#   nDCG               0.64 0.64 0.64 0.64 0.39
#
# Reciprocal rank and average precision sort, the others take the largest, and neither keeps the order; nDCG alone takes the
# mean over the orders. The order is one of the processor's: where these lines change, the metrics may agree.
#
# What it means: embeddings of few values, or clips that are in a set twice, give recall and rank of different rankings, and
# another number when the set is put in another order. Count ties as shared places.
set -euo pipefail
python=${PYTHON:-python3.11}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
"$python" -m venv "$scratch/env"
"$scratch/env/bin/pip" install --quiet --disable-pip-version-check torchmetrics==1.9.0 torch==2.13.0 numpy==2.4.6
expected=$(sed -n 's/^#   //p' "$0")
seen=$(
    "$scratch/env/bin/python" -W ignore - <<'PYTHON'
import torch
from torchmetrics.functional import retrieval

scores = torch.tensor([0.5, 0.5, 0.5, 0.5, 0.1])
places = torch.eye(5, dtype=torch.long)
for name, width, metric in (
    ("reciprocal rank", ".2f", retrieval.retrieval_reciprocal_rank),
    ("average precision", ".2f", retrieval.retrieval_average_precision),
    ("hit rate at 1", ".0f", lambda scores, place: retrieval.retrieval_hit_rate(scores, place, top_k=1)),
    ("nDCG", ".2f", retrieval.retrieval_normalized_dcg),
):
    print(f"{name:<18}", *(f"{float(metric(scores, place)):{width}}" for place in places))
PYTHON
)
echo "$seen"
[[ $seen == "$expected" ]] || { echo "expected:" "$expected" >&2; exit 1; }
