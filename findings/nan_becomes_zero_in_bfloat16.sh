#!/usr/bin/env bash
# faiss and usearch turn float32 to bfloat16, and numcodecs' BitRound to fewer bits, by adding half a step to the bits, without a
# look at NaN. A NaN whose payload is all ones, which is the one that PTX gives for NaN on NVIDIA's GPUs, overflows to -0.0,
# and one with the lowest bits alone becomes infinite. ml_dtypes and tensorstore keep every NaN, as float16 does in both.
#
# Packages: faiss-cpu 1.15.1, usearch 2.26.6, numcodecs 0.16.6, tensorstore 0.1.86, ml_dtypes 0.7.0, numpy 2.4.6.
# Guess before it was run: NaN stays NaN in all but BitRound.
# Seen, by the NaN's bits:
#
#   bits         7fffffff ffffffff 7f800001 7fc00000
#   ml_dtypes    nan      nan      nan      nan
#   tensorstore  nan      nan      nan      nan
#   BitRound     -0.0     0.0      inf      nan
#   faiss bf16   -0.0     0.0      inf      nan
#   faiss fp16   nan      nan      nan      nan
#   usearch bf16 -0.0     0.0      inf      nan
#   usearch f16  nan      nan      nan      nan
#
# What it means: an embedding that is not a number is stored as numbers, and a NaN in an array that is compressed becomes a
# plausible value. Look for NaN before it is stored: afterwards there is none to find.
set -euo pipefail
python=${PYTHON:-python3.11}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
"$python" -m venv "$scratch/env"
"$scratch/env/bin/pip" install --quiet --disable-pip-version-check faiss-cpu==1.15.1 usearch==2.26.6 numcodecs==0.16.6 \
    tensorstore==0.1.86 ml_dtypes==0.7.0 numpy==2.4.6
expected=$(sed -n 's/^#   //p' "$0")
seen=$(
    "$scratch/env/bin/python" -W ignore - <<'PYTHON'
import faiss
import ml_dtypes
import numcodecs
import numpy as np
import tensorstore
from usearch.index import Index

BITS = (0x7FFFFFFF, 0xFFFFFFFF, 0x7F800001, 0x7FC00000)
values = np.zeros(8, np.float32)
values[: len(BITS)] = np.array(BITS, np.uint32).view(np.float32)


def by_faiss(kind):
    quantizer = faiss.ScalarQuantizer(len(values), kind)
    quantizer.train(np.zeros((1, len(values)), np.float32))
    return quantizer.decode(quantizer.compute_codes(values[None]))[0]


def by_usearch(dtype):
    index = Index(ndim=len(values), metric="ip", dtype=dtype)
    index.add(0, values)
    return np.asarray(index.get(0)).ravel()


rounding = numcodecs.BitRound(keepbits=7)
stored = {
    "ml_dtypes": values.astype(ml_dtypes.bfloat16),
    "tensorstore": tensorstore.cast(tensorstore.array(values), tensorstore.bfloat16)[...].read().result(),
    "BitRound": rounding.decode(rounding.encode(values)).view(np.float32),
    "faiss bf16": by_faiss(faiss.ScalarQuantizer.QT_bf16),
    "faiss fp16": by_faiss(faiss.ScalarQuantizer.QT_fp16),
    "usearch bf16": by_usearch("bf16"),
    "usearch f16": by_usearch("f16"),
}
print("bits".ljust(12), " ".join(f"{bits:08x}" for bits in BITS))
for name, found in stored.items():
    print(name.ljust(12), " ".join(f"{float(value)!s:8}" for value in found[: len(BITS)]).rstrip())
PYTHON
)
echo "$seen"
[[ $seen == "$expected" ]] || { echo "expected:" "$expected" >&2; exit 1; }
