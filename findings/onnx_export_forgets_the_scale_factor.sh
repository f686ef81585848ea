#!/usr/bin/env bash
# F.interpolate(scale_factor=...) places its samples by the factor that it was given; the ONNX graph that is exported from
# it places them by the two sizes. Where the sizes are rounded these are different pictures, and nothing says so.
#
# Packages: torch 2.13.0, onnx 1.23.2, onnxscript 0.7.2, onnxruntime 1.32.0, numpy 2.4.6.
# Guess before it was run: equal to 1e-5 of the range, however the size is given.
# Seen: 256 x 341 noise of 0 to 255 scaled down with antialiasing, largest difference between onnxruntime and torch:
#
#   size=(94, 126): below 0.01
#   scale_factor=0.37: above 10 (64.5)
#   scale_factor=0.37, recompute_scale_factor=True: below 0.01
#
# What it means: the sharp parts of a picture move by up to half a pixel at its far side in the exported network alone.
# Give `size`, or recompute_scale_factor=True, in whatever is to be exported.
set -euo pipefail
python=${PYTHON:-python3.11}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
"$python" -m venv "$scratch/env"
"$scratch/env/bin/pip" install --quiet --disable-pip-version-check \
    torch==2.13.0 onnx==1.23.2 onnxscript==0.7.2 onnxruntime==1.32.0 numpy==2.4.6
expected="size=(94, 126): below 0.01
scale_factor=0.37: above 10
scale_factor=0.37, recompute_scale_factor=True: below 0.01"
seen=$(
    cd "$scratch" && env/bin/python 2>errors - <<'PYTHON'
import onnxruntime
import torch

torch.manual_seed(0)
picture = torch.randint(0, 256, (1, 3, 256, 341)).float()


class Scale(torch.nn.Module):
    def __init__(self, **how):
        super().__init__()
        self.how = how

    def forward(self, x):
        return torch.nn.functional.interpolate(x, mode="bilinear", antialias=True, **self.how)


for how in ({"size": (94, 126)}, {"scale_factor": 0.37}, {"scale_factor": 0.37, "recompute_scale_factor": True}):
    torch.onnx.export(Scale(**how), (picture,), "scale.onnx", dynamo=True, input_names=["x"], verbose=False)
    session = onnxruntime.InferenceSession("scale.onnx", providers=["CPUExecutionProvider"])
    given, exact = session.run(None, {"x": picture.numpy()})[0], Scale(**how)(picture).numpy()
    assert given.shape == exact.shape == (1, 3, 94, 126)
    apart = abs(given - exact).max()
    print(", ".join(f"{key}={value}" for key, value in how.items()) + ":", end=" ")
    print("below 0.01" if apart < 0.01 else "above 10" if apart > 10 else f"{apart:.3f}")
PYTHON
) || { cat "$scratch/errors" >&2; exit 1; }
echo "$seen"
[[ $seen == "$expected" ]] || { echo "expected:" "$expected" >&2; exit 1; }
