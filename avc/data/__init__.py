"""From packed shards to batches: the plan, the loader, the transforms."""
