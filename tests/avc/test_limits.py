"""Memory for batches is compared with what the machine and the cgroup leave before any is taken."""

import sys
from pathlib import Path

import pytest

import avc.data.limits
from avc.data.limits import free_bytes
from avc.data.reader import PairReader
from avc.data.sampler import PairSampler
from shards.read import Shards
from tests.avc.launching import batches_of


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """/proc and /sys/fs/cgroup of a machine with 8 GB free, and this process in the cgroup job/step."""
    write(
        tmp_path / "proc/meminfo",
        "MemTotal: 16000000 kB\nMemAvailable:    8000000 kB\nHugePages_Total: 0\n",
    )
    write(tmp_path / "proc/self/cgroup", "0::/job/step\n")
    return tmp_path


def free(machine: Path) -> int:
    return free_bytes(machine / "proc", machine / "cgroup")


def test_without_a_limit_what_the_machine_has_is_free(machine) -> None:
    assert free(machine) == 8_000_000 * 1024
    write(machine / "cgroup/job/memory.max", "max\n")
    write(machine / "cgroup/job/memory.current", "1\n")
    write(machine / "cgroup/job/memory.stat", "anon 1\n")
    assert free(machine) == 8_000_000 * 1024


@pytest.mark.parametrize("group", ["job/step", "job", "."])  # in a container the process sees the root alone
def test_the_limit_of_any_cgroup_around_the_process_counts_and_cached_files_do_not(machine, group) -> None:
    write(machine / "cgroup" / group / "memory.max", "1000000\n")
    write(machine / "cgroup" / group / "memory.current", "700000\n")
    write(machine / "cgroup" / group / "memory.stat", "anon 500000\ninactive_file 150000\nactive_file 50000\n")
    assert free(machine) == 500_000


def test_the_limit_of_an_older_cgroup_counts(machine) -> None:
    write(machine / "proc/self/cgroup", "12:cpu,cpuacct:/job\n9:memory:/job\n")
    write(machine / "cgroup/memory/job/memory.limit_in_bytes", "1000000\n")
    write(machine / "cgroup/memory/job/memory.usage_in_bytes", "700000\n")
    write(machine / "cgroup/memory/job/memory.stat", "cache 0\n")
    assert free(machine) == 300_000


def test_this_machine_has_some_memory_free() -> None:
    assert 0 < free_bytes() < sys.maxsize


def test_batches_that_do_not_fit_are_refused_with_what_they_need_and_what_there_is(small_world, monkeypatch) -> None:
    monkeypatch.setattr(avc.data.limits, "free_bytes", lambda: 10_000_000)
    shards = Shards(small_world)
    reader = PairReader(shards, PairSampler(shards.index, shards.clips("train"), seed=0), image_size=56, augment=False)
    words = (
        r"4 batches of 64 rows take 0.0[0-9]+ GB .* is 0.005 GB for each of 1 ranks: lower data.num_workers \(now 2\)"
    )
    with pytest.raises(ValueError, match=words):
        next(batches_of(reader, iter([(0, 64)]), num_workers=2))
