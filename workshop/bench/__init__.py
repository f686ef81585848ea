"""Measurements, each beside its own limit in the same run: the loader, the packer, the training step."""
