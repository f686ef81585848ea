"""Reads text files and normalizes file names from other systems.

Windows writes UTF-8 with a byte order mark (U+FEFF), or UTF-16; macOS decomposes letters and accents (NFD); data sets
name segments in seconds or in milliseconds.
"""

from __future__ import annotations

import codecs
import io
import os
import re
import unicodedata
from collections.abc import Iterator
from typing import Literal

BOM = "\ufeff"  # at the beginning of a file, or inside a concatenation of files
_WIDE = {
    codecs.BOM_UTF32_LE: "UTF-32",  # before UTF-16, whose mark it begins with
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}
_PROBE_BYTES = 256  # bytes
_SEGMENT = re.compile(r"_(0|[1-9]\d*)_([1-9]\d*)\Z")  # from and to
SEGMENT_MS = 10_000  # of VGGSound, AudioSet and Kinetics


def counted(number: int, plural: str) -> str:
    """`2,000 files`, or `1 file`; the plural ends in s."""
    return f"{number:,} {plural if number != 1 else re.sub('(?<=ch|ss)es$|s$', '', plural)}"


def lines_of(
    path: str | os.PathLike[str], *, errors: Literal["strict", "surrogateescape"] = "strict", longest: int | None = None
) -> Iterator[str]:
    """The lines of a UTF-8 text file with their line breaks and without a leading U+FEFF, as one pass.

    longest: maximum of bytes in a line. Raises ValueError immediately where the file cannot be opened or is UTF-16 or
    UTF-32; while iterating for a longer line, before it is read completely, and for one that is not UTF-8.
    """
    try:
        file = open(os.path.expanduser(path), "rb")  # noqa: SIM115 - closed at its end
    except OSError as error:
        raise ValueError(f"{os.fspath(path)} cannot be read: {error.strerror}") from None
    try:
        refuse_wide(file.peek(_PROBE_BYTES), path)
    except BaseException:
        file.close()
        raise
    return _lines(file, path, errors, longest)


def _lines(file: io.BufferedReader, path: str | os.PathLike[str], errors: str, longest: int | None) -> Iterator[str]:
    with file:
        size = -1 if longest is None else longest + 1
        for number, line in enumerate(iter(lambda: file.readline(size), b""), start=1):
            if longest is not None and len(line) > longest:
                raise ValueError(f"line {number} of {path} is longer than {longest:,} bytes: it holds no names")
            try:
                yield line.decode("utf-8", errors).lstrip(BOM)
            except UnicodeDecodeError as error:
                raise ValueError(f"line {number} is not UTF-8 ({error.reason}): save the file as UTF-8") from None


def decoded(data: bytes, path: str | os.PathLike[str]) -> str:
    """A text file's content without a leading U+FEFF. Raises ValueError where it is not UTF-8."""
    refuse_wide(data, path)
    return data.decode("utf-8").lstrip(BOM)


def refuse_wide(data: bytes, path: str | os.PathLike[str]) -> None:
    """Raise ValueError where the beginning of a text file is UTF-16 or UTF-32, with a byte order mark or without."""
    start = data[:_PROBE_BYTES]
    name = next((name for mark, name in _WIDE.items() if start.startswith(mark)), "")
    fewer, more = sorted((start[::2].count(0), start[1::2].count(0)))
    if not name and more > 1 and more * 4 > len(start) and fewer * 8 < more:  # every other byte of letters and digits
        name = "UTF-16"
    if name:
        raise ValueError(f"{os.fspath(path)} is {name}: save it as UTF-8")


def on_one_line(*words: str) -> str:
    """Words of a table as a line of it, with tabs between, and tabs and line breaks in them as escapes."""
    escapes = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})
    return "\t".join(word.translate(escapes) for word in words)


def unquoted(name: str) -> str:
    """A name without surrounding blanks and quotes, which desktops add to copied paths."""
    name = name.strip()
    return name[1:-1] if len(name) > 2 and name[0] == name[-1] and name[0] in "\"'" else name


def normalize_name(name: str) -> str:
    """A file's name, or path, normalized for comparison.

    In NFC, with / for \\ and between a tar and its member, the suffix in lower case, without U+FEFF and surrounding
    blanks and quotes. A segment of 10 s in milliseconds (ID_5000_15000) becomes its start in six digits of seconds
    (ID_000005).
    """
    if not name.isascii():
        name = unicodedata.normalize("NFC", name.replace(BOM, ""))
    stem, suffix = os.path.splitext(re.sub(r"(?i)(\.tar)::", r"\1/", unquoted(name).replace("\\", "/")))
    if match := _SEGMENT.search(stem):
        start, end = map(int, match.groups())
        if end - start == SEGMENT_MS and start % 1000 == 0:
            stem = f"{stem[: match.start()]}_{start // 1000:06}"
    return stem + suffix.lower()


def name_forms(name: str) -> tuple[str, ...]:
    """Normalized names by which a list or table may name a file: its base name with and without suffix."""
    base = normalize_name(name).rpartition("/")[2]
    return tuple(dict.fromkeys((base, normalize_name(os.path.splitext(base)[0]))))
