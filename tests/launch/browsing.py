"""What tests ask of a page in a browser."""

from __future__ import annotations

import time
from typing import Any

# The page's one player, and where it is: playing must move it on.
WATCH = """() => { const play = HTMLMediaElement.prototype.play;
HTMLMediaElement.prototype.play = function () { window.player = this; return play.call(this); } }"""
MOVES = "begun => window.player && window.player.currentTime > begun + 0.3 && window.player.error === null"


def until(page: Any, expression: str, *argument: object) -> None:
    """Wait for a condition in the page; its own policy forbids Playwright's way, which is eval."""
    end = time.monotonic() + 60
    while not page.evaluate(expression, *argument):
        assert time.monotonic() < end, expression
        page.wait_for_timeout(30)
