"""What several rooms of tests share: the local test data, a small packed world, a cluster."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from launch.demo.world.render import World, render
from shards.format import PackSettings
from shards.pack import pack
from tests.cluster import Cluster, missing


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The files with a cluster first: they take longest, for the most part waiting, while others compute."""
    items.sort(key=lambda item: "cluster" not in getattr(item, "fixturenames", ()))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real videos and recordings beside the checkout; tests that need it skip where it is absent."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"the local test data {folder} is not on this machine")
    return folder


@pytest.fixture(scope="session")
def small_world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shards of 40 rendered clips of 2 s: real video files, really packed. 24 to train on, 16 to validate on."""
    folder = tmp_path_factory.mktemp("world")
    render(folder / "world", World(clips=40, seed=5, seconds=2.0), workers=1)
    validation = folder / "validation.txt"
    validation.write_text("".join(f"clip-{number:05}\n" for number in range(24, 40)))
    pack(
        [folder / "world" / "videos"],
        folder / "shards",
        PackSettings(side=64, split=(1.0, 0.0, 0.0)),
        split_lists={"validation": validation},
        workers=1,
    )
    return folder / "shards"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A SLURM cluster of four nodes, for one file of tests alone."""
    if (lacking := missing()) is not None:
        pytest.skip(lacking)
    started = Cluster(tmp_path_factory.mktemp("cluster"))
    try:
        started.start()
        yield started
    finally:
        started.stop()
