"""Tables of text, .csv and .tsv, that somebody else wrote."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator


def read_table(lines: Iterable[str], *, delimiter: str = ",") -> Iterator[tuple[int, list[str]]]:
    """The rows of a table's lines (`shards.text.lines_of`), each with the number of the line on which it begins.

    Spaces before a cell are no part of it. Raises ValueError, with the line, for a quote that is not closed, for NUL
    and for what is not UTF-8.
    """
    rows = csv.reader(lines, delimiter=delimiter, strict=True, skipinitialspace=True)
    while True:
        line = rows.line_num + 1
        try:
            cells = next(rows, None)
        except csv.Error as error:
            raise ValueError(
                f"line {line}: a quote opens there and is not closed, or more follows where it is ({error})"
            ) from None
        if cells is None:
            return
        refuse_nul("".join(cells), line)
        yield line, cells


def refuse_nul(text: str, line: int) -> None:
    """Raise ValueError where the text of a line holds a NUL, which neither names of files nor labels do."""
    if "\0" in text:
        raise ValueError(f"line {line} holds a NUL; is the file text in UTF-8?")
