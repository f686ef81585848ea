"""Text files of Windows, wherever the commands read one: byte order marks, UTF-16, and both said in one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from avc.config import load_config
from avc.data.labels import read_labels, read_table
from avc.data.ontology import Ontology
from avc.evaluation.boxes import read_boxes
from avc.evaluation.soundnet import _read_names
from launch.train import CONFIGS
from shards.sources import list_sources, read_lines
from shards.split import Splitter
from shards.text import lines_of

READERS = {
    "a list of inputs": lambda path: list_sources([path]),
    "a list of a split": lambda path: Splitter((0.8, 0.1, 0.1), {"test": path}),
    "labels": read_labels,
    "labels in objects": lambda path: read_labels(path.rename(path.with_suffix(".jsonl"))),
    "boxes": read_boxes,
    "an ontology": Ontology,
    "settings": load_config,
    "names of classes": lambda path: _read_names(f"objects={path}", {"objects": 1}),
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be", "utf-16-le", "utf-32"])
def test_utf16_is_named_as_such_wherever_text_is_read(tmp_path: Path, reader: str, encoding: str) -> None:
    path = tmp_path / "given.txt"
    path.write_bytes("videos/one.mp4\r\nvideos/two.mp4\r\n".encode(encoding))
    with pytest.raises(ValueError, match="given") as refusal:
        READERS[reader](path)
    said = str(refusal.value)
    assert f"is {encoding.upper()[:6]}" in said and said.endswith("save it as UTF-8") and len(said.splitlines()) == 1


def test_a_byte_order_mark_is_no_part_of_what_is_read(tmp_path: Path) -> None:
    def written(name: str, text: str) -> Path:
        (tmp_path / name).write_text(f"\ufeff{text}", encoding="utf-8", newline="")
        return tmp_path / name

    assert list(read_lines(written("a.txt", "one\r\n\r\ntwo\n"))) == ["one", "two"]
    assert list(read_table(lines_of(written("a.csv", '"one, two",b\r\n')))) == [(1, ["one, two", "b"])]
    assert read_labels(written("b.csv", "one.mp4,dog\r\ntwo.mp4,cat\r\n")) == {"one.mp4": ("dog",), "two.mp4": ("cat",)}
    assert read_labels(written("b.jsonl", '{"file": "one.mp4", "kind": "dog"}\r\n\r\n')) == {"one.mp4": ("dog",)}
    kinetics = "youtube_id,time_start,time_end,label\nabc,5,15,dog\n"
    assert read_labels(written("k.csv", kinetics))["abc_000005"] == ("dog",)
    assert list(read_boxes(written("b.json", '[{"file": "a", "class": "dog", "bbox": [[0, 0, 1, 1]]}]'))) == ["a"]
    assert Ontology(written("o.json", '[{"id": "a", "name": "A", "child_ids": []}]')).below(["A"]) == {"a"}
    assert load_config(written("a.yaml", (CONFIGS / "small.yaml").read_text())) == load_config(CONFIGS / "small.yaml")
    classes = written("n.txt", "tench\r\nshark\r\n")
    assert _read_names(f"objects={classes}", {"objects": 2}) == ("objects", ["tench", "shark"])


def test_the_mark_of_a_table_joined_behind_another_is_dropped_too(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("\ufeffone.mp4,dog\n\ufefftwo.mp4,cat\n")
    assert read_labels(tmp_path / "a.csv") == {"one.mp4": ("dog",), "two.mp4": ("cat",)}
