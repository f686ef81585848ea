"""Which split judges a network, and which one chose its weights."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from avc.inference import read_run
from shards.read import Shards


def judging_split(shards: Shards, asked: str | None) -> str:
    """The split that was asked for, or test where the shards have one, or else validation.

    A run keeps the weights that did best on its validation split, which therefore favors them. Raises ValueError for a
    split that there is not.
    """
    if asked is None:
        return "test" if len(shards.clips("test")) else "validation"
    shards.clips(asked)
    return asked


def say_splits(models: Sequence[Path], judged: str) -> dict[str, str | None]:
    """Print what chose the weights and what judges them; the same for machines.

    models: folders of runs; other paths (of settings, of released weights) had no choice of weights. judged: such as
    "the test split".
    """
    chosen = sorted({read_run(path)[0].validation.split for path in models if path.expanduser().is_dir()})
    words = f"the {' and '.join(chosen)} split"
    if not chosen:
        print(f"judged on {judged}")
    elif judged == words:
        print(f"judged on {judged}, which chose the weights too")
    else:
        print(f"weights chosen on {words}, judged on {judged}")
    return {"weights_chosen_on": words if chosen else None, "judged_on": judged}
