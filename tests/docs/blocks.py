"""The fenced blocks of the documents' pages, and what a page says that a block needs."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FENCE = re.compile(r"(?:^<!-- needs: (?P<needs>.+?) -->\n\n?)?^```(?P<language>\w*)\n(?P<text>.*?)^```$", re.M | re.S)


@dataclass(frozen=True)
class Block:
    """line: of the opening fence. needs: why it does not run in a test, from the comment above it; empty if it does."""

    page: str
    line: int
    language: str
    text: str
    needs: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def blocks_of(page: Path) -> list[Block]:
    """All blocks of a page, from top to bottom."""
    text = page.read_text(encoding="utf-8")
    return [
        Block(
            page.name,
            1 + text[: match.start("language")].count("\n"),
            match["language"],
            match["text"],
            match["needs"] or "",
        )
        for match in FENCE.finditer(text)
    ]


def pages() -> list[Path]:
    """The pages of docs/: where a reader starts, then by name."""
    return sorted((ROOT / "docs").glob("*.md"), key=lambda page: (page.name != "index.md", page.name))
