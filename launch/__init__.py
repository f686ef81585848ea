"""The front door: the `avc` command and what torchrun and SLURM start."""
