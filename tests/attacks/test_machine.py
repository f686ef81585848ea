"""A machine that is too small or too full, and pipes in the place of files: words, and nothing that waits."""

import os
import resource
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from avc.models.released import import_soundnet
from shards.atomic import refuse_special, written_aside
from tests.attacks.runs import newest, refused, train
from tests.avc.launching import assert_same_bits, final_state
from tests.command_line import avc

pytestmark = pytest.mark.usefixtures("bounded")


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
        import_soundnet(tmp_path / "none", pipe)


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
