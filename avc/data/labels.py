"""Reads labels from files and matches them to clips. Only evaluation uses labels."""

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
    classes of each clip; a clip with fewer than M repeats them. unlabeled: number of clips without a label, such as
    `example`. unread: number of unreadable rows in the file of labels. met: number of its `names` that match clips.
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
        """Lines that count matched names, unlabeled clips and unread rows. clips: description of the clips."""
        lines = [f"{file}: {self.met:,} of {self.names:,} names are of clips of {clips}"]
        if self.unlabeled:
            lines.append(f"{self.unlabeled:,} clips of {clips} have no label and are left out, such as {self.example}")
        if self.unread:
            lines.append(f"{self.unread:,} rows of {file} cannot be read")
        return lines


class Labels(dict[str, tuple[str, ...]]):
    """The labels of each video by its file name (`shards.text.name_forms`).

    unread: number of unreadable rows of the file. others: aliases of names.
    """

    unread = 0
    others: Mapping[str, str] = {}

    @property
    def own_names(self) -> set[str]:
        """The names that have labels, one for each video or segment."""
        return {self.others.get(name, name) for name, labels in self.items() if labels}

    def changed(self, change: Callable[[Sequence[str]], Iterable[str]]) -> Labels:
        """A copy with `change` applied to each video's labels."""
        changed = Labels({name: tuple(change(labels)) for name, labels in self.items()})
        changed.unread, changed.others = self.unread, self.others
        return changed


class _Segments(NamedTuple):
    """Columns of a table of YouTube segments. named: it has a header row. several: a cell lists several labels."""

    video: int
    start: int
    end: int | None
    label: int
    named: bool = False
    several: bool = False


def _segments(first: list[str]) -> _Segments | None:
    """The columns of a table of segments, from its first row; None for any other table."""
    kinetics = ("youtube_id", "time_start", "time_end", "label")
    if set(kinetics) <= set(first):
        video, start, end, label = map(first.index, kinetics)
        return _Segments(video, start, end, label, named=True)
    times = [cell.replace(".", "", 1).isdecimal() for cell in first]
    if len(first) == 4 and times[1]:
        return _Segments(0, 1, 2, 3, several=True) if times[2] else _Segments(0, 1, None, 2)
    return None


def _segment(cells: list[str], form: _Segments) -> tuple[str, list[str], list[str]] | None:
    """A row's video, the possible file names of its segment, and its labels; None if unreadable."""
    try:
        video, start = cells[form.video], int(float(cells[form.start]))
        names = [f"{video}_{start:06}"]
        if form.end is not None:
            names.append(f"{names[0]}_{int(float(cells[form.end])):06}")
        labels = cells[form.label].split(",") if form.several else [cells[form.label]]
    except (IndexError, ValueError, OverflowError):
        return None
    return (video, names, labels) if video and all(labels) else None


class _LabelCollector:
    """Collects the labels of a file."""

    def __init__(self) -> None:
        self._labels: dict[str, list[str]] = {}
        self._paths: dict[str, str] = {}  # of the files by their names
        self._segments: dict[str, set[str]] = {}  # names of a video's segments
        self._others: dict[str, str] = {}
        self.unread = 0

    def add(self, file: str, labels: Sequence[str]) -> str:
        """Add labels of a file and return its name without folders. Raises ValueError for two files of one name."""
        path, name = normalize_name(file), name_forms(file)[0]
        if self._paths.setdefault(name, path) != path:
            both = f"{self._paths[name]} and {path}"
            raise ValueError(f"labels go by file names without their folders, and {both} share one")
        self._labels.setdefault(name, []).extend(labels)
        return name

    def add_segment(self, video: str, names: Sequence[str], labels: Sequence[str]) -> None:
        """Add labels of a video's segment under each of its possible file names."""
        first, *more = (self.add(name, labels) for name in names)
        self._segments.setdefault(name_forms(video)[0], set()).add(first)
        self._others |= dict.fromkeys(more, first)

    def labels(self) -> Labels:
        """All labels; the identifier of a video with a single segment becomes an alias of it."""
        for video, segments in self._segments.items():
            if len(segments) == 1:
                self._others[video] = segments.pop()
                self._labels[video] = self._labels[self._others[video]]
        labels = Labels({name: tuple(dict.fromkeys(names)) for name, names in self._labels.items()})
        labels.unread, labels.others = self.unread, self._others
        return labels


def read_labels(path: Path) -> Labels:
    """The labels of each video by its file name.

    A `.csv` or `.tsv` file has rows of file name and label, one for each label that a video has, or it is VGGSound's
    (video, start, label, split), AudioSet's (video, start, end, "labels") or Kinetics' (with names of columns) as
    published. Files of their segments are named by the video's identifier and the start in six digits of seconds, as in
    glLQrEijrKg_000300.mp4, or also by the end; for a video with a single segment the identifier suffices. Unreadable
    rows of segments are counted. A `.jsonl` file has objects with `file` and `kind` (the demo world's) or `labels`.
    Raises ValueError where the file is missing or of another form, or names two files of one name in two folders.
    """
    collector, lines = _LabelCollector(), lines_of(path)
    try:
        if path.suffix.lower() == ".jsonl":
            _read_objects(lines, collector)
        else:
            _read_rows(lines, collector, delimiter="\t" if path.suffix.lower() == ".tsv" else ",")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        detail = str(error) if type(error) is ValueError else repr(error)
        raise ValueError(
            f"{path} is not a file of labels ({detail}): rows of file name and label are wanted, or as published "
            "VGGSound's table (video, start, label, split), AudioSet's (video, start, end, labels) or Kinetics' "
            "(label, youtube_id, time_start, time_end, split)"
        ) from None
    return collector.labels()


def _read_objects(lines: Iterable[str], collector: _LabelCollector) -> None:
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        row = json.loads(line)
        labels = row["labels"] if "labels" in row else [row["kind"]]
        if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
            raise ValueError(f"{labels!r} is no list of labels")
        refuse_nul("".join([row["file"], *labels]), number)
        collector.add(row["file"], labels)


def _read_rows(lines: Iterable[str], collector: _LabelCollector, *, delimiter: str) -> None:
    table = read_table(lines, delimiter=delimiter)
    rows = (row for row in table if row[1] and not row[1][0].startswith("# "))  # AudioSet's comments
    first = next(rows, (0, []))
    columns = _segments(first[1])
    for number, cells in chain([first], rows):
        if columns is not None:
            if segment := _segment(cells, columns):
                collector.add_segment(*segment)
            else:
                collector.unread += number > first[0] or not columns.named
        elif len(cells) > 2:
            raise ValueError(f"line {number} has {len(cells)} columns")
        elif len(cells) == 2 and cells[1].strip():
            collector.add(cells[0], [cells[1].strip()])


def names_of(shards: Shards, clips: NDArray[np.int64]) -> list[str]:
    """The names of the clips' video files, without folders."""
    return [str(shards.info(clip)["name"]) for clip in clips.tolist()]


def labeled(shards: Shards, clips: NDArray[np.int64], labels: Mapping[str, Sequence[str]]) -> Labeled:
    """Match clips and labels by the video's file name, with or without its suffix.

    Raises ValueError where fewer than two clips have a label.
    """
    names = names_of(shards, clips)
    keys = [next((form for form in name_forms(name) if labels.get(form)), "") for name in names]
    # Sorted, so that equal sets are equal rows.
    of_clips = [sorted(labels.get(key, ())) for key in keys]
    classes = tuple(sorted(set(chain.from_iterable(of_clips))))
    number = {label: i for i, label in enumerate(classes)}
    rows = [i for i, of_clip in enumerate(of_clips) if of_clip]
    if not isinstance(labels, Labels):
        labels = Labels({name: tuple(of_clip) for name, of_clip in labels.items()})
    if len(rows) < 2:
        example = f"such as {names[0]}" if names else "of which there are none"
        available = f"{len(labels.own_names):,} names{f', such as {min(labels.own_names)}' if labels.own_names else ''}"
        raise ValueError(
            f"{len(rows)} of the {len(names)} clips have a label, and at least 2 are needed; labels go by the video's "
            f"file name, {example}, and there are labels for {available}"
        )
    most = max(len(of_clips[i]) for i in rows)
    sets = np.array([[number[of_clips[i][m % len(of_clips[i])]] for m in range(most)] for i in rows], dtype=np.int64)
    return Labeled(
        np.asarray(clips)[rows],
        classes,
        sets,
        unlabeled=len(names) - len(rows),
        unread=labels.unread,
        names=len(labels.own_names),
        met=len({labels.others.get(key, key) for key in keys if key}),
        example=next((name for name, of_clip in zip(names, of_clips, strict=True) if not of_clip), ""),
    )


def read_table(lines: Iterable[str], *, delimiter: str = ",") -> Iterator[tuple[int, list[str]]]:
    """The rows of a table's lines (`shards.text.lines_of`), each with its first line number.

    Spaces before cells are dropped. Raises ValueError, with the line, for an unclosed quote, for NUL and where it is
    not UTF-8.
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
    """Raise ValueError where a line has a NUL, which file names and labels cannot have."""
    if "\0" in text:
        raise ValueError(f"line {line} holds a NUL; is the file text in UTF-8?")
