"""SLURM, by submitit: jobs, arrays of packing tasks, what becomes of them."""
