"""The documents as a site: built strictly, without a request to another machine, with a search that finds."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urljoin, urlsplit

import pytest

from avc.config import settings_of
from avc.networks import NETWORKS
from tests.docs.blocks import ROOT

for package in ("mkdocs", "material", "mkdocstrings_handlers.python"):
    pytest.importorskip(package, reason=f"{package} is not installed: pip install -e .[docs]")

CONFIG = ROOT / "docs" / "site" / "mkdocs.yml"
BROWSERS = ("chromium-headless-shell", "chromium", "google-chrome")
FETCHED = {"script": "src", "img": "src", "iframe": "src", "source": "src", "video": "src", "audio": "src"}
FETCHED_LINKS = {"stylesheet", "icon", "preconnect", "dns-prefetch", "preload", "prefetch", "manifest"}


class Read(HTMLParser):
    """What a page is made of: anchors, links, and addresses that a browser asks for by itself."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.fetched: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self.anchors |= {values[name] for name in ("id", "name") if name in values}
        if tag == "a" and "href" in values:
            self.links.append(values["href"])
        if tag in FETCHED and FETCHED[tag] in values:
            self.fetched.append(values[FETCHED[tag]])
        if tag == "link" and FETCHED_LINKS & set(values.get("rel", "").split()):
            self.fetched.append(values["href"])


def build(site: Path, config: Path = CONFIG) -> subprocess.CompletedProcess[str]:
    """Build strictly; what was said. Warnings are errors."""
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-f", config, "-d", site]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}  # the theme's word on its own future
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    built = build(folder)
    said = [line for line in (built.stdout + built.stderr).splitlines() if "WARNING" in line or "ERROR" in line]
    assert built.returncode == 0 and not said, built.stdout + built.stderr
    return folder


@pytest.fixture(scope="module")
def read(site: Path) -> dict[str, Read]:
    """Each page by its path in the site."""
    pages = sorted(site.rglob("*.html"))
    return {page.relative_to(site).as_posix(): Read(page.read_text(encoding="utf-8")) for page in pages}


def test_every_page_of_the_documents_is_on_the_site(site: Path) -> None:
    written = {page.stem for page in (ROOT / "docs").glob("*.md")} - {"index"}
    generated = {"settings", "reference", "BENCHMARKS", "CONTRIBUTING"}
    assert {page.parent.name for page in site.glob("*/index.html")} == written | generated
    assert (site / "index.html").is_file()


def test_the_links_of_the_site_lead_to_pages_and_headings_that_exist(read: dict[str, Read]) -> None:
    broken, seen = [], 0
    for name, page in read.items():
        if name == "404.html":  # is shown under any address: its links begin at the top
            continue
        for link in page.links:
            if urlsplit(link).scheme:
                continue
            target = urlsplit(urljoin(f"/{name}", link))
            path = unquote(target.path).removeprefix("/")
            path += "index.html" if path.endswith("/") or not path else ""
            seen += 1
            anchor = unquote(target.fragment)
            if path not in read or (anchor and anchor not in read[path].anchors):
                broken.append(f"{name}: {link}")
    assert broken == []
    assert seen > 500


def test_no_page_of_the_site_asks_for_anything_of_another_machine(site: Path, read: dict[str, Read]) -> None:
    asked = {address for page in read.values() for address in page.fetched}
    assert asked
    assert not {address for address in asked if urlsplit(address).netloc}
    for sheet in site.rglob("*.css"):
        assert "url(http" not in (text := sheet.read_text(encoding="utf-8")) and "url(//" not in text, sheet


def test_a_broken_link_ends_the_build(tmp_path: Path) -> None:
    docs = tmp_path / "docs"
    shutil.copytree(ROOT / "docs", docs)
    for name in ("BENCHMARKS.md", "CONTRIBUTING.md"):
        shutil.copy(ROOT / name, tmp_path)
    with (docs / "study.md").open("a") as page:
        page.write("\n[nowhere](training.md#no-such-heading)\n")
    built = build(tmp_path / "site", docs / "site" / "mkdocs.yml")
    assert built.returncode != 0
    assert "no-such-heading" in built.stdout + built.stderr


def test_the_settings_page_has_every_setting_of_every_network(read: dict[str, Read], site: Path) -> None:
    text = (site / "settings" / "index.html").read_text(encoding="utf-8")
    for network in NETWORKS:
        for name in settings_of(network):
            assert f"<code>{name}</code>" in text, name


def test_the_reference_has_the_docstrings_of_the_public_classes(read: dict[str, Read], site: Path) -> None:
    anchors = read["reference/index.html"].anchors
    assert {
        "avc.encoders.load.load",
        "avc.encoders.trained.Trained.embed_audio",
        "shards.read.Shards.picture",
    } <= anchors
    assert "One second of mono sound at" in (site / "reference" / "index.html").read_text()


@pytest.fixture(scope="module")
def address(site: Path) -> Iterator[str]:
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(site)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
def page(address: str) -> Iterator[Any]:
    """A page of a real browser, which may ask nothing of another address."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.skip(f"none of the browsers {', '.join(BROWSERS)} is on this machine")
    asked: list[str] = []
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=found, args=["--no-sandbox"])
        page = browser.new_page()
        page.set_default_timeout(60_000)
        page.on("request", lambda request: asked.append(request.url))
        yield page
        browser.close()
    assert len(asked) > 5
    assert [url for url in asked if not url.startswith((address, "data:", "blob:"))] == []


@pytest.mark.parametrize(
    ("word", "where"),
    [("29.97", "packing/"), ("requeue", "slurm/"), ("negatives", "training/")],
)
def test_a_search_in_the_site_finds(word: str, where: str, page: Any, address: str) -> None:
    page.goto(address)
    page.locator("input.md-search__input").fill(word)
    page.locator("input.md-search__input").press("End")  # the field is read when a key is let go
    results = page.locator("a.md-search-result__link")
    results.first.wait_for(state="attached")
    found = results.evaluate_all("links => links.map(link => [link.href, link.textContent])")
    assert [href for href, text in found if href.startswith(address + where)], found
    assert word in " ".join(text for _, text in found)
