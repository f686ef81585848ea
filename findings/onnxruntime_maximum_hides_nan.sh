#!/usr/bin/env bash
# onnxruntime's greatest value hides a NaN or shows it by where it lies: ReduceMax shows it in the first place alone,
# GlobalMaxPool in the last, MaxPool as the second of two. torch gives NaN wherever it lies.
#
# Packages: onnx 1.23.2, onnxruntime 1.32.0 (on the CPU), numpy 2.4.6.
# Guess before it was run: all give NaN, but for MaxPool, which leaves it out always.
# Seen: the greatest of 1, 2, 3, ..., 8 of which the first, the third or the last is NaN; MaxPool has windows of two:
#
#   ReduceMax: nan, 8, 7
#   GlobalMaxPool: 8, 8, nan
#   MaxPool: 2 4 6 8, 2 4 6 8, 2 4 6 nan
#   Relu then ReduceMax: nan, 8, 7
#   Softmax: all nan, all nan, all nan
#
# What it means: a network that ends with the greatest over a picture (a score of correspondence, a map of where the sound
# is) answers behind onnxruntime with a plausible number where it is broken: look for NaN before the pooling, or compare
# with the framework on an input that has one.
set -euo pipefail
python=${PYTHON:-python3.11}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
"$python" -m venv "$scratch/env"
"$scratch/env/bin/pip" install --quiet --disable-pip-version-check onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6
expected=$(sed -n 's/^#   //p' "$0")
seen=$(
    cd "$scratch" && env/bin/python -W ignore - <<'PYTHON'
import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

SIZE = 8
AXES = numpy_helper.from_array(np.array([3]), "axes")
NETWORKS = {
    "ReduceMax": [helper.make_node("ReduceMax", ["x", "axes"], ["y"])],
    "GlobalMaxPool": [helper.make_node("GlobalMaxPool", ["x"], ["y"])],
    "MaxPool": [helper.make_node("MaxPool", ["x"], ["y"], kernel_shape=[1, 2], strides=[1, 2])],
    "Relu then ReduceMax": [helper.make_node("Relu", ["x"], ["z"]), helper.make_node("ReduceMax", ["z", "axes"], ["y"])],
    "Softmax": [helper.make_node("Softmax", ["x"], ["y"], axis=3)],
}
onnxruntime.set_default_logger_severity(3)


def answer(nodes, place):
    x = np.arange(1, SIZE + 1, dtype=np.float32).reshape(1, 1, 1, SIZE)
    x[..., place] = np.nan
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape)]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)]
    constants = [AXES] if any("axes" in node.input for node in nodes) else []
    graph = helper.make_graph(nodes, "network", inputs, outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    y = session.run(None, {"x": x})[0].ravel()
    return "all nan" if y.size > 1 and np.isnan(y).all() else " ".join(f"{value:g}" for value in y)


for name, nodes in NETWORKS.items():
    print(f"{name}: {', '.join(answer(nodes, place) for place in (0, 2, SIZE - 1))}")
PYTHON
)
echo "$seen"
[[ $seen == "$expected" ]] || { echo "expected:" "$expected" >&2; exit 1; }
