"""What reading batches takes of a machine, looked at before it is taken.

The buffers are memory without a name (`avc.data.prefetch.SharedMemory`). No file system bounds it, /dev/shm and
`docker --shm-size` neither: only the machine's memory does, and the limit of the cgroup, which a container or a SLURM
job may have.
"""

from __future__ import annotations

import os
import resource
import sys
from pathlib import Path
from typing import Any

from torch import Tensor

from avc.data.interfaces import Reader

SHARE_OF_MEMORY = 0.5  # for batches; the network needs the rest
FILES, FILES_PER_WORKER = 32, 4  # open at once; four workers were seen to need 28


def refuse_beyond_limits(reader: Reader[Any], *, slots: int, rows: int, num_workers: int) -> None:
    """Raise ValueError where this machine cannot hold `slots` batches of `rows` rows, or opens too few files.

    Ranks of one machine share its memory alike (LOCAL_WORLD_SIZE, which torchrun sets).
    """
    one = vars(reader.buffers(slots=1, rows=1))
    wanted = slots * rows * sum(part.nbytes for part in one.values() if isinstance(part, Tensor))
    ranks = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    free = int(SHARE_OF_MEMORY * free_bytes() / ranks)
    if wanted > free:
        raise ValueError(
            f"{slots} batches of {rows:,} rows take {wanted / 1e9:,.3g} GB of memory, and half of what is free on this "
            f"machine, or under the memory limit of this container or job, is {free / 1e9:,.3g} GB for each of {ranks} "
            f"ranks: lower data.num_workers (now {num_workers}), optim.micro_batch_pairs or data.image_size; for "
            "validation, validation.batch_pairs"
        )
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = FILES + FILES_PER_WORKER * num_workers
    if limit != resource.RLIM_INFINITY and limit < needed:
        raise ValueError(
            f"this process may have {limit} files open at once, and data.num_workers={num_workers} may need {needed}: "
            f"raise the limit (`ulimit -n {needed}`, or what your cluster offers for it), or lower data.num_workers"
        )


def free_bytes(proc: Path = Path("/proc"), cgroups: Path = Path("/sys/fs/cgroup")) -> int:
    """Memory that this process may still take: of the machine, and of every cgroup (v2 or v1) that it is in."""
    free = 1024 * _numbers(proc / "meminfo")["MemAvailable:"]
    for line in (proc / "self" / "cgroup").read_text().splitlines():
        _, controllers, place = line.split(":", maxsplit=2)
        if controllers in ("", "memory"):
            root = cgroups / controllers
            # In a container the path may be that of the host, of which only the root is to be seen.
            for group in {root, *(root / part for part in (Path(place[1:]), *Path(place[1:]).parents))}:
                free = min(free, _free_in(group))
    return free


def _free_in(group: Path) -> int:
    for limit, used in (("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes")):
        try:
            most, taken = (group / limit).read_text().strip(), int((group / used).read_text())
            cached = _numbers(group / "memory.stat")
        except OSError:
            continue
        if most != "max":
            # Cached files give way to whoever needs their memory.
            return int(most) - taken + sum(cached.get(name, 0) for name in ("inactive_file", "active_file"))
    return sys.maxsize


def _numbers(path: Path) -> dict[str, int]:
    return {words[0]: int(words[1]) for line in path.read_text().splitlines() if len(words := line.split()) > 1}
