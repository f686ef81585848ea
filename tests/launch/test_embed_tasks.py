"""`avc embed --task`: tasks beside each other write what one command writes, of files here and of those in a store."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile

from shards.store import Store, Url
from tests.avc.networks import saved
from tests.command_line import avc
from tests.object_store import Proxy


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(tmp_path_factory.mktemp("network") / "ave")


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six recordings of one size, and a file that is none."""
    folder = tmp_path_factory.mktemp("recordings")
    for number in range(6):
        noise = np.random.default_rng(number).normal(0, 0.1, 24_000)
        soundfile.write(folder / f"{number}.wav", noise, 16_000)
    (folder / "broken.wav").write_bytes(b"no sound")
    return folder


def embed(*arguments: object) -> str:
    done = avc("embed", *arguments, "--workers", 1, "--devices", "cpu", "--hop", 0.5)
    assert done.returncode in (0, 1), done.stderr
    return done.stdout


def written(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.npz"))}


def test_tasks_write_the_files_of_one_command_from_a_folder_and_from_a_store(
    network: Path, recordings: Path, proxy: Proxy, tmp_path: Path
) -> None:
    for path in recordings.iterdir():
        Store(Url("s3://shelf/recordings")).create(path.name, path.read_bytes())
    embed(recordings, "--run", network, "--out", tmp_path / "one")
    assert len(written(tmp_path / "one")) == 6
    proxy.requests.clear()
    for number in (3, 1, 2):
        embed("s3://shelf/recordings", "--run", network, "--out", tmp_path / "tasks", "--task", f"{number}/3")
    assert written(tmp_path / "tasks") == written(tmp_path / "one")
    assert sorted(proxy.got(".wav")) == sorted(path.name for path in recordings.iterdir()), "each is fetched once"
    lists = [path.read_text() for path in sorted((tmp_path / "tasks").glob("rejected.task-000?-of-0003.tsv"))]
    assert [text for text in lists if text] == [
        (tmp_path / "one" / "rejected.tsv").read_text().replace(f"{recordings}", "s3://shelf/recordings")
    ]
    said = embed("s3://shelf/recordings/*.wav", "--run", network, "--out", tmp_path / "tasks")
    assert "6 files, 6 of them were there" in said, "a pattern gives the files the names that a shell would"


def test_tables_of_tasks_lie_beside_each_other_and_hold_the_rows_of_one(
    network: Path, recordings: Path, tmp_path: Path
) -> None:
    embed(recordings, "--run", network, "--out", tmp_path / "one.parquet")
    for number in range(1, 9):
        embed(recordings, "--run", network, "--out", tmp_path / "of.parquet", "--task", f"{number}/8")
    tables = sorted(tmp_path.glob("of.task-*-of-0008.parquet"))
    assert 3 < len(tables) <= 6, "a share without files writes no table"
    rows = sorted(row for path in tables for row in map(repr, pq.read_table(path).to_pylist()))
    assert rows == sorted(map(repr, pq.read_table(tmp_path / "one.parquet").to_pylist()))


def test_a_task_that_there_is_none_of_is_refused(network: Path, recordings: Path, tmp_path: Path) -> None:
    done = avc("embed", recordings, "--run", network, "--out", tmp_path, "--task", "4/3")
    assert done.returncode == 2 and "must be NUMBER/TASKS" in done.stderr
