"""Names and values that would run as commands if they got into a batch script as they are."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from launch.slurm.cluster_file import Cluster, load_cluster
from launch.slurm.jobs import concluding, executor, looking
from tests.avc.launching import write_config
from tests.command_line import avc

BREAKS = ("\n", "\r", "\0", "\x1b", "\x85", "\u2028")


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A PATH on which SLURM's programs stand; sbatch runs the script as a node would, the others nothing."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("srun", "squeue", "scontrol"):
        (folder / name).write_text("#!/bin/sh\n")
    (folder / "sbatch").write_text('#!/bin/sh\nbash "$1" >&2\necho Submitted batch job 7\n')
    for program in folder.iterdir():
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.chdir(tmp_path)
    return folder


def cluster_file(folder: Path, **changes: object) -> Path:
    path = folder / "cluster.yaml"
    path.write_text(json.dumps({"gpus": False} | changes))
    return path


def evil(line_break: str) -> str:
    return f"a{line_break}touch ran;#"


@pytest.mark.parametrize("line_break", BREAKS)
@pytest.mark.parametrize(
    "changes",
    [
        lambda word: {"partition": word},
        lambda word: {"account": word},
        lambda word: {"sbatch": {"qos": word}},
        lambda word: {"sbatch": {word: 1}},
        lambda word: {"srun": [word]},
    ],
)
def test_no_value_of_a_cluster_file_breaks_out_of_its_line(tmp_path, changes, line_break) -> None:
    with pytest.raises(ValueError, match=r"(?s)cluster\.yaml: .*(line break|pattern)"):
        load_cluster(cluster_file(tmp_path, **changes(evil(line_break))))


@pytest.mark.parametrize("line_break", ["\n", "\r", "\x1b"])
@pytest.mark.parametrize("setting", ["run.dir", "data.shards"])
def test_a_run_whose_folders_break_lines_is_refused_before_anything_is_made(
    programs, tmp_path, setting, line_break
) -> None:
    folders = {"run.dir": "run", "data.shards": "shards"} | {setting: str(tmp_path / evil(line_break))}
    words = [f"{name}={json.dumps(path)}" for name, path in folders.items()]
    done = avc("submit", write_config(tmp_path, tmp_path), "--cluster", cluster_file(tmp_path), *words)
    assert done.returncode == 2 and done.stderr.startswith(f"avc submit: {setting} is ")
    assert "line break" in done.stderr and done.stderr.count("\n") == 1
    assert not (tmp_path / "ran").exists() and not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", [b"a\ntouch ran;#", b"not-utf8-\xff"])
def test_a_packing_into_a_folder_whose_name_breaks_lines_is_refused(programs, tmp_path, name) -> None:
    (tmp_path / "a.mp4").write_bytes(b"x")
    out = os.fsdecode(os.path.join(os.fsencode(tmp_path), name))
    done = avc("pack", tmp_path / "a.mp4", "--out", out, "--cluster", cluster_file(tmp_path), "--tasks", 1)
    assert done.returncode == 2 and done.stderr.startswith("avc pack: --out is ")
    assert not (tmp_path / "ran").exists() and not os.path.exists(out)


def test_the_real_script_takes_every_other_name_and_value_for_words(programs, tmp_path) -> None:
    word = "it's $(touch ran) `touch ran` \"; touch ran; # & | > ran ünï %x \\"
    cluster = Cluster(gpus=False, partition=word, account=word, sbatch={"comment": word}, srun=[word])
    folder = tmp_path / word.replace("/", "-")
    seen = {"beforehand": looking(folder, [folder]), "afterwards": concluding(folder)[:1]}
    built = executor(cluster, folder, name=word, **seen)
    script = built._executor._make_submission_file_text(built._executor._submitit_command_str, "1")
    done = subprocess.run(["bash"], input=script, text=True, capture_output=True, cwd=tmp_path, check=True)
    assert not (tmp_path / "ran").exists() and not done.stderr
    begun = script.splitlines().index("# setup")
    assert all(not line or line.startswith("#") for line in script.splitlines()[:begun])


def test_lines_of_setup_are_shell_by_design_and_hold_no_other_control_characters(tmp_path) -> None:
    setup = ["module load\tcuda", "export A=1\nexport B=2\n"]
    assert load_cluster(cluster_file(tmp_path, setup=setup)).setup == setup
    with pytest.raises(ValueError, match=r"`setup\.0`"):
        load_cluster(cluster_file(tmp_path, setup=["export A=1\x1b[2J"]))
