"""A trainer on trial: killed and resumed, and resumed from checkpoints that lack a part."""
