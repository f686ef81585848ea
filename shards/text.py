"""Text files and names that other systems wrote: how they are read, and how names are compared.

Windows marks UTF-8 by U+FEFF or writes UTF-16, Macs take letters and accents apart (NFD), data sets name segments in
seconds or in milliseconds.
"""

from __future__ import annotations

import codecs
import io
import os
import re
import unicodedata
from collections.abc import Iterator
from typing import Literal

MARK = "\ufeff"  # at the beginning of a file a byte order mark; behind it, where files were joined
_WIDE = {
    codecs.BOM_UTF32_LE: "UTF-32",  # before UTF-16, whose mark it begins with
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}
_LOOKED_AT = 256  # bytes
_SEGMENT = re.compile(r"_(0|[1-9]\d*)_([1-9]\d*)\Z")  # from and to
SEGMENT_MS = 10_000  # of VGGSound, AudioSet and Kinetics


def counted(number: int, plural: str) -> str:
    """`2,000 files`, or `1 file`; the plural ends in s."""
    return f"{number:,} {plural if number != 1 else re.sub('(?<=ch|ss)es$|s$', '', plural)}"


def lines_of(
    path: str | os.PathLike[str], *, errors: Literal["strict", "surrogateescape"] = "strict", longest: int | None = None
) -> Iterator[str]:
    """The lines of a text file in UTF-8 with their line breaks, read once from front to back, without U+FEFF in front.

    longest: of a line, bytes. Raises ValueError for what cannot be opened, and for UTF-16 and UTF-32, at once; for a
    line that is longer, before all of it is read, and for one that is not UTF-8.
    """
    try:
        file = open(os.path.expanduser(path), "rb")  # noqa: SIM115 - closed at its end
    except OSError as error:
        raise ValueError(f"{os.fspath(path)} cannot be read: {error.strerror}") from None
    try:
        refuse_wide(file.peek(_LOOKED_AT), path)
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
                yield line.decode("utf-8", errors).lstrip(MARK)
            except UnicodeDecodeError as error:
                raise ValueError(f"line {number} is not UTF-8 ({error.reason}): save the file as UTF-8") from None


def decoded(data: bytes, path: str | os.PathLike[str]) -> str:
    """A text file's content, U+FEFF in front left out. Raises ValueError for what is not UTF-8."""
    refuse_wide(data, path)
    return data.decode("utf-8").lstrip(MARK)


def refuse_wide(data: bytes, path: str | os.PathLike[str]) -> None:
    """Raise ValueError where a text file begins as UTF-16 or UTF-32, with a mark or without."""
    begin = data[:_LOOKED_AT]
    name = next((name for mark, name in _WIDE.items() if begin.startswith(mark)), "")
    few, many = sorted((begin[::2].count(0), begin[1::2].count(0)))
    if not name and many > 1 and many * 4 > len(begin) and few * 8 < many:  # every other byte of letters and digits
        name = "UTF-16"
    if name:
        raise ValueError(f"{os.fspath(path)} is {name}: save it as UTF-8")


def unquoted(name: str) -> str:
    """A name without blanks and quotes around it, as Windows copies a path with quotes."""
    name = name.strip()
    return name[1:-1] if len(name) > 2 and name[0] == name[-1] == '"' else name


def comparable(name: str) -> str:
    """A file's name, or path, as names are compared, whoever wrote them.

    In NFC, with / for \\ and between a tar and its member, the suffix in lower case, without U+FEFF, and without blanks
    and quotes around it. A segment of 10 s in milliseconds (ID_5000_15000) is named by its start in six digits of
    seconds (ID_000005).
    """
    if not name.isascii():
        name = unicodedata.normalize("NFC", name.replace(MARK, ""))
    stem, suffix = os.path.splitext(re.sub(r"(?i)(\.tar)::", r"\1/", unquoted(name).replace("\\", "/")))
    if found := _SEGMENT.search(stem):
        start, end = map(int, found.groups())
        if end - start == SEGMENT_MS and start % 1000 == 0:
            stem = f"{stem[: found.start()]}_{start // 1000:06}"
    return stem + suffix.lower()


def forms_of(name: str) -> tuple[str, ...]:
    """What a list or table may call a file: its name without folders, also without its suffix, both `comparable`."""
    whole = comparable(name).rpartition("/")[2]
    return tuple(dict.fromkeys((whole, comparable(os.path.splitext(whole)[0]))))
