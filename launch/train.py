"""What torchrun starts: `torchrun --nproc-per-node 4 -m launch.train configs/ave.yaml data.shards=~/shards`."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from avc.config import load_config
from avc.training.distributed import join
from avc.training.loop import train


def run(path: str, overrides: Sequence[str]) -> None:
    """Train what a configuration file and its overrides describe, as the rank that the environment names."""
    config = load_config(path, overrides)
    with join(config.training) as world:
        train(config, world)


if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[1].startswith("-"):
        sys.exit("usage: python -m launch.train CONFIG.yaml [section.name=value ...]")
    try:
        run(sys.argv[1], sys.argv[2:])
    except ValueError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(2)
