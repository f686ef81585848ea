"""Train, validation or test: by hash of the key, or from lists that the user gives."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from shards.format import SPLITS
from shards.sources import read_lines
from shards.text import comparable, forms_of, unquoted

NAMES_SHOWN = 3  # in a message


@dataclass(frozen=True)
class ListMet:
    """How many of a list's names, each counted once, are those of inputs. missing: some that are of none."""

    split: str
    path: Path
    met: int
    names: int
    missing: tuple[str, ...]

    def __str__(self) -> str:
        line = f"{self.split}: {self.met:,} of {self.names:,} names"
        if self.met == self.names:
            return line
        few = ", ".join(map(repr, self.missing))
        return f"{line}; {self.names - self.met:,} in {self.path} are of no input, such as {few}"


class Splitter:
    """Chooses the split of a clip from its content's key and its source's name, and from nothing else.

    `lists` maps splits to text files with one name a line: a path, its last parts, a file name, or one without its
    ending (`/data/a/x.mp4`, `a/x.mp4`, `x.mp4`, `x`), compared as `shards.text.comparable` says. A list is the whole of
    its split. What is in no list is shared out by hash among the splits that have none, in the proportion of
    `fractions`; there must be one.
    """

    def __init__(self, fractions: tuple[float, float, float], lists: Mapping[str, Path] | None = None) -> None:
        lists = lists or {}
        unknown = sorted(set(lists) - set(SPLITS))
        if unknown:
            raise ValueError(f"there is no split {unknown[0]!r}: the splits are {', '.join(SPLITS)}")
        self._shares = [0.0 if split in lists else share for split, share in zip(SPLITS, fractions, strict=True)]
        self._listed: dict[str, tuple[str, str]] = {}  # the name as it is compared -> split, and the name as written
        self._lists = dict(lists)
        self.met: tuple[ListMet, ...] = ()
        for split, path in sorted(lists.items()):
            for name in map(unquoted, read_lines(path)):
                other, _ = self._listed.setdefault(_end_of_path(name), (split, name))
                if other != split:
                    raise ValueError(
                        f"{name!r} is in {lists[other]} and in {path}: a clip belongs to one split, take it out of one"
                    )
        self._ends = {name.rpartition("/")[2] for name in self._listed}

    def listed(self, name: str) -> str | None:
        """The split whose list has this source, or None."""
        found = next(self._matches(name), None)
        return found and self._listed[found][0]

    def _matches(self, name: str) -> Iterator[str]:
        """The names of the lists that are this source's, the longest first."""
        forms = [form for form in forms_of(name) if form in self._ends] if self._ends else []
        if not forms:  # as for nearly every input of a large set
            return
        *folders, _ = comparable(name).split("/")
        for first in range(len(folders) + 1):
            above = "".join(f"{folder}/" for folder in folders[first:])
            for form in forms:
                if (tail := above + form) in self._listed:
                    yield tail

    def check(self, names: Collection[str]) -> None:
        """Count in `met` how many names of each list are among those of all sources.

        Raises ValueError where the lists cannot be meant for these: none of a list's names is among them, two lists
        name the same one, or one is in no list and no split is left for it.
        """
        if not self._lists:
            return
        met: set[str] = set()
        left = 0
        example = ""
        for name in names:
            matches = list(self._matches(name))
            met.update(matches)
            (one, called), *others = dict.fromkeys(self._listed[match] for match in matches) or [("", "")]
            for other, otherwise in others:
                if other != one:
                    raise ValueError(
                        f"{name} is {called!r} in {self._lists[one]} and {otherwise!r} in {self._lists[other]}: a clip "
                        "belongs to one split, take it out of one"
                    )
            if not matches:
                left += 1
                example = min(example or name, name)
        self.met = tuple(self._met(split, met) for split in self._lists)
        for each in self.met:
            if not each.met:
                raise ValueError(
                    f"none of the names in {each.path} is among the {len(names):,} inputs: it has {each.names:,}"
                    f"{', such as ' if each.names else ''}{', '.join(map(repr, each.missing))}, and an input is "
                    f"{min(names)!r}. Write one a line: a path, a file name, or a file name without its ending"
                )
        if left and not sum(self._shares):
            raise ValueError(
                f"{left} of {len(names)} inputs are in none of the lists, the first is {example!r}, and no split "
                "without a list has a share: add them to a list, or leave out the list of the split that is the rest"
            )

    def _met(self, split: str, met: set[str]) -> ListMet:
        own = {name: written for name, (of, written) in self._listed.items() if of == split}
        missing = [written for name, written in own.items() if name not in met]
        return ListMet(split, self._lists[split], len(own) - len(missing), len(own), tuple(missing[:NAMES_SHOWN]))

    def same_content(self, key: str, packed: str, name: str) -> str:
        """What to say of a source whose content is packed under another name, perhaps in a split that it is not of."""
        there, wanted = self.split(key, packed), self.listed(name)
        apart = f", which is in {there}; this name is in {self._lists[wanted]}" if wanted and wanted != there else ""
        return f"same content as {packed}{apart}"

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


def _end_of_path(name: str) -> str:
    """A name of a list as it is compared: `./a/x.mp4` and `../a/x.mp4` are the last parts of a path."""
    path = os.path.normpath(os.path.expanduser(comparable(name)))
    while path.startswith("../"):
        path = path.removeprefix("../")
    return path
