#!/usr/bin/env bash
# A network that is exported to ONNX while it is in train() becomes a mixture: its batch norm stands still, with the
# running statistics folded into the convolution, but its dropout goes on at random.
#
# Packages: torch 2.13.0, onnx 1.23.2, onnxscript 0.7.2, onnxruntime 1.32.0, numpy 2.4.6.
# Guess before it was run: torch.export takes the network as it is: statistics of the batch, dropout at work. (The old
# exporter, dynamo=False, switches to eval() by itself.)
# Seen: nodes of the graph, which of torch's two modes a network without dropout agrees with in onnxruntime, and whether
# two runs of the one with dropout on equal input are equal:
#
#   dynamo: Conv Relu, eval
#   dynamo with dropout: Conv Relu Dropout, two runs differ
#   torchscript with dropout: Conv Relu, two runs equal
#
# What it means: an export without eval() passes a check of shapes, and one of embeddings where there is no dropout; with
# it other programs get half of the features at random. Call eval() before torch.onnx.export.
set -euo pipefail
python=${PYTHON:-python3.11}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
"$python" -m venv "$scratch/env"
"$scratch/env/bin/pip" install --quiet --disable-pip-version-check \
    torch==2.13.0 onnx==1.23.2 onnxscript==0.7.2 onnxruntime==1.32.0 numpy==2.4.6
expected="dynamo: Conv Relu, eval
dynamo with dropout: Conv Relu Dropout, two runs differ
torchscript with dropout: Conv Relu, two runs equal"
seen=$(
    cd "$scratch" && env/bin/python 2>errors - <<'PYTHON'
import numpy as np
import onnx
import onnxruntime
import torch
from torch import nn

torch.manual_seed(0)
batch = 3 * torch.randn(4, 3, 16, 16) + 2


def exported(dynamo, *more):
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), *more).train()
    verbose = {"verbose": False} if dynamo else {}
    torch.onnx.export(network, (batch,), "network.onnx", dynamo=dynamo, input_names=["x"], **verbose)
    session = onnxruntime.InferenceSession("network.onnx", providers=["CPUExecutionProvider"])
    nodes = " ".join(node.op_type for node in onnx.load("network.onnx").graph.node)
    return network, nodes, [session.run(None, {"x": batch.numpy()})[0] for _ in range(2)]


network, nodes, runs = exported(True)
with torch.no_grad():
    standing = np.abs(runs[0] - network.eval()(batch).numpy()).max()
    moving = np.abs(runs[0] - network.train()(batch).numpy()).max()
assert max(standing, moving) > 0.1, "the two modes do not differ"
print(f"dynamo: {nodes}, {'eval' if standing < 1e-4 else 'train' if moving < 1e-4 else 'neither'}")
for name, dynamo in (("dynamo", True), ("torchscript", False)):
    _, nodes, runs = exported(dynamo, nn.Dropout(0.5))
    print(f"{name} with dropout: {nodes}, two runs {'equal' if np.array_equal(*runs) else 'differ'}")
PYTHON
) || { cat "$scratch/errors" >&2; exit 1; }
echo "$seen"
[[ $seen == "$expected" ]] || { echo "expected:" "$expected" >&2; exit 1; }
