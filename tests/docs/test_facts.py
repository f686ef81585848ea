"""The page of facts: each names a script or a test that is there, and no script is left out."""

from __future__ import annotations

import ast
import re

import pytest

from tests.docs.blocks import ROOT

PAGE = (ROOT / "docs" / "facts.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^## ([^\n]+)\n(.*?)(?=^## |\Z)", PAGE, re.M | re.S))
NAMED = re.compile(r"`(findings/\w+\.sh|tests/[\w/]+\.py::\w+)`")


def exists(name: str) -> bool:
    path, _, function = name.partition("::")
    if not (ROOT / path).is_file():
        return False
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8")) if function else ast.Module([], [])
    return not function or any(isinstance(one, ast.FunctionDef) and one.name == function for one in tree.body)


@pytest.mark.parametrize("name", sorted(set(NAMED.findall(PAGE))))
def test_what_shows_a_fact_is_there(name: str) -> None:
    assert exists(name)


def test_a_name_of_nothing_is_no_script_and_no_test() -> None:
    for name in ("findings/none.sh", "tests/none.py::test_one", "tests/docs/test_facts.py::test_none"):
        assert not exists(name)


@pytest.mark.parametrize("section", SECTIONS)
def test_every_fact_names_what_shows_it_and_every_section_says_what_it_means(section: str) -> None:
    rows = [line for line in SECTIONS[section].splitlines() if line.startswith("| ")][1:]
    assert len(rows) >= 3
    assert [row for row in rows if not NAMED.search(row.split("|")[3])] == []
    meaning = SECTIONS[section].partition("What it means for packing here:")[2]
    assert any(name.startswith("tests/") for name in NAMED.findall(meaning))


def test_every_script_of_the_findings_is_on_the_page() -> None:
    scripts = {f"findings/{path.name}" for path in (ROOT / "findings").glob("*.sh")}
    assert scripts and scripts == {name for name in NAMED.findall(PAGE) if name.startswith("findings/")}
