"""Does a training that is killed and resumed end with the same bits, and would this trial see it if it did not?

    python -m workshop.prove --kills 5 -- avc train small data.shards=SHARDS run.dir={}
    python -m workshop.prove --kills 5 -- torchrun --nproc-per-node 2 train.py --out {}

Any trainer: nothing of it is imported. The command is run once undisturbed, with {} replaced by a folder. Then it runs
in other folders, and one of its processes at a time is killed by SIGKILL at a random moment: the first, a rank, or a
loader; the same command then resumes it. Every tensor that it leaves must be that of the undisturbed run (safetensors;
what torch.save writes, read without running code; folders of torch.distributed.checkpoint).

Then the control. From its first checkpoint it is resumed as it is, and with each part of the checkpoint reset in turn:
the end must be another than without the reset, or the resume refused. The checkpoint is the newest file and those
beside it. Where other files are written for those who use the weights, --checkpoint names those that it resumes from. A
part that changes nothing was not restored, or is not needed: a part that is not needed is named by --needless. The exit
status is 1 where anything speaks against the trainer.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from launch.report.results import print_table
from launch.user_errors import user_errors
from workshop.prove.trial import PLACE, Trial, Verdict, end_all


def main() -> None:
    parser = argparse.ArgumentParser(
        "python -m workshop.prove", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=5, help="Runs in which a process is killed.")
    parser.add_argument("--seed", type=int, default=1, help="Of the moments and of the processes that are killed.")
    parser.add_argument("--needless", action="append", default=[], metavar="PART", help="May change nothing.")
    parser.add_argument(
        "--checkpoint", default="*", metavar="NAMES", help="Files that it resumes from, as *.pt; or all."
    )
    parser.add_argument("--folder", type=Path, help="Keep all runs and their logs here; it must be empty.")
    parser.add_argument("--json", type=Path, help="Write the verdicts to this file as well.")
    parser.add_argument("command", nargs="+", metavar="-- COMMAND", help=f"With {PLACE} for the folder of its run.")
    asked = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that what runs is ended first
    with user_errors("workshop.prove"), tempfile.TemporaryDirectory() as scratch:
        folder = asked.folder or Path(scratch)
        if not any(PLACE in word for word in asked.command):
            raise ValueError(f"the command names no folder for its run: write {PLACE} where it stands")
        if folder.is_dir() and any(folder.iterdir()):
            raise ValueError(f"{folder} is not empty")
        trial = Trial(asked.command, folder, asked.seed, asked.checkpoint, frozenset(asked.needless))
        verdicts = prove(trial, asked.kills)
        print_table(("", "outcome", ""), [(one.name, one.outcome, "" if one.right else "WRONG") for one in verdicts])
        if asked.json is not None:
            asked.json.write_text(json.dumps([asdict(one) for one in verdicts], indent=1) + "\n")
        if asked.folder is None and not all(one.right for one in verdicts):
            print("give --folder to keep the runs and their logs", file=sys.stderr)
    sys.exit(not all(one.right for one in verdicts))


def prove(trial: Trial, kills: int) -> list[Verdict]:
    """Peace, kills, control, in turn; each verdict is told as it falls."""
    try:
        verdicts = [trial.peace()]
        for number in range(kills):
            verdicts.append(trial.killed(number))
            trial.say(f"{verdicts[-1].name}: {verdicts[-1].outcome}")
        return verdicts + trial.control()
    finally:
        end_all()


if __name__ == "__main__":
    main()
