"""What a folder's embeddings are by is noted once, by the first of the tasks that share it."""

import errno
import os
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from avc.encoders.load import load
from avc.files.settings import Settings, agree
from tests.avc.networks import saved


def test_of_tasks_that_begin_at_once_only_those_with_other_settings_are_refused(tmp_path) -> None:
    loaded, together, rounds = load(saved(tmp_path / "ave")), threading.Barrier(2), 40

    def begin(kind: str, hop_size: float) -> list[str]:
        said = []
        for number in range(rounds):
            together.wait(100)
            try:
                agree(tmp_path / kind / str(number), loaded, Settings(hop_size=hop_size))
                said.append("")
            except ValueError as error:
                said.append(str(error))
        return said

    with ThreadPoolExecutor(2) as pool:
        assert [*pool.map(begin, ("same", "same"), (0.1, 0.1))] == [[""] * rounds] * 2
        for one, other in zip(*pool.map(begin, ("other", "other"), (0.1, 0.2)), strict=True):
            assert "" in (one, other) and "by other settings (hop_size, see" in one + other
    assert {file.name for file in tmp_path.glob("*/*/embeddings*")} == {"embeddings.json"}


def test_settings_are_noted_where_there_are_no_hard_links(tmp_path, monkeypatch) -> None:
    def link(*_: object) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", link)
    network, folder = load(saved(tmp_path / "ave")), tmp_path / "out"
    folder.mkdir()
    (folder / "embeddings.json").symlink_to(tmp_path / "gone")
    for _ in range(2):
        agree(folder, network, Settings())
    with pytest.raises(ValueError, match="by other settings"):
        agree(folder, network, Settings(batch=8))
    assert [file.name for file in folder.iterdir()] == ["embeddings.json"]
