"""What a training leaves on W&B, read back from the files that it writes offline."""

import json
import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import wandb
from wandb.proto import wandb_internal_pb2 as protocol

from avc.config import load_config
from avc.distributed.world import World
from avc.runs.attempt import checkpoints, history, step_of
from avc.tasks import task_of
from avc.training.dashboard import TABLE
from avc.training.log import Straggler
from launch.commands.evaluate import evaluate
from shards.read import Shards
from tests.avc.launching import Training, train_here, write_config
from tests.cluster import wait_until

ROWS = ("frame_of", "sound_of", "frame", "spectrogram", "sound", "together")


@pytest.fixture(autouse=True)
def _own_mode(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WANDB_MODE", raising=False)


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

    def runs(self) -> list[Any]:
        return [one.run for one in self.records if one.HasField("run")]

    def summary(self) -> dict[str, Any]:
        updates = [update for one in self.records for update in one.summary.update]
        return {update.key or "/".join(update.nested_key): json.loads(update.value_json) for update in updates}

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


def ended(run: Path) -> Files:
    """All that was written, once the newest attempt's end is: W&B writes on for a moment after its end."""

    def newest() -> list[Any]:
        return [one for path in sorted(run.glob("wandb/offline-run-*/*.wandb"))[-1:] for one in records(path)]

    wait_until(lambda: any(one.HasField("exit") for one in newest()), seconds=60, what="W&B has written the end")
    return Files(run)


@pytest.fixture(scope="module")
def resumed(small_world, tmp_path_factory) -> Files:
    """A run of one rank that was killed after a validation, and gone on with to its end by two."""
    folder = tmp_path_factory.mktemp("resumed")
    settings = {"wandb": "offline", "group": "seeds", "tags": ["small"], "notes": "by hand"}
    changes = {"log": settings, "validation": {"every_steps": 2}, "checkpoint": {"every_steps": 2}}
    config = write_config(folder, small_world, model={"name": "avol"}, **changes)
    rarely = [f"{section}.every_steps=30" for section in ("log", "validation", "checkpoint")]
    killed = Training(config, folder / "run", "training.steps=100000", *rarely)

    def shown() -> bool:
        """A table and, after it, the weights of the first validation, which a later one may not surpass."""
        files = Files(folder / "run")
        return bool(files.tables()) and any(model.name.startswith("weights") for model in files.artifacts("model"))

    wait_until(shown, seconds=200, what="a table and weights are written")
    killed.kill()
    steps = max(map(step_of, checkpoints(folder / "run"))) + 2
    Training(config, folder / "run", f"training.steps={steps}", world_size=2).finish()
    return ended(folder / "run")


def test_the_same_64_pairs_are_shown_before_a_kill_and_after_it_on_other_ranks(resumed) -> None:
    assert [record.world_size for record in history(resumed.run)] == [1, 2]
    assert len(list(resumed.run.glob("wandb/offline-run-*"))) == 2
    tables = resumed.tables()
    for columns, data, files in tables:
        assert columns == [*ROWS, "score", "right", "map"]
        assert [row[5] for row in data] == [True, False] * 32
        assert all(row[7] == ((row[6] > 0.5) == row[5]) for row in data)
        assert all(value["path"] in files for row in data for value in row if isinstance(value, dict))
    first, *others = resumed.rows()
    assert others and all(other == first for other in others)
    assert len(first) == 64
    assert tables[0][1] != tables[-1][1]  # the scores are not the same


def test_tables_are_bounded_each_and_in_all(small_world, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("avc.training.dashboard.MOST_BYTES", 1)  # so that the first is the last
    config = write_config(tmp_path, small_world, log={"wandb": "offline"}, training={"steps": 4})
    train_here(config, tmp_path / "run", "validation.every_steps=2")
    files = ended(tmp_path / "run")
    [(_, _, sent)] = files.tables()
    assert sum(one.size for one in sent.values()) < 2e6


def test_the_pairs_shown_depend_on_the_shards_alone(small_world, tmp_path) -> None:
    shown = []
    for changes in ({"run": {"seed": 1}}, {"run": {"seed": 2}, "validation": {"batch_pairs": 48}}):
        config = load_config(write_config(tmp_path, small_world, log={"wandb": "offline"}, **changes))
        task = task_of(config, Shards(small_world))
        validation = task.validate(task.network(), World(0, 1, torch.device("cpu")))
        shown.append(validation.examples.pairs)
    for one, other in zip(*shown, strict=True):
        assert np.array_equal(one, other)


def test_from_the_manifest_to_the_weights_everything_is_named_by_its_digest(resumed, small_world) -> None:
    for dataset in resumed.artifacts("dataset"):
        [manifest] = dataset.manifest.contents
        assert dataset.use_after_commit  # an input
        assert manifest.ref == (small_world / "manifest.json").as_uri()
        assert json.loads(dataset.metadata) == {"sha256": Shards(small_world).digest}
    made = {}
    for model in resumed.artifacts("model"):
        [file] = model.manifest.contents
        assert not model.use_after_commit and not file.local_path  # an output, by reference
        made[model.name] = sorted(model.aliases), json.loads(model.metadata)["step"], file
    wandb_id = history(resumed.run)[0].wandb_id
    aliases, step, checkpoint = made[f"checkpoint-{wandb_id}"]
    assert aliases == ["latest"]
    assert checkpoint.ref == (resumed.run / "checkpoints" / f"step-{step:08d}.pt").as_uri()
    assert Path(checkpoint.ref.removeprefix("file://")).stat().st_size == checkpoint.size
    assert made[f"weights-{wandb_id}"][0] == ["best", "latest"]
    [described] = {(run.run_group, *run.tags, run.notes, run.run_id) for run in resumed.runs()}
    assert described == ("seeds", "small", "by hand", wandb_id)


def test_wandbs_own_count_is_the_step_and_rises_over_restarts(small_world, tmp_path) -> None:
    config = write_config(tmp_path, small_world, log={"wandb": "offline"}, validation={"every_steps": 2})
    for steps in (4, 7):
        train_here(config, tmp_path / "run", f"training.steps={steps}")
        files = ended(tmp_path / "run")
    rows = [one.history for one in files.records if one.HasField("history")]
    assert [row.step.num for row in rows] == [1, 2, 3, 4, 5, 6, 7]
    values = [{item.key or "/".join(item.nested_key): item.value_json for item in row.item} for row in rows]
    assert [int(value["step"]) for value in values] == [1, 2, 3, 4, 5, 6, 7]
    assert all("train/loss" in value for value in values)
    validated = [row.step.num for row, value in zip(rows, values, strict=True) if "validation/loss" in value]
    assert validated == [2, 4, 6, 7]
    drawn = [row.step.num for row, value in zip(rows, values, strict=True) if TABLE in " ".join(value)]
    assert drawn[-1] == 7 and set(drawn) <= {2, 4, 6, 7} and len(drawn) == len(files.tables())


def test_a_variable_that_disables_wandb_leaves_no_word_of_it(small_world, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "disabled")
    config = write_config(tmp_path, small_world, log={"wandb": "auto"}, training={"steps": 1})
    assert "W&B" not in train_here(config, tmp_path / "run", "validation.every_steps=0")
    assert not (tmp_path / "run" / "wandb").exists()


def test_without_an_account_a_run_is_offline_and_says_nothing_of_it(small_world, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for variable in ("WANDB_API_KEY", "WANDB_MODE", "NETRC"):
        monkeypatch.delenv(variable, raising=False)
    config = write_config(tmp_path, small_world, log={"wandb": "auto"}, training={"steps": 1})
    said = Training(config, tmp_path / "run", "validation.every_steps=0").finish()
    assert "deprecated" not in said and "wandb" not in said.replace(str(tmp_path), "")
    assert len(list((tmp_path / "run").glob("wandb/offline-run-*"))) == 1


def test_an_attempt_that_was_lost_is_alerted_of_by_the_next(resumed) -> None:
    assert any(text.startswith("A rank was lost: attempt 1 ended without a word") for text in resumed.alerts())


def test_a_loss_that_is_not_finite_is_alerted_of(small_world, tmp_path) -> None:
    config = write_config(tmp_path, small_world, log={"wandb": "offline"}, validation={"every_steps": 0})
    train_here(config, tmp_path / "run", "training.steps=1")
    path = next((tmp_path / "run" / "checkpoints").iterdir())
    content = torch.load(path, weights_only=True)
    content["model"]["audio.layers.conv1_1.weight"][0, 0, 0, 0] = float("inf")
    torch.save(content, path)
    with pytest.raises(SystemExit):
        train_here(config, tmp_path / "run", "training.steps=2")
    wandb.finish(exit_code=1)
    [text] = ended(tmp_path / "run").alerts()
    assert text.startswith("The training has ended: the loss is nan at step 1")


def test_an_evaluation_is_written_into_the_run_that_it_belongs_to(small_world, tmp_path, capsys) -> None:
    config = write_config(tmp_path, small_world, log={"wandb": "offline", "media": False}, training={"steps": 1})
    train_here(config, tmp_path / "run", "validation.every_steps=1")
    assert not ended(tmp_path / "run").tables()  # log.media: false
    evaluate("correspondence", [str(tmp_path / "run"), "passes=1"], json=tmp_path / "result.json", wandb=True)
    files = ended(tmp_path / "run")
    assert len({run.run_id for run in files.runs()}) == 1
    accuracy = json.loads((tmp_path / "result.json").read_text())["accuracy"]
    assert files.summary()["eval/correspondence/validation/accuracy"] == accuracy
    [said] = re.findall(r"--wandb: written to (.*), offline: `wandb sync` uploads it", capsys.readouterr().out)
    assert list(Path(said).glob("*.wandb"))


def test_a_rank_that_is_slow_three_times_in_a_row_is_told_of_once() -> None:
    def line(slowest: float, rank: int) -> dict[str, float]:
        return {"speed/own_seconds_max": slowest, "speed/own_seconds_median": 1.0, "speed/own_seconds_rank": rank}

    straggler = Straggler()
    told = [straggler.seen(line(*one)) for one in [(2, 3), (2, 3), (1.2, 3), (2, 3), (2, 3), (2, 3), (2, 3), (2, 1)]]
    assert [text is not None for text in told] == [False] * 5 + [True, False, False]
    assert told[5] == "rank 3 needs 2 s of its own in a step, and the median of the ranks is 1 s"
