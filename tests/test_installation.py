"""What an installation brings: a wheel away from its checkout, with extras and without."""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.avc.launching import write_config

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
TREE = ("avc", "launch", "shards", "configs")
# What the extras bring; torchvision, torchcodec and decord are for whoever has them.
OPTIONAL = (
    *("wandb", "submitit", "librosa", "h5py", "huggingface_hub", "pyarrow", "onnx", "onnxruntime", "onnxscript"),
    *("torchvision", "torchcodec", "decord"),
)


def run(code: str, *, without: tuple[str, ...] = (), **settings: object) -> subprocess.CompletedProcess[str]:
    """Python code in a process of its own, where the given packages are not installed."""
    hidden = f"import sys; sys.modules.update(dict.fromkeys({without!r}))\n"
    command = [sys.executable, "-c", hidden + code]
    return subprocess.run(command, capture_output=True, text=True, check=False, **settings)  # type: ignore[call-overload]


def avc(*arguments: object, without: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    words = ["avc", *map(str, arguments)]
    return run(f"sys.argv = {words!r}\nfrom launch.cli import main\nmain()", without=without, cwd=ROOT)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel that pip builds from a checkout, unpacked as pip does."""
    checkout = tmp_path_factory.mktemp("checkout")
    for name in TREE:
        shutil.copytree(ROOT / name, checkout / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, checkout)
    build = "from setuptools.build_meta import build_wheel; build_wheel('.')"
    subprocess.run([sys.executable, "-c", build], cwd=checkout, capture_output=True, check=True)
    [built] = checkout.glob("avcorr-*-py3-none-any.whl")
    unpacked = tmp_path_factory.mktemp("site")
    zipfile.ZipFile(built).extractall(unpacked)
    return unpacked


def test_a_wheel_holds_whatever_a_command_reads(wheel: Path) -> None:
    for name in TREE:
        place = wheel / "launch" / "configs" if name == "configs" else wheel / name
        files = [path for path in (ROOT / name).rglob("*") if path.is_file() and "__pycache__" not in path.parts]
        assert files
        for path in files:
            assert (place / path.relative_to(ROOT / name)).read_bytes() == path.read_bytes()


def test_a_wheel_finds_its_configurations_in_an_empty_folder(wheel: Path, tmp_path: Path) -> None:
    code = (
        "from avc.config import load_config\nfrom launch.train import CONFIGS, find_config\n"
        "for path in CONFIGS.glob('*.yaml'): load_config(find_config(path.stem), ['data.shards=shards'])\n"
        "from launch.slurm.cluster_file import load_cluster\n"
        "load_cluster(CONFIGS / 'cluster' / 'slurm.yaml'); print(find_config('ave'))"
    )
    done = run(code, cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(wheel)})
    assert done.stdout.strip() == str(wheel / "launch" / "configs" / "ave.yaml"), done.stderr


def test_every_module_can_be_imported_without_the_extras() -> None:
    modules = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for top in ("avc", "launch", "shards")
        for path in sorted((ROOT / top).rglob("*.py"))
        if path.name != "__init__.py"
    ]
    assert len(modules) > 100
    done = run(f"import importlib\nfor name in {modules!r}: importlib.import_module(name)", without=OPTIONAL, cwd=ROOT)
    assert done.returncode == 0, done.stderr


def test_each_optional_package_is_in_the_extra_that_its_message_names() -> None:
    named = {}
    for path in (path for top in ("avc", "launch", "shards") for path in (ROOT / top).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "require_package":
                extra = next(keyword.value for keyword in node.keywords if keyword.arg == "extra")
                named[ast.literal_eval(node.args[0]), ast.literal_eval(extra)] = path
    assert {"wandb", "submitit", "librosa", "pyarrow", "huggingface_hub"} <= {package for package, _ in named}
    extras = {name: list(map(Requirement, lines)) for name, lines in PROJECT["optional-dependencies"].items()}
    for package, extra in named:
        brought = {requirement.name for requirement in extras[extra]}
        brought |= {inner.name for own in extras[extra] for name in own.extras for inner in extras.get(name, [])}
        assert package in brought, (package, extra)


def test_a_machine_that_trains_gets_dashboards_slurm_and_librosa_by_one_extra() -> None:
    [train] = map(Requirement, PROJECT["optional-dependencies"]["train"])
    assert train.extras == {"wandb", "slurm", "librosa"}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["submit", "ave", "--cluster", "{cluster}", "data.shards=s", "run.dir=r"], ("submitit", "slurm")),
        (["embed", "{tmp}/a.wav", "--run", "us/network", "--out", "{tmp}/e"], ("huggingface_hub", "hub")),
        (["embed", "{tmp}/a.wav", "--run", "r", "--out", "{tmp}/e.parquet"], ("pyarrow", "parquet")),
    ],
)
def test_a_missing_package_is_one_paragraph_that_names_its_extra(
    tmp_path: Path, arguments: list[str], words: tuple[str, str]
) -> None:
    (tmp_path / "a.wav").touch()
    cluster = ROOT / "configs" / "cluster" / "slurm.yaml"
    done = avc(*(argument.format(tmp=tmp_path, cluster=cluster) for argument in arguments), without=OPTIONAL)
    package, extra = words
    assert done.returncode == 2, done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert f"needs the package {package}, which is not installed here: pip install 'avcorr[{extra}]'" in done.stderr


def test_a_run_trains_without_wandb_unless_a_dashboard_was_asked_for(small_world: Path, tmp_path: Path) -> None:
    config = write_config(
        tmp_path, small_world, log={"wandb": "auto"}, training={"steps": 1}, validation={"every_steps": 0}
    )
    trained = avc("train", config, f"run.dir={tmp_path / 'run'}", without=("wandb",))
    assert trained.returncode == 0, trained.stderr
    assert "no dashboard: W&B is not installed here (pip install 'avcorr[wandb]')" in trained.stdout
    refused = avc("train", config, f"run.dir={tmp_path / 'other'}", "log.wandb=offline", without=("wandb",))
    assert refused.returncode == 2
    assert "log.wandb=offline needs the package wandb" in refused.stderr
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("arguments", [["--help"], ["status", "--help"], ["status", "{run}"], ["settings", "ave"]])
def test_what_answers_at_once_imports_no_framework(tmp_path: Path, arguments: list[str]) -> None:
    (tmp_path / "metrics.jsonl").write_text(
        json.dumps({"kind": "train", "step": 1, "loss": 0.7, "accuracy": 0.5}) + "\n"
    )
    words = [argument.format(run=tmp_path) for argument in arguments]
    heavy = ("torch", "numpy", "av", "cv2", "scipy", "sklearn", "matplotlib", "webdataset", "wandb", "submitit")
    code = (
        f"from launch.cli import main\nsys.argv = ['avc', *{words!r}]\n"
        f"try: main()\nfinally: print([name for name in {heavy!r} if name in sys.modules], file=sys.stderr)"
    )
    done = run(code, cwd=ROOT)
    assert done.stderr.strip() == "[]"
    assert done.stdout
