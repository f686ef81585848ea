"""The demo's world can bring forth teachers that `avc teach` takes."""

from pathlib import Path

import torch

from avc.teachers.label_shards import teach
from avc.teachers.teacher import parse_source
from shards.read import Shards
from shards.soft_labels import SoftLabels
from workshop.teachers import train_teachers


def test_the_teachers_know_the_worlds_kinds_and_families(small_world: Path, tmp_path, capsys) -> None:
    train_teachers(small_world.parent, out=tmp_path, seed=1, steps=2, every=0.4)
    printed = capsys.readouterr().out
    assert "12 classes (bell, bird" in printed and "5 classes (air or water" in printed
    sources = [parse_source(str(tmp_path / f"{name}.npy")) for name in ("objects", "scenes")]
    teach(small_world, tmp_path / "out", sources, spacing_ticks=10, devices=[torch.device("cpu")])
    labels = SoftLabels(tmp_path / "out", Shards(small_world))
    assert [(teacher.name, teacher.classes) for teacher in labels.teachers] == [("objects", 12), ("scenes", 5)]
