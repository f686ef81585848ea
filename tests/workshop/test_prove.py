"""The trial of trainers: a right one passes with the parts that it needs, planted faults are found."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
# A training of plain numpy that starts at once; it draws its rows from a generator whose place is in the checkpoint.
TRAINER = """
import sys, time
from pathlib import Path
import numpy as np
from safetensors.numpy import load_file, save_file

out, fault = Path(sys.argv[1]) / "last.safetensors", sys.argv[2]
if not (out.parent / "best.safetensors").is_symlink():
    (out.parent / "best.safetensors").symlink_to("last.safetensors")  # which is still to come
x, w, velocity = np.random.default_rng(0).normal(size=(64, 4)), np.zeros(4), np.zeros(4)
step, drawn, momentum = 0, 0, 0.9
if out.exists():
    kept = load_file(out)
    step, drawn, w, velocity = int(kept["step"]), int(kept["drawn"]), kept["w"], kept["velocity"]
    if not np.isfinite(w).all() or not velocity.any() and step:
        sys.exit("a checkpoint without its velocity is refused")
    if fault == "order":
        drawn = 0
    if fault == "two files":
        momentum = float(load_file(out.with_name("more.safetensors"))["momentum"])
while step < 60:
    row = x[np.random.default_rng(drawn).integers(64)]
    velocity = momentum * velocity + (row @ w - row.sum()) * row
    w = w - 0.05 * velocity
    step, drawn = step + 1, drawn + 1
    time.sleep(0.02)
    if step % 20 == 0:
        if fault == "weights":
            (out.parent / "for-users").mkdir(exist_ok=True)
            save_file({"w": w}, out.parent / "for-users" / "weights.safetensors")
            time.sleep(0.3)  # the checkpoint comes long after what users take
        kept = {"w": w, "velocity": velocity, "step": np.array(step), "drawn": np.array(drawn), "note": np.array(1)}
        save_file({name: kept[name] for name in sorted(kept)}, out.with_suffix(".part"))
        if fault == "in place" and not out.exists():
            data = out.with_suffix(".part").read_bytes()
            with open(out, "wb", buffering=0) as file:
                file.write(data[: len(data) // 2])
                time.sleep(1)
                file.write(data[len(data) // 2 :])
        out.with_suffix(".part").replace(out)
        if fault == "two files":
            time.sleep(0.05)
            save_file({"momentum": np.array(0.9)}, out.with_name("more.safetensors"))
"""


def prove(folder: Path, *, fault: str, options: tuple[str, ...] = ()) -> tuple[int, dict[str, dict[str, Any]]]:
    """Exit status, and the verdicts by name, of the tool on the trainer."""
    (folder / "train.py").write_text(TRAINER)
    command = [sys.executable, str(folder / "train.py"), "{}", fault]
    tool = [sys.executable, "-m", "workshop.prove", "--kills", "2", *options, "--json", str(folder / "verdicts.json")]
    done = subprocess.run([*tool, "--", *command], cwd=ROOT, capture_output=True, text=True, check=False)
    if not (folder / "verdicts.json").exists():
        raise AssertionError(done.stdout + done.stderr)
    return done.returncode, {one["name"]: one for one in json.loads((folder / "verdicts.json").read_text())}


@pytest.mark.parametrize("needless", [True, False])
def test_a_trainer_that_restores_all_passes_and_what_it_does_not_need_is_named(tmp_path, needless) -> None:
    status, verdicts = prove(tmp_path, fault="", options=("--needless", "note") if needless else ())
    assert status == (0 if needless else 1)
    outcomes = {name: one["outcome"] for name, one in verdicts.items()}
    assert outcomes["nothing altered"] == "every tensor equal"
    assert sum("killed at" in name for name in outcomes) == 2
    assert [outcome for name, outcome in outcomes.items() if "killed at" in name] == ["every tensor equal"] * 2
    assert outcomes["note reset"] == "changes nothing"
    assert outcomes["velocity reset"].startswith("refused, status 1: a checkpoint without its velocity")
    for part in ("w", "step", "drawn"):
        assert outcomes[f"{part} reset"].startswith("changes the end: "), part
    assert all(one["right"] for name, one in verdicts.items() if name != "note reset")


def test_an_order_of_the_data_that_is_not_restored_is_found(tmp_path) -> None:
    status, verdicts = prove(tmp_path, fault="order", options=("--needless", "note"))
    assert status == 1
    assert "tensors, first best.safetensors: " in verdicts["nothing altered"]["outcome"]
    assert not verdicts["nothing altered"]["right"]
    assert verdicts["drawn reset"]["outcome"] == "changes nothing", "which is the part that is not restored"
    assert verdicts["w reset"]["outcome"].startswith("changes the end: ")


def test_a_checkpoint_that_is_written_in_place_is_found(tmp_path) -> None:
    status, verdicts = prove(tmp_path, fault="in place", options=("--needless", "note"))
    assert status == 1
    assert verdicts["nothing altered"]["outcome"].startswith("is not resumed, status 1: ")
    stopped = verdicts["best.safetensors at the stop"]
    assert stopped["outcome"].endswith(": it is not whole") and not stopped["right"]


def test_what_a_training_writes_for_others_is_told_from_its_checkpoint(tmp_path) -> None:
    status, verdicts = prove(tmp_path, fault="weights", options=("--needless", "note", "--checkpoint", "last.*"))
    assert status == 0, verdicts
    assert verdicts["step reset"]["outcome"].startswith("changes the end: ")


def test_all_files_that_a_checkpoint_consists_of_have_their_parts(tmp_path) -> None:
    status, verdicts = prove(tmp_path, fault="two files", options=("--needless", "note", "--kills", "0"))
    assert status == 0, verdicts
    for part in ("w", "step", "momentum"):
        assert verdicts[f"{part} reset"]["outcome"].startswith("changes the end: "), part


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (["true"], "names no folder"),
        (["true", "{}"], "leaves no tensors"),
        (["false", "{}"], "ends with 1 undisturbed"),
        (["no-such-trainer", "{}"], "No such file"),
    ],
)
def test_what_cannot_be_tried_is_said_in_a_sentence(command, words) -> None:
    tool = [sys.executable, "-m", "workshop.prove", "--", *command]
    done = subprocess.run(tool, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, "Traceback" in done.stderr) == (2, False)
    assert words in done.stderr


@pytest.mark.parametrize("with_signal", [signal.SIGTERM, signal.SIGKILL])
def test_nothing_that_it_has_started_outlives_it(tmp_path, with_signal) -> None:
    (tmp_path / "train.py").write_text(
        "import os, sys, time; print(os.getpid(), file=open(sys.argv[1] + '/pid', 'w', 1)); time.sleep(1e6)"
    )
    command = [sys.executable, "-m", "workshop.prove", "--folder", str(tmp_path / "runs")]
    tool = subprocess.Popen([*command, "--", sys.executable, str(tmp_path / "train.py"), "{}"], cwd=ROOT)
    place = tmp_path / "runs" / "peace" / "pid"
    while not (place.exists() and place.read_text().strip()):
        assert tool.poll() is None
        time.sleep(0.01)
    trainer = os.pidfd_open(int(place.read_text()))
    tool.send_signal(with_signal)
    assert tool.wait(60) != 0
    assert select.select([trainer], [], [], 60)[0] == [trainer]
    os.close(trainer)
