"""A run's directory: its attempts, checkpoints and events."""
