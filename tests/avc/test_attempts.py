"""Attempts at a run: each in its own folder, the newest is the run, an older one is refused."""

import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import BinaryIO

import pytest

from avc.encoders.load import read_run
from avc.runs.attempt import StaleAttempt, history, start_attempt
from avc.runs.checkpoint import Checkpoint, load_newest, save
from avc.runs.events import newest_step
from launch.slurm.status import status_lines
from tests.avc.launching import Training, assert_same_bits, final_state, metrics, train_here, write_config


def begin(run: Path):  # type: ignore[no-untyped-def]
    return start_attempt(run, world_size=1, micro_batch_pairs=8)


def checkpoint_of(step: int) -> Checkpoint:
    return Checkpoint(step=step, model={}, optimizer={}, config={}, best_score=0.0)


def signed_in_as(run: Path) -> int:
    return begin(run).record.number


def test_an_orphan_of_before_a_cut_is_refused_after_the_run_went_on(small_world, tmp_path) -> None:
    config = write_config(tmp_path, small_world)
    whole, run = tmp_path / "whole", tmp_path / "run"
    Training(config, whole).finish()
    # A stopped process is what a cut-off node's is to the others: alive, with files open, silent until it is not.
    orphan = Training(config, run)
    orphan.wait_for_step(4)
    orphan.signal(signal.SIGSTOP)
    successor = Training(config, run)
    successor.wait_for_step(6)
    orphan.signal(signal.SIGCONT)
    said = orphan.finish(status=1)
    assert "attempt 1" in said and "superseded: attempt 2 began" in said and "Traceback" not in said
    successor.finish()
    assert_same_bits(final_state(whole), final_state(run))
    assert [line["loss"] for line in metrics(run)] == [line["loss"] for line in metrics(whole)]
    assert [path.name for path in (run / "attempts" / "00001").iterdir() if path.is_dir()] == []
    assert [record.number for record in history(run)] == [1, 2]


def test_a_write_between_the_look_and_the_rename_lands_outside_of_the_run(tmp_path) -> None:
    stale = begin(tmp_path)
    save(stale, checkpoint_of(10), keep=2)

    def slow(file: BinaryIO) -> None:  # the check is done, and now another attempt signs in and goes further
        file.write(b"stale")
        later = begin(tmp_path)
        save(later, checkpoint_of(20), keep=2)

    with pytest.raises(StaleAttempt, match="attempt 2 began"):  # its folder has been cleared
        stale.write("checkpoints/step-00000030.pt", slow)
    newest = load_newest(tmp_path / "latest")
    assert newest is not None and newest.step == 20
    steps = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert steps == ["step-00000010.pt", "step-00000020.pt"]


def test_a_stale_attempt_that_is_not_even_checked_cannot_reach_the_run(tmp_path) -> None:
    stale = begin(tmp_path)
    save(stale, checkpoint_of(10), keep=1)
    fresh = begin(tmp_path)
    (stale.folder / "checkpoints").mkdir(exist_ok=True)
    for name in ("step-00000010.pt", "step-00000099.pt"):
        (stale.folder / "checkpoints" / name).write_bytes(b"stale")
    for find in (lambda: fresh.folder, lambda: tmp_path / "latest", lambda: begin(tmp_path).folder):
        newest = load_newest(find())
        assert newest is not None and newest.step == 10


def test_processes_that_sign_in_at_once_get_a_number_each(tmp_path) -> None:
    with ProcessPoolExecutor(4) as processes:
        numbers = sorted(processes.map(signed_in_as, [tmp_path] * 24))
    assert numbers == list(range(1, 25))
    assert (tmp_path / "latest").resolve().name == "00024"
    assert not [path.name for path in (tmp_path / "attempts").iterdir() if path.name.startswith(".")]


def test_a_link_that_an_older_attempt_set_back_is_set_right_by_the_run(tmp_path) -> None:
    begin(tmp_path)
    fresh = begin(tmp_path)
    link = tmp_path / "latest"
    link.unlink()
    link.symlink_to("attempts/00001")
    fresh.check()
    assert link.resolve() == fresh.folder.resolve()


@pytest.mark.parametrize("name", ["config.yaml", "manifest.json"])
def test_a_folder_that_is_no_run_is_left_alone(tmp_path, name) -> None:
    (tmp_path / name).write_text("mine")
    with pytest.raises(ValueError, match=f"{name} is in the way"):
        begin(tmp_path)
    assert (tmp_path / name).read_text() == "mine"


def with_files(run: Path, copy: Path) -> None:
    """As cp -rL, scp -r, zip -r and the tools of object stores do."""
    shutil.copytree(run, copy)


def without_links(run: Path, copy: Path) -> None:
    """As rclone and rsync -r do."""
    shutil.copytree(run, copy, ignore=lambda place, names: [name for name in names if Path(place, name).is_symlink()])


def with_the_targets_names(run: Path, copy: Path) -> None:
    """As unzip tools and version control do where they make no links: small files that hold where the links led."""
    without_links(run, copy)
    for link in run.iterdir():
        if link.is_symlink():
            (copy / link.name).write_text(str(link.readlink()))


@pytest.fixture(scope="module")
def half_done(small_world, tmp_path_factory):  # type: ignore[no-untyped-def]
    """A configuration of six steps and a run that was ended after three."""
    folder = tmp_path_factory.mktemp("half")
    config = write_config(folder, small_world, validation={"every_steps": 0})
    train_here(config, folder / "run", "training.steps=3")
    return config, folder / "run"


@pytest.mark.parametrize("copied", [with_files, without_links, with_the_targets_names])
def test_a_run_copied_without_its_links_is_read_and_goes_on_to_the_same_bits(
    half_done, tmp_path, copied: Callable[[Path, Path], None]
) -> None:
    config, run = half_done
    copy = tmp_path / "copy"
    copied(run, copy)
    assert [path for path in copy.iterdir() if path.is_symlink()] == []
    assert read_run(copy)[1].read_bytes() == (run / "model.safetensors").read_bytes()
    assert newest_step(copy) == 3
    assert dict(status_lines(copy))["step"] == "3 of 3"
    shutil.copytree(run, tmp_path / "itself", symlinks=True)
    said = train_here(config, copy, "training.steps=6")
    train_here(config, tmp_path / "itself", "training.steps=6")
    assert "attempt 2, from step 3" in said
    assert_same_bits(final_state(tmp_path / "itself"), final_state(copy))
    assert (copy / "model.safetensors").read_bytes() == (tmp_path / "itself" / "model.safetensors").read_bytes()
    assert [line["loss"] for line in metrics(copy)] == [line["loss"] for line in metrics(tmp_path / "itself")]
    moved = copy / "copied-00002"  # nothing of the copy is lost, and it is said where it is
    assert moved.is_dir() == (copied is not without_links)
    if moved.is_dir():
        assert "latest, config.yaml, metrics.jsonl, checkpoints, model.safetensors: links once" in said
        assert str(moved) in said
        assert sorted(path.name for path in moved.iterdir()) == [
            *("checkpoints", "config.yaml", "latest", "metrics.jsonl", "model.safetensors"),
        ]


def test_a_run_folder_can_be_read_after_it_was_moved(tmp_path) -> None:
    save(begin(tmp_path / "here"), checkpoint_of(10), keep=1)
    (tmp_path / "here").rename(tmp_path / "there")
    newest = load_newest(tmp_path / "there" / "latest")
    assert newest is not None and newest.step == 10


def test_a_script_that_trains_without_a_guard_is_told_of_it_and_begins_one_attempt(small_world, tmp_path) -> None:
    config, run, script = (
        write_config(tmp_path, small_world, data={"num_workers": 1}),
        tmp_path / "run",
        tmp_path / "x.py",
    )
    script.write_text(f"import launch.train\nlaunch.train.run({str(config)!r}, ['run.dir={run}'])\n")
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 1
    assert 'under `if __name__ == "__main__":`' in done.stderr
    assert len(history(run)) == 1
