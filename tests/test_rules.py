"""Rules that a reader is owed, and that cannot be met by cutting a file in two."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("avc", "launch", "shards", "workshop")
FILES = sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py"))
TREES = {path.relative_to(ROOT).as_posix(): ast.parse(path.read_text()) for path in FILES}
MOST_LINES = 60

# Functions that are longer, and why that is easier to read than its parts.
COMMAND = "a command: half of it are its parameters and what --help says"
DIVISIBLE = "not cut yet: it does several things one after the other"
LONG = {
    ("avc/training/loop.py", "train"): "the training loop, which reads from top to bottom",
    ("launch/commands/embed.py", "embed"): COMMAND,
    ("launch/commands/explore.py", "explore"): COMMAND,
    ("launch/commands/pack.py", "pack"): COMMAND,
    ("launch/commands/teach.py", "teach"): COMMAND,
    ("workshop/study/study.py", "_write_page"): DIVISIBLE,
}

# Small files that one other file alone imports, and why they are apart.
SMALL = 60
APART = {
    "avc/data/mixed.py": "a training on one set does not load it",
    "avc/data/end_with_parent.py": "imported by name, before what takes seconds to import",
    "avc/media.py": "what other programs call, and nothing here",
    "shards/aws.py": "the only reader of a file of keys",
    "avc/training/media.py": "imports what draws and encodes, which a training without W&B has not installed",
    "workshop/null_gpu/operators.py": "pytest takes it as a plugin too, by its name",
    "workshop/study/page.py": "the page; study.py has the order in which things are done",
    "workshop/study/parts.py": "what a reader of the study looks at first",
}

BRITISH = re.compile(
    r"\w*(?:(?:normal|optim|organ|recogn|initial|serial|synchron|summar|visual|general|local|quant|standard|minim|"
    r"maxim|regular)is(?:e|ed|es|ing|ation)|colour|behaviour|neighbour|favour|labell(?:ed|ing)|centre|grey|artefact|"
    r"catalogue|analyse|modelling)\w*",
    re.IGNORECASE,
)
WRITTEN = [*ROOMS, "docs", "examples", "records", "configs", "README.md", "CONTRIBUTING.md"]
SUFFIXES = {".py", ".md", ".yaml", ".yml", ".js", ".css", ".html"}


def functions() -> Iterator[tuple[str, str, int]]:
    """File, name and number of lines of every function."""
    for path, tree in TREES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                assert node.end_lineno is not None
                yield path, node.name, node.end_lineno - node.lineno + 1


def test_no_function_is_longer_than_60_lines_but_those_that_say_why() -> None:
    long = {(path, name): lines for path, name, lines in functions() if lines > MOST_LINES}
    assert {place: lines for place, lines in long.items() if place not in LONG} == {}
    assert LONG.keys() - long.keys() == set(), "these need no excuse any more"


def importers() -> dict[str, set[str]]:
    """Of each file, those that import it or name it as `module:name`."""
    modules = {path.removesuffix(".py").replace("/", "."): path for path in TREES}
    found: dict[str, set[str]] = {path: set() for path in TREES}
    for path, tree in TREES.items():
        for node in ast.walk(tree):
            names: list[str] = []
            if isinstance(node, ast.ImportFrom):
                names = [str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)]
            elif isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                names = [node.value.partition(":")[0]]
            for name in names:
                if name in modules and modules[name] != path:
                    found[modules[name]].add(path)
    return found


def test_a_small_file_is_imported_by_two_others_or_says_why_it_is_apart() -> None:
    slivers = {
        path
        for path, by in importers().items()
        if len(by) < 2
        and len((ROOT / path).read_text().splitlines()) < SMALL
        and not path.startswith("launch/commands/")
        if Path(path).stem not in ("__init__", "__main__") and by != {"avc/networks.py"}  # which lists what there is
    }
    assert slivers - APART.keys() == set()
    assert APART.keys() - slivers == set(), "these need no excuse any more"


@pytest.mark.parametrize("place", WRITTEN)
def test_spelling_is_american(place) -> None:
    root = ROOT / place
    paths = sorted(path for path in root.rglob("*") if path.suffix in SUFFIXES) if root.is_dir() else [root]
    british = {
        f"{path.relative_to(ROOT)}: {word}"
        for path in paths
        for word in BRITISH.findall(path.read_text(encoding="utf-8"))
    }
    assert paths and british == set()


def test_the_words_that_are_looked_for_are_found() -> None:
    text = "a normalised colour, whose behaviour neighbours visualise; raise, noise and the otherwise localized stay"
    assert BRITISH.findall(text) == ["normalised", "colour", "behaviour", "neighbours", "visualise"]


def test_every_file_says_what_it_is_in_a_sentence() -> None:
    without = [
        path
        for path, tree in TREES.items()
        if path != "launch/explore/__init__.py" and len((ast.get_docstring(tree) or "").split(". ")[0].split()) < 3
    ]
    assert without == []
