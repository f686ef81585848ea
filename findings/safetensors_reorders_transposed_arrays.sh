#!/usr/bin/env bash
# safetensors 0.8.0 writes a NumPy array that is not in C order as it lies in memory, under the shape that it has: read back,
# the values stand elsewhere, without a word. 0.7.0 wrote it right, and safetensors.torch refuses such tensors.
#
# Packages: safetensors 0.8.0 and 0.7.0, scikit-learn 1.9.1, numpy 2.4.6.
# Guess before it was run: kept, whatever the order. (It is known since August 2026: safetensors/safetensors#825.)
# Seen: are the arrays read back those that were written?
#
#   0.8.0: C order True, transposed False, Fortran order False, PCA's components False
#   0.7.0: C order True, transposed True, Fortran order True, PCA's components True
#
# What it means: weights of TensorFlow and Keras that were transposed for another framework, projections that scikit-learn
# fitted and centers of clusters are such arrays. Hand over np.ascontiguousarray(array), or a tensor.
set -euo pipefail
python=${PYTHON:-python3.11}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
"$python" -m venv "$scratch/env"
pip() { "$scratch/env/bin/pip" install --quiet --disable-pip-version-check "$@"; }
pip safetensors==0.8.0 scikit-learn==1.9.1 numpy==2.4.6
expected=$(sed -n 's/^#   //p' "$0")
cat >"$scratch/orders.py" <<'PYTHON'
import numpy as np
import safetensors
from safetensors.numpy import load, save
from sklearn.decomposition import PCA

rows = np.random.default_rng(0).normal(size=(100, 12)).astype(np.float32)
arrays = {"C order": rows, "transposed": rows.T, "Fortran order": np.asfortranarray(rows)}
arrays["PCA's components"] = PCA(4, random_state=0).fit(rows).components_
same = (f"{name} {np.array_equal(load(save({'x': array}))['x'], array)}" for name, array in arrays.items())
print(f"{safetensors.__version__}: {', '.join(same)}")
PYTHON
seen=$(
    "$scratch/env/bin/python" -W ignore "$scratch/orders.py"
    pip safetensors==0.7.0
    "$scratch/env/bin/python" -W ignore "$scratch/orders.py"
)
echo "$seen"
[[ $seen == "$expected" ]] || { echo "expected:" "$expected" >&2; exit 1; }
