"""Lists the files of labeled data sets of recordings and images, with their classes and folds."""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from avc.data.labels import read_table
from shards.text import lines_of

SOUNDS = (
    *(".wav", ".w64", ".rf64", ".aif", ".aiff", ".aifc", ".caf", ".au", ".snd", ".sph", ".flac"),
    *(".mp3", ".m4a", ".aac", ".ogg", ".oga", ".opus", ".wma", ".mka", ".weba"),
)
PICTURES = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".webp", ".gif", ".avif", ".heic", ".heif")
T = TypeVar("T")
FOLDS = 5  # of a folder of classes, which has none by itself


@dataclass(frozen=True)
class LabeledFile:
    """label: index into the data set's `classes`. fold: in the data set's numbering."""

    path: Path
    label: int
    fold: int


@dataclass(frozen=True)
class LabeledSet:
    """Files with classes and folds. Each of `tested_folds` is the test set in turn; all other folds are for training.

    other: number of files in the classes' folders with an unknown suffix.
    """

    name: str
    classes: tuple[str, ...]
    files: tuple[LabeledFile, ...]
    tested_folds: tuple[int, ...]
    other: int = 0

    @property
    def judged(self) -> str:
        """Description of the test data."""
        description = "the test part" if self.tested_folds == (0,) else f"{len(self.tested_folds)} folds in turn"
        return f"{description} of {self.name}"


def esc10(root: Path) -> LabeledSet:
    """ESC-10 (Piczak 2015), 5 folds as shipped, in its own layout or as the subset of ESC-50 in esc50.csv."""
    return _esc(root, "esc10", classes=10)


def esc50(root: Path) -> LabeledSet:
    """ESC-50 (Piczak 2015), 5 folds as shipped, with meta/esc50.csv or in folders of classes."""
    return _esc(root, "esc50", classes=50)


def dcase2013(root: Path) -> LabeledSet:
    """The acoustic scenes of DCASE 2013 as published: scenes_stereo to train on, scenes_stereo_testset to test on.

    Files are named class and number, as in bus07.wav. C is chosen by 5 folds of the training recordings, by number.
    Raises ValueError for another layout.
    """
    rows = []
    for folder in ("scenes_stereo", "scenes_stereo_testset"):
        paths = _list_files(root / folder, SOUNDS) if (root / folder).is_dir() else []
        if not paths:
            raise ValueError(f"{root} is not DCASE 2013: it has no recordings in {folder}/")
        for path in paths:
            match = re.fullmatch(r"([a-z]+)(\d+)", path.stem)
            if match is None:
                raise ValueError(f"{path} is not named class and number, as DCASE 2013's bus07.wav is")
            rows.append((path, match[1], 0 if folder.endswith("testset") else 1 + int(match[2]) % FOLDS))
    return _make_set("dcase2013", rows, tested_folds=(0,))


def urbansound8k(root: Path) -> LabeledSet:
    """UrbanSound8K (Salamon 2014), 10 folds as shipped: metadata/UrbanSound8K.csv and audio/fold1/ to audio/fold10/.

    Raises ValueError for another layout.
    """
    rows = _read_rows(
        root / "metadata" / "UrbanSound8K.csv",
        "UrbanSound8K's table",
        ("slice_file_name", "fold", "class"),
        lambda name, fold, label: (root / "audio" / f"fold{fold}" / name, label, int(fold)),
    )
    return _make_set("urbansound8k", rows, tested_folds=tuple(sorted({fold for *_, fold in rows})))


def labeled_folder(root: Path, suffixes: tuple[str, ...]) -> LabeledSet:
    """A folder for each class, with files at any depth; or train/ and val/ with such folders (ImageNet's layout).

    Without train/ and val/, each class's files are assigned to 5 folds in the order of a hash of their paths. With
    them, val/ is fold 0, the only test fold. Raises ValueError where there are fewer than two classes, or a class has
    fewer files than folds.
    """
    if not root.is_dir():
        raise ValueError(f"there is no folder {root}")
    if (root / "train").is_dir() and (root / "val").is_dir():
        train, other = _list_classes(root / "train", suffixes, min_files=FOLDS)
        test, other_test = _list_classes(root / "val", suffixes, min_files=1)
        if set(train) != set(test):
            raise ValueError(f"train/ and val/ in {root} differ in the classes {sorted(set(train) ^ set(test))[:5]}")
        rows = _assign_folds(train, root) + [(path, name, 0) for name, files in test.items() for path in files]
        return _make_set(root.name, rows, tested_folds=(0,), other=other + other_test)
    classes, other = _list_classes(root, suffixes, min_files=FOLDS)
    return _make_set(root.name, _assign_folds(classes, root), tested_folds=tuple(range(1, FOLDS + 1)), other=other)


DATASETS: dict[str, Callable[[Path], LabeledSet]] = {
    "esc10": esc10,
    "esc50": esc50,
    "dcase2013": dcase2013,
    "urbansound8k": urbansound8k,
    "folder": lambda root: labeled_folder(root, SOUNDS),
}


def _esc(root: Path, name: str, *, classes: int) -> LabeledSet:
    table = root / "meta" / "esc50.csv"
    if table.is_file():
        table_rows = _read_rows(
            table,
            "ESC-50's table",
            ("filename", "fold", "category", "esc10"),
            lambda file, fold, label, in_esc10: (root / "audio" / file, label, int(fold), in_esc10 == "True"),
        )
        rows = [(path, label, fold) for path, label, fold, in_esc10 in table_rows if name == "esc50" or in_esc10]
    else:
        rows = [(path, path.parent.name, _esc_fold(path)) for path in _list_files(root, SOUNDS)]
    labeled_set = _make_set(name, rows, tested_folds=tuple(sorted({fold for *_, fold in rows})))
    if len(labeled_set.classes) != classes:
        raise ValueError(
            f"{root} is not {name}: it has {len(labeled_set.classes)} classes and not {classes}. Give the folder that "
            "holds meta/esc50.csv or the classes' folders; for other recordings take dataset=folder"
        )
    return labeled_set


def _read_rows(table: Path, title: str, columns: tuple[str, ...], row: Callable[..., T]) -> list[T]:
    """Apply `row` to the named columns of each line. Raises ValueError where the table is not `title`."""
    try:
        (_, names), *lines = read_table(lines_of(table))
        indices = [names.index(column) for column in columns]
        return [row(*(cells[index] for index in indices)) for _, cells in lines if cells]
    except (IndexError, ValueError) as error:
        raise ValueError(f"{table} is not {title} ({error!r}): columns {', '.join(columns)} are wanted") from None


def _esc_fold(path: Path) -> int:
    match = re.match(r"([1-9])-", path.name)
    if match is None:
        raise ValueError(f"{path} does not begin with its fold, as ESC's 1-100032-A.ogg does")
    return int(match[1])


def _list_classes(root: Path, suffixes: tuple[str, ...], *, min_files: int) -> tuple[dict[str, list[Path]], int]:
    """The files of each class, and the number of files with other suffixes."""
    folders = sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    classes = {folder.name: _list_files(folder, suffixes) for folder in folders}
    if sum(bool(files) for files in classes.values()) < 2:
        raise ValueError(
            f"{root} has {sum(bool(files) for files in classes.values())} folders with files that end in "
            f"{', '.join(suffixes)}; there must be a folder for each of two or more classes"
        )
    other = 0
    for folder in folders:
        others = [path for path in folder.rglob("[!.]*") if path.is_file() and path.suffix.lower() not in suffixes]
        if others and not classes[folder.name]:
            raise ValueError(f"the files of {folder} end in none of {', '.join(suffixes)}, such as {others[0].name}")
        other += len(others)
    classes = {name: files for name, files in classes.items() if files}
    for name, files in classes.items():
        if len(files) < min_files:
            raise ValueError(f"class {name} in {root} has {len(files)} files; it needs {min_files}, one for each fold")
    return classes, other


def _assign_folds(classes: dict[str, list[Path]], root: Path) -> list[tuple[Path, str, int]]:
    rows = []
    for name, files in classes.items():
        shuffled = sorted(files, key=lambda path: hashlib.sha256(os.fsencode(path.relative_to(root))).digest())
        rows += [(path, name, 1 + number % FOLDS) for number, path in enumerate(shuffled)]
    return rows


def _list_files(root: Path, suffixes: tuple[str, ...]) -> list[Path]:
    return sorted(path for path in root.rglob("[!.]*") if path.suffix.lower() in suffixes and path.is_file())


def _make_set(
    name: str, rows: list[tuple[Path, str, int]], *, tested_folds: tuple[int, ...], other: int = 0
) -> LabeledSet:
    classes = tuple(sorted({label for _, label, _ in rows}))
    number = {label: row for row, label in enumerate(classes)}
    duplicates = [path for path, count in Counter(path for path, *_ in rows).items() if count > 1]
    if duplicates:
        raise ValueError(f"{duplicates[0]} is listed twice")
    files = tuple(LabeledFile(path, number[label], fold) for path, label, fold in rows)
    return LabeledSet(name, classes, files, tested_folds, other)
