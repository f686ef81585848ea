#!/usr/bin/env bash
# torchmetrics' metrics of retrieval take no item for relevant whose score is zero or less. With cosine similarities some right
# answers are struck out and average precision is too high; with distances whose sign was turned all are, and average
# precision, reciprocal rank and recall are zero. nDCG does not look at the sign.
#
# Packages: torchmetrics 1.9.0, torch 2.13.0, scikit-learn 1.9.1.
# Guess before it was run: scores may be any numbers, as in scikit-learn, and average precision is equal to 1e-6.
# Seen: 500 queries among 50 items, one in ten of them relevant, the same scores moved up or down:
#
#   moved by   average precision   reciprocal rank   recall at 10   nDCG   scikit-learn's average precision
#   +9         0.19                0.31              0.20           0.47   0.19
#    0         0.23                0.31              0.20           0.47   0.19
#   -9         0.00                0.00              0.00           0.47   0.19
#
# What it means: mAP of embeddings that are centered, of logits or of negative distances is another number than that of the
# papers, and may be the better one. Add a constant that makes all scores positive.
set -euo pipefail
python=${PYTHON:-python3.11}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
"$python" -m venv "$scratch/env"
"$scratch/env/bin/pip" install --quiet --disable-pip-version-check torchmetrics==1.9.0 torch==2.13.0 scikit-learn==1.9.1 numpy==2.4.6
expected=$(sed -n 's/^#   //p' "$0")
seen=$(
    "$scratch/env/bin/python" -W ignore - <<'PYTHON'
import numpy as np
import torch
from sklearn.metrics import average_precision_score
from torchmetrics import retrieval

drawn = np.random.default_rng(0)
scores = torch.tensor(drawn.standard_normal((500, 50)))
relevant = torch.tensor(drawn.random((500, 50)) < 0.1)
relevant[:, 0] = True
queries = torch.arange(500)[:, None].expand(500, 50)
print("moved by   average precision   reciprocal rank   recall at 10   nDCG   scikit-learn's average precision")
for moved in (9, 0, -9):
    metrics = (
        retrieval.RetrievalMAP(),
        retrieval.RetrievalMRR(),
        retrieval.RetrievalRecall(top_k=10),
        retrieval.RetrievalNormalizedDCG(),
    )
    said = [float(metric(scores + moved, relevant, indexes=queries)) for metric in metrics]
    said.append(np.mean([average_precision_score(of, by) for of, by in zip(relevant.numpy(), scores.numpy())]))
    places = zip(said, (20, 18, 15, 7, 0))
    print(f"{moved:+d}".replace("+0", " 0").ljust(10), "".join(f"{number:<{width}.2f}" for number, width in places))
PYTHON
)
echo "$seen"
[[ $seen == "$expected" ]] || { echo "expected:" "$expected" >&2; exit 1; }
