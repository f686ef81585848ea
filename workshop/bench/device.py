"""What a device does at most, and how much of its memory was used: what a step's rate is held against."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

MATRIX_SIDE = {"cpu": 2048, "cuda": 8192}  # where larger ones no longer gain anything
COPIED_NUMBERS = {"cpu": 2**26, "cuda": 2**30}  # bf16: more than caches hold


def matrix_product(kind: torch.dtype, device: torch.device) -> Callable[[], None]:
    """A product of two square matrices of MATRIX_SIDE."""
    side = MATRIX_SIDE[device.type]
    a, b = (torch.randn(side, side, device=device).to(kind) for _ in range(2))
    product = torch.empty_like(a)

    def multiply() -> None:
        torch.mm(a, b, out=product)

    return multiply


def memory_copy(device: torch.device) -> Callable[[], None]:
    """A copy of COPIED_NUMBERS bf16 numbers in the device's memory."""
    source = torch.ones(COPIED_NUMBERS[device.type], dtype=torch.bfloat16, device=device)
    target = source.clone()  # memory that was written to once

    def copy() -> None:
        target.copy_(source)

    return copy


def copied_bytes(device: torch.device) -> int:
    """What `memory_copy` reads and writes."""
    return 2 * 2 * COPIED_NUMBERS[device.type]


@contextlib.contextmanager
def tf32_as_convolutions_have_it(device: torch.device) -> Iterator[None]:
    """torch rounds fp32 to TF32 in convolutions and not in products; a limit must not be lower than what it limits."""
    before = torch.get_float32_matmul_precision()
    if device.type == "cuda" and torch.backends.cudnn.allow_tf32:
        torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def per_second(work: Callable[[], object], device: torch.device, *, seconds: float) -> float:
    """Calls per second over at least `seconds` and one call, the device's work included."""
    calls, chunk = 0, 1
    began = time.perf_counter()
    while True:
        for _ in range(chunk):
            work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        calls += chunk
        elapsed = time.perf_counter() - began
        if elapsed >= seconds:
            return calls / elapsed
        # Waiting for the device after every call would leave it idle in between.
        chunk = max(1, round(calls / elapsed * min(seconds / 4, seconds - elapsed)))


def forget_peak(device: torch.device) -> None:
    """Begin anew to look for the most memory that is used."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    else:
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")


def peak_bytes(device: torch.device) -> int | None:
    """The most memory that was used: on CUDA by tensors, on the CPU by the process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    kilobytes = [line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:")]
    return 1024 * int(kilobytes[0]) if kilobytes else None
