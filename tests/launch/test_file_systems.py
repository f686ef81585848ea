"""What file systems refuse: it works without, in words, or one paragraph says what is lacking."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from shards.copy import copy_packed
from shards.format import PackSettings
from shards.pack import pack
from shards.store import Url
from tests.avc.launching import assert_same_bits, final_state, write_config
from tests.object_store import Proxy
from tests.small_videos import render_folder

# Refuses calls that have to do with what is below FOLDER, as file systems do: REFUSED is "flock:38 symlink:95".
LIBRARY = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>
static int below(const char *path) { return !strncmp(path, getenv("FOLDER"), strlen(getenv("FOLDER"))); }
static int holds(int fd) {
    char name[64], path[4096];
    snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(name, path, sizeof path - 1);
    path[length < 0 ? 0 : length] = 0;
    return below(path);
}
static int refuses(const char *name, int here) {
    const char *all = getenv("REFUSED"), *at = all;
    for (; here && (at = strstr(at, name)); at++)
        if ((at == all || at[-1] == ' ') && at[strlen(name)] == ':') return errno = atoi(at + strlen(name) + 1);
    return 0;
}
#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
int flock(int fd, int how) { return refuses("flock", holds(fd)) ? -1 : NEXT(flock)(fd, how); }
int fsync(int fd) { return refuses("fsync", holds(fd)) ? -1 : NEXT(fsync)(fd); }
int ftruncate64(int fd, off64_t size) { return refuses("ftruncate", holds(fd)) ? -1 : NEXT(ftruncate64)(fd, size); }
int symlink(const char *to, const char *path) { return refuses("symlink", below(path)) ? -1 : NEXT(symlink)(to, path); }
int link(const char *old, const char *path) { return refuses("link", below(path)) ? -1 : NEXT(link)(old, path); }
int rename(const char *old, const char *path) { return refuses("rename", below(path)) ? -1 : NEXT(rename)(old, path); }
void *mmap(void *at, size_t size, int may, int how, int fd, off_t start) {
    return fd >= 0 && refuses("mmap", holds(fd)) ? MAP_FAILED : NEXT(mmap)(at, size, may, how, fd, start);
}
void *mmap64(void *at, size_t size, int may, int how, int fd, off64_t start) {
    return fd >= 0 && refuses("mmap", holds(fd)) ? MAP_FAILED : NEXT(mmap64)(at, size, may, how, fd, start);
}
"""
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which("gcc")
    if compiler is None:
        pytest.skip("there is no gcc on this machine to build a library that refuses calls")
    folder = tmp_path_factory.mktemp("library")
    (folder / "refuse.c").write_text(LIBRARY)
    words = [compiler, "-shared", "-fPIC", "-o", str(folder / "refuse.so"), str(folder / "refuse.c"), "-ldl"]
    subprocess.run(words, check=True, capture_output=True)
    return folder / "refuse.so"


@pytest.fixture
def refusing(library: Path, tmp_path: Path) -> Run:
    """Runs python with arguments where calls in a folder are refused: by their names, with an error each."""

    def run(*arguments: object, path: str | None = None, **refused: int) -> subprocess.CompletedProcess[str]:
        settings = {"LD_PRELOAD": str(library), "FOLDER": str(tmp_path / "there"), "OMP_NUM_THREADS": "1"}
        settings["REFUSED"] = " ".join(f"{name}:{number}" for name, number in refused.items())
        environment = os.environ | settings | ({"PATH": path} if path else {})
        words = [sys.executable, *map(str, arguments)]
        return subprocess.run(words, env=environment, capture_output=True, text=True, check=False, timeout=300)

    (tmp_path / "there").mkdir()
    return run


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return render_folder(tmp_path_factory.mktemp("videos"), videos=2)


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_packing_and_merging_without_locks_say_so_once_and_give_the_same_bytes(
    refusing: Run, videos: Path, tmp_path: Path, number: int
) -> None:
    there, options = tmp_path / "there" / "out", ("--side", 32, "--task", "1/1", "--workers", 1)
    done = refusing("-m", "launch.cli", "pack", videos, "--out", there, *options, flock=number)
    assert done.returncode == 0, done.stderr
    said = f"avc pack: this file system has no locks (flock: {os.strerror(number)}): nothing keeps a second process"
    assert done.stderr.count(said) == 1 and "Warning" not in done.stderr
    done = refusing("-m", "launch.cli", "merge", there, flock=number)
    assert done.returncode == 0 and done.stderr.count("avc merge: this file system has no locks") == 1, done.stderr
    here = refusing("-m", "launch.cli", "pack", videos, "--out", tmp_path / "here", *options, flock=number)
    assert here.returncode == 0 and "locks" not in here.stderr  # another file system
    refusing("-m", "launch.cli", "merge", tmp_path / "here")
    assert content(there) == content(tmp_path / "here")


def test_without_locks_a_packer_that_finds_lines_of_another_ends(refusing: Run, tmp_path: Path) -> None:
    code = f"""if True:
        from pathlib import Path
        from shards.format import PackSettings, Reason
        from shards.journal import Journal, Rejection
        from shards.sources import Source

        folder = Path({str(tmp_path / "there")!r})
        one, other = (Journal(folder, PackSettings(), shard_bytes=10**6) for _ in range(2))
        for journal in (one, one, other):
            journal.append(Rejection(Source("name", "path", None, 1, 1), Reason.SILENT, ""))
            journal.flush()
            print("written")
    """
    done = refusing("-c", code, flock=errno.ENOSYS)
    assert "ValueError: another `avc pack` has written to" in done.stderr
    assert done.stdout == "written\nwritten\n"


@pytest.mark.parametrize(
    ("refused", "words"),
    [({}, "sbatch"), ({"symlink": errno.EPERM}, "is on a file system without symbolic links, which submitit needs")],
    ids=["locks", "locks-links"],
)
def test_a_sweep_without_locks_says_so_and_goes_on_and_names_what_it_cannot_do_without(
    refusing: Run, small_world: Path, tmp_path: Path, refused: dict[str, int], words: str
) -> None:
    commands = tmp_path / "bin"  # stand in for SLURM, which refuses the first job: it is past the lock then
    commands.mkdir()
    for name in ("sbatch", "srun", "squeue", "scontrol"):
        (commands / name).write_text("#!/bin/sh\necho 'Invalid job id' >&2\nexit 1\n")
        (commands / name).chmod(0o755)
    (tmp_path / "sweep.yaml").write_text(
        f"program: {write_config(tmp_path, small_world)}\nmethod: grid\nmetric: {{name: train/loss}}\n"
        "parameters: {optim.lr: {values: [1e-3]}}\n"
    )
    (tmp_path / "cluster.yaml").write_text("nodes: 1\ngpus: false\ncpus_per_rank: 1\ntime_limit_minutes: 30\n")
    command = ("workshop.sweep", tmp_path / "sweep.yaml", "--cluster", tmp_path / "cluster.yaml")
    there = tmp_path / "there" / "sweep"
    path = f"{commands}:{os.environ['PATH']}"
    done = refusing("-m", *command, f"run.dir={there}", path=path, flock=errno.ENOLCK, **refused)
    assert done.returncode == 2 and "Traceback" not in done.stderr, done.stderr
    assert "workshop.sweep: this file system has no locks" in done.stderr and words in done.stderr


@pytest.fixture(scope="module")
def trained(small_world: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A configuration, and a run of it to step 4 where nothing is refused."""
    folder = tmp_path_factory.mktemp("trained")
    config = write_config(folder, small_world, validation={"every_steps": 0}, training={"steps": 4})
    words = [sys.executable, "-m", "launch.cli", "train", str(config), f"run.dir={folder / 'run'}"]
    for steps in (2, 4):
        subprocess.run([*words, f"training.steps={steps}"], check=True, capture_output=True)
    return config, folder / "run"


@pytest.mark.parametrize(
    "refused",
    [
        {"symlink": errno.EOPNOTSUPP, "link": errno.EPERM, "fsync": errno.EINVAL},
        {"symlink": errno.EPERM, "mmap": errno.ENODEV},
    ],
    ids=lambda refused: "-".join(refused),
)
def test_a_training_goes_on_without_links_mapping_or_syncing_to_the_same_bits(
    refusing: Run, trained: tuple[Path, Path], tmp_path: Path, refused: dict[str, int]
) -> None:
    config, whole = trained
    there = tmp_path / "there" / "run"
    for steps in (2, 4):
        words = ("train", config, f"run.dir={there}", f"training.steps={steps}")
        done = refusing("-m", "launch.cli", *words, **refused)
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("is on a file system without symbolic links") == 1
        assert done.stderr.count("avc train: this file system does not say when something is on its disk") == (
            "fsync" in refused
        )
    assert "attempt 2, from step 2" in done.stdout
    assert [path for path in there.rglob("*") if path.is_symlink()] == []
    assert_same_bits(final_state(there), final_state(whole))
    done = refusing("-m", "launch.cli", "status", there, **refused)
    assert done.returncode == 0 and "4 of 4" in done.stdout
    done = refusing("-m", "launch.cli", "eval", "correspondence", there, "passes=1", **refused)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("command", ["pack", "train", "embed"])
def test_a_file_system_that_cannot_rename_is_named_in_one_paragraph(
    refusing: Run, trained: tuple[Path, Path], videos: Path, tmp_path: Path, command: str
) -> None:
    there = tmp_path / "there" / "out"
    words = {
        "pack": (videos, "--out", there, "--side", 32, "--workers", 1),
        "train": (trained[0], f"run.dir={there}"),
        "embed": (videos, "--run", trained[1], "--out", there, "--hop", 1, "--devices", "cpu", "--workers", 1),
    }
    done = refusing("-m", "launch.cli", command, *words[command], rename=errno.ENOSYS)
    assert done.returncode == 2 and "Traceback" not in done.stderr, done.stderr
    [line] = [line for line in done.stderr.splitlines() if line.startswith(f"avc {command}: ")]
    assert str(there) in line and "Function not implemented. Its file system lacks what is needed here" in line
    assert "put it on another" in line


@pytest.mark.parametrize(("number", "cache"), [(errno.ENOSYS, "data.cache"), (errno.ENOLCK, "XDG_CACHE_HOME")])
def test_a_cache_where_there_are_no_locks_is_named_in_one_paragraph(
    refusing: Run,
    many_shards: Path,
    proxy: Proxy,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    number: int,
    cache: str,
) -> None:
    there, url = tmp_path / "there", Url(f"s3://shelf/{tmp_path.name}")
    copy_packed(many_shards, url, progress=lambda *_: None)
    chosen = [f"data.cache={there}"] if cache == "data.cache" else []
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg" if chosen else there))
    words = ("train", write_config(tmp_path, many_shards), f"data.shards={url}", f"run.dir={tmp_path / 'run'}")
    done = refusing("-m", "launch.cli", *words, *chosen, flock=number)
    assert done.returncode == 2 and "Traceback" not in done.stderr, done.stderr
    assert f"avc train: {there}" in done.stderr
    assert f"{os.strerror(number)}. Its file system lacks what is needed here: put it on another" in done.stderr


def test_a_journal_that_cannot_be_cut_names_the_folder(refusing: Run, videos: Path, tmp_path: Path) -> None:
    there = tmp_path / "there" / "out"
    pack([videos], there, PackSettings(side=32), workers=1)
    words = ("pack", videos, "--out", there, "--side", 32, "--workers", 1)
    done = refusing("-m", "launch.cli", *words, ftruncate=errno.ENOSYS)
    assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
    assert f"avc pack: {there}: Function not implemented. Its file system lacks" in done.stderr
