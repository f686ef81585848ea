"""SoundNet trains by the same loop, with the same guarantees, and learns what its teachers saw."""

import json
import random
from pathlib import Path

import numpy as np
import pytest
import torch

from avc.config import load_config
from avc.data.segments import SegmentReader
from avc.encoders.load import load
from avc.evaluation.soundnet import load_student
from avc.tasks import task_of
from avc.tasks.distillation import Distillation, divergences, student_sampler, teachers_of
from avc.teachers.label_shards import teach
from avc.teachers.teacher import parse_source
from launch.commands.evaluate import evaluate
from shards.read import Shards
from tests.avc.launching import Training, assert_same_bits, batches_of, final_state, metrics, train_here, write_config
from tests.avc.networks import fresh
from tests.teaching import long_clips, tiny_teachers

CPU = torch.device("cpu")
LENGTHS = (8.0, 3.0, 8.0, 7.5, 3.2, 8.0, 8.0, 2.8, 2.0, 7.2)
STUDENT = {
    "model": {"name": "soundnet5", "width": 0.0625, "objects": 6, "scenes": 4},
    "data": {"repeat": False},
    "optim": {"batch_pairs": 4, "micro_batch_pairs": 2, "lr": 1e-3, "weight_decay": 0.0},
    "training": {"steps": 6},
    "validation": {"every_steps": 3},
    "checkpoint": {"every_steps": 2},
}


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shards of clips of 2 to 8 s, whose teachers are two tiny networks."""
    folder = tmp_path_factory.mktemp("taught")
    shards = long_clips(folder, seconds=LENGTHS)
    sources = tiny_teachers(folder, shards, spacing_ticks=25)
    teach(shards, shards / "teachers", sources, spacing_ticks=25, devices=[CPU])
    return shards


def config_of(taught: Path, folder: Path, **changes: dict[str, object]):
    return load_config(write_config(folder, taught, **{**STUDENT, **changes}))


def test_a_killed_student_of_two_ranks_ends_with_the_bits_of_the_uninterrupted_one(taught, tmp_path) -> None:
    config = write_config(tmp_path, taught, **STUDENT)
    Training(config, tmp_path / "whole", world_size=2).finish()
    killed = Training(config, tmp_path / "killed", world_size=2)
    killed.wait_for_step(step := random.randrange(1, 6))
    print(f"killed once step {step} was logged")  # which a failure shows
    killed.kill()
    output = Training(config, tmp_path / "killed", world_size=2).finish()
    assert "teachers objects (6 classes) and scenes (4 classes), up to 2 output steps" in output
    assert "1 clips are too short for one output step and are left out" in output
    assert_same_bits(final_state(tmp_path / "whole"), final_state(tmp_path / "killed"))
    for kind in ("train", "validation"):
        lines = [[line for line in metrics(tmp_path / run) if line["kind"] == kind] for run in ("whole", "killed")]
        figures = [[(line["step"], line["loss"], line["kl_objects"]) for line in one] for one in lines]
        assert figures[0] == figures[1] and figures[0]


def test_the_clips_that_are_used_do_not_depend_on_the_number_of_ranks(taught, tmp_path) -> None:
    config = write_config(tmp_path, taught, **STUDENT)
    digests = []
    for world_size in (1, 2):
        run = tmp_path / f"ranks-{world_size}"
        Training(config, run, "training.steps=4", world_size=world_size).finish()
        digests.append([line["data/pairs_digest"] for line in metrics(run) if line["kind"] == "train"])
    assert digests[0] == digests[1] and len(digests[0]) == 4


def test_the_soft_labels_are_among_what_a_resumed_run_is_held_to(taught, tmp_path) -> None:
    task = task_of(config_of(taught, tmp_path), Shards(taught))
    assert task.inputs == {"teachers": taught / "teachers" / "posteriors.json"} and task.inputs["teachers"].is_file()


def test_a_batch_has_the_sound_and_the_mean_posterior_of_each_steps_frames(taught, tmp_path) -> None:
    config = config_of(taught, tmp_path)
    shards = Shards(taught)
    sampler, posteriors = student_sampler(config, shards, split="train"), teachers_of(config, shards)
    reader = SegmentReader(shards, sampler, posteriors)
    rows = sampler.rows(0, 4)
    for workers in (0, 2):
        [batch] = batches_of(reader, iter([(0, 4)]), num_workers=workers)
        assert batch.steps.tolist() == rows.steps.tolist()
        for i, (clip, first, ticks, steps) in enumerate(
            zip(*(getattr(rows, name).tolist() for name in ("clip", "first_tick", "ticks", "steps")), strict=True)
        ):
            assert not batch.audio[i, ticks * 882 :].any() and batch.audio[i, : ticks * 882].any()
            seen, at = posteriors.read(clip, 0).astype(np.float64), posteriors.ticks(clip)
            for step in range(steps):
                low, high = first + ticks * step / steps, first + ticks * (step + 1) / steps
                expected = seen[(at >= low) & (at < high)].mean(axis=0)
                np.testing.assert_allclose(batch.objects[i, step], expected, atol=1e-3)
            assert not batch.objects[i, steps:].any()


@pytest.mark.parametrize("workers", [0, 1])
def test_a_student_of_one_teacher_reads_with_workers_too(taught, tmp_path, workers) -> None:
    source = parse_source(str(taught.parent / "objects.npy"))
    teach(taught, tmp_path / "one", [source], spacing_ticks=25, devices=[CPU])
    config = config_of(
        taught, tmp_path, data={"teachers": str(tmp_path / "one")}, model=STUDENT["model"] | {"scenes": 0}
    )
    [batch] = batches_of(task_of(config, Shards(taught)).reader, iter([(0, 4)]), num_workers=workers)
    assert batch.objects.shape[2] == 6 and batch.scenes.shape[2] == 0 and batch.audio.any()


def test_the_soft_labels_of_repeated_clips_are_those_of_the_frames_whose_sound_repeats(taught, tmp_path) -> None:
    config = config_of(taught, tmp_path, data={})
    shards = Shards(taught)
    sampler, posteriors = student_sampler(config, shards, split="train"), teachers_of(config, shards)
    assert sampler.too_short == 0, "clips of 2 s are learnt from as well"
    rows, batch = sampler.rows(0, 4), SegmentReader(shards, sampler, posteriors)[0, 4]
    assert batch.audio.shape == (4, 441_000) and batch.steps.tolist() == [sampler.most_steps] * 4
    for i, (clip, first, ticks) in enumerate(zip(rows.clip, rows.first_tick, rows.ticks, strict=True)):
        period = int(ticks) * 882
        assert torch.equal(batch.audio[i, period:], batch.audio[i, :-period])
        seen, at = posteriors.read(int(clip), 1).astype(np.float64), posteriors.ticks(int(clip))
        frame_at = {int(tick): row for tick, row in zip(at, seen, strict=True)}
        edges = np.arange(sampler.most_steps + 1) * 500 / sampler.most_steps
        for step in range(sampler.most_steps):
            span = np.arange(int(np.ceil(edges[step])), int(np.ceil(edges[step + 1])))
            heard = [frame_at[tick] for tick in (first + span % ticks).tolist() if tick in frame_at]
            np.testing.assert_allclose(batch.scenes[i, step], np.mean(heard, axis=0), atol=1e-3)


def test_the_divergence_is_kl_of_the_student_from_the_teacher_at_the_clips_own_steps(taught, tmp_path) -> None:
    config = config_of(taught, tmp_path)
    shards = Shards(taught)
    sampler, posteriors = student_sampler(config, shards, split="train"), teachers_of(config, shards)
    [batch] = batches_of(SegmentReader(shards, sampler, posteriors), iter([(0, 4)]), num_workers=0)
    assert len(set(batch.steps.tolist())) == 2, "rows of equal length would not show the mask"
    torch.manual_seed(0)
    student = fresh("soundnet5", width=0.0625, objects=6, scenes=4).eval()
    with torch.no_grad():
        divergence, distance, _ = divergences(student, batch, config)
        logits = student(batch.audio.float() / 128)[0]
    for i, steps in enumerate(batch.steps.tolist()):
        assert not divergence[:, i, steps:].any()
        for step in range(steps):
            teacher = batch.objects[i, step].double()
            teacher = torch.distributions.Categorical(probs=teacher)
            own = torch.distributions.Categorical(logits=logits[i, :, step].double())
            expected = torch.distributions.kl_divergence(teacher, own)
            assert divergence[0, i, step].item() == pytest.approx(expected.item(), abs=1e-4)
            squared = (teacher.probs - own.probs).square().sum()
            assert distance[0, i, step].item() == pytest.approx(squared.item(), abs=1e-4)


def test_the_students_weights_are_those_that_it_ended_with_and_nothing_else_is_taken_for_one(taught, tmp_path) -> None:
    config = write_config(tmp_path, taught, **STUDENT, run={"seed": 4})
    run = tmp_path / "run"
    train_here(config, run, "validation.every_steps=0", "training.steps=2")
    student, settings = load_student(run)
    assert settings.model.objects == 6
    assert student(torch.zeros(1, 8 * 22_050))[0].shape == (1, 6, 2)
    state = final_state(run)
    for name, tensor in student.state_dict().items():
        assert torch.equal(tensor, state[f"model.{name}"])
    with pytest.raises(ValueError, match="SoundNet-5 only hears"):
        load(run)


def test_other_teachers_than_the_student_learns_from_are_refused(taught, tmp_path) -> None:
    config = config_of(taught, tmp_path, model={"name": "soundnet5"})
    with pytest.raises(ValueError, match=r"has the teachers objects \(6 classes\) and scenes \(4 classes\), and sou"):
        teachers_of(config, Shards(taught))


@pytest.mark.parametrize(("left_out", "teacher", "classes"), [("scenes", "objects", 6), ("objects", "scenes", 4)])
def test_a_student_of_one_teacher_alone_learns_from_that_one_and_has_no_other_outputs(
    taught, tmp_path, left_out, teacher, classes
) -> None:
    config = write_config(tmp_path, taught, **STUDENT)
    run = tmp_path / "run"
    train_here(config, run, "training.steps=1", "validation.every_steps=1", f"model.{left_out}=0")
    [line] = [line for line in metrics(run) if line["kind"] == "train"]
    assert f"kl_{teacher}" in line and f"kl_{left_out}" not in line
    assert line["loss"] > 0
    student, settings = load_student(run)
    assert settings.model.teachers == {teacher: classes}
    [logits] = student(torch.zeros(1, 8 * 22_050))
    assert logits.shape == (1, classes, 2)


def test_with_the_l2_loss_the_students_loss_is_the_squared_distance_and_not_kl(taught, tmp_path) -> None:
    [kl, l2] = [config_of(taught, tmp_path, distillation={"loss": loss}) for loss in ("kl", "l2")]
    shards = Shards(taught)
    torch.manual_seed(0)
    student = fresh("soundnet5", width=0.0625, objects=6, scenes=4).eval()
    tasks = [Distillation.on(config, shards) for config in (kl, l2)]
    batch = tasks[0].reader[0, 4]
    divergence, distance, _ = divergences(student, batch, kl)
    assert tasks[0].loss(student, batch).total.item() == pytest.approx(divergence.sum().item())
    assert tasks[1].loss(student, batch).total.item() == pytest.approx(distance.sum().item())
    assert torch.equal(tasks[0].loss(student, batch).metrics, tasks[1].loss(student, batch).metrics)


def test_a_student_without_any_teacher_is_refused(taught, tmp_path) -> None:
    with pytest.raises(ValueError, match=r"objects: 0 and scenes: 0 are no two teachers, nor one"):
        config_of(taught, tmp_path, model={"name": "soundnet5", "objects": 0, "scenes": 0})


def test_agreement_is_measured_beside_what_needs_no_hearing(taught, tmp_path, capsys) -> None:
    run = tmp_path / "run"
    train_here(write_config(tmp_path, taught, **STUDENT), run, "training.steps=1")
    evaluate("agreement", [str(run), "passes=1"], json=tmp_path / "agreement.json")
    said = capsys.readouterr().out
    assert "judged on the validation split, which chose the weights too" in said
    objects, scenes = json.loads((tmp_path / "agreement.json").read_text())["teachers"]
    assert "output steps of the validation split" in said
    assert objects["chance"] == pytest.approx(1 / 6) and scenes["chance"] == 0.25
    lengths = LENGTHS[1::2]
    assert objects["steps"] == sum(2 if length > 7.1 else 1 if length > 2.7 else 0 for length in lengths)
    for row in (objects, scenes):
        assert 0 <= row["top1"] <= 1 and row["constant"] >= 1 / row["classes"] and row["kl"] >= 0
