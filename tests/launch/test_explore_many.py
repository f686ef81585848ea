"""`avc explore` of 10,000 clips: the page opens at once, and every search looks at all of them within 0.1 s.

pytest -s tests/launch/test_explore_many.py prints what it measured; AVC_TEST_CLIPS=100000 takes as many clips.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pytest

from avc.config import parse_config
from avc.encoders.trained import trained
from avc.models import build
from launch.explore.moments import Embedder, embed
from launch.explore.write import PER_FILE, write_explorer, write_media
from shards.read import Shards
from tests.launch.browsing import until

CLIPS = int(os.environ.get("AVC_TEST_CLIPS", 10_000))
SEARCHES = 24


@pytest.fixture(scope="module")
def folder(small_world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The 40 rendered clips again and again under other names, each with embeddings of its own; media are links."""
    out = tmp_path_factory.mktemp("many")
    shards = Shards(small_world)
    rng = np.random.default_rng(0)

    def many(*arguments: Any) -> Any:
        moments, [(image, _)] = embed(*arguments)
        moments = moments.taken(np.arange(CLIPS) % len(moments))
        unit = rng.normal(size=(2, CLIPS, image.shape[1])).astype(np.float32)
        unit /= np.linalg.norm(unit, axis=2, keepdims=True)
        return replace(moments, names=[f"{i:05}-{name}" for i, name in enumerate(moments.names)]), [tuple(unit)]

    def linked(folder: Path, shards: Shards, moments: Any, sizes: Any, report: Any) -> None:
        first = np.arange(PER_FILE)
        write_media(folder, shards, moments.taken(first), sizes[first], report)
        for path in list(folder.iterdir()):
            for number in range(1, -(-CLIPS // PER_FILE)):
                os.link(path, path.with_name(path.name.replace("-0", f"-{number}")))

    config = parse_config({"model": {"name": "ave", "width": 0.0625}, "data": {"image_size": 28}})
    network = trained(build(config.model), config)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("launch.explore.write.embed", many)
        patch.setattr("launch.explore.write.write_media", linked)
        patch.setattr("launch.explore.write.map_of", lambda image, audio: rng.random((CLIPS, 2), dtype=np.float32))
        embedders = [Embedder(network, "run", "AVE-Net", None, "")]
        clips = np.arange(len(shards))
        write_explorer(out, embedders, shards, clips, labels=None, title="many", about=f"{CLIPS:,} clips")
    return out


def test_ten_thousand_clips_open_in_two_seconds_and_answer_in_a_tenth(folder, page) -> None:
    page.goto((folder / "index.html").as_uri())
    page.wait_for_selector("body[data-ready]")
    opened = int(page.evaluate("document.body.dataset.ready"))
    assert f"{CLIPS:,} of {CLIPS:,} clips" in page.inner_text("#found")
    took = []
    for number in range(SEARCHES):
        asked = f"#{('image', 'audio')[number % 2]}={CLIPS // SEARCHES * number}"
        page.evaluate("delete document.getElementById('found').dataset.milliseconds")
        page.evaluate("hash => { location.hash = hash }", asked)
        until(page, "document.getElementById('found').dataset.milliseconds !== undefined")
        took.append(int(page.evaluate("document.getElementById('found').dataset.milliseconds")))
    middle, longest = median(took), max(took)
    print(f"\n{CLIPS:,} clips: opened after {opened} ms; a search {middle:g} ms in the median, {longest} at most")
    assert opened < 2000 and middle < 100
