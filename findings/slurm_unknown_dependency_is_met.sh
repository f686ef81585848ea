#!/usr/bin/env bash
# SLURM takes a dependency on a job that its controller does not know for one that is met: the job is accepted, and it
# runs at once, after a job that never was, or that was forgotten MinJobAge (300 s by default) after it failed.
#
# Packages: Debian's slurm-wlm 22.05.8 and munge, as root; one controller and one node on this machine's loopback.
# Guess before it was run: sbatch refuses it, "Job dependency problem".
# Seen: sbatch's status, and the state of the job a few seconds later:
#
#   afterok:999999 0 COMPLETED
#   afterok of a job that failed 0 PENDING DependencyNeverSatisfied
#   afterok of the same job, forgotten 0 COMPLETED
#
# What it means: without an accounting database a merge that is submitted by hand, minutes after the parts that it joins,
# starts although parts have failed. Submit parts and merge together, or let the merge itself count its parts.
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
SlurmctldPort=27917
SlurmdPort=27918
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
MinJobAge=2
NodeName=$host NodeAddr=127.0.0.1 CPUs=4 State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES State=UP
CONF
export SLURM_CONF=$scratch/slurm.conf
while [[ ! -S $scratch/munge ]]; do sleep 0.1; done
slurmctld -i -D >/dev/null 2>&1 & started+=($!)
slurmd -D >/dev/null 2>&1 & started+=($!)
until sinfo --noheader --format=%T 2>/dev/null | grep -q idle; do sleep 0.2; done

seen=""
after() { # WORDS JOB: a job that depends on JOB and leaves a file when it runs
    local status=0 job
    rm -f "$scratch/ran"
    job=$(sbatch --parsable --output=/dev/null --dependency="afterok:$2" --wrap "touch $scratch/ran") || status=$?
    for _ in $(seq 15); do [[ ! -e $scratch/ran ]] || break; sleep 1; done
    if [[ -e $scratch/ran ]]; then state=COMPLETED; else state=$(squeue --noheader --jobs="$job" --format="%T %r"); fi
    seen+="$1 $status $state"$'\n'
}
after "afterok:999999" 999999
failing=$(sbatch --parsable --output=/dev/null --wrap 'sleep 3; exit 1')
after "afterok of a job that failed" "$failing"
scancel --state=PENDING --user=root
while scontrol show job "$failing" >/dev/null 2>&1; do sleep 1; done
after "afterok of the same job, forgotten" "$failing"
expected="afterok:999999 0 COMPLETED
afterok of a job that failed 0 PENDING DependencyNeverSatisfied
afterok of the same job, forgotten 0 COMPLETED"
echo "$seen"
[[ $seen == "$expected"$'\n' ]] || { echo "expected:" "$expected" >&2; exit 1; }
