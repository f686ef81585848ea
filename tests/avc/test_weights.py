"""Files of weights: equal weights are equal bytes, and their notes are read in either form."""

import pytest
import torch
from safetensors.torch import load_file, save_file

from avc.encoders.load import load_any
from avc.runs.weights import ABOUT, about, as_bytes

NOTES = {"step": "8", "model": "ave", "validation_accuracy": "0.5"}


def test_equal_weights_with_equal_notes_are_equal_bytes_in_whatever_order_they_come(tmp_path) -> None:
    weights = {"b": torch.arange(3.0), "a": torch.zeros(2, dtype=torch.int64)}
    written = {as_bytes(weights, NOTES) for _ in range(20)}
    written.add(as_bytes(dict(reversed(weights.items())), dict(reversed(NOTES.items()))))
    [content] = written
    (tmp_path / "one.safetensors").write_bytes(content)
    assert about(tmp_path / "one.safetensors") == NOTES
    assert torch.equal(load_file(tmp_path / "one.safetensors")["b"], weights["b"])


def test_notes_of_files_from_before_and_of_other_programs_are_read(tmp_path) -> None:
    save_file({"a": torch.zeros(1)}, tmp_path / "before.safetensors", metadata=NOTES)
    assert about(tmp_path / "before.safetensors") == NOTES
    save_file({"a": torch.zeros(1)}, tmp_path / "none.safetensors")
    assert about(tmp_path / "none.safetensors") == {}


@pytest.mark.parametrize("notes", ["[]", '{"model": 3}', "{", "[" * 100_000])
def test_notes_that_are_no_texts_by_their_names_are_refused_with_the_file(tmp_path, notes) -> None:
    path = tmp_path / "odd.safetensors"
    save_file({"a": torch.zeros(1)}, path, metadata={ABOUT: notes})
    with pytest.raises(ValueError, match=r"odd\.safetensors has notes"):
        load_any(path)
