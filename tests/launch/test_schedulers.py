"""What configs/cluster and docs/slurm.md give other schedulers, run on this machine as these would run it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from avc.runs.checkpoint import load_newest
from shards.pack import pack
from shards.read import Shards
from tests.avc.launching import Training, assert_same_bits, final_state, metrics, write_config
from tests.avc.networks import saved
from tests.command_line import avc
from tests.object_store import free_ports
from tests.small_videos import render_folder

ROOT = Path(__file__).resolve().parents[2]
PATH = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
TASKS = 3


def example(name: str) -> Any:
    return yaml.safe_load((ROOT / "configs" / "cluster" / f"{name}.yaml").read_text())


def shell(script: str, folder: Path, **environment: str) -> None:
    done = subprocess.run(
        ["sh", "-c", script],
        cwd=folder,
        env=os.environ | {"PATH": PATH, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"} | environment,
        capture_output=True,
        text=True,
        timeout=250,
    )
    assert done.returncode == 0, f"{script}\n{done.stdout}{done.stderr}"


def documented(words: str) -> str:
    """The line of docs/slurm.md that has these words, as one command."""
    [found] = [line.strip() for line in (ROOT / "docs" / "slurm.md").read_text().splitlines() if words in line]
    return found


@pytest.mark.parametrize("scheduler", ["kubernetes", "batch"])
def test_tasks_that_a_scheduler_numbers_pack_what_one_command_packs(scheduler: str, tmp_path: Path) -> None:
    videos = render_folder(tmp_path / "videos", videos=6)
    pack([videos], tmp_path / "one", workers=1)
    if scheduler == "kubernetes":
        job = example("kubernetes")["spec"]
        [container] = job["template"]["spec"]["containers"]
        assert container["command"] == ["sh", "-c"] and f"/{job['completions']}" in container["args"][0]
        script, variable = container["args"][0], "JOB_COMPLETION_INDEX"
    else:
        script, variable = documented("--task $((AWS_BATCH_JOB_ARRAY_INDEX + 1))/16"), "AWS_BATCH_JOB_ARRAY_INDEX"
        script = re.fullmatch(r"sh -c '(.*)'", script)[1]
    ours = (
        script.replace('"s3://raw/2026/*.mp4"', "videos").replace("/data/shards", "tasks").replace("/16", f"/{TASKS}")
    )
    assert ours.count("videos") == ours.count("tasks") == 1
    for number in range(TASKS):
        shell(ours, tmp_path, **{variable: str(number)})
    shell("avc merge tasks", tmp_path)
    one, tasks = Shards(tmp_path / "one"), Shards(tmp_path / "tasks")
    assert [(one.key(clip), one.info(clip), one.frame(clip, 20)) for clip in range(len(one))] == [
        (tasks.key(clip), tasks.info(clip), tasks.frame(clip, 20)) for clip in range(len(tasks))
    ]
    assert len(one) == 6


def test_tasks_that_ray_runs_embed_what_one_command_embeds(tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="ray is not installed")
    videos = render_folder(tmp_path / "videos", videos=4)
    network = saved(tmp_path / "ave")
    done = avc("embed", videos, "--run", network, "--out", tmp_path / "one", "--workers", 1, "--devices", "cpu")
    assert done.returncode == 0, done.stderr
    [code] = re.findall(r"```python\n(import ray.*?)```", (ROOT / "docs" / "slurm.md").read_text(), re.DOTALL)
    for theirs, ours in (
        ('"s3://raw/2026/*.mp4"', '"videos"'),
        ("runs/ave", "ave"),
        ("TASKS = 16", f"TASKS = {TASKS}"),
        ("num_cpus=4", "num_cpus=1"),  # this machine may have no more
        ('"--workers", "4"', '"--workers", "1"'),
    ):
        assert theirs in code
        code = code.replace(theirs, ours)
    (tmp_path / "tasks.py").write_text(code)
    shell(f"{sys.executable} tasks.py", tmp_path, RAY_ADDRESS="local", RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO="0")
    written = [
        {path.name: path.read_bytes() for path in (tmp_path / out).glob("*.npz")} for out in ("one", "embeddings")
    ]
    assert written[0] == written[1] and len(written[0]) == 4


def test_the_job_and_the_train_job_are_what_the_models_of_kubernetes_and_kubeflow_take() -> None:
    models = pytest.importorskip("kubeflow_trainer_api.models", reason="kubeflow-trainer-api is not installed")
    train, job = example("trainjob"), example("kubernetes")
    for model, content in ((models.TrainerV1alpha1TrainJob, train), (models.IoK8sApiBatchV1Job, job)):
        assert model.from_dict(content).to_dict() == content, "a key that a model does not know is dropped"


def test_the_task_of_dstack_is_what_its_models_take() -> None:
    name = "dstack._internal.core.models.configurations"
    models = pytest.importorskip(name, reason="dstack is not installed")
    parsed = models.parse_run_configuration(example("dstack"))
    assert (parsed.nodes, parsed.stop_duration, parsed.resources.gpu.count.min) == (4, 600, 8)


@pytest.fixture(scope="module")
def whole(small_world: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Settings of a training, and the folder of one that two ranks ended undisturbed."""
    folder = tmp_path_factory.mktemp("whole")
    config = write_config(folder, small_world, training={"steps": 60}, validation={"every_steps": 0})
    Training(config, folder / "run", world_size=2).finish()
    return config, folder / "run"


def pods(engine: str, config: Path, run: Path) -> list[subprocess.Popen[str]]:
    """Two, of one rank each, as the example starts them, told what the engine tells them."""
    content, port = example(engine), str(free_ports(1)[0])
    if engine == "trainjob":
        trainer = content["spec"]["trainer"]
        script = f"exec {' '.join([*trainer['command'], *trainer['args']])}"
        environment = {each["name"]: each["value"] for each in trainer["env"]}
    elif engine == "skypilot":
        script, environment = content["run"], content["envs"]
    else:
        [script] = content["commands"]
        environment = dict(each.split("=") for each in content["env"] if "=" in each)
    before, module, _ = script.replace("29500", port).partition("-m launch.train ")
    assert module and environment["TORCH_ELASTIC_SHUTDOWN_TIMEOUT"] == "600"
    started = []
    for rank in range(2):
        told = {
            "trainjob": {"NNODES": 2, "NPROC_PER_NODE": 1, "NODE_RANK": rank, "MASTER_ADDR": "127.0.0.1"},
            "skypilot": {"NUM_NODES": 2, "NUM_GPUS_PER_NODE": 1, "NODE_RANK": rank, "NODE_IPS": "127.0.0.1\n127.0.0.1"},
            "dstack": {"NODES_NUM": 2, "GPUS_PER_NODE": 1, "NODE_RANK": rank, "MASTER_NODE_IP": "127.0.0.1"},
        }[engine]
        prefix = {"trainjob": "PET", "skypilot": "SKYPILOT", "dstack": "DSTACK"}[engine]
        told |= {"MASTER_PORT": port} if engine == "trainjob" else {}
        variables = {f"{prefix}_{name}": str(value) for name, value in told.items()}
        started.append(
            subprocess.Popen(
                ["bash", "-c", f"{before}-m launch.train {config} run.dir={run}"],
                env=os.environ | {"PATH": PATH, "PYTHONPATH": str(ROOT)} | environment | variables,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        )
    return started


@pytest.mark.parametrize("engine", ["trainjob", "skypilot", "dstack"])
def test_pods_that_are_stopped_save_ask_for_a_restart_and_end_with_the_bits_of_those_that_were_not(
    whole: tuple[Path, Path], tmp_path: Path, engine: str
) -> None:
    config, undisturbed = whole
    run = tmp_path / "run"
    stopped = pods(engine, config, run)
    while not any(line["step"] >= 3 for line in metrics(run)):
        assert all(pod.poll() is None for pod in stopped), [pod.communicate() for pod in stopped]
        time.sleep(0.01)
    for pod in stopped:
        pod.terminate()
    said = [pod.communicate(timeout=200)[0] for pod in stopped]
    assert [pod.returncode for pod in stopped] == [1, 1], said  # any but 0 is a failure, after which engines restart
    assert sum("stopped and saved; the same command goes on" in text for text in said) == 1, said
    checkpoint = load_newest(run / "latest")
    assert checkpoint is not None and 3 <= checkpoint.step < 60
    resumed = pods(engine, config, run)
    said = [pod.communicate(timeout=200)[0] for pod in resumed]
    assert [pod.returncode for pod in resumed] == [0, 0], said
    assert_same_bits(final_state(undisturbed), final_state(run))
    assert metrics(run)[-1]["step"] == 60
