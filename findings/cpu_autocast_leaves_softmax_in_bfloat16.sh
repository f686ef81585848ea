#!/usr/bin/env bash
# torch.autocast of the CPU has another list of what is done in float32 than the one documented for GPUs: softmax,
# log_softmax, norms, cosine similarity, exponentials and sums of bfloat16 stay bfloat16. Only losses are lifted.
#
# Packages: torch 2.13.0, numpy 2.4.6.
# Guess before it was run: float32 for all of them but layer_norm and sum, as documented for GPUs.
# Seen: type of the result for bfloat16 input below torch.autocast("cpu", torch.bfloat16):
#
#   bfloat16: softmax log_softmax layer_norm norm normalize cosine_similarity exp sum
#   float32: cross_entropy nll_loss kl_div mse_loss binary_cross_entropy_with_logits cdist
#
# What it means: a contrastive loss that is written as log_softmax of similarities is computed with three digits in a
# test on the CPU and with seven on a GPU; F.cross_entropy of the same logits is exact on both.
set -euo pipefail
python=${PYTHON:-python3.11}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
"$python" -m venv "$scratch/env"
"$scratch/env/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.4.6
expected="bfloat16: softmax log_softmax layer_norm norm normalize cosine_similarity exp sum
float32: cross_entropy nll_loss kl_div mse_loss binary_cross_entropy_with_logits cdist"
seen=$(
    "$scratch/env/bin/python" -W ignore - <<'PYTHON'
import torch
import torch.nn.functional as F

torch.manual_seed(0)
x = torch.randn(64, 128, dtype=torch.bfloat16)
labels = torch.randint(0, 128, (64,))
log_probabilities = x.float().log_softmax(1).bfloat16()
results = {
    "softmax": lambda: x.softmax(1),
    "log_softmax": lambda: x.log_softmax(1),
    "layer_norm": lambda: F.layer_norm(x, (128,)),
    "norm": lambda: x.norm(dim=1),
    "normalize": lambda: F.normalize(x),
    "cosine_similarity": lambda: F.cosine_similarity(x, x.flip(0)),
    "exp": lambda: x.exp(),
    "sum": lambda: x.sum(),
    "cross_entropy": lambda: F.cross_entropy(x, labels),
    "nll_loss": lambda: F.nll_loss(log_probabilities, labels),
    "kl_div": lambda: F.kl_div(log_probabilities, log_probabilities.exp()),
    "mse_loss": lambda: F.mse_loss(x, x.flip(0)),
    "binary_cross_entropy_with_logits": lambda: F.binary_cross_entropy_with_logits(x, x.float().sigmoid().bfloat16()),
    "cdist": lambda: torch.cdist(x, x),
}
with torch.autocast("cpu", torch.bfloat16):
    types = {name: str(result().dtype).removeprefix("torch.") for name, result in results.items()}
for kind in ("bfloat16", "float32"):
    print(f"{kind}:", *(name for name, given in types.items() if given == kind))
PYTHON
)
echo "$seen"
[[ $seen == "$expected" ]] || { echo "expected:" "$expected" >&2; exit 1; }
