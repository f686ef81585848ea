"""What must be as it was when a run goes on, and what is said when it is not."""

import shutil

import pytest
import torch

from avc.config import parse_config
from avc.runs.attempt import start_attempt
from avc.runs.checkpoint import Checkpoint, save
from avc.runs.resuming import digests, resume
from shards.format import PackSettings
from shards.pack import pack
from shards.read import Shards
from tests.avc.launching import assert_same_bits, final_state, write_config
from tests.command_line import avc
from tests.small_videos import render_video


@pytest.fixture
def saved(tmp_path):  # type: ignore[no-untyped-def]
    """A configuration of a run, of which a checkpoint at step 5 is there, with the digests that it noted."""

    def saved(inputs: dict[str, str], **sections: dict[str, object]):  # type: ignore[no-untyped-def]
        config = parse_config({"run": {"dir": str(tmp_path)}, **sections})
        settings = config.model_dump(mode="json")
        checkpoint = Checkpoint(5, model={}, optimizer={}, config=settings, best_score=0.0, inputs=inputs)
        save(start_attempt(tmp_path, world_size=1, micro_batch_pairs=2), checkpoint, keep=1)
        return config

    return saved


def test_a_run_does_not_go_on_with_shards_to_which_videos_were_added(small_world, tmp_path) -> None:
    shards, extra = tmp_path / "shards", tmp_path / "extra"
    shutil.copytree(small_world, shards)
    config = write_config(tmp_path, shards, validation={"every_steps": 0})
    assert avc("train", config, f"run.dir={tmp_path / 'run'}", "training.steps=1").returncode == 0
    before = final_state(tmp_path / "run")
    extra.mkdir()
    render_video(extra / "one-more.mp4", seed=1)
    world = small_world.parent
    lists = {"validation": world / "validation.txt"}
    settings = PackSettings(side=64, split=(1.0, 0.0, 0.0))
    packed = pack([world / "world" / "videos", extra], shards, settings, split_lists=lists, workers=1)
    assert (packed.done, packed.skipped) == (1, 40)
    done = avc("train", config, f"run.dir={tmp_path / 'run'}", "training.steps=2")
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert "holds a run on other shards" in done.stderr and "pack new videos into a folder of their own" in done.stderr
    assert_same_bits(before, final_state(tmp_path / "run"))
    done = avc("train", config, f"run.dir={tmp_path / 'run'}", "training.steps=2", f"data.shards={small_world}")
    assert done.returncode == 0  # the same shards elsewhere


def test_a_checkpoint_from_before_digests_goes_on_and_says_so(small_world, tmp_path) -> None:
    config = write_config(tmp_path, small_world, validation={"every_steps": 0})
    assert avc("train", config, f"run.dir={tmp_path / 'run'}", "training.steps=1").returncode == 0
    path = tmp_path / "run" / "checkpoints" / "step-00000001.pt"
    content = torch.load(path, weights_only=True)
    assert content.pop("inputs") == digests(Shards(small_world), {})
    torch.save(content, path)
    done = avc("train", config, f"run.dir={tmp_path / 'run'}", "training.steps=2")
    assert done.returncode == 0
    assert done.stdout.count("no digest of its shards: whether they are the same cannot be checked\n") == 1
    done = avc("train", config, f"run.dir={tmp_path / 'run'}", "training.steps=3")
    assert "digest" not in done.stdout


@pytest.mark.parametrize("name", ["teachers", "labels"])
def test_other_posteriors_and_other_labels_are_refused_by_their_names(saved, name) -> None:
    config = saved({"shards": "1" * 64, name: "2" * 64})
    assert resume(config, {"shards": "1" * 64, name: "2" * 64}).checkpoint is not None
    with pytest.raises(ValueError, match=rf"holds a run on other {name}: .* was 222222222222 and is now 333333333333"):
        resume(config, {"shards": "1" * 64, name: "3" * 64})


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"training": {"precision": "bf16"}}, "training.precision was 'fp32' and is now 'bf16'"),
        ({"training": {"sync_batchnorm": True}}, "training.sync_batchnorm was False and is now True"),
        ({"run": {"seed": 3}}, "run.seed was 0 and is now 3"),
        ({"optim": {"batch_pairs": 64}}, "optim.batch_pairs was 256 and is now 64"),
    ],
)
def test_what_decides_what_is_learnt_does_not_change(saved, tmp_path, changes, words) -> None:
    saved({})
    changes["run"] = changes.get("run", {}) | {"dir": str(tmp_path)}
    with pytest.raises(ValueError, match=words):
        resume(parse_config(changes), {})


def test_settings_that_have_come_since_a_run_began_had_their_defaults(saved, tmp_path) -> None:
    config = saved({})
    path = next((tmp_path / "checkpoints").glob("*.pt"))
    content = torch.load(path, weights_only=True)
    del content["config"]["negatives"]["block"]
    torch.save(content, path)
    assert resume(config, {}).remarks == resume(parse_config(config.model_dump()), {}).remarks
    with pytest.raises(ValueError, match=r"negatives.block was 16 and is now 8"):
        resume(parse_config(config.model_dump(), ["negatives.block=8"]), {})


@pytest.mark.parametrize(
    ("section", "name", "value", "said"),
    [
        *(("training", "steps", 2000, True), ("training", "device", "cpu", True), ("training", "compile", True, True)),
        ("validation", "split", "test", True),
        *(("log", "every_steps", 3, False), ("data", "num_workers", 0, False), ("checkpoint", "keep", 9, False)),
    ],
)
def test_what_may_change_is_said_where_a_number_depends_on_it(saved, tmp_path, section, name, value, said) -> None:
    saved({})
    found = resume(parse_config({"run": {"dir": str(tmp_path)}, section: {name: value}}), {})
    assert [f"{section}.{name} was" in remark for remark in found.remarks] == [True] * said


def test_fewer_steps_than_are_done_are_refused_and_as_many_are_done_already(small_world, tmp_path) -> None:
    config, run = write_config(tmp_path, small_world, validation={"every_steps": 0}), tmp_path / "run"
    assert avc("train", config, f"run.dir={run}", "training.steps=3").returncode == 0
    done = avc("train", config, f"run.dir={run}", "training.steps=2")
    assert done.returncode == 2
    assert done.stderr.startswith(f"avc train: {run} holds a run that is at step 3 already, and training.steps is 2")
    assert not (run / "attempts" / "00002").exists()
    done = avc("train", config, f"run.dir={run}", "training.steps=3")
    assert done.returncode == 0 and "all 3 steps are done already" in done.stdout
