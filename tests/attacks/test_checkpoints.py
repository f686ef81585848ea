"""Checkpoints and records of a run that were damaged or made to do harm: words and status 2, or a loud way on."""

import json
import os
import pickle
import shutil
import socket
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from avc.runs.checkpoint import load_newest
from launch.slurm.status import status_lines
from tests.attacks.runs import newest, refused, train
from tests.avc.launching import assert_same_bits, final_state, metrics

pytestmark = pytest.mark.usefixtures("bounded")


def altered(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    """A damage: a checkpoint that torch reads, with other content."""

    def damage(path: Path) -> None:
        content = torch.load(path, weights_only=True)
        change(content)
        torch.save(content, path)

    return damage


def cut(share: float) -> Callable[[Path], None]:
    return lambda path: path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])


def flip(path: Path) -> None:
    """One bit of a weight, which torch reads without a word."""
    data = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        largest = max(archive.infolist(), key=lambda entry: entry.file_size)
    data[largest.header_offset + 400] ^= 1
    path.write_bytes(data)
    assert load_newest(path.parents[1]) is not None


def other_archive(path: Path) -> None:
    path.unlink()
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("hello.txt", "hello")


def compressed(path: Path) -> None:
    """More zeros than there are bytes in the file, as a bomb would have."""
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, part in parts.items():
            archive.writestr(name, part)
        with archive.open("archive/data/999", "w", force_zip64=True) as file:
            file.write(bytes(2**26))


class Code:
    """Touches a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def code(path: Path) -> None:
    path.write_bytes(pickle.dumps(Code(path.parents[3] / "harm")))


def code_in_an_archive(path: Path) -> None:
    torch.save({"format": 2, "step": Code(path.parents[3] / "harm")}, path)


WHOLE_NO_MORE = {
    "empty": cut(0),
    "a hundredth": cut(0.01),
    "half": cut(0.5),
    "all but the last bytes": cut(0.9999),
    "a flipped bit": flip,
    "zeros": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "text": lambda path: path.write_text("to be or not to be\n" * 99),
    "another archive": other_archive,
    "a compressed archive": compressed,
    "a pickle with code": code,
    "code in an archive": code_in_an_archive,
    "an older form of torch's": lambda path: torch.save({"format": 2}, path, _use_new_zipfile_serialization=False),
}


@pytest.mark.parametrize("kind", WHOLE_NO_MORE)
def test_a_damaged_newest_checkpoint_is_named_and_the_run_ends_as_if_it_had_been_killed_before(
    trained, run, kind
) -> None:
    WHOLE_NO_MORE[kind](newest(run))
    done = train(trained[0], run)
    assert done.returncode == 0, done
    assert "step-00000002.pt is no whole checkpoint" in done.stdout
    assert "GOES ON FROM step-00000001.pt" in done.stdout and "from step 1\n" in done.stdout
    assert_same_bits(final_state(trained[1]), final_state(run))
    assert [line["loss"] for line in metrics(run)] == [line["loss"] for line in metrics(trained[1])]
    assert (run / "checkpoints" / "step-00000002.pt.damaged").exists()
    assert not (run / "harm").exists()


@pytest.mark.parametrize("kind", WHOLE_NO_MORE)
def test_a_run_without_a_whole_checkpoint_is_refused_with_the_file_and_a_way_out(trained, run, kind) -> None:
    (run / "checkpoints" / "step-00000001.pt").unlink()
    WHOLE_NO_MORE[kind](newest(run))
    said = refused(train(trained[0], run))
    assert "step-00000002.pt is no whole checkpoint" in said and "choose another run.dir" in said
    assert not (run / "attempts" / "00002").exists()


def first_weight(content: dict[str, Any]) -> str:
    return next(iter(content["model"]))


ANOTHERS = {
    "a list": (lambda path: torch.save([1], path), "format 'list'"),
    "format 99": (altered(lambda c: c.update(format=99)), "format 99"),
    "no optimizer": (altered(lambda c: c.pop("optimizer")), "optimizer: Field required"),
    "no step": (altered(lambda c: c.pop("step")), "step: Field required"),
    "step NaN": (altered(lambda c: c.update(step=float("nan"))), "step: Input should be a valid integer"),
    "step -2": (altered(lambda c: c.update(step=-2)), "greater than or equal to 0"),
    "step 7": (altered(lambda c: c.update(step=7)), "was saved at step 7"),
    "a best score that is NaN": (altered(lambda c: c.update(best_score=float("nan"))), "best_score"),
    "no settings": (altered(lambda c: c.update(config=None)), "config: Input should be a valid dictionary"),
    "other settings": (altered(lambda c: c["config"]["model"].update(name="l3")), "model.name was 'l3'"),
    "another network": (altered(lambda c: c.update(model={"x": torch.zeros(1)})), "is missing there"),
    "a missing tensor": (altered(lambda c: c["model"].pop(first_weight(c))), "is missing there"),
    "one too many": (altered(lambda c: c["model"].update(x=torch.zeros(1))), "there and missing in this run"),
    "another shape": (
        altered(lambda c: c["model"].update({first_weight(c): torch.zeros(3)})),
        "is float32 (3,) there",
    ),
    "other numbers": (altered(lambda c: c["model"].update({first_weight(c): "seven"})), "is no tensor (str) there"),
    "no moments": (altered(lambda c: c["optimizer"].update(state={})), "the optimizer's state is missing there"),
    "moments of another shape": (
        altered(lambda c: c["optimizer"]["state"][0].update(exp_avg=torch.zeros(3))),
        "parameter 0 is {",
    ),
    "another optimizer": (
        altered(lambda c: c["optimizer"]["param_groups"][0].update(betas="much")),
        "the optimizer's settings is",
    ),
    "a folder": (lambda path: (path.unlink(), path.mkdir()), "cannot be read: Is a directory"),
    "a pipe": (lambda path: (path.unlink(), os.mkfifo(path)), "is a named pipe, and only files and folders"),
    "a socket": (lambda path: (path.unlink(), listen(path)), "is a socket, and only files and folders"),
    "a link": (lambda path: (path.unlink(), path.symlink_to("/etc/passwd")), "is a symbolic link, and only files"),
}


def listen(path: Path) -> None:
    before = Path.cwd()
    os.chdir(path.parent)  # the name of a socket must be short
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(path.name)
    os.chdir(before)


@pytest.mark.parametrize("kind", ANOTHERS)
def test_a_checkpoint_that_is_anothers_is_refused_with_the_file_and_the_reason(trained, run, kind) -> None:
    damage, reason = ANOTHERS[kind]
    damage(newest(run))
    said = refused(train(trained[0], run))
    assert reason in said and str(run) in said
    assert not (run / "attempts" / "00002").exists()


def test_an_optimizers_settings_in_a_checkpoint_have_no_effect(trained, run, tmp_path) -> None:
    untouched = tmp_path / "untouched"
    shutil.copytree(run, untouched, symlinks=True)
    group = {"lr": 7.0, "decoupled_weight_decay": True, "capturable": True, "differentiable": True}
    altered(lambda c: c["optimizer"]["param_groups"][0].update(group))(newest(run))
    for folder in (untouched, run):
        assert train(trained[0], folder, steps=3).returncode == 0
    assert_same_bits(final_state(untouched), final_state(run))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_a_checkpoint_that_may_not_be_read_is_refused(trained, run) -> None:
    newest(run).chmod(0)
    assert "cannot be read: Permission denied" in refused(train(trained[0], run))


def test_folders_that_are_no_attempts_are_left_alone(trained, run) -> None:
    others = ["00001-backup", "backup", "1", "000001", "٣", ".DS_Store", ".nfs00001", ".00001.mine"]
    for name in others:
        (run / "attempts" / name).mkdir()
        (run / "attempts" / name / "mine").touch()
    assert train(trained[0], run, steps=3).returncode == 0
    assert all((run / "attempts" / name / "mine").exists() for name in others)
    assert [name for name, _ in status_lines(run) if name.startswith("attempt")] == ["attempt 1", "attempt 2"]


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("attempt.json", "", "is not what a training wrote"),
        ("attempt.json", "[" * 100_000, "is not what a training wrote"),
        ("attempt.json", '{"number": 1}', "is not what a training wrote"),
        ("attempt.json", None, "is no attempt at a run"),
        ("ended.json", "null", "is not what a training wrote"),
        ("metrics.jsonl", '{"kind": "train"}\n', "not every line is metrics"),
        ("metrics.jsonl", "\udcff".encode("utf-8", "surrogateescape") * 9 + b"\n", "not every line is metrics"),
    ],
)
def test_damaged_records_of_an_attempt_are_refused_by_their_names(trained, run, name, content, reason) -> None:
    path = run / "attempts" / "00001" / name
    path.unlink()
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    said = refused(train(trained[0], run))
    assert reason in said and name in said


def test_a_record_of_another_number_or_with_an_id_that_is_a_path_is_refused(trained, run) -> None:
    path = run / "attempts" / "00001" / "attempt.json"
    record = json.loads(path.read_text())
    for wrong in ({"number": 7}, {"wandb_id": "../../id"}):
        path.write_text(json.dumps(record | wrong))
        assert str(path) in refused(train(trained[0], run))
