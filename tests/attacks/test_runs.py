"""Run folders, checkpoints and settings that were damaged or made to do harm: words and status 2, or a loud way on."""

import json
import os
import pickle
import re
import resource
import shutil
import socket
import subprocess
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from avc.config import load_config, parse_config
from avc.models.released import import_soundnet
from avc.runs.checkpoint import load_newest
from avc.runs.events import say, starts, submitted_job
from avc.settings import Config
from launch.slurm.cluster_file import load_cluster
from launch.slurm.status import status_lines
from shards.atomic import refuse_special, written_aside
from shards.read import Shards
from shards.sidecars import Layout, Teacher, Teaching, begin, digest_of, frame_ticks, verify_sidecars, write_sidecar
from tests.avc.launching import assert_same_bits, final_state, metrics, write_config
from tests.command_line import Done, avc

LARGEST_GROWTH, LONGEST_SECONDS = 10**9, 10.0
TINY = {"validation": {"every_steps": 0}, "checkpoint": {"every_steps": 1}}


@pytest.fixture(autouse=True)
def bounded() -> Iterator[None]:
    """Each attack ends within 10 s of work and with no more than 1 GB of memory on top of what there was."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak is what is used now
    before, began = peak_bytes(), time.process_time()
    yield
    assert time.process_time() - began < LONGEST_SECONDS
    assert peak_bytes() - before < LARGEST_GROWTH


def peak_bytes() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


@pytest.fixture(scope="module")
def trained(small_world, tmp_path_factory) -> tuple[Path, Path]:
    """A configuration, and the folder of a run by it with checkpoints at steps 1 and 2 of 2."""
    folder = tmp_path_factory.mktemp("trained")
    config = write_config(folder, small_world, **TINY)
    assert train(config, folder / "run").returncode == 0
    return config, folder / "run"


@pytest.fixture
def run(trained, tmp_path) -> Path:
    """A copy of that run."""
    shutil.copytree(trained[1], tmp_path / "run", symlinks=True)
    return tmp_path / "run"


def train(config: Path, run: Path, *overrides: str, steps: int = 2) -> Done:
    return avc("train", config, f"run.dir={run}", f"training.steps={steps}", *overrides)


def refused(done: Done) -> str:
    """The one paragraph of a command that ended with status 2."""
    assert done.returncode == 2, done
    assert done.stderr.count("\n") == 1 and done.stderr.startswith("avc "), done.stderr
    return done.stderr


def newest(run: Path) -> Path:
    return (run / "checkpoints" / "step-00000002.pt").resolve()


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
    "a best score that is NaN": (altered(lambda c: c.update(best_accuracy=float("nan"))), "best_accuracy"),
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


@pytest.fixture
def precious(tmp_path) -> Path:
    """A folder that a run has no business with."""
    folder = tmp_path / "precious"
    (folder / "checkpoints").mkdir(parents=True)
    for name in ("secret", "metrics.jsonl", "attempt.json", "checkpoints/step-00000009.pt"):
        (folder / name).write_text("mine")
        (folder / name).chmod(0o600)
    return folder


def untouched(folder: Path) -> bool:
    return [path.read_text() for path in folder.rglob("*") if path.is_file()] == ["mine"] * 4


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
    teaching = Teaching(digest_of(shards), (Teacher("objects", 2, "00"),), 25)
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


DEEP = {
    "a nested list": "[" * 100_000,
    "nested sections": "{a: " * 100_000,
    "a setting nested deep": "training: {steps: " + "[" * 50_000 + "]" * 50_000 + "}",
    "names that repeat": "a: &a [x,x]\n"
    + "".join(f"{c}: &{c} [*{b},*{b}]\n" for b, c in pairwise("abcdefghijklmnopqrstuvw")),
    "a value that repeats": "run: &a {x: 1}\ntraining: {steps: &b [1], device: [*b, *b]}",
    "a list within itself": "training: {steps: &a [*a]}",
    "a number of 5,000 digits": "training: {steps: " + "9" * 5000 + "}",
    "a hexadecimal number of 20,000 bits": "training: {steps: 0x" + "f" * 5000 + "}",
    "a date that is none": "training: {steps: 2001-99-99}",
    "many unknown names": "".join(f"x{number}: 1\n" for number in range(5000)),
    "a long unknown name": "x" * 100_000 + ": 1",
    "a key that is a list": "? [a]\n: 1",
    "a program": "training: {steps: !!python/object/apply:os.system [touch harm]}",
    "two megabytes": "# " + "x" * 2_000_000,
    "not UTF-8": b"\xff\xfe",
    "a folder of nobody": "run: {dir: ~nobody-at-all/run}",
    "a path with a NUL": 'data: {shards: "a\\0b"}',
}


@pytest.mark.parametrize("kind", DEEP)
@pytest.mark.parametrize("read", [load_config, load_cluster])
def test_a_file_of_settings_is_refused_in_one_paragraph_whatever_it_holds(tmp_path, kind, read) -> None:
    path, text = tmp_path / "settings.yaml", DEEP[kind]
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ValueError, match=re.escape(str(path))) as refusal:
        read(path)
    assert len(str(refusal.value)) < 3000
    assert not Path("harm").exists()


@pytest.mark.parametrize("text", ["[" * 100_000, "9" * 5000, "0x" + "f" * 5000, "1e30", "1" + "0" * 30, "0", "-1"])
def test_a_setting_that_is_given_on_the_command_line_is_refused_by_its_name(text) -> None:
    with pytest.raises(ValueError, match=r"`training\.steps` is ") as refusal:
        parse_config({}, [f"training.steps={text}"])
    assert len(str(refusal.value)) < 1000


def test_every_number_among_the_settings_has_an_upper_bound() -> None:
    for section, field in Config.model_fields.items():
        for name, setting in field.annotation.model_fields.items():
            for value in (10**30, 2**63, float("inf")):
                if setting.annotation in (int, float):
                    number = value if setting.annotation is float or isinstance(value, float) else int(value)
                    with pytest.raises(ValueError, match=f"`{section}.{name}`"):
                        parse_config({section: {name: number}})


def test_batches_that_fill_the_memory_are_refused_before_anything_is_taken(trained, tmp_path) -> None:
    sizes = ("data.num_workers=200", "optim.batch_pairs=983040", "optim.micro_batch_pairs=983040")
    said = refused(train(trained[0], tmp_path / "run", *sizes))
    assert "GB of memory" in said and "lower data.num_workers" in said
    assert not (tmp_path / "run").exists()


def test_too_few_open_files_are_refused_with_how_many_it_takes(trained, tmp_path) -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (100, before[1]))
    try:
        said = refused(train(trained[0], tmp_path / "run", "data.num_workers=32"))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert "may have 100 files open at once" in said and "ulimit -n 160" in said


def test_a_process_that_cannot_open_another_file_says_so(trained, tmp_path) -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    opened = len(os.listdir("/proc/self/fd"))
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(opened, 32), before[1]))
    held = []
    try:
        with suppress(OSError):
            while True:
                held.append(os.open("/dev/null", os.O_RDONLY))
        done = train(trained[0], tmp_path / "run")
    finally:
        for number in held:
            os.close(number)
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert done.returncode in (1, 2) and done.stderr.count("\n") == 1
    assert "Too many open files" in done.stderr


def test_a_named_pipe_for_a_file_is_refused_instead_of_waited_at(trained, small_world, tmp_path) -> None:
    pipes = [tmp_path / name for name in ("pipe", "pipe.npy", "pipe.safetensors", "pipe.json", "pipe.png")]
    for pipe in pipes:
        os.mkfifo(pipe)
    pipe, npy, safetensors, as_json, png = pipes
    for command in (
        *(
            ("import", "soundnet8", pipe, "--out", tmp_path / "x"),
            ("import", "soundnet8", npy, "--out", tmp_path / "x"),
        ),
        ("teach", small_world, "--teacher", npy),
        ("teach", small_world, "--teacher", "torchvision:resnet18:" + str(pipe)),
        *(("teach", small_world, "--teacher", tmp_path / "none.npy", "--out", pipe), ("pack", pipe, "--out", pipe)),
        *(("eval", "sound", safetensors, "dataset=folder", f"root={tmp_path}"), ("verify", pipe)),
        *(("localize", trained[1], "--image", png, "--sound", png, "--out", png),),
        *(("train", trained[0], f"run.dir={pipe}"), ("train", trained[0], f"data.shards={pipe}")),
        *(("status", pipe), ("merge", pipe)),
    ):
        refused(avc(*command))
    with pytest.raises(ValueError, match="a file belongs there"), written_aside(as_json):
        pass
    for device in ("/dev/null", "/dev/stdout"):
        with pytest.raises(ValueError, match="a file belongs there"):
            refuse_special(Path(device))
    assert all(pipe.is_fifo() for pipe in pipes)
    with pytest.raises(ValueError, match="is a named pipe, and a file belongs there"):
        import_soundnet("soundnet8", tmp_path / "none", pipe)


@pytest.fixture
def full(tmp_path) -> Iterator[Path]:
    """A file system of 16 MB."""
    folder = tmp_path / "full"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", folder], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"a small file system cannot be mounted here: {mounted.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def test_a_full_disk_ends_a_training_in_words_and_it_goes_on_when_there_is_room(trained, full) -> None:
    size = newest(trained[1]).stat().st_size
    filler = full / "filler"
    filler.write_bytes(bytes(2**24 - 17 * size // 10))  # weights are a third of a checkpoint
    done = train(trained[0], full / "run")
    assert done.returncode == 1, done
    assert done.stderr.count("\n") == 1 and "No space left on device. What was saved before is whole" in done.stderr
    assert "step-00000002.pt: " in done.stderr
    assert not list(full.rglob("*.part"))
    filler.unlink()
    assert train(trained[0], full / "run").returncode == 0
    assert_same_bits(final_state(trained[1]), final_state(full / "run"))


@pytest.mark.parametrize("share", [0.0001, 0.1, 0.9])
def test_a_file_that_may_not_grow_ends_a_training_in_words(trained, run, share) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    largest = int(share * newest(run).stat().st_size)
    resource.setrlimit(resource.RLIMIT_FSIZE, (largest, before[1]))
    try:
        done = train(trained[0], run, steps=3)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert done.returncode == 1 and done.stderr.count("\n") == 1, done
    assert "File too large" in done.stderr and str(run) in done.stderr
    assert train(trained[0], run, steps=3).returncode == 0
