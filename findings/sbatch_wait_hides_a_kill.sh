#!/usr/bin/env bash
# `sbatch --wait` passes on the exit status of the job's script, and 128 and the signal's number where a step of it was
# killed. Where the script itself was killed, by the kernel's OOM killer for example, it says 1, as after a plain error.
#
# Packages: Debian's slurm-wlm 22.05.8 and munge, as root; one controller and one node on this machine's loopback.
# Guess before it was run: 137 for a script that SIGKILL ends, as a shell says.
# Seen: sbatch's status:
#
#   exit 3: 3
#   step killed by SIGKILL: 137
#   script killed by SIGKILL: 1
#   script killed by SIGTERM: 1
#
# What it means: a driver that tries again with more memory after 137 never does; ask `scontrol show job` for ExitCode
# (0:9 there) before MinJobAge has passed.
set -euo pipefail
for program in slurmctld slurmd sbatch munged; do
    command -v "$program" >/dev/null || { echo "this needs $program (Debian: slurm-wlm, munge)" >&2; exit 2; }
done
[[ $(id -u) == 0 ]] || { echo "this needs root" >&2; exit 2; }
scratch=$(mktemp -d)
started=()
trap 'kill "${started[@]}" 2>/dev/null; wait 2>/dev/null; rm -rf "$scratch"' EXIT
host=$(hostname -s)
mkdir "$scratch"/{state,spool}
head -c 1024 /dev/urandom >"$scratch/key" && chmod 400 "$scratch/key"
munged --foreground --force --key-file="$scratch/key" --socket="$scratch/munge" --pid-file="$scratch/munge.pid" \
    --seed-file="$scratch/seed" --log-file="$scratch/munge.log" 2>/dev/null &
started+=($!)
cat >"$scratch/slurm.conf" <<CONF
ClusterName=finding
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=27927
SlurmdPort=27928
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$scratch/munge
CredType=cred/munge
StateSaveLocation=$scratch/state
SlurmdSpoolDir=$scratch/spool
SlurmctldPidFile=$scratch/controller.pid
SlurmdPidFile=$scratch/node.pid
SlurmctldLogFile=$scratch/controller.log
SlurmdLogFile=$scratch/node.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
JobAcctGatherType=jobacct_gather/none
SchedulerParameters=batch_sched_delay=0,sched_interval=1,sched_min_interval=1
SlurmdParameters=config_overrides
MailProg=/bin/true
NodeName=$host NodeAddr=127.0.0.1 CPUs=4 State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES State=UP
CONF
export SLURM_CONF=$scratch/slurm.conf
while [[ ! -S $scratch/munge ]]; do sleep 0.1; done
slurmctld -i -D >/dev/null 2>&1 & started+=($!)
slurmd -D >/dev/null 2>&1 & started+=($!)
until sinfo --noheader --format=%T 2>/dev/null | grep -q idle; do sleep 0.2; done

seen=""
status_of() { # WORDS COMMAND
    local status=0
    sbatch --wait --output=/dev/null --wrap "$2" >/dev/null || status=$?
    seen+="$1: $status"$'\n'
}
status_of "exit 3" "exit 3"
status_of "step killed by SIGKILL" "srun sh -c 'kill -KILL \$\$'"
status_of "script killed by SIGKILL" 'kill -KILL $$'
status_of "script killed by SIGTERM" 'kill -TERM $$'
expected="exit 3: 3
step killed by SIGKILL: 137
script killed by SIGKILL: 1
script killed by SIGTERM: 1"
echo "$seen"
[[ $seen == "$expected"$'\n' ]] || { echo "expected:" "$expected" >&2; exit 1; }
