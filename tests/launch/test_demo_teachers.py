"""The demo's world can bring forth teachers that `avc teach` takes."""

from pathlib import Path

import torch

from avc.teachers.exported import open_program
from launch.demo.world.teachers import IMAGE_SIZE, train_teachers


def test_the_teachers_are_programs_over_the_worlds_kinds_and_families(small_world: Path, tmp_path, capsys) -> None:
    train_teachers(small_world.parent, out=tmp_path, seed=1, steps=2)
    printed = capsys.readouterr().out
    assert "12 classes (bell, bird" in printed and "5 classes (air or water" in printed
    for name, classes in (("objects", 12), ("scenes", 5)):
        program = open_program(tmp_path / f"{name}.pt2", torch.device("cpu"))
        assert (program.size, program.classes, program.batch) == (IMAGE_SIZE, classes, None)
        assert program(torch.zeros(3, 3, IMAGE_SIZE, IMAGE_SIZE)).shape == (3, classes)
