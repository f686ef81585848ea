"""Kernels, bytes, layouts and memory of a training step on the null device, eager and compiled for sm_90."""

from __future__ import annotations

import ctypes
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import torch
import triton  # type: ignore[import-not-found]
from torch._inductor.graph import GraphLowering

from avc.config import load_config
from avc.distributed.join import take_device
from avc.settings import PairConfig
from workshop.bench.synthetic import Way, step_on, synthetic
from workshop.null_gpu.operators import copied


class Moved:
    """Notes what each kernel of a compiled graph reads and writes, every buffer once. bytes, kernels: by direction."""

    def __init__(self) -> None:
        self.bytes: Counter[str] = Counter()
        self.kernels: Counter[str] = Counter()
        compiled = GraphLowering.codegen

        def codegen(graph: Any) -> Any:
            code = compiled(graph)
            way = "backward" if graph.is_backward else "forward"
            for node in graph.scheduler.nodes:
                if not node.is_extern() and node.is_gpu():
                    self.bytes[way] += node.get_read_write_buffers_sizes()
                    self.kernels[way] += 1
            return code

        GraphLowering.codegen = codegen  # type: ignore[assignment,method-assign]


def resources(folder: Path) -> tuple[int, int, int, int]:
    """Triton's binaries there: how many, registers of the largest, how many have a stack, how many of these spill."""
    tools = Path(triton.__file__).parent / "backends/nvidia/bin"
    binaries = sorted(folder.rglob("*.cubin"))
    registers, stacks, spills = [0], 0, 0
    for binary in binaries:
        said = subprocess.run([tools / "cuobjdump", "-res-usage", binary], capture_output=True, text=True, check=True)
        registers += map(int, re.findall(r"REG:(\d+)", said.stdout))
        if any(int(size) for size in re.findall(r"(?:STACK|LOCAL):(\d+)", said.stdout)):
            stacks += 1
            again = [str(tools / "ptxas"), "-v", "--gpu-name", "sm_90a", "-o", os.devnull]
            source = str(binary.with_suffix(".ptx"))
            said = subprocess.run([*again, source], capture_output=True, text=True, check=True)
            spills += "0 bytes spill stores, 0 bytes spill loads" not in said.stderr
    return len(binaries), max(registers), stacks, spills


def main(path: str, *overrides: str) -> None:
    config = load_config(path, overrides)
    assert isinstance(config, PairConfig), "noise has neither labels nor teachers"
    device, moved = take_device(config.training, local_rank=0), Moved()
    launched = ctypes.CDLL(None).null_launched
    batch = synthetic(config, config.optim.micro_batch_pairs, device)
    views = len(batch.images)
    print(f"torch {torch.__version__}, {path} {' '.join(overrides)}: {views} views, {config.training.precision}")
    for mode in ("eager", "compiled"):
        step = step_on(config, Way(config.training.precision, True, mode), device, batch)
        step()
        torch.cuda.reset_peak_memory_stats()
        copied.clear()
        torch.cuda.set_sync_debug_mode("error")
        before = launched()
        step()
        torch.cuda.set_sync_debug_mode("default")
        peak = torch.cuda.max_memory_allocated() / 2**30
        print(f"{mode}: {launched() - before} launches a step, no wait; peak of tensors {peak:.2f} GiB")
        for operand, times in copied.items():
            print(f"    cuDNN copies {operand}: {times} a step")
        del step
    for way, moved_bytes in moved.bytes.items():
        print(f"    {way}: {moved.kernels[way]} kernels move {moved_bytes / views / 1e6:.1f} MB a view")
    print(f"    in all {sum(moved.bytes.values()) / views / 1e6:.1f} MB a view; what convolutions move comes on top")
    found = resources(Path(triton.knobs.cache.dir))
    print("    {} binaries for sm_90, {} registers at most, {} with a stack, {} that spill".format(*found))


if __name__ == "__main__":
    main(*sys.argv[1:])
