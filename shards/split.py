"""Assigns clips to the splits train, validation and test: by hash of the key, or from the user's lists."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from shards.format import SPLITS
from shards.sources import read_lines
from shards.text import name_forms, normalize_name, unquoted

NAMES_SHOWN = 3  # in a message


@dataclass(frozen=True)
class ListCoverage:
    """Number of a list's names that match inputs. missing: some names that match none."""

    split: str
    path: Path
    matched: int
    names: int
    missing: tuple[str, ...]

    def __str__(self) -> str:
        line = f"{self.split}: {self.matched:,} of {self.names:,} names"
        if self.matched == self.names:
            return line
        examples = ", ".join(map(repr, self.missing))
        return f"{line}; {self.names - self.matched:,} in {self.path} are of no input, such as {examples}"


class Splitter:
    """Chooses the split of a clip from the key of its content and the name of its source alone.

    `lists` maps splits to text files with one name a line: a path, its last parts, a file name, or a file name without
    extension (`/data/a/x.mp4`, `a/x.mp4`, `x.mp4`, `x`), compared by `shards.text.normalize_name`. A list is complete
    for its split. Unlisted clips are distributed by hash over the splits without a list, in proportion to `fractions`.
    """

    def __init__(self, fractions: tuple[float, float, float], lists: Mapping[str, Path] | None = None) -> None:
        lists = lists or {}
        unknown = sorted(set(lists) - set(SPLITS))
        if unknown:
            raise ValueError(f"there is no split {unknown[0]!r}: the splits are {', '.join(SPLITS)}")
        self._fractions = [0.0 if split in lists else share for split, share in zip(SPLITS, fractions, strict=True)]
        self._listed: dict[str, tuple[str, str]] = {}  # normalized name -> split, name in the list
        self._lists = dict(lists)
        self.coverage: tuple[ListCoverage, ...] = ()
        for split, path in sorted(lists.items()):
            for name in map(unquoted, read_lines(path)):
                other, _ = self._listed.setdefault(_normalize(name), (split, name))
                if other != split:
                    raise ValueError(
                        f"{name!r} is in {lists[other]} and in {path}: a clip belongs to one split, take it out of one"
                    )
        self._ends = {name.rpartition("/")[2] for name in self._listed}

    def listed(self, name: str) -> str | None:
        """The split whose list names this source, or None."""
        match = next(self._matches(name), None)
        return match and self._listed[match][0]

    def _matches(self, name: str) -> Iterator[str]:
        """The listed names that match this source, longest first."""
        forms = [form for form in name_forms(name) if form in self._ends] if self._ends else []
        if not forms:  # as for most inputs of a large set
            return
        *folders, _ = normalize_name(name).split("/")
        for first in range(len(folders) + 1):
            prefix = "".join(f"{folder}/" for folder in folders[first:])
            for form in forms:
                if (candidate := prefix + form) in self._listed:
                    yield candidate

    def check(self, names: Collection[str]) -> None:
        """Set `coverage` to the number of each list's names that match `names`, those of all sources.

        Raises ValueError where a list matches no source, two lists match the same one, or a source is in no list and
        every split with a fraction has a list.
        """
        matched: set[str] = set()
        unlisted = 0
        example = ""
        for name in names:
            matches = list(self._matches(name))
            matched.update(matches)
            (split, listed), *others = dict.fromkeys(self._listed[match] for match in matches) or [("", "")]
            for other, other_listed in others:
                if other != split:
                    raise ValueError(
                        f"{name} is {listed!r} in {self._lists[split]} and {other_listed!r} in {self._lists[other]}: a "
                        "clip belongs to one split, take it out of one"
                    )
            if not matches:
                unlisted += 1
                example = min(example or name, name)
        self.coverage = tuple(self._cover(split, matched) for split in self._lists)
        for cover in self.coverage:
            if not cover.matched:
                raise ValueError(
                    f"none of the names in {cover.path} is among the {len(names):,} inputs: it has {cover.names:,}"
                    f"{', such as ' if cover.names else ''}{', '.join(map(repr, cover.missing))}, and an input is "
                    f"{min(names)!r}. Write one a line: a path, a file name, or a file name without its ending"
                )
        if unlisted and not sum(self._fractions):
            raise ValueError(
                f"{unlisted} of {len(names)} inputs are in none of the lists, the first is {example!r}, and no split "
                "without a list has a share: add them to a list, or leave out the list of the split that is the rest"
            )

    def _cover(self, split: str, matched: set[str]) -> ListCoverage:
        names = {name: listed for name, (of, listed) in self._listed.items() if of == split}
        missing = [listed for name, listed in names.items() if name not in matched]
        count = len(names) - len(missing)
        return ListCoverage(split, self._lists[split], count, len(names), tuple(missing[:NAMES_SHOWN]))

    def duplicate_message(self, key: str, packed: str, name: str) -> str:
        """Describes a source whose content is packed under another name, perhaps in another split."""
        message = f"same content as {packed}"
        split, listed = self.split(key, packed), self.listed(name)
        if listed and listed != split:
            message += f", which is in {split}; this name is in {self._lists[listed]}"
        return message

    def split(self, key: str, name: str) -> str:
        """The split of a clip by its key (hexadecimal) and the name of its source."""
        listed = self.listed(name)
        if listed is not None:
            return listed
        # The first 32 bits, scaled to the sum of fractions: equal for equal content on every machine.
        point = int(key[:8], 16) / 2**32 * sum(self._fractions)
        for split, fraction in zip(SPLITS, self._fractions, strict=True):
            if point < fraction:
                return split
            point -= fraction
        return next(split for split, share in zip(reversed(SPLITS), reversed(self._fractions), strict=True) if share)


def _normalize(name: str) -> str:
    """Normalizes a listed name for comparison: `./a/x.mp4` and `../a/x.mp4` become the last parts of a path."""
    path = os.path.normpath(os.path.expanduser(normalize_name(name)))
    while path.startswith("../"):
        path = path.removeprefix("../")
    return path
