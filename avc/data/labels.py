"""Which labels a clip has. Only evaluation ever sees labels."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from shards.read import Shards
from shards.text import lines_of, name_forms, normalize_name


@dataclass(frozen=True)
class Labeled:
    """The clips of a split that have labels.

    clips: int64 (N,), rows of the index, ascending. classes: the C names that occur, sorted. sets: int64 (N, M), the
    classes of each clip; a clip with fewer than M repeats one. unlabeled: how many clips were left out, such as
    `example`. unread: how many rows of the file of labels could not be read. met: how many of its `names` are of clips.
    """

    clips: NDArray[np.int64]
    classes: tuple[str, ...]
    sets: NDArray[np.int64]
    unlabeled: int
    unread: int = 0
    names: int = 0
    met: int = 0
    example: str = ""

    def counts(self, file: Path, clips: str) -> list[str]:
        """A line for people on each thing that labels and clips do not have in common. clips: which, in words."""
        lines = [f"{file}: {self.met:,} of {self.names:,} names are of clips of {clips}"]
        if self.unlabeled:
            lines.append(f"{self.unlabeled:,} clips of {clips} have no label and are left out, such as {self.example}")
        if self.unread:
            lines.append(f"{self.unread:,} rows of {file} cannot be read")
        return lines


class Labels(dict[str, tuple[str, ...]]):
    """The labels of each video by its file name (`shards.text.name_forms`).

    unread: how many rows of the file could not be read. others: names that stand for one of the other names.
    """

    unread = 0
    others: Mapping[str, str] = {}

    @property
    def own_names(self) -> set[str]:
        """The names that have labels, one for each video or segment."""
        return {self.others.get(name, name) for name, labels in self.items() if labels}

    def changed(self, change: Callable[[Sequence[str]], Iterable[str]]) -> Labels:
        """What `change` makes of each video's labels."""
        labels = Labels({name: tuple(change(own)) for name, own in self.items()})
        labels.unread, labels.others = self.unread, self.others
        return labels


class _Segments(NamedTuple):
    """Columns of a table of segments of YouTube's videos. named: its first row. several: a cell lists labels."""

    video: int
    start: int
    end: int | None
    label: int
    named: bool = False
    several: bool = False


def _segments(first: list[str]) -> _Segments | None:
    """The form of a table by its first row; None for rows of file name and label, and for what is not known."""
    kinetics = ("youtube_id", "time_start", "time_end", "label")
    if set(kinetics) <= set(first):
        video, start, end, label = map(first.index, kinetics)
        return _Segments(video, start, end, label, named=True)
    times = [cell.replace(".", "", 1).isdecimal() for cell in first]
    if len(first) == 4 and times[1]:
        return _Segments(0, 1, 2, 3, several=True) if times[2] else _Segments(0, 1, None, 2)
    return None


def _segment(cells: list[str], form: _Segments) -> tuple[str, list[str], list[str]] | None:
    """A row's video, the names that a file of its segment may have, and its labels; None if unreadable."""
    try:
        video, start = cells[form.video], int(float(cells[form.start]))
        names = [f"{video}_{start:06}"]
        if form.end is not None:
            names.append(f"{names[0]}_{int(float(cells[form.end])):06}")
        own = cells[form.label].split(",") if form.several else [cells[form.label]]
    except (IndexError, ValueError, OverflowError):
        return None
    return (video, names, own) if video and all(own) else None


class _Found:
    """What a file of labels has said so far."""

    def __init__(self) -> None:
        self._labels: dict[str, list[str]] = {}
        self._paths: dict[str, str] = {}  # of the files by their names
        self._segments: dict[str, set[str]] = {}  # names of a video's segments
        self._others: dict[str, str] = {}
        self.unread = 0

    def add(self, file: str, labels: Sequence[str]) -> str:
        """Add labels of a file; its name without folders. Raises ValueError for two files of one name."""
        whole, name = normalize_name(file), name_forms(file)[0]
        if self._paths.setdefault(name, whole) != whole:
            both = f"{self._paths[name]} and {whole}"
            raise ValueError(f"labels go by file names without their folders, and {both} share one")
        self._labels.setdefault(name, []).extend(labels)
        return name

    def add_segment(self, video: str, names: Sequence[str], labels: Sequence[str]) -> None:
        """Add labels of a video's segment, under each name that a file of it may have."""
        first, *more = (self.add(name, labels) for name in names)
        self._segments.setdefault(name_forms(video)[0], set()).add(first)
        self._others |= dict.fromkeys(more, first)

    def labels(self) -> Labels:
        """All of them; the identifier of a video with one segment alone stands for that."""
        for video, segments in self._segments.items():
            if len(segments) == 1:
                self._others[video] = segments.pop()
                self._labels[video] = self._labels[self._others[video]]
        labels = Labels({name: tuple(dict.fromkeys(own)) for name, own in self._labels.items()})
        labels.unread, labels.others = self.unread, self._others
        return labels


def read_labels(path: Path) -> Labels:
    """The labels of each video by its file name.

    A `.csv` or `.tsv` file has rows of file name and label, one for each label that a video has, or it is VGGSound's
    (video, start, label, split), AudioSet's (video, start, end, "labels") or Kinetics' (with names of columns) as
    published. Of these, a file is named by the video's identifier, by it and the start in six digits of seconds, as in
    glLQrEijrKg_000300.mp4, or by it, start and end; the identifier alone stands for a video of one segment only. Rows
    of segments that cannot be read are counted. A `.jsonl` file has objects with `file` and `kind` (the demo world's)
    or `labels`.
    Raises ValueError where the file is missing or of another form, or names two files of one name in two folders.
    """
    found, lines = _Found(), lines_of(path)
    try:
        if path.suffix.lower() == ".jsonl":
            _read_objects(lines, found)
        else:
            _read_rows(lines, found, delimiter="\t" if path.suffix.lower() == ".tsv" else ",")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        said = str(error) if type(error) is ValueError else repr(error)
        raise ValueError(
            f"{path} is not a file of labels ({said}): rows of file name and label are wanted, or as published "
            "VGGSound's table (video, start, label, split), AudioSet's (video, start, end, labels) or Kinetics' "
            "(label, youtube_id, time_start, time_end, split)"
        ) from None
    return found.labels()


def _read_objects(lines: Iterable[str], found: _Found) -> None:
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        row = json.loads(line)
        own = row["labels"] if "labels" in row else [row["kind"]]
        if not isinstance(own, list) or not all(isinstance(label, str) for label in own):
            raise ValueError(f"{own!r} is no list of labels")
        refuse_nul("".join([row["file"], *own]), number)
        found.add(row["file"], own)


def _read_rows(lines: Iterable[str], found: _Found, *, delimiter: str) -> None:
    table = read_table(lines, delimiter=delimiter)
    rows = (row for row in table if row[1] and not row[1][0].startswith("# "))  # AudioSet's comments
    begin = next(rows, (0, []))
    form = _segments(begin[1])
    for number, cells in chain([begin], rows):
        if form is not None:
            if segment := _segment(cells, form):
                found.add_segment(*segment)
            else:
                found.unread += number > begin[0] or not form.named
        elif len(cells) > 2:
            raise ValueError(f"line {number} has {len(cells)} columns")
        elif len(cells) == 2 and cells[1].strip():
            found.add(cells[0], [cells[1].strip()])


def names_of(shards: Shards, clips: NDArray[np.int64]) -> list[str]:
    """The file names that the clips came from, without folders."""
    return [str(shards.info(clip)["name"]) for clip in clips.tolist()]


def labeled(shards: Shards, clips: NDArray[np.int64], labels: Mapping[str, Sequence[str]]) -> Labeled:
    """Match clips and labels by the video's file name, with or without its suffix.

    Raises ValueError where fewer than two clips have a label.
    """
    names = names_of(shards, clips)
    called = [next((form for form in name_forms(name) if labels.get(form)), "") for name in names]
    # Sorted, so that equal sets are equal rows.
    found = [sorted(labels.get(name, ())) for name in called]
    classes = tuple(sorted({label for own in found for label in own}))
    number = {label: i for i, label in enumerate(classes)}
    known = [i for i, own in enumerate(found) if own]
    if not isinstance(labels, Labels):
        labels = Labels({name: tuple(own) for name, own in labels.items()})
    if len(known) < 2:
        example = f"such as {names[0]}" if names else "of which there are none"
        theirs = f"{len(labels.own_names):,} names{f', such as {min(labels.own_names)}' if labels.own_names else ''}"
        raise ValueError(
            f"{len(known)} of the {len(names)} clips have a label, and at least 2 are needed; labels go by the video's "
            f"file name, {example}, and there are labels for {theirs}"
        )
    longest = max(len(found[i]) for i in known)
    sets = np.array([[number[found[i][m % len(found[i])]] for m in range(longest)] for i in known], dtype=np.int64)
    return Labeled(
        np.asarray(clips)[known],
        classes,
        sets,
        unlabeled=len(names) - len(known),
        unread=labels.unread,
        names=len(labels.own_names),
        met=len({labels.others.get(name, name) for name in called if name}),
        example=next((name for name, own in zip(names, found, strict=True) if not own), ""),
    )


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
