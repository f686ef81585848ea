"""Links and names that lead out of a folder: nothing is read, written or removed through them."""

import json
import os
import shutil

import numpy as np
import pytest

from avc.runs.checkpoint import load_newest
from avc.runs.events import say, starts, submitted_job
from shards.read import Shards
from shards.sidecars import Layout, Teacher, Teaching, begin, frame_ticks, verify_sidecars, write_sidecar
from tests.attacks.runs import refused, train, untouched
from tests.command_line import avc

pytestmark = pytest.mark.usefixtures("bounded")


@pytest.mark.parametrize(
    "name",
    [
        *("attempts", "attempts/00001", "attempts/00000", "attempts/00001/checkpoints", "wandb"),
        *("attempts/00001/metrics.jsonl", "attempts/00001/attempt.json", "attempts/00001/model.safetensors"),
    ],
)
def test_a_link_in_a_run_folder_is_neither_followed_nor_copied(trained, run, precious, name) -> None:
    link = run / name
    if link.is_dir():
        shutil.rmtree(link)
    link.unlink(missing_ok=True)
    link.symlink_to(precious / "secret" if link.suffix else precious)
    assert f"{link} is a symbolic link" in refused(train(trained[0], run))
    assert untouched(precious)


@pytest.mark.parametrize("name", ["config.yaml", "metrics.jsonl", "model.safetensors", "latest"])
def test_the_runs_own_links_are_set_right_whatever_they_point_to(trained, run, precious, name) -> None:
    (run / name).unlink()
    (run / name).symlink_to(precious / "secret")
    assert train(trained[0], run, steps=3).returncode == 0
    assert untouched(precious) and precious not in (run / name).resolve().parents


def test_a_run_and_its_shards_may_be_reached_by_links(trained, run, tmp_path, small_world) -> None:
    (tmp_path / "elsewhere").symlink_to(run)
    (tmp_path / "shards").symlink_to(small_world)
    done = train(trained[0], tmp_path / "elsewhere", f"data.shards={tmp_path / 'shards'}", steps=3)
    assert done.returncode == 0 and load_newest(run / "latest").step == 3


def test_what_a_job_leaves_goes_through_no_link(precious, tmp_path) -> None:
    run = tmp_path / "run"
    (run / "slurm").mkdir(parents=True)
    (run / "slurm" / "12.0").symlink_to(precious)
    with pytest.raises(ValueError, match=r"12\.0 is a symbolic link"):
        say(run, 12, 0, "started")
    (run / "slurm" / "12.0").unlink()
    say(run, 12, 0, "started")
    word = run / "slurm" / "12.0" / "started.json"
    for wrong in (lambda: word.write_text("{"), lambda: word.write_text("[]"), lambda: os.mkfifo(word)):
        word.unlink()
        wrong()
        with pytest.raises(ValueError, match=r"started\.json is"):
            starts(run)
    (run / "slurm" / "job.json").write_text('{"job": "12; rm"}')
    with pytest.raises(ValueError, match=r"job\.json names no job"):
        submitted_job(run)
    assert untouched(precious)


@pytest.mark.parametrize(
    "name", ["../x.tar", "/tmp/x.tar", "a/b.tar", "task-1-of-2/../../x.tar", "", ".tar", "x\n.tar"]
)
def test_a_manifest_that_names_files_elsewhere_is_refused(small_world, tmp_path, name) -> None:
    folder = tmp_path / "shards"
    shutil.copytree(small_world, folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    for table in ("shards", "tables"):
        wrong = manifest | {table: [manifest[table][0] | {"name": name}, *manifest[table][1:]]}
        (folder / "manifest.json").write_text(json.dumps(wrong))
        for command in (("verify", folder), ("teach", folder, "--teacher", "x.npy", "--out", tmp_path / "out" / "in")):
            assert "is no name of a file in a packed folder" in refused(avc(*command))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["shards"]


def test_sidecars_are_written_through_no_link_and_read_by_no_name_that_leads_out(
    small_world, precious, tmp_path
) -> None:
    shards, out = Shards(small_world), tmp_path / "teachers"
    teaching = Teaching(shards.digest, (Teacher("objects", 2, "00"),), 25)
    out.mkdir()
    part = out / "begun.json.part"
    part.symlink_to(precious / "secret")
    with pytest.raises(ValueError, match=r"begun\.json\.part is a symbolic link"):
        begin(out, teaching)
    part.unlink()
    begin(out, teaching)
    part = out / f"{shards.manifest.shards[0].name}.part"
    part.symlink_to(precious / "secret")
    layout = Layout(shards, teaching)
    row = np.full((1, 2), 0.5, dtype=np.float16)
    frames = [len(frame_ticks(shards.row(clip), teaching.spacing_ticks)) for clip in layout.clips(0)]
    write_sidecar(out, layout, 0, ((np.repeat(row, count, axis=0),) for count in frames))
    assert not part.is_symlink() and untouched(precious)
    content = {"teaching": json.loads((out / "begun.json").read_text()), "files": []}
    content["files"].append({"name": "../precious/secret", "bytes": 4, "sha256": "0"})
    (out / "posteriors.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match="is not what `avc teach` wrote"):
        list(verify_sidecars(out))


@pytest.mark.parametrize("name", ["journal.jsonl", "train-000007.tar.part", "task-0001-of-0002"])
def test_packing_writes_through_no_link(precious, tmp_path, name) -> None:
    out = tmp_path / "shards"
    out.mkdir()
    if not name.startswith(("journal", "task")):
        (out / "journal.jsonl").touch()
    (out / name).symlink_to(precious if name.startswith("task") else precious / "secret")
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "a.mp4").write_text("no video")
    task = ("--task", "1/2") if name.startswith("task") else ()
    assert "is a symbolic link" in refused(avc("pack", tmp_path / "videos", "--out", out, *task))
    assert untouched(precious)
