"""What a cluster file says: where a run goes and how much of the cluster it takes; nothing of what is learnt."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, TypeVar

from pydantic import AfterValidator, Field, ValidationError, model_validator

from avc.config import no_such_setting, read_settings, refusal
from avc.settings import Section
from launch.train import CONFIGS

S = TypeVar("S", bound=Section)


def check_for_script(text: str, name: str = "") -> str:
    """The text, fit for one line of a batch script: a line break would let what follows it run as a command.

    Raises ValueError for control characters and for what is not Unicode; name: what it is, for the message.
    """
    if re.search(r"[\x00-\x1f\x7f\x85\u2028\u2029\ud800-\udfff]", text):
        what = f"{name} is {text!r} and" if name else "it"
        raise ValueError(
            f"{what} holds a line break, another control character or bytes that are not UTF-8, which cannot go into a "
            "batch script: take them out"
        )
    return text


def _check_lines(text: str) -> str:
    for line in text.split("\n"):
        check_for_script(line.replace("\t", " "))
    return text


Word = Annotated[str, AfterValidator(check_for_script)]
Lines = Annotated[str, AfterValidator(_check_lines)]
Option = Annotated[str, Field(pattern="^[A-Za-z][A-Za-z0-9_-]*$")]


class Cluster(Section):
    """All settings of a cluster file."""

    nodes: int = Field(default=1, ge=1, le=100_000)
    """Nodes of the job."""
    ranks_per_node: int = Field(default=1, ge=1, le=1024)
    """Processes on each node, one for each GPU."""
    gpus: bool = True
    """Ask for as many GPUs on each node as it has ranks; false for a run on CPUs."""
    cpus_per_rank: int = Field(default=1, ge=1, le=10_000)
    """Cores of each rank: its loader's workers and itself."""
    memory_gb_per_node: int | None = Field(default=None, ge=1, le=1_000_000)
    """Memory of each node; without it the cluster's default."""
    partition: Word | None = None
    """Without it the cluster's default."""
    account: Word | None = None
    """Whom the time is charged to."""
    time_limit_minutes: int = Field(default=1440, ge=1, le=10_000_000)
    """Of one attempt; a run that is not done by then saves and queues again."""
    warning_seconds: int = Field(default=120, ge=1, le=1_000_000)
    """How long before the time limit a run is told to save. SLURM may tell it up to a minute earlier still."""
    setup: list[Lines] = Field(default=[])
    """Shell lines that run on the job's first node before anything else, as `module load` or `export`."""
    container: Word | None = None
    """Image that ranks run in, by pyxis and enroot: a .sqsh file, or registry#image:tag. Without it none."""
    container_mounts: list[Annotated[Word, Field(pattern="^/[^,]*$")]] = Field(default=[])
    """Folders of the nodes that the ranks see in it, as /lustre or /lustre:/lustre: shards and run folder under their
    own names."""
    container_python: Word = "python"
    """Python in the image."""
    sbatch: dict[Option, Word | int | bool] = Field(default={})
    """Further arguments of sbatch, without their dashes."""
    srun: list[Word] = Field(default=[])
    """Further arguments of srun."""

    @property
    def world_size(self) -> int:
        """Ranks of a run."""
        return self.nodes * self.ranks_per_node

    @property
    def container_arguments(self) -> list[str]:
        """What srun is told of the container, for pyxis."""
        if self.container is None:
            return []
        mounts = [f"--container-mounts={','.join(self.container_mounts)}"] if self.container_mounts else []
        return [f"--container-image={self.container}", *mounts]

    @model_validator(mode="after")
    def _possible(self) -> Cluster:
        if self.container_mounts and self.container is None:
            raise ValueError("container_mounts: there is no container that they are of; name its image")
        if self.warning_seconds >= 60 * self.time_limit_minutes:
            raise ValueError(
                f"warning_seconds: {self.warning_seconds} is not less than the time limit of {self.time_limit_minutes} "
                "minutes, so that a run would be told to stop before it began"
            )
        return self


def load_cluster(path: Path) -> Cluster:
    """Read a cluster file. Raises ValueError for an unreadable file, an unknown name or a wrong value."""
    missing = f"there is no cluster file {path}; {CONFIGS / 'cluster' / 'slurm.yaml'} is one to begin with"
    otherwise = "; settings of the run belong in its own file"
    return read_section(Cluster, path, missing=missing, example="nodes: 4", otherwise=otherwise)


def read_section(
    kind: type[S], path: Path, *, missing: str, example: str, names: Iterable[str] = (), otherwise: str = ""
) -> S:
    """A file of one kind of settings. names: of those within them. Raises ValueError as `load_cluster` does."""
    tree = read_settings(path, missing=missing, example=example)
    try:
        return kind.model_validate(tree)
    except ValidationError as error:
        allowed = [*kind.model_fields, *names]
        raise refusal(
            error, origin=str(path), unknown=lambda place: no_such_setting(place, allowed, otherwise=otherwise)
        ) from None
