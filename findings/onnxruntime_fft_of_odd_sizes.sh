#!/usr/bin/env bash
# onnxruntime's DFT and STFT are as exact as float32 allows where the length is a power of two. For every other length,
# 400 or 480 points of a speech front-end among them, they are 60 times coarser, and worse the longer it is.
#
# Packages: onnxruntime 1.32.0, onnx 1.23.2, numpy 2.4.6.
# Guess before it was run: about 1e-6 of the largest value at any length, as in NumPy and PyTorch.
# Seen: largest error against NumPy in double precision, as a share of the largest value, noise in float32:
#
#   STFT 512: 5.9e-07, 480: 4.1e-05, 400: 3.6e-05
#   DFT 1024: 6.4e-07, 1000: 2.5e-04, 65536: 1.0e-06, 48000: 1.5e-02
#
# What it means: the quiet bands of an exported log-mel of 400 points differ from PyTorch's; a spectrum of a whole second
# in one DFT is right to two digits. Export the transform as a matrix product, or pad frames to a power of two.
set -euo pipefail
python=${PYTHON:-python3.11}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
"$python" -m venv "$scratch/env"
"$scratch/env/bin/pip" install --quiet --disable-pip-version-check onnxruntime==1.32.0 onnx==1.23.2 numpy==2.4.6
"$scratch/env/bin/python" - <<'PYTHON'
import numpy as np
import onnxruntime
from onnx import TensorProto, helper

random = np.random.default_rng(0)
FLOAT = TensorProto.FLOAT


def run(node, noise, result, constants=()):
    given = helper.make_tensor_value_info("x", FLOAT, noise.shape)
    graph = helper.make_graph([node], "one", [given], [helper.make_tensor_value_info("y", FLOAT, result)], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    real = session.run(None, {"x": noise})[0][0]
    return real[..., 0] + 1j * real[..., 1]


def error(given, exact):
    return np.abs(given - exact).max() / np.abs(exact).max()


def stft(points):
    noise, window = random.normal(0, 0.1, (1, 16000)).astype(np.float32), np.hanning(points).astype(np.float32)
    constants = [helper.make_tensor("hop", TensorProto.INT64, (), [160]), helper.make_tensor("w", FLOAT, (points,), window)]
    given = run(helper.make_node("STFT", ["x", "hop", "w"], ["y"]), noise, (1, "frames", "bins", 2), constants)
    frames = np.lib.stride_tricks.sliding_window_view(noise[0].astype(float), points)[::160]
    return error(given, np.fft.rfft(frames * window.astype(float)))


def dft(points):
    noise = random.normal(0, 0.1, (1, points, 1)).astype(np.float32)
    return error(run(helper.make_node("DFT", ["x"], ["y"]), noise, (1, points, 2)), np.fft.fft(noise[0, :, 0].astype(float)))


frames = {points: stft(points) for points in (512, 480, 400)}
whole = {points: dft(points) for points in (1024, 1000, 65536, 48000)}
print("STFT", ", ".join(f"{points}: {value:.1e}" for points, value in frames.items()))
print("DFT", ", ".join(f"{points}: {value:.1e}" for points, value in whole.items()))
assert frames[512] < 2e-6 and whole[1024] < 2e-6 and whole[65536] < 4e-6, "powers of two are no longer exact"
assert min(frames[480], frames[400]) > 1e-5 and whole[1000] > 5e-5 and whole[48000] > 3e-3, "other lengths are exact now"
PYTHON
