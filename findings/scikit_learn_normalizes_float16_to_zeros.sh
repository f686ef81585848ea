#!/usr/bin/env bash
# scikit-learn's normalize gives rows of zeros for embeddings in float16 that are longer than 256, for it sums their squares in
# float16; cosine_similarity and StandardScaler are right. torch's F.normalize of a row of zeros is NaN in float16
# and zero in bfloat16 and float32, for its eps of 1e-12 is zero in float16.
#
# Packages: scikit-learn 1.9.1, numpy 2.4.6, torch 2.13.0.
# Guess before it was run: all of them right to 1e-2; only numpy's norm overflows, to inf, as one knows; zero stays zero.
# Seen: 200 rows of 512 values by the length they were drawn with, and how many of them are zeros afterwards:
#
#   length 100: 0 of 200 rows are zeros
#   length 200: 0 of 200 rows are zeros
#   length 300: 200 of 200 rows are zeros
#   cosine similarity of a row of length 300 with itself: 1.00
#   F.normalize of zeros: float16 nan, bfloat16 0.0, float32 0.0
#
# What it means: features before the last layer norm are often that long, and float16 is how they are kept. Nothing is said,
# all distances to such a row are equal, and a mean over the set only gets worse. Take them to float32 first.
set -euo pipefail
python=${PYTHON:-python3.11}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
"$python" -m venv "$scratch/env"
"$scratch/env/bin/pip" install --quiet --disable-pip-version-check scikit-learn==1.9.1 numpy==2.4.6 torch==2.13.0
expected=$(sed -n 's/^#   //p' "$0")
seen=$(
    "$scratch/env/bin/python" - <<'PYTHON'
import numpy as np
import torch
from sklearn.metrics.pairwise import cosine_similarity
from sklearn.preprocessing import normalize

drawn = np.random.default_rng(0).standard_normal((200, 512)) / np.sqrt(512)
for length in (100, 200, 300):
    rows = (drawn * length).astype(np.float16)
    zeros = int((normalize(rows) == 0).all(axis=1).sum())
    print(f"length {length}: {zeros} of {len(rows)} rows are zeros")
print(f"cosine similarity of a row of length {length} with itself: {cosine_similarity(rows[:1])[0, 0]:.2f}")
types = (torch.float16, torch.bfloat16, torch.float32)
said = (f"{str(kind)[6:]} {torch.nn.functional.normalize(torch.zeros(1, 512, dtype=kind))[0, 0]}" for kind in types)
print("F.normalize of zeros:", ", ".join(said))
PYTHON
)
echo "$seen"
[[ $seen == "$expected" ]] || { echo "expected:" "$expected" >&2; exit 1; }
