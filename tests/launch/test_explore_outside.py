"""The explorer of a network that only sees, in a browser: what it cannot find is not shown."""

from __future__ import annotations

from pathlib import Path

from tests.command_line import avc
from tests.launch.browsing import until

ENCODER = Path(__file__).resolve().parents[2] / "examples" / "custom_encoder.py"


def test_a_click_on_a_frame_finds_frames_and_no_sounds(page, small_world, tmp_path) -> None:
    command = ["explore", f"{ENCODER}:encoder", "--shards", small_world, "--out", tmp_path, "--device", "cpu"]
    done = avc(*command)
    assert done.returncode == 0, done.stderr
    page.goto(f"{(tmp_path / 'index.html').as_uri()}#image=2")
    until(page, "() => document.querySelectorAll('#found h3').length > 0")
    assert page.evaluate("() => [...document.querySelectorAll('#found h3')].map((h) => h.firstChild.data)") == [
        "Frames"
    ]
    assert page.evaluate("() => document.querySelector('#found .note').textContent").startswith("It only sees")
    page.evaluate("() => { location.hash = '#audio=2'; }")
    until(page, "() => document.querySelectorAll('#found h3').length === 0")
