"""What a survey keeps of what it has looked at, which of several copies it keeps, and of what split each video is."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from shards.look import remembered, written
from tests.shards.test_near import scene


def test_notes_are_taken_up_to_the_first_line_that_cannot_be_read(spoilt: bytes | None, tmp_path: Path) -> None:
    notes, one = tmp_path / "looks.jsonl", scene(1)
    assert remembered(notes, asked=[10.0]) == {}
    line = written(("a", None), one)
    begun = notes.read_bytes() + line
    notes.write_bytes(begun + (spoilt or line[:100] + b"\n") + written(("b", None), one))
    assert set(remembered(notes, asked=[10.0])) == {("a", None)}
    assert notes.read_bytes() == begun


def test_notes_that_are_a_named_pipe_are_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "looks.jsonl")
    number = os.open(tmp_path / "looks.jsonl", os.O_RDWR)  # so that whoever opens it does not wait
    try:
        with pytest.raises(ValueError, match="named pipe"):
            remembered(tmp_path / "looks.jsonl", asked=[10.0])
    finally:
        os.close(number)
