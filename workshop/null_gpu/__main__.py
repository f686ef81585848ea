"""What a GPU's path can show without one: its tests but those that compare numbers, and what a compiled step moves.

    make null-gpu                                  # or python -m workshop.null_gpu [CONFIG] [SECTION.NAME=VALUE ...]

Needs a CUDA build of torch and gcc; takes some minutes, nearly all of them in ptxas. null.c is the device, built into a
temporary folder together with a stub for each function of CUDA's libraries that torch calls and it does not have.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

from launch.user_errors import user_errors

HERE = Path(__file__).resolve().parent
CONFIG = "configs/ave_fast_one_gpu.yaml"
CALLED = re.compile(r"\b(cuda[A-Z]\w*|__cuda\w+|cu[A-Z]\w*|cublas\w+|cufft\w+|cudnn\w+|nccl\w+)(?:@\S+)?$", re.M)
# What these libraries say of themselves without a device.
THEIR_OWN = re.compile(
    r"__cuda(Register|Unregister|Push|Pop)\w+|\w+(Get\w*Version|GetProperty|ErrorString|StatusString)"
)
DRIVER = ("cuMemAlloc_v2", "cuMemFree_v2", "cuMemcpyHtoD_v2", "cuStreamDestroy_v2", "cuEventDestroy_v2")


def build(folder: Path) -> dict[str, str]:
    """Build the device there; the environment in which torch finds it. Raises ValueError for what is not here."""
    if torch.version.cuda is None:
        raise ValueError(f"torch {torch.__version__} of {sys.executable} is no CUDA build, which the null device needs")
    if missing := [tool for tool in ("gcc", "nm") if shutil.which(tool) is None]:
        raise ValueError(f"there is no {missing[0]} here, which the null device is built with")
    libraries = Path(torch.__file__).parent / "lib"
    packages = libraries.parents[1]
    types = next(packages.glob("nvidia/**/include/driver_types.h"), None)
    if types is None:
        raise ValueError(f"{packages}/nvidia has no driver_types.h: torch was not installed with its CUDA libraries")
    names = {*DRIVER}
    for library in ("c10_cuda", "torch_cuda", "torch_python", "torch_cuda_linalg", "caffe2_nvrtc"):
        undefined = ["nm", "-D", "--undefined-only", str(libraries / f"lib{library}.so")]
        names |= {*CALLED.findall(subprocess.run(undefined, capture_output=True, text=True, check=True).stdout)}
    triton = (packages / "triton/backends/nvidia/include/cuda.h").read_text(errors="ignore")
    names |= {*re.findall(r"CUDAAPI\s+(cu[A-Z]\w*)\s*\(", triton)}
    names -= {*re.findall(r"^(?:API|TEXT) (\w+)\(", (HERE / "null.c").read_text(), re.M)}
    stubs = "".join(f"int {name}() {{ return 0; }}\n" for name in sorted(names) if not THEIR_OWN.fullmatch(name))
    (folder / "stubs.c").write_text(stubs)
    (folder / "crt").mkdir()
    (folder / "crt/host_defines.h").touch()
    sources = [str(HERE / "null.c"), str(folder / "stubs.c")]
    included = ["-I", str(folder), "-I", str(types.parent)]
    device = str(folder / "libcuda.so.1")
    subprocess.run(["gcc", "-O1", "-shared", "-fPIC", "-w", "-o", device, *included, *sources, "-ldl"], check=True)
    places = {"TRITON_LIBCUDA_PATH": str(folder), "LD_LIBRARY_PATH": str(folder), "LD_PRELOAD": device}
    return os.environ | places | {"PYTHONWARNINGS": "ignore:Warning only once for all operators"}


def main(arguments: list[str]) -> int:
    with user_errors("workshop.null_gpu"), tempfile.TemporaryDirectory() as folder:
        environment = build(Path(folder))
        comparing = "gradients_of_the_cpu or two_ranks or is_killed or killed_run"
        pytest = ["pytest", "tests/gpu", "-rA", "-q", "--show-capture=stdout", "-p", f"{__package__}.operators", "-k"]
        # Its waits by line are shown; their sum is not judged, since noise decides here when a training saves and logs.
        waits = [sys.executable, "-m", *pytest, "never_waits"]
        subprocess.run(waits, env=environment, check=False)
        tests = [*pytest, f"not (never_waits or {comparing})"]
        for module in (tests, ["workshop.null_gpu.measure", *(arguments or [CONFIG])]):
            own = {f"{name}_CACHE_DIR": f"{folder}/{module[0]}/{name}" for name in ("TORCHINDUCTOR", "TRITON")}
            if status := subprocess.run([sys.executable, "-m", *module], env=environment | own, check=False).returncode:
                return status
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
