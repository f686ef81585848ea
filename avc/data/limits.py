"""What reading batches takes of a machine, looked at before it is taken."""

from __future__ import annotations

import os
import resource
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
    free = int(SHARE_OF_MEMORY * _free_bytes() / ranks)
    if wanted > free:
        raise ValueError(
            f"{slots} batches of {rows:,} rows take {wanted / 1e9:,.1f} GB of memory, and half of what is free on "
            f"this machine is {free / 1e9:,.1f} GB for each of {ranks} ranks: lower data.num_workers (now "
            f"{num_workers}), optim.micro_batch_pairs or data.image_size; for validation, validation.batch_pairs"
        )
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = FILES + FILES_PER_WORKER * num_workers
    if limit != resource.RLIM_INFINITY and limit < needed:
        raise ValueError(
            f"this process may have {limit} files open at once, and data.num_workers={num_workers} may need {needed}: "
            f"raise the limit (`ulimit -n {needed}`, or what your cluster offers for it), or lower data.num_workers"
        )


def _free_bytes() -> int:
    lines = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    return int(lines["MemAvailable"].split()[0]) * 1024
