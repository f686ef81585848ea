"""Several packed folders as one, each with its weight. A training on one folder does not load this."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property, partialmethod
from typing import Any, NamedTuple

import numpy as np

from shards.format import SPLITS
from shards.read import Shards

TRAIN = SPLITS.index("train")


class WeightedSet(NamedTuple):
    """One of the folders. weight: without a common divisor; rows, files: its own in the joined index and manifest."""

    shards: Shards
    weight: int
    rows: range
    files: range


class MixedShards(Shards):
    """The records of several packed folders: rows of the first, sorted by key, then those of the second ...

    A clip that several of them have, by its key, is the first's, and of no split in the others. Nor are the others'
    clips that are not to be trained on: held out is what the first holds out. Raises ValueError where two folders are
    the same, or were packed in ways that do not mix.
    """

    def __init__(self, folders: Sequence[Shards], weights: Sequence[int]) -> None:
        first, manifests = folders[0], [each.manifest for each in folders]
        self.sets: list[WeightedSet] = []
        row = file = 0
        for shards, weight in zip(folders, weights, strict=True):
            for name in ("side", "every", "flow"):  # what a picture is, and when there is one
                first_value, value = (getattr(each.manifest.settings, name) for each in (first, shards))
                if first_value != value:
                    raise ValueError(
                        f"{first.folder} has {name} {first_value} and {shards.folder} {value}: pack one of them again"
                    )
            if shards.digest in [member.shards.digest for member in self.sets]:
                raise ValueError(f"{shards.folder} is in data.shards twice, or a copy of it")
            rows, files = range(row, row + len(shards)), range(file, file + len(shards.manifest.shards))
            self.sets.append(WeightedSet(shards, weight // math.gcd(*weights), rows, files))
            row, file = rows.stop, files.stop
        self.folder = type(first.folder)(" and ".join(str(each.folder) for each in folders))
        of_each = json.dumps([(member.weight, member.shards.digest) for member in self.sets])
        self.digest = hashlib.sha256(of_each.encode()).hexdigest()
        self.cache, self.store = first.cache, next((each.store for each in folders if each.store is not None), None)
        files_of_all, tables = (sum((getattr(each, name) for each in manifests), ()) for name in ("shards", "tables"))
        self.manifest = replace(first.manifest, shards=files_of_all, tables=tables)
        self._open_shards()
        words = []
        for each in self.sets:
            clips = each.shards.clips("train")
            drawn = int((self.index["split"][clips + each.rows.start] == TRAIN).sum())
            if drawn < 2:
                raise ValueError(f"{each.shards.folder} has {drawn} clips to train on that no set before it has")
            more = f", without {len(clips) - drawn:,} that are in a set before it" if drawn < len(clips) else ""
            words.append(f"{each.shards.folder} with weight {each.weight} ({drawn:,} clips{more})")
        self.about = f"several sets: {'; '.join(words)}; held out is what {first.folder} holds out"

    def _open_shards(self) -> None:
        self._threads = None  # each set opens its own

    def __len__(self) -> int:
        return len(self.index)

    @cached_property
    def index(self) -> np.ndarray:
        """All rows of the sets' indices; `shard` counts in the joined manifest."""
        rows = np.concatenate([member.shards.index for member in self.sets])
        for member in self.sets:
            rows_of_set, before = rows[member.rows.start : member.rows.stop], rows["key"][: member.rows.start]
            rows_of_set["shard"] += member.files.start
            if len(before):
                rows_of_set["split"][np.isin(rows_of_set["key"], before) | (rows_of_set["split"] != TRAIN)] = len(
                    SPLITS
                )
        return rows

    def _its(self, name: str, clip: int, *place: Any, **more: Any) -> Any:
        member = next(
            member for member in self.sets if int(clip) in member.rows
        )  # of numpy's numbers it would look at each
        return getattr(member.shards, name)(int(clip) - member.rows.start, *place, **more)


for _name in ("row", "info", "frames", "film", "flow", "sound"):  # all else goes by these
    setattr(MixedShards, _name, partialmethod(MixedShards._its, _name))
