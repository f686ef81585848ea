"""What SLURM itself does with warnings and environments, as docs/facts.md says; what comes of it: test_slurm*.py."""

from pathlib import Path

import pytest

from tests.cluster import wait_until

pytestmark = pytest.mark.timeout(600)

NOTE = "trap 'echo USR2 in {who} >>{file}' USR2; echo {who} >>{file}; "
WAIT = "for _ in $(seq 1500); do sleep 0.1; done"


@pytest.mark.parametrize("form", ["USR2@30", "B:USR2@30"])
def test_a_warning_comes_up_to_a_minute_early_to_the_steps_alone_or_with_b_to_the_script_alone(
    form: str, cluster, tmp_path: Path
) -> None:
    file = tmp_path / "said"
    script, task = tmp_path / "job.sh", tmp_path / "task.sh"
    task.write_text(NOTE.format(who="task", file=file) + WAIT)
    script.write_text(f"#!/bin/bash\n{NOTE.format(who='script', file=file)}\nsrun bash {task} &\nwait\nwait\n")
    job = cluster.ask("sbatch", "--parsable", "--time=2", f"--signal={form}", "--no-requeue", script)
    wait_until(lambda: file.exists() and "task" in file.read_text(), seconds=60, what="the task begins")
    wait_until(lambda: "USR2" in file.read_text(), seconds=150, what="the warning comes")
    early = cluster.ask("squeue", "-h", "-j", job, "-o", "%M").split(":")  # minutes and seconds that it has run
    seconds = int(early[-2]) * 60 + int(early[-1])
    cluster.ask("scancel", "--signal=KILL", "--full", job)
    assert 55 <= seconds <= 110  # by its word after 90; the controller looks every 30 and takes the look before
    assert [line for line in file.read_text().splitlines() if "USR2" in line] == [
        "USR2 in script" if form.startswith("B") else "USR2 in task"
    ]


def test_under_export_none_a_step_has_no_path_even_if_the_script_exports_one_unless_srun_says_all(
    cluster, tmp_path: Path
) -> None:
    script = tmp_path / "job.sh"
    script.write_text(
        f"#!/bin/bash\nexport PATH FOO=1\necho script ${{FOO-none}} >{tmp_path}/script\n"
        f"srun /usr/bin/env >{tmp_path}/bare\nsrun --export=ALL /usr/bin/env >{tmp_path}/all\ntouch {tmp_path}/end\n"
    )
    cluster.ask("sbatch", "--export=NONE", script)
    wait_until((tmp_path / "end").exists, seconds=90, what="the job ends")
    bare, everything = ((tmp_path / name).read_text().splitlines() for name in ("bare", "all"))
    assert (tmp_path / "script").read_text() == "script 1\n"
    assert any(line.startswith("SLURM_JOB_ID=") for line in bare)
    assert not any(line.startswith(("PATH=", "FOO=", "HOME=")) for line in bare)
    assert "FOO=1" in everything and any(line.startswith("PATH=") for line in everything)
