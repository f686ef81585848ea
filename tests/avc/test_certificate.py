"""Every part of a checkpoint is needed to end with the same bits, or refused where it is another's.

A test that resuming gives the same bits sees nothing where the bits depend on nothing: this is its control. The same
for real processes, killed and on two ranks, is `python -m workshop.prove` (workshop/README.md has its table).
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from avc.teachers.label_shards import teach
from tests.avc.launching import metrics, train_here, write_config
from tests.teaching import long_clips, tiny_teachers
from workshop.prove.tensors import alter, digests, load, parts

REFUSED = {
    *("step", "format", "inputs", "optimizer … param_groups", "optimizer … betas", "optimizer … params"),
    *(f"config … {section}" for section in ("run", "data", "model", "optim", "training", "negatives", "distillation")),
}
NEEDLESS = {
    "unvalidated": "a validation that a stop has cut short is made up for; made twice it gives the same",
    **{
        f"config … {section}": "a run may change it when it goes on"
        for section in ("validation", "evaluators", "checkpoint", "log")
    },
}


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shards for a SoundNet, with two tiny teachers' soft labels."""
    folder = tmp_path_factory.mktemp("taught")
    shards = long_clips(folder, seconds=(8.0, 7.0, 8.0, 7.5))
    sources = tiny_teachers(folder, shards, spacing_ticks=25)
    teach(shards, shards / "teachers", sources, spacing_ticks=25, devices=[torch.device("cpu")])
    return shards


def config_of(name: str, folder: Path, shards: Path) -> Path:
    changes = {
        "model": {"name": name},
        "optim": {"batch_pairs": 16, "micro_batch_pairs": 8},
        "training": {"steps": 4},
        "validation": {"every_steps": 2},
        "checkpoint": {"every_steps": 2},
        "log": {"every_steps": 2},
    }
    if name == "ave_nce":
        changes |= {"optim": {"batch_pairs": 16, "micro_batch_pairs": 16}}
    if name == "soundnet8":
        changes["model"] |= {"objects": 6, "scenes": 4}
        changes["optim"] = {"batch_pairs": 2, "micro_batch_pairs": 2}
        changes["data"] = {"repeat": True}
    return write_config(folder, shards, **changes)


def outcomes_of(config: Path, folder: Path, *, chosen: frozenset[str] | None = None) -> dict[str, str]:
    """By part of the checkpoint in the middle, all or those `chosen`, what comes of resuming without it.

    refused; same or other, by the bits of the end. A resume that lacks nothing ends with the same, or this fails.
    """
    train_here(config, folder / "whole")
    train_here(config, folder / "stopped", "training.steps=2")
    whole = digests(folder / "whole")
    file = Path("checkpoints/step-00000002.pt")
    found = [part for part in parts(load(folder / "stopped" / file)) if chosen is None or part in chosen]
    assert chosen is None or set(found) == chosen
    outcomes = {}
    for number, part in enumerate(["", *found]):
        run = folder / f"part-{number}"
        shutil.copytree(folder / "stopped", run, symlinks=True)
        if part:
            alter(run / file, part)
        try:
            train_here(config, run)
        except ValueError:  # one paragraph for whoever started it
            outcomes[part] = "refused"
            continue
        here = digests(run)
        outcomes[part] = "same" if all(here.get(key) == value for key, value in whole.items()) else "other"
    assert outcomes.pop("") == "same"
    return outcomes


def test_a_resume_that_loses_a_moment_or_goes_on_with_other_shards_is_seen(small_world, tmp_path) -> None:
    config = config_of("ave", tmp_path, small_world)
    wanted = {"optimizer … exp_avg": "other", "unvalidated": "same", "inputs": "refused"}
    assert outcomes_of(config, tmp_path, chosen=frozenset(wanted)) == wanted


@pytest.mark.parametrize("name", ["ave", "l3", "avol", "ave_nce", "soundnet8"])
def test_each_part_of_a_checkpoint_changes_the_end_or_is_refused_or_has_its_reason(name, tmp_path, request) -> None:
    shards = request.getfixturevalue("taught" if name == "soundnet8" else "small_world")
    outcomes = outcomes_of(config_of(name, tmp_path, shards), tmp_path)
    assert {"model … weight", "optimizer … exp_avg", "optimizer … exp_avg_sq", "optimizer … step"} <= outcomes.keys()
    wanted = {part: "refused" if part in REFUSED else "same" if part in NEEDLESS else "other" for part in outcomes}
    if outcomes["best_score"] == "same":  # where what comes after the stop is better than all before it
        scores = [line for line in metrics(tmp_path / "whole") if line["kind"] == "validation"]
        assert scores[-1]["best_score"] > scores[0]["best_score"]
        wanted["best_score"] = "same"
    assert outcomes == wanted
