"""Imports go launch → avc → shards, and what a room must not know it does not import."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FORBIDDEN = {
    "shards": {"torch", "avc", "launch", "typer", "argparse", "submitit"},
    "avc": {"launch", "typer", "argparse", "submitit"},
    "launch": set[str](),
}


def imported(source: str) -> set[str]:
    """The top-level names that a module imports, at its head or inside its functions."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports name the whole path"
            names.add((node.module or "").split(".")[0])
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("import_module", "importlib.import_module"):
            names |= {str(word.value).split(".")[0] for word in node.args[:1] if isinstance(word, ast.Constant)}
    return names


@pytest.mark.parametrize("room", FORBIDDEN)
def test_no_room_imports_what_it_must_not_know(room: str) -> None:
    modules = sorted((ROOT / room).rglob("*.py"))
    assert modules
    for module in modules:
        found = imported(module.read_text()) & FORBIDDEN[room]
        assert not found, f"{module.relative_to(ROOT)} imports {', '.join(sorted(found))}"


def test_only_one_module_of_shards_imports_the_media_library() -> None:
    users = [module.name for module in sorted((ROOT / "shards").rglob("*.py")) if "av" in imported(module.read_text())]
    assert users == ["media.py"]


def test_the_science_never_reads_the_scheduler_s_environment() -> None:
    for module in sorted((ROOT / "avc").rglob("*.py")):
        assert not re.search(r"""["']SLURM_""", module.read_text()), module.relative_to(ROOT)


def test_an_import_inside_a_function_is_seen() -> None:
    assert imported("def f():\n    import torch.nn\n    from launch.cli import app\n") == {"torch", "launch"}
    assert imported("import importlib\nimportlib.import_module('torch.nn')\n") == {"importlib", "torch"}
