"""HTML pages that need nothing but themselves: no other file and no network."""

from __future__ import annotations

import base64
import html
from pathlib import Path

from shards.atomic import written_aside

# The browser itself then refuses whatever is not in the page.
_POLICY = "default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'"


def write_html(path: Path, *, title: str, style: str, body: str) -> int:
    """Write a page under its title, aside first, and return its size in bytes."""
    name = html.escape(title)
    page = f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<title>{name}</title><style>{style}</style></head><body><h1>{name}</h1>
{body}
</body></html>
""".encode(errors="backslashreplace")  # names that are not UTF-8 hold lone surrogates
    path.parent.mkdir(parents=True, exist_ok=True)
    with written_aside(path) as file:
        file.write(page)
    return len(page)


def data_url(kind: str, content: bytes) -> str:
    """The content, of a media type such as image/png, as an address within the page."""
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"
