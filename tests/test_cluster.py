"""The cluster of the tests leaves nothing behind, whatever was running on it."""

import subprocess
from pathlib import Path

import pytest

from tests.cluster import NODES, Cluster, missing, sweep, wait_until

pytestmark = pytest.mark.skipif(missing() is not None, reason=str(missing()))


def namespaces() -> str:
    return subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True).stdout


def processes_with(words: str) -> list[str]:
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
        if words in command:
            found.append(command)
    return found


def test_a_cluster_that_is_stopped_leaves_no_process_and_no_namespace(tmp_path) -> None:
    cluster = Cluster(tmp_path / "cluster")
    try:
        cluster.start()
        assert sorted(cluster.ask("srun", "-N4", "--ntasks-per-node=1", "hostname").split()) == list(NODES)
        task = f"tail -f {cluster.folder / 'hosts'}"
        cluster.ask("sbatch", "-N2", "--wrap", f"setsid {task} & srun --overlap {task}")
        wait_until(lambda: len(processes_with(task)) >= 4, seconds=60, what="the job runs")
        assert cluster.owner in namespaces()
    finally:
        cluster.stop()
    assert not processes_with(str(tmp_path))
    assert cluster.owner not in namespaces()


def test_a_cluster_that_cannot_start_leaves_nothing_either(tmp_path, monkeypatch) -> None:
    cluster = Cluster(tmp_path / "cluster")
    start_node = cluster.start_node

    def fail_at_the_third(node: str) -> None:
        assert node != "n3"
        start_node(node)

    monkeypatch.setattr(cluster, "start_node", fail_at_the_third)
    try:
        with pytest.raises(AssertionError):
            cluster.start()
        wait_until(lambda: len(processes_with(str(tmp_path))) >= 4, seconds=10, what="what was started shows")
    finally:
        cluster.stop()
    assert not processes_with(str(tmp_path))
    assert cluster.owner not in namespaces()


def test_what_a_killed_test_left_is_swept_away(tmp_path) -> None:
    left = "avcffffffx0n1"  # no process has this number
    subprocess.run(["ip", "netns", "add", left], check=True)
    lasting = subprocess.Popen(["nsenter", f"--net=/run/netns/{left}", "sleep", "1000"])
    sweep()
    assert left not in namespaces()
    assert lasting.wait(timeout=10) < 0
