"""Train, validation or test: by hash of the key, or from lists that the user gives."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from pathlib import Path

from shards.format import SPLITS
from shards.sources import read_lines


class Splitter:
    """Chooses the split of a clip from its content's key and its source's name, and from nothing else.

    `lists` maps splits to text files with one name a line: a path, its last parts, a file name, or one without its
    ending (`/data/a/x.mp4`, `a/x.mp4`, `x.mp4`, `x`). A list is the whole of its split. What is in no list is shared
    out by hash among the splits that have none, in the proportion of `fractions`; there must be one.
    """

    def __init__(self, fractions: tuple[float, float, float], lists: Mapping[str, Path] | None = None) -> None:
        lists = lists or {}
        unknown = sorted(set(lists) - set(SPLITS))
        if unknown:
            raise ValueError(f"there is no split {unknown[0]!r}: the splits are {', '.join(SPLITS)}")
        self._shares = [0.0 if split in lists else share for split, share in zip(SPLITS, fractions, strict=True)]
        self._listed: dict[str, str] = {}
        self._lists = dict(lists)
        for split, path in sorted(lists.items()):
            for name in _read_names(path):
                other = self._listed.setdefault(name, split)
                if other != split:
                    raise ValueError(
                        f"{name!r} is in {lists[other]} and in {path}: a clip belongs to one split, take it out of one"
                    )

    def listed(self, name: str) -> str | None:
        """The split whose list has this source, or None."""
        if not self._listed:
            return None
        parts = name.replace("::", "/").split("/")
        for first in range(len(parts)):  # the longest match wins
            tail = "/".join(parts[first:])
            for form in (tail, os.path.splitext(tail)[0]):
                if form in self._listed:
                    return self._listed[form]
        return None

    def check(self, names: Collection[str]) -> None:
        """Raise ValueError when the lists cannot be meant for these sources."""
        if not self._lists:
            return
        found = {name: self.listed(name) for name in names}
        for split, path in self._lists.items():
            if split not in found.values():
                raise ValueError(
                    f"none of the names in {path} is among the {len(names)} inputs. "
                    "Write one a line: a path, a file name, or a file name without its ending"
                )
        left = sorted(name for name, split in found.items() if split is None)
        if left and not sum(self._shares):
            raise ValueError(
                f"{len(left)} of {len(names)} inputs are in none of the lists, the first is {left[0]!r}, and no split "
                "without a list has a share: add them to a list, or leave out the list of the split that is the rest"
            )

    def split(self, key: str, name: str) -> str:
        """The split of the clip with this key (hexadecimal) from the source of this name."""
        listed = self.listed(name)
        if listed is not None:
            return listed
        # The first 32 bits, scaled to the shares that there are: equal for equal content, on every machine.
        point = int(key[:8], 16) / 2**32 * sum(self._shares)
        for split, share in zip(SPLITS, self._shares, strict=True):
            if point < share:
                return split
            point -= share
        return next(split for split, share in zip(reversed(SPLITS), reversed(self._shares), strict=True) if share)


def _read_names(path: Path) -> list[str]:
    try:
        return [os.fsdecode(line.strip()) for line in read_lines(path.expanduser())]
    except OSError as error:
        raise ValueError(f"the list {path} cannot be read: {error.strerror}") from None
