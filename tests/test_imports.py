"""The direction in which the rooms may import each other, read from the files themselves."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MAY_IMPORT = {
    "shards": {"shards"},
    "avc": {"avc", "shards"},
    "launch": {"launch", "avc", "shards"},
}
ROOMS = {room: sorted((ROOT / room).rglob("*.py")) for room in MAY_IMPORT}
FILES = [path for files in ROOMS.values() for path in files]


def imported(path: Path) -> Iterator[str]:
    """The modules that a file imports, at its top or inside of a function."""
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute here"
            yield str(node.module)


def packages(path: Path) -> set[str]:
    return {module.partition(".")[0] for module in imported(path)}


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_there_is_something_to_read() -> None:
    assert all(len(files) > 3 for files in ROOMS.values())


@pytest.mark.parametrize("path", FILES, ids=name)
def test_imports_point_from_launch_to_avc_to_shards(path: Path) -> None:
    allowed = MAY_IMPORT[path.relative_to(ROOT).parts[0]]
    assert packages(path) & {*MAY_IMPORT, "tests", "workshop", "examples"} <= allowed


@pytest.mark.parametrize("path", ROOMS["shards"], ids=name)
def test_shards_knows_no_torch_and_no_ranks(path: Path) -> None:
    assert not packages(path) & {"torch", "torchvision", "torchaudio", "typer", "rich", "argparse", "submitit"}
    names = {node.id for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Name)}
    assert not names & {"rank", "local_rank", "world_size"}


@pytest.mark.parametrize("path", ROOMS["shards"] + ROOMS["avc"], ids=name)
def test_one_package_decodes_media(path: Path) -> None:
    if not name(path).startswith("shards/media/"):
        assert not packages(path) & {"av", "cv2"}


@pytest.mark.parametrize("path", ROOMS["avc"], ids=name)
def test_the_science_knows_no_scheduler_and_no_command_line(path: Path) -> None:
    assert not packages(path) & {"submitit", "typer", "argparse", "click"}
    assert "SLURM_" not in path.read_text()


@pytest.mark.parametrize(
    "module",
    [
        "launch.cli",
        "launch.progress",
        "launch.slurm.status",
        "launch.slurm.jobs",
        "launch.slurm.submit",
        "shards.pack",
        "shards.read",
        "shards.verify",
    ],
)
def test_these_start_without_torch(module: str) -> None:
    code = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


# Of the bottom layer, in the order in which they may import each other.
BOTTOM = (
    "extras",
    "intervals",
    "memory",
    "settings",
    "sound_settings",
    "networks",
    "config",
)
# Inside avc/, from the bottom up: each may import those above it in this list, and its own.
LAYERS = (
    set(BOTTOM),
    {"runs"},
    {"media", "pretrained"},
    {"distributed"},
    {"models"},
    {"data"},
    {"encoders"},
    {"files", "onnx"},
    {"tasks"},
    {"training", "evaluation", "teachers"},
)
FLOOR = {part: floor for floor, parts in enumerate(LAYERS) for part in parts}


@pytest.mark.parametrize(
    "path", [path for path in ROOMS["avc"] if path.name != "__init__.py" or path.parent.name != "avc"], ids=name
)
def test_inside_avc_imports_point_down(path: Path) -> None:
    own = path.relative_to(ROOT / "avc").parts[0].removesuffix(".py")
    for module in imported(path):
        if module.startswith("avc."):
            other = module.split(".")[1]
            assert other == own or FLOOR[other] < FLOOR[own] or FLOOR[own] == FLOOR[other] == 0, (
                f"{own} imports {module}"
            )


def test_families_of_networks_are_told_apart_in_two_files_outside_of_their_encoders() -> None:
    """isinstance on a class of avc.models; tasks and models, which train and build them, may."""
    found = set()
    for path in ROOMS["avc"] + ROOMS["launch"]:
        tree = ast.parse(path.read_text())
        families = {
            alias.name
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom) and str(node.module).startswith("avc.models")
            for alias in node.names
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "isinstance":
                names = {part.id for part in ast.walk(node.args[1]) if isinstance(part, ast.Name)}
                found |= {name(path)} if names & families else set()
    found = {path for path in found if not path.startswith(("avc/models/", "avc/encoders/"))}
    assert found == {"avc/evaluation/soundnet.py", "avc/tasks/held_out.py"}


def test_files_of_the_bottom_layer_form_no_circle() -> None:
    before: set[str] = set()
    for part in BOTTOM:
        modules = {
            module.split(".")[1] for module in imported(ROOT / "avc" / f"{part}.py") if module.startswith("avc.")
        }
        assert modules <= before, part
        before.add(part)


def test_a_rank_loads_no_reader_of_foreign_weights_no_evaluation_and_few_lines_in_all() -> None:
    code = (
        "import sys, avc.training.loop, avc.distributed.join\nfrom avc.networks import network_of, resolve\n"
        "network = network_of('ave'); resolve(network.model), resolve(network.task)\n"
        "print(*(name for name in sys.modules if name.startswith(('avc.', 'shards.'))))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True)
    loaded = set(done.stdout.split())
    assert "avc.training.loop" in loaded and "avc.models.ave" in loaded
    assert not loaded & {"avc.encoders.load", "avc.models.released"}
    assert not loaded & {"avc.tasks.held_out", "avc.tasks.evaluators", "avc.data.prefetch"}
    assert not any(module.startswith("avc.evaluation") for module in loaded)
    files = [path for module in loaded if (path := ROOT / f"{module.replace('.', '/')}.py").exists()]
    assert len(files) <= 46 and sum(len(path.read_text().splitlines()) for path in files) <= 6800
