#!/usr/bin/env bash
# Among entries of equal score faiss keeps those of the lowest numbers. By distance it lists them upwards, by inner product
# downwards: the same copies, on the same normalized vectors, in opposite order.
#
# Packages: faiss-cpu 1.15.1, numpy 2.4.6.
# Guess before it was run: the lowest numbers first, in every exact index.
# Seen: five copies of the query at 3, 500, 900, 1200 and 1999 of 2,000 unit vectors; numbers in the answer, for one
# query and for a hundred, alike:
#
#   IndexFlatL2 k=1: 3, k=3: 3 500 900, k=5: 3 500 900 1200 1999
#   IndexFlatIP k=1: 3, k=3: 900 500 3, k=5: 1999 1200 900 500 3
#
# What it means: the first of IndexFlatIP's answers changes with k, so top-1 read from a search of k=10 is not that of a
# search of k=1; and where copies of a clip have other labels, recall@1 depends on index and depth.
set -euo pipefail
python=${PYTHON:-python3.11}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
"$python" -m venv "$scratch/env"
"$scratch/env/bin/pip" install --quiet --disable-pip-version-check faiss-cpu==1.15.1 numpy==2.4.6
expected="IndexFlatL2 k=1: 3, k=3: 3 500 900, k=5: 3 500 900 1200 1999
IndexFlatIP k=1: 3, k=3: 900 500 3, k=5: 1999 1200 900 500 3"
seen=$(
    "$scratch/env/bin/python" - <<'PYTHON'
import faiss
import numpy as np

vectors = np.random.default_rng(0).normal(size=(2000, 32)).astype(np.float32)
vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
query = vectors[3]
vectors[[500, 900, 1200, 1999]] = query
for kind in (faiss.IndexFlatL2, faiss.IndexFlatIP):
    index = kind(32)
    index.add(vectors)
    answers = []
    for k in (1, 3, 5):
        _, one = index.search(query[None], k)
        _, many = index.search(np.repeat(query[None], 100, 0), k)
        assert (many == one).all(), "the number of queries changes the answer"
        answers.append(f"k={k}: {' '.join(map(str, one[0]))}")
    print(kind.__name__, ", ".join(answers))
PYTHON
)
echo "$seen"
[[ $seen == "$expected" ]] || { echo "expected:" "$expected" >&2; exit 1; }
