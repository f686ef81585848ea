"""What a training leaves on W&B, read back from the files that it writes offline."""

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from wandb.proto import wandb_internal_pb2 as protocol

from avc.runs.attempt import checkpoints, history, step_of
from tests.avc.launching import Training, train_here, write_config
from tests.cluster import wait_until

ROWS = ("frame_of", "sound_of", "frame", "spectrogram", "sound", "together")


def records(path: Path) -> Iterator[Any]:
    """The records of a .wandb file: LevelDB's log, in blocks of 32 KiB, of W&B's protocol buffers."""
    data, at, whole = path.read_bytes(), 7, b""
    assert data.startswith(b":W&B")
    while at + 7 <= len(data):
        if 32768 - at % 32768 < 7:  # no header fits into the rest of the block
            at += 32768 - at % 32768
            continue
        _, length, kind = struct.unpack_from("<IHB", data, at)
        part = data[at + 7 : at + 7 + length]
        if len(part) < length or kind not in (1, 2, 3, 4):  # whole, first, middle, last
            return
        whole, at = part if kind < 3 else whole + part, at + 7 + length
        if kind in (1, 4):
            record = protocol.Record()
            record.ParseFromString(whole)
            yield record


class Files:
    """What the attempts at a run have written, oldest first."""

    def __init__(self, run: Path) -> None:
        self.run = run
        self.records = [one for path in sorted(run.glob("wandb/offline-run-*/*.wandb")) for one in records(path)]

    def artifacts(self, kind: str) -> list[Any]:
        return [one.artifact for one in self.records if one.artifact.type == kind]

    def alerts(self) -> list[str]:
        return [f"{one.alert.title}: {one.alert.text}" for one in self.records if one.HasField("alert")]

    def tables(self) -> list[tuple[list[str], list[list[Any]], dict[str, Any]]]:
        """Columns, rows and files of each table of held-out pairs."""
        found = []
        for artifact in self.artifacts("run_table"):
            files = {one.path: one for one in artifact.manifest.contents}
            table = next((one for path, one in files.items() if path.endswith("held_out_pairs.table.json")), None)
            if table is not None:
                content = json.loads(Path(table.local_path).read_text())
                found.append((content["columns"], content["data"], files))
        return found

    def rows(self) -> list[list[tuple[Any, ...]]]:
        """Of each table, what has to be the same in all: the names, the files' digests, the labels."""
        return [
            [tuple(value["sha256"] if isinstance(value, dict) else value for value in row[: len(ROWS)]) for row in data]
            for _, data, _ in self.tables()
        ]


@pytest.fixture(scope="module")
def resumed(small_world, tmp_path_factory) -> Files:
    """A run that was killed after a validation, and gone on with to its end."""
    folder = tmp_path_factory.mktemp("resumed")
    settings = {"wandb": "offline", "group": "seeds", "tags": ["small"], "notes": "by hand"}
    changes = {"log": settings, "validation": {"every_steps": 2}, "checkpoint": {"every_steps": 2}}
    config = write_config(folder, small_world, model={"name": "avol"}, **changes)
    killed = Training(config, folder / "run", "training.steps=100000")
    wait_until(lambda: bool(Files(folder / "run").tables()), seconds=200, what="a table is written")
    killed.kill()
    goes_on_from = max(map(step_of, checkpoints(folder / "run")))
    train_here(config, folder / "run", f"training.steps={goes_on_from + 2}")
    return Files(folder / "run")


def test_the_same_64_pairs_are_shown_at_each_validation_before_and_after_a_kill(resumed) -> None:
    tables = resumed.tables()
    assert len(history(resumed.run)) == len(list(resumed.run.glob("wandb/offline-run-*"))) == 2
    assert len(tables) >= 2
    for columns, data, _ in tables:
        assert columns == [*ROWS, "score", "right", "map"]
        assert len(data) == 64
        assert [row[5] for row in data] == [True, False] * 32
        assert all(row[7] == ((row[6] > 0.5) == row[5]) for row in data)
    first, *others = resumed.rows()
    assert all(other == first for other in others)
    assert len({row[:2] for row in first}) == 64
    scores = [[row[6] for row in data] for _, data, _ in tables]
    assert scores[0] != scores[-1]
