"""What a cluster file says: where a run goes and how much of the cluster it takes; nothing of what is learnt."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, ValidationError, model_validator

from avc.config import Section
from avc.settings import read_settings, refusal


class Cluster(Section):
    """All settings of a cluster file."""

    nodes: int = Field(default=1, ge=1)
    """Nodes of the job."""
    ranks_per_node: int = Field(default=1, ge=1)
    """Processes on each node, one for each GPU."""
    gpus: bool = True
    """Ask for as many GPUs on each node as it has ranks; false for a run on CPUs."""
    cpus_per_rank: int = Field(default=1, ge=1)
    """Cores of each rank: its loader's workers and itself."""
    memory_gb_per_node: int | None = Field(default=None, ge=1)
    """Memory of each node; without it the cluster's default."""
    partition: str | None = None
    """Without it the cluster's default."""
    account: str | None = None
    """Whom the time is charged to."""
    time_limit_minutes: int = Field(default=1440, ge=1)
    """Of one attempt; a run that is not done by then saves and queues again."""
    warning_seconds: int = Field(default=120, ge=1)
    """How long before the time limit a run is told to save. SLURM may tell it up to a minute earlier still."""
    setup: list[str] = Field(default=[])
    """Shell lines that run on the job's first node before anything else, as `module load` or `export`."""
    sbatch: dict[str, str | int | bool] = Field(default={})
    """Further arguments of sbatch, without their dashes."""
    srun: list[str] = Field(default=[])
    """Further arguments of srun."""

    @property
    def world_size(self) -> int:
        """Ranks of a run."""
        return self.nodes * self.ranks_per_node

    @model_validator(mode="after")
    def _possible(self) -> Cluster:
        if self.warning_seconds >= 60 * self.time_limit_minutes:
            raise ValueError(
                f"warning_seconds: {self.warning_seconds} is not less than the time limit of {self.time_limit_minutes} "
                "minutes, so that a run would be told to stop before it began"
            )
        return self


def load_cluster(path: Path) -> Cluster:
    """Read a cluster file. Raises ValueError for an unreadable file, an unknown name or a wrong value."""
    missing = f"there is no cluster file {path}; configs/cluster/slurm.yaml is one to begin with"
    tree = read_settings(path, missing=missing, example="nodes: 4")
    try:
        return Cluster.model_validate(tree)
    except ValidationError as error:
        hint = "; settings of the run belong in its own file"
        raise refusal(error, origin=str(path), names=[*Cluster.model_fields], hint=hint) from None
