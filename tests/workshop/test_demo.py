"""`python -m workshop.demo`, and the page that it ends with."""

import io
import json
import re
import subprocess
import sys
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path

import pytest

import workshop.demo.demo
from tests.docs.blocks import ROOT
from tests.launch.browsing import until
from workshop.demo.__main__ import demo as demo_command
from workshop.demo.demo import PASSES, RUNS


@pytest.fixture(scope="module")
def demo_world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A demo of 40 clips and two steps a network: its folder, and what it printed."""
    quick = ("training.steps=2", "model.width=0.0625", "data.image_size=28")
    runs = tuple(replace(run, settings=(*run.settings, *quick)) for run in RUNS)
    folder = tmp_path_factory.mktemp("demo") / "demo #1"
    printed = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(printed):
        patch.setattr(workshop.demo.demo, "RUNS", runs)
        demo_command(folder, clips=40, kinds=8, seed=1, workers=2, json=None)
    return folder, printed.getvalue()


def test_the_demo_ends_with_every_row_its_ceiling_and_its_pictures(demo_world) -> None:
    folder, _ = demo_world
    results = json.loads((folder / "results.json").read_text())
    assert [row["name"] for row in results["rows"]] == [run.name for run in RUNS]
    assert 0.85 < results["ceiling"] < 1
    for row in results["rows"]:
        assert row["pairs"] % (2 * PASSES) == 0
        assert row["share_of_ceiling"] == pytest.approx(row["accuracy"] / results["ceiling"])
    for picture in ("world.png", "results.png"):
        assert (folder / picture).read_bytes().startswith(b"\x89PNG")
    page = (folder / "index.html").read_text()
    for row in results["rows"]:
        assert f"<td>{row['name']}</td><td>{row['accuracy']:.1%}</td>" in page


def test_the_demo_s_page_opens_by_the_printed_line_and_all_on_it_is_seen_and_plays(demo_world, page) -> None:
    _, printed = demo_world
    address = re.search(r"Look and listen:\s+(file://\S+)", printed)
    assert address is not None, printed
    page.goto(address[1])
    # 3 queries in each direction with 5 finds, 4 frames under 3 sounds, then 4 units of each trunk with 4 moments.
    assert page.locator("audio").count() == 2 * 3 * 6 + 4 * 3 + 2 * 4 * 4
    pictures = page.evaluate("[...document.images].map(image => image.complete && image.naturalWidth)")
    assert len(pictures) == 2 + page.locator("audio").count() and all(pictures)
    lengths = "[...document.querySelectorAll('audio')].every(each => each.duration >= 1 && each.error === null)"
    until(page, lengths)
    for number in (0, 20, 40, 70):  # of a frame's sounds, a sound's frames, an overlay and a unit
        page.evaluate(f"document.querySelectorAll('audio')[{number}].play()")
        until(page, f"document.querySelectorAll('audio')[{number}].currentTime > 0.3")
    page.click("text=Explore all held-out clips")
    page.wait_for_selector("body[data-ready]")
    page.click("#found .look >> nth=0")
    until(page, "document.querySelectorAll('.heats canvas').length === 3")


def test_the_demo_explains_its_options_and_refuses_a_foreign_folder_in_one_line(tmp_path) -> None:
    def demo(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "workshop.demo", *arguments], cwd=ROOT, capture_output=True, text=True
        )

    told = demo("--help")
    assert told.returncode == 0
    assert all(f"--{option}" in told.stdout for option in ("folder", "clips", "kinds", "seed", "workers", "json"))
    (tmp_path / "world").mkdir()
    (tmp_path / "world" / "thesis.txt").write_text("mine")
    refused = demo("--folder", str(tmp_path))
    assert refused.returncode == 2 and "Traceback" not in refused.stderr
    assert refused.stderr.startswith("workshop.demo: ") and "thesis.txt" in refused.stderr
