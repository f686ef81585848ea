"""A real SLURM cluster on this machine: every node a network namespace of its own, whose link can be cut.

It needs root, slurm-wlm, munge and iproute2; `missing()` says what is not there. A cluster has a folder, an address
range and names of its own, so several may run side by side. Whatever it started lives in one of its namespaces or is
its child, and `stop` ends all of it; what a test process that was killed left behind is cleared by the next start.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from tests.object_store import free_ports

PROGRAMS = ("sbatch", "slurmctld", "slurmd", "munged", "ip", "nsenter", "unshare")
OWNER = "avc{process:x}x{tag}"  # begins the name of each namespace and link: whose they are. A link's has 15 letters
NODES = ("n1", "n2", "n3", "n4")

# cred_expire delays every requeue; 5 s is the least. SlurmdTimeout: a silent node is given up after so long.
# config_overrides lets a node have more CPUs than this machine.
CONF = """
ClusterName=avc
SlurmctldHost={controller}({address}.254)
SlurmctldPort={port}
SlurmdPort=6818
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge/sock,cred_expire=5
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
SlurmctldPidFile={folder}/run/slurmctld.pid
SlurmdPidFile={folder}/run/slurmd.%n.pid
SlurmctldLogFile={folder}/log/slurmctld.log
SlurmdLogFile={folder}/log/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_interval=1,sched_min_interval=1,bf_interval=1
SlurmdParameters=config_overrides
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
JobCompType=jobcomp/none
MailProg=/bin/true
ReturnToService=2
JobRequeue=1
KillWait=1
MinJobAge=300
SlurmdTimeout=10
TCPTimeout=2
MessageTimeout=5
PropagateResourceLimits=NONE
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SlurmctldParameters=preempt_send_user_signal
{nodes}
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE PreemptMode=OFF PriorityTier=5 State=UP
PartitionName=low  Nodes=ALL MaxTime=INFINITE PreemptMode=REQUEUE GraceTime=30 PriorityTier=1 State=UP
PartitionName=high Nodes=ALL MaxTime=INFINITE PreemptMode=OFF PriorityTier=10 State=UP
"""

# submitit asks sacct, which answers only where there is an accounting database.
SACCT = """#!/bin/sh
jobs=""
while [ $# -gt 0 ]; do [ "$1" = -j ] && jobs="$jobs,$2"; shift; done
echo "JobID|State|NodeList"
exec squeue -h -r -t all -j "${jobs#,}" -o '%i|%T|%N'
"""


def missing() -> str | None:
    """What this machine lacks for a cluster, in words; None where it lacks nothing."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "a cluster with nodes of its own needs root on Linux"
    absent = [name for name in PROGRAMS if shutil.which(name) is None]
    if absent:
        return f"a cluster needs {', '.join(absent)} (Debian: slurm-wlm, munge, iproute2)"
    probe = f"avcprobe{secrets.token_hex(2)}"
    if subprocess.run(["ip", "netns", "add", probe], capture_output=True, check=False).returncode:
        return "this machine does not allow network namespaces"
    _run("ip", "netns", "delete", probe)
    return None


class Cluster:
    """Nodes n1 to n4 of 8 CPUs each, partitions main, low and high; high preempts low.

    `environment` is what a command needs that is to talk to it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self.owner = OWNER.format(process=os.getpid(), tag=secrets.token_hex(1))
        self.namespaces = {node: f"{self.owner}{node}" for node in NODES}
        self.environment = os.environ | {
            "SLURM_CONF": str(self.folder / "slurm.conf"),
            "PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}",
            "OMP_NUM_THREADS": "1",
        }
        self.daemons: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        """Start everything and wait until all nodes are idle."""
        sweep()
        self._lay_out()
        self._link()
        self._start_controller()
        for node in NODES:
            self.start_node(node)
        wait_until(lambda: self.idle() == set(NODES), seconds=60, what="all nodes are idle")

    def stop(self) -> None:
        """End every process, namespace and link of this cluster; it may have been started in part."""
        for namespace in self.namespaces.values():
            _end_namespace(namespace)
        for daemon in reversed(self.daemons):  # the controller before munged, on which it waits
            daemon.kill()
            daemon.wait()
        subprocess.run(["ip", "link", "delete", self.owner], capture_output=True, check=False)

    def start_node(self, node: str) -> None:
        """Start a node's daemon, the first time or after `kill_node`."""
        inside = (
            f"hostname {node} && mount --bind {self.folder}/hosts /etc/hosts && exec slurmd -D -N {node} -f $SLURM_CONF"
        )
        command = ["nsenter", f"--net=/run/netns/{self.namespaces[node]}", "unshare", "--uts", "--mount"]
        self._daemon([*command, "sh", "-c", inside], name=f"slurmd.{node}")

    def kill_node(self, node: str) -> None:
        """kill -9 for all that runs on a node: daemons, batch scripts, tasks and what they started."""
        _end_processes(self.namespaces[node])

    def cut(self, node: str) -> None:
        """Take a node's link down: its processes live on, and nothing passes."""
        _run("ip", "link", "set", f"{self.owner}{node}h", "down")

    def heal(self, node: str) -> None:
        """Bring a node's link up again."""
        _run("ip", "link", "set", f"{self.owner}{node}h", "up")

    def run(self, *command: object) -> subprocess.CompletedProcess[str]:
        """Run a command that sees the cluster; its exit status is for the caller to judge."""
        words = [str(word) for word in command]
        return subprocess.run(
            words, env=self.environment, capture_output=True, text=True, timeout=120, check=False, cwd=self.folder
        )

    def ask(self, *command: object) -> str:
        """What a command that must succeed prints."""
        done = self.run(*command)
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout.strip()

    def idle(self) -> set[str]:
        """The nodes that are up and run nothing."""
        return set(self.ask("sinfo", "-h", "-N", "-p", "main", "-t", "idle", "-o", "%N").split())

    def state(self, job: str) -> str:
        """The queue's word for a job: PENDING, RUNNING, COMPLETED, FAILED, ..."""
        return self.ask("squeue", "-h", "-t", "all", "-j", job, "-o", "%T")

    def processes(self, node: str, words: str) -> list[int]:
        """The processes of a node whose command line contains `words`."""
        found = []
        for process in _inside(self.namespaces[node]):
            with suppress(OSError):
                if words in Path(f"/proc/{process}/cmdline").read_bytes().replace(b"\0", b" ").decode():
                    found.append(process)
        return found

    def task(self, **environment: object) -> int | None:
        """The process, of all nodes', that submitit runs as the task of a job with such an environment."""
        wanted = [f"\0{name}={value}\0".encode() for name, value in environment.items()]
        for process in (one for node in NODES for one in self.processes(node, "-m submitit.core._submit")):
            with suppress(OSError):
                holds = Path(f"/proc/{process}/environ").read_bytes()
                is_task = b"srun" not in Path(f"/proc/{process}/cmdline").read_bytes()
                if is_task and all(words in holds for words in wanted):
                    return process
        return None

    def log(self) -> str:
        """The ends of the daemons' logs, for a message."""
        logs = [self.folder / "log" / f"{name}.log" for name in ("slurmctld", *(f"slurmd.{node}" for node in NODES))]
        return "\n".join(
            f"--- {path.name}\n{path.read_text(errors='replace')[-1000:]}" for path in logs if path.exists()
        )

    def _lay_out(self) -> None:
        for name in ("munge", "state", "log", "run", "bin", *(f"spool/{node}" for node in NODES)):
            (self.folder / name).mkdir(parents=True)
        key = self.folder / "munge" / "key"
        key.write_bytes(secrets.token_bytes(1024))
        key.chmod(0o400)
        sacct = self.folder / "bin" / "sacct"
        sacct.write_text(SACCT)
        sacct.chmod(0o755)
        self.address = _free_range()
        hosts = [f"{self.address}.{number} {node}" for number, node in enumerate(NODES, start=1)]
        (self.folder / "hosts").write_text("\n".join(["127.0.0.1 localhost", *hosts, ""]))
        nodes = [
            f"NodeName={node} NodeHostname={node} NodeAddr={self.address}.{number} CPUs=8 RealMemory=8000 State=UNKNOWN"
            for number, node in enumerate(NODES, start=1)
        ]
        conf = CONF.format(
            controller=socket.gethostname().partition(".")[0],
            address=self.address,
            port=free_ports(1)[0],  # controllers are not in a namespace
            folder=self.folder,
            nodes="\n".join(nodes),
        )
        (self.folder / "slurm.conf").write_text(conf)

    def _link(self) -> None:
        """One bridge, and a pair of virtual cables to it for each node."""
        _run("ip", "link", "add", self.owner, "type", "bridge")
        _run("ip", "address", "add", f"{self.address}.254/24", "dev", self.owner)
        _run("ip", "link", "set", self.owner, "up")
        for number, node in enumerate(NODES, start=1):
            space, here, there = self.namespaces[node], f"{self.owner}{node}h", f"{self.owner}{node}"
            _run("ip", "netns", "add", space)
            _run("ip", "link", "add", here, "type", "veth", "peer", "name", there, "netns", space)
            _run("ip", "link", "set", here, "master", self.owner, "up")
            _run("ip", "-n", space, "address", "add", f"{self.address}.{number}/24", "dev", there)
            for device in (there, "lo"):
                _run("ip", "-n", space, "link", "set", device, "up")

    def _start_controller(self) -> None:
        munge = self.folder / "munge"
        options = [f"--socket={munge}/sock", f"--key-file={munge}/key", f"--seed-file={munge}/seed"]
        options += [f"--pid-file={self.folder}/run/munged.pid", f"--log-file={self.folder}/log/munged.log"]
        self._daemon(["munged", "--foreground", "--force", *options], name="munged")
        wait_until((munge / "sock").exists, seconds=20, what="munged listens")
        self._daemon(["slurmctld", "-D", "-f", str(self.folder / "slurm.conf")], name="slurmctld")
        wait_until(lambda: self.run("scontrol", "ping").returncode == 0, seconds=30, what="slurmctld answers")

    def _daemon(self, command: list[str], *, name: str) -> None:
        with (self.folder / "log" / f"{name}.out.log").open("ab") as output:
            daemon = subprocess.Popen(
                command, env=self.environment, stdout=output, stderr=output, stdin=subprocess.DEVNULL, cwd=self.folder
            )
        self.daemons.append(daemon)


def wait_until(done: Callable[[], bool], *, seconds: float, what: str) -> None:
    """Wait until `done()` holds; AssertionError after `seconds`."""
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline, f"waited {seconds:g} s in vain until {what}"
        time.sleep(0.1)


def sweep() -> None:
    """Clear what clusters whose test process is gone have left."""
    for namespace in _names("ip", "netns", "list"):
        if _ownerless(namespace):
            _end_namespace(namespace)
    for link in _names("ip", "-brief", "link", "show", "type", "bridge"):
        if _ownerless(link):
            subprocess.run(["ip", "link", "delete", link], capture_output=True, check=False)


def _ownerless(name: str) -> bool:
    owner = re.match(r"avc([0-9a-f]+)x", name)
    return owner is not None and not Path(f"/proc/{int(owner[1], 16)}").exists()


def _names(*command: str) -> list[str]:
    return [line.split()[0].partition("@")[0] for line in _run(*command).splitlines() if line.strip()]


def _free_range() -> str:
    """The first three bytes of addresses that no device of this machine has."""
    taken = _run("ip", "-brief", "address")
    return next(
        found
        for found in (f"10.{64 + secrets.randbelow(64)}.{secrets.randbelow(256)}" for _ in range(1000))
        if f"{found}." not in taken
    )


def _inside(namespace: str) -> list[int]:
    listed = subprocess.run(["ip", "netns", "pids", namespace], capture_output=True, text=True, check=False)
    return [int(word) for word in listed.stdout.split()]


def _end_processes(namespace: str) -> None:
    deadline = time.monotonic() + 20
    while processes := [process for process in _inside(namespace) if _alive(process)]:
        for process in processes:
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        assert time.monotonic() < deadline, f"{namespace} still holds the processes {processes}"
        time.sleep(0.02)


def _alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _end_namespace(namespace: str) -> None:
    _end_processes(namespace)
    subprocess.run(["ip", "netns", "delete", namespace], capture_output=True, check=False)


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
    return done.stdout
