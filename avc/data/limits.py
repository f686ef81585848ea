"""Checks the memory and open files that reading batches needs, before they are allocated.

The buffers are anonymous shared memory (`avc.data.prefetch.SharedMemory`). It is not bounded by /dev/shm or
`docker --shm-size`, only by the machine's memory and the limit of the cgroup of a container or a SLURM job.
"""

from __future__ import annotations

import os
import resource
import sys
from pathlib import Path
from typing import Any

from torch import Tensor

from avc.data.interfaces import Reader

MEMORY_SHARE = 0.5  # for batches; the network needs the rest
BASE_FILES, FILES_PER_WORKER = 32, 4  # open at once; four workers needed 28 when measured


def refuse_beyond_limits(reader: Reader[Any], *, slots: int, rows: int, num_workers: int) -> None:
    """Raise ValueError where `slots` batches of `rows` rows exceed this machine's memory, or workers its open files.

    The ranks of a machine share its memory equally (LOCAL_WORLD_SIZE, which torchrun sets).
    """
    row_buffers = vars(reader.buffers(slots=1, rows=1))
    size = slots * rows * sum(tensor.nbytes for tensor in row_buffers.values() if isinstance(tensor, Tensor))
    ranks = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    free = int(MEMORY_SHARE * free_bytes() / ranks)
    if size > free:
        raise ValueError(
            f"{slots} batches of {rows:,} rows take {size / 1e9:,.3g} GB of memory, and half of what is free on this "
            f"machine, or under the memory limit of this container or job, is {free / 1e9:,.3g} GB for each of {ranks} "
            f"ranks: lower data.num_workers (now {num_workers}), optim.micro_batch_pairs or data.image_size; for "
            "validation, validation.batch_pairs"
        )
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    files = BASE_FILES + FILES_PER_WORKER * num_workers
    if limit != resource.RLIM_INFINITY and limit < files:
        raise ValueError(
            f"this process may have {limit} files open at once, and data.num_workers={num_workers} may need {files}: "
            f"raise the limit (`ulimit -n {files}`, or what your cluster offers for it), or lower data.num_workers"
        )


def free_bytes(proc: Path = Path("/proc"), cgroups: Path = Path("/sys/fs/cgroup")) -> int:
    """Memory available to this process: of the machine, and of every cgroup (v2 or v1) that it is in."""
    free = 1024 * _read_numbers(proc / "meminfo")["MemAvailable:"]
    for line in (proc / "self" / "cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", maxsplit=2)
        if controllers in ("", "memory"):
            root = cgroups / controllers
            # In a container the path may be that of the host, of which only the root is visible.
            for group in {root, *(root / suffix for suffix in (Path(path[1:]), *Path(path[1:]).parents))}:
                free = min(free, _cgroup_free(group))
    return free


def _cgroup_free(group: Path) -> int:
    for limit, used in (("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes")):
        try:
            limit_bytes, used_bytes = (group / limit).read_text().strip(), int((group / used).read_text())
            cached = _read_numbers(group / "memory.stat")
        except OSError:
            continue
        if limit_bytes != "max":
            # The page cache is reclaimed when memory is needed.
            return int(limit_bytes) - used_bytes + sum(cached.get(name, 0) for name in ("inactive_file", "active_file"))
    return sys.maxsize


def _read_numbers(path: Path) -> dict[str, int]:
    return {words[0]: int(words[1]) for line in path.read_text().splitlines() if len(words := line.split()) > 1}
