"""torchrun on two hosts, each a network namespace: a rank is killed, all start again, the bits are the same."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.avc.launching import assert_same_bits, final_state, metrics, write_config

ROOT = Path(__file__).resolve().parents[2]
HOSTS = {"avct1": "10.98.7.1", "avct2": "10.98.7.2"}
CHANGES = {
    "training": {"steps": 20, "process_group_timeout_seconds": 30},
    "validation": {"every_steps": 0},
    "checkpoint": {"every_steps": 4},
}


@pytest.fixture
def hosts() -> Iterator[dict[str, str]]:
    """Two network namespaces joined by one cable."""
    if os.geteuid() or not shutil.which("ip"):
        pytest.skip("network namespaces need root and iproute2")
    one, other = HOSTS
    try:
        for name in HOSTS:
            ip("netns", "add", name)
        ip("link", "add", "cable", "netns", one, "type", "veth", "peer", "name", "cable", "netns", other)
        for name, address in HOSTS.items():
            ip("-n", name, "address", "add", f"{address}/24", "dev", "cable")
            for device in ("lo", "cable"):
                ip("-n", name, "link", "set", device, "up")
        yield HOSTS
    finally:
        for name in HOSTS:
            subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True)


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


class Agents:
    """torchrun as the README says, one agent on each host with two ranks."""

    def __init__(self, hosts: dict[str, str], config: Path, run: Path, logs: Path) -> None:
        self.run, self.logs, self.processes = run, logs, []
        logs.mkdir()
        first = next(iter(hosts.values()))
        for name, address in hosts.items():
            command = [
                *("ip", "netns", "exec", name, sys.executable, "-m", "torch.distributed.run"),
                *("--nnodes", "2", "--nproc-per-node", "2", "--max-restarts", "3"),
                *("--rdzv-backend", "c10d", "--rdzv-endpoint", f"{first}:29400", "--rdzv-id", "ave"),
                *("--rdzv-conf", f"is_host={str(address == first).lower()}", "--local-addr", address),
                *("-m", "launch.train", str(config), f"run.dir={run}"),
            ]
            environment = {
                "OMP_NUM_THREADS": "1",
                "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1",
                "GLOO_SOCKET_IFNAME": "cable",
            }
            with (logs / name).open("w") as log:
                self.processes.append(
                    subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log, env=os.environ | environment)
                )

    def said(self) -> str:
        return "\n".join(path.read_text() for path in sorted(self.logs.iterdir()))

    def wait_for_step(self, step: int) -> None:
        deadline = time.monotonic() + 200
        while not any(line["step"] >= step for line in metrics(self.run)):
            assert time.monotonic() < deadline and all(one.poll() is None for one in self.processes), self.said()
            time.sleep(0.01)

    def ranks(self, agent: int) -> list[int]:
        """The processes of an agent's ranks."""
        children = Path(f"/proc/{self.processes[agent].pid}/task/{self.processes[agent].pid}/children")
        found = [int(pid) for pid in children.read_text().split()]
        return [pid for pid in found if b"launch.train" in Path(f"/proc/{pid}/cmdline").read_bytes()]

    def finish(self) -> str:
        for process in self.processes:
            assert process.wait(timeout=200) == 0, self.said()
        return self.said()

    def kill(self) -> None:
        for agent, process in enumerate(self.processes):
            with suppress(OSError):
                for pid in self.ranks(agent):
                    os.kill(pid, signal.SIGKILL)
            process.kill()
            process.wait()


def test_after_a_rank_is_killed_torchrun_restarts_all_on_both_hosts_and_the_bits_are_the_same(
    small_world, tmp_path, hosts
) -> None:
    config = write_config(tmp_path, small_world, **CHANGES)
    states = []
    for name in ("whole", "killed"):
        agents = Agents(hosts, config, tmp_path / name, tmp_path / f"{name}-logs")
        try:
            if name == "killed":
                agents.wait_for_step(6)
                os.kill(agents.ranks(1)[0], signal.SIGKILL)
            said = agents.finish()
        finally:
            agents.kill()
        states.append(final_state(tmp_path / name))
    assert "attempt 2, from step" in said
    assert_same_bits(*states)
    lines = [[line["loss"] for line in metrics(tmp_path / name)] for name in ("whole", "killed")]
    assert lines[0] == lines[1] and len(lines[0]) == 20
