"""`avc teach` stores what the teachers see, whatever happens to it on the way."""

import hashlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from avc.teachers.label_shards import teach
from avc.teachers.teacher import NetworkTeacher, Source, parse_source, to_teacher
from shards.read import Shards
from shards.sidecars import FINISHED
from shards.soft_labels import SoftLabels
from tests.teaching import TinyTeacher, long_clips, tiny_teachers

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("packed")
    return long_clips(folder, seconds=(2.0, 1.4, 3.0, 2.2, 1.2, 2.6, 1.8, 2.4), shard_bytes=700_000)


@pytest.fixture(scope="module")
def sources(packed, tmp_path_factory: pytest.TempPathFactory) -> list[Source]:
    return tiny_teachers(tmp_path_factory.mktemp("teachers"), packed, spacing_ticks=25)


def digests(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def test_the_stored_soft_labels_are_those_of_each_frame(packed, sources, tmp_path) -> None:
    assert teach(packed, tmp_path, sources, spacing_ticks=25, devices=[CPU]) is not None
    shards = Shards(packed)
    labels = SoftLabels(tmp_path, shards)
    assert [(teacher.name, teacher.classes) for teacher in labels.teachers] == [("objects", 6), ("scenes", 4)]
    for number, model in enumerate((TinyTeacher(6, seed=1), TinyTeacher(4, seed=2))):
        for clip in range(len(shards)):
            ticks = labels.ticks(clip).tolist()
            pictures = torch.from_numpy(np.stack([shards.picture(clip, tick) for tick in ticks]))
            with torch.no_grad():
                expected = model.eval()(to_teacher(pictures, 32)).softmax(dim=1)
            np.testing.assert_allclose(labels.read(clip, number), expected.numpy(), atol=2e-3)


def test_a_network_labels_frames_as_its_probabilities_from_elsewhere_say(packed, sources, tmp_path) -> None:
    shards = Shards(packed)
    teach(packed, tmp_path, sources, spacing_ticks=25, devices=[CPU])
    labels = SoftLabels(tmp_path, shards)
    teacher = NetworkTeacher(TinyTeacher(6, seed=1).eval(), classes=6, name="objects", size=32)
    clips = list(range(len(shards)))
    ticks = [labels.ticks(clip).tolist() for clip in clips]
    frames = [torch.from_numpy(np.stack([shards.picture(clip, t) for t in ticks[clip]])) for clip in clips]
    with torch.inference_mode():
        for clip, rows in zip(clips, teacher.soft_labels(clips, frames, CPU), strict=True):
            np.testing.assert_allclose(rows, labels.read(clip, 0), atol=2e-3)
        teacher.network.fc.bias.fill_(float("nan"))
        with pytest.raises(ValueError, match="the teacher objects does not give probabilities"):
            teacher.soft_labels(clips, frames, CPU)


def test_a_killed_teaching_goes_on_and_ends_with_the_same_bytes(packed, tmp_path) -> None:
    shards = len(Shards(packed).manifest.shards)
    assert shards >= 4, "too few to be killed between"
    sources = tiny_teachers(tmp_path, packed, spacing_ticks=5)
    teach(packed, tmp_path / "whole", sources, spacing_ticks=5, devices=[CPU])
    out = tmp_path / "killed"
    command = [sys.executable, "-m", "launch.cli", "teach", str(packed), "--out", str(out), "--every", "0.2"]
    for source in sources:
        command += ["--teacher", str(source.path)]
    process = subprocess.Popen(
        [*command, "--workers", "1", "--device", "cpu"], stderr=subprocess.DEVNULL, start_new_session=True
    )
    while not list(out.glob("*.tar")):
        assert process.poll() is None
        time.sleep(0.002)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    written = {path.name: path.stat().st_mtime_ns for path in out.glob("*.tar")}
    assert len(written) < shards and not (out / FINISHED).exists(), "it was killed too late to show anything"
    subprocess.run([*command, "--workers", "2", "--device", "cpu"], check=True, capture_output=True)
    assert digests(out) == digests(tmp_path / "whole")
    assert {name: (out / name).stat().st_mtime_ns for name in written} == written, "what was written is not done again"


def test_machines_that_each_take_a_share_end_with_the_same_bytes(packed, sources, tmp_path) -> None:
    for share in ((2, 2), (1, 2)):
        done = teach(packed, tmp_path / "two", sources, spacing_ticks=25, devices=[CPU], share=share)
        assert (done is None) == (share == (2, 2))
    teach(packed, tmp_path / "one", sources, spacing_ticks=25, devices=[CPU])
    assert digests(tmp_path / "two") == digests(tmp_path / "one")


def test_probabilities_from_elsewhere_are_taken_by_the_rows_of_the_index(packed, sources, tmp_path) -> None:
    shards = Shards(packed)
    given = np.random.default_rng(0).dirichlet(np.ones(9), size=len(shards)).astype(np.float32)
    np.save(tmp_path / "places.npy", given)
    both = [sources[0], parse_source(f"scenes={tmp_path / 'places.npy'}")]
    teach(packed, tmp_path / "out", both, spacing_ticks=25, devices=[CPU])
    labels = SoftLabels(tmp_path / "out", shards)
    for clip in range(len(shards)):
        read = labels.read(clip, 1)
        assert read.shape == (len(labels.ticks(clip)), 9)
        np.testing.assert_allclose(read, np.broadcast_to(given[clip], read.shape), atol=1e-3)
    np.save(tmp_path / "logits.npy", 5 * given - 1)
    np.save(tmp_path / "short.npy", given[:-1])
    for name, message in (
        ("logits", r"row \d+ of .*logits\.npy holds no probabilities for the clip"),
        ("short", "wanted are floating-point numbers of shape"),
    ):
        source = parse_source(str(tmp_path / f"{name}.npy"))
        with pytest.raises(ValueError, match=message):
            teach(packed, tmp_path / name, [source], spacing_ticks=25, devices=[CPU])


def test_another_teacher_of_the_same_name_does_not_go_on_with_the_first_ones_work(packed, sources, tmp_path) -> None:
    teach(packed, tmp_path / "out", sources[:1], spacing_ticks=25, devices=[CPU])
    np.save(tmp_path / "objects.npy", np.full((len(Shards(packed)), 6), 1 / 6, np.float32))
    other = parse_source(str(tmp_path / "objects.npy"))
    with pytest.raises(ValueError, match="was begun with other teachers"):
        teach(packed, tmp_path / "out", [other], spacing_ticks=25, devices=[CPU])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("teacher.onnx", "is no teacher: give a .npy file"),
        ("teacher.pt2", "is no teacher: give a .npy file"),
        ("ob jects=x.npy", "must be of a-z, 0-9"),
        ("absent.npy", "the teacher absent.npy cannot be read: No such file"),
    ],
)
def test_what_is_no_teacher_is_refused_in_words(packed, tmp_path, text, message) -> None:
    with pytest.raises(ValueError, match=message):
        teach(packed, tmp_path / "out", [parse_source(text)], spacing_ticks=25, devices=[CPU])


def test_two_teachers_of_one_name_are_refused(packed, sources, tmp_path) -> None:
    with pytest.raises(ValueError, match="two teachers are called the same"):
        teach(packed, tmp_path, [sources[0], sources[0]], spacing_ticks=25, devices=[CPU])


def test_a_torchvision_network_is_read_from_its_weights_alone_or_torchvision_is_asked_for(packed, tmp_path) -> None:
    source = parse_source(f"objects=torchvision:resnet18:{tmp_path / 'weights.pth'}")
    assert (source.name, source.architecture) == ("objects", "resnet18")
    try:
        from torchvision.models import resnet18
    except ImportError:
        source.path.write_bytes(b"")
        with pytest.raises(ValueError, match="torchvision is not installed"):
            teach(packed, tmp_path / "out", [source], spacing_ticks=25, devices=[CPU])
        return
    torch.manual_seed(0)
    weights = {f"module.{name}": value for name, value in resnet18(num_classes=11).state_dict().items()}
    torch.save({"state_dict": weights}, source.path)
    teach(packed, tmp_path / "out", [source], spacing_ticks=100, devices=[CPU])
    assert SoftLabels(tmp_path / "out", Shards(packed)).teachers[0].classes == 11
